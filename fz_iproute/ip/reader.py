"""Reads what the planner needs, with as few processes as possible, side by side."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from reprlib import Repr
from typing import Any, NamedTuple, TypeVar

from fz_iproute.errors import ReadFailed
from fz_iproute.ip.ip import Asked, Source
from fz_iproute.mirror import parse, parse_rules
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import own_tables
from fz_iproute.mirror.model import EVERYTHING, Link, Nexthop, Part, Route, Rule, Snapshot, by_destination
from fz_iproute.mirror.parse import Document, Listed, Shapes
from fz_iproute.mirror.prefix import FAMILIES, PRIVATE, Family, Prefix
from fz_iproute.mirror.words import FAMILY_OPTION, LOCAL, MAIN, METRICS, RULES_IN_DETAIL, of_table

# `mtu lock 1400` is in the form for people, but not in the JSON. `ip` itself always locks rto_min.
_LOCKED = re.compile(f" (?!rto_min )(?:{'|'.join(METRICS)}) lock ")

_DESTINATION = re.compile(r"(?:[a-z]+ )?(\S+) ")  # a type other than unicast precedes it

_MAIN = of_table(MAIN)
_SCOPE_LINK = f"{_MAIN} scope link"
_RULES, _LINKS, _ADDRESSES = "rule show", "link show", "address show"

# Routes that come and go leave theirs behind.
_MOST_SHAPES = 1_000

# What `ip` printed, by family and question.
_Found = dict[tuple[Family, str], bytes]
_Made = TypeVar("_Made")


class _OfFamily(NamedTuple):
    """The part of a snapshot that is about one family."""

    main: tuple[Route, ...]
    tables: Mapping[int, tuple[Route, ...]]
    numbered: frozenset[str]
    expiry: int | None


class Reader:
    """Takes snapshots. What depends on unchanged bytes alone is not parsed again, and stays the same object."""

    def __init__(self, ip: Source, config: Config) -> None:
        self._ip = ip
        self._config = config
        # Those of the last reading; rules that have changed since may lead to others.
        self._tables = own_tables(config, ())
        self._lan_questions = {family: lan_questions(config, family) for family in FAMILIES}
        addresses = [_ADDRESSES] if config.manages else []
        self._questions: dict[Family, list[str]] = {
            "inet": [_RULES, _LINKS, *addresses, *self._lan_questions["inet"]],
            "inet6": [_RULES, *addresses, *self._lan_questions["inet6"]],
        }
        self._known: _Found = {}  # the answers that still stand
        self._rules: tuple[Rule, ...] | None = None  # what was made of them
        self._families: dict[Family, _OfFamily] = {}
        self._made: dict[object, tuple[object, Any]] = {}

    def read(self, changed: Collection[Part] = EVERYTHING) -> Snapshot:
        """Links, rules and the tables concerned. ReadFailed if any part of it is in doubt.

        What has not `changed` since the last reading, as far as the caller knows, is not read again.
        """
        self.forget(changed)
        ip = self._ip
        try:
            # In a batch, `ip` has to filter all routes of the family itself, which may be a million. Most of them are
            # in main, so its questions lose nothing; each of the VPN's tables would wait for a dump of main.
            tables = [of_table(table) for table in self._tables]
            asked = {
                family: self._unknown(
                    family, [*self._questions[family], *(tables if ip.needs_no_process(family) else ())]
                )
                for family in FAMILIES
            }
            self._known |= self._answers(
                [ip.ask(family, *questions) for family, questions in asked.items() if questions]
            )
            if self._rules is None:
                with shape_is_known():
                    self._rules = self._all_rules()
                self._tables = own_tables(self._config, self._rules)
                tables = [of_table(table) for table in self._tables]
            missing = [(family, question) for family in FAMILIES for question in self._unknown(family, tables)]
            self._known |= self._answers([ip.ask(family, question) for family, question in missing])
            with shape_is_known():
                return self._snapshot(self._rules)
        finally:
            ip.abandon()

    def forget(self, changed: Collection[Part]) -> None:
        """Read these parts again next time, whatever events say."""
        for key in [key for key in self._known if _part(*key) in changed]:
            del self._known[key]
        if "links and rules" in changed:
            self._rules = None
            self._families.clear()
        for family in self._families.keys() & changed:
            del self._families[family]

    def _unknown(self, family: Family, questions: Iterable[str]) -> list[str]:
        return [question for question in questions if (family, question) not in self._known]

    def around(self, hosts: Sequence[Prefix], snapshot: Snapshot) -> dict[int, dict[Family, tuple[Route, ...]]]:
        """The routes to some addresses, from main, local and every table that a rule of their family leads to."""
        family = hosts[0].family
        questions = {
            table: [f"{of_table(table)} match {host}" for host in hosts] for table in _looked_up(snapshot.rules, family)
        }
        routes = self._routes({family: [*chain.from_iterable(questions.values())]}, snapshot.links)
        return {
            table: {family: tuple(dict.fromkeys(chain.from_iterable(routes[family, question] for question in part)))}
            for table, part in questions.items()
        }

    def looked_up(self, snapshot: Snapshot) -> dict[int, dict[Family, tuple[Route, ...]]]:
        """The routes that decide where packets to the internet and to LANs go.

        Those of the snapshot; of other tables that rules look up, all; of main, those that are on-link, private, or
        lead to one of the hosts in `SAMPLES`: it may have a million others. But all of main, if it leads the internet
        into a tunnel, or only a part of the internet anywhere.

        Each of the five questions about main costs a dump of it: the kernel filters by table, protocol and device,
        never by destination. With a million routes that is half a second of a processor.
        """
        found: dict[int, dict[Family, tuple[Route, ...]]] = {
            table: dict(families) for table, families in snapshot.tables.items()
        }
        links = snapshot.links
        questions = {
            family: [of_table(table) for table in _looked_up(snapshot.rules, family) if table not in (*found, MAIN)]
            for family in FAMILIES
        }
        # As IPv6 has no scope to ask for, the snapshot has all of its main.
        samples = [f"{_MAIN} match {host}" for host in SAMPLES if host.family == "inet"]
        questions["inet"] += [*samples, *(f"{_MAIN} root {prefix}" for prefix in _RFC1918)]
        routes = self._routes(questions, links)
        if _is_needed_whole([routes["inet", question] for question in samples], "inet", snapshot):
            routes |= self._routes({"inet": [_MAIN]}, links)
        main: dict[Family, dict[str, list[Route]]] = {
            "inet": by_destination(route for route in snapshot.main["inet"] if route.attributes.on_link),
            "inet6": by_destination(_telling(snapshot)),
        }
        for (family, question), listing in routes.items():
            if question.startswith(_MAIN):
                main[family] |= by_destination(listing)  # of one destination all, in the kernel's order
            else:
                table = parse_rules.table_number(question.split()[3])
                found.setdefault(table, {})[family] = listing
        found[MAIN] = {family: tuple(chain.from_iterable(here.values())) for family, here in main.items()}
        return found

    def _routes(
        self, questions: Mapping[Family, Sequence[str]], links: Mapping[str, Link]
    ) -> dict[tuple[Family, str], tuple[Route, ...]]:
        """The routes that answer each question."""
        try:
            asked = [self._ip.ask(family, question) for family, part in questions.items() for question in part]
            listings = {key: parsed(*key, text) for key, text in self._answers(asked).items()}
            with shape_is_known():
                nexthops = self._nexthops(listings.values())
                return {key: parse.routes(listing, key[0], links, nexthops) for key, listing in listings.items()}
        finally:
            self._ip.abandon()

    def _answers(self, asked: Sequence[Asked]) -> _Found:
        return {
            (part.family, question): answer
            for part in asked
            if part.family
            for question, answer in zip(part.questions, self._ip.answers(part), strict=True)
        }

    def _once(self, key: object, origin: object, make: Callable[[], _Made]) -> _Made:
        """What `make` returned when it was last called for this key with an equal origin, else what it returns now."""
        last = self._made.get(key)
        if last is None or last[0] != origin:
            last = self._made[key] = origin, make()
        made: _Made = last[1]
        return made

    def _snapshot(self, rules: tuple[Rule, ...]) -> Snapshot:
        links = self._once(_LINKS, self._known["inet", _LINKS], lambda: parse.links(self._parsed("inet", _LINKS)))
        for family in FAMILIES:
            if family not in self._families:
                self._families[family] = self._of(family, links)
        found = self._families
        return Snapshot(
            links=links,
            rules=rules,
            main={family: here.main for family, here in found.items()},
            tables={number: {family: here.tables[number] for family, here in found.items()} for number in self._tables},
            numbered={family: here.numbered for family, here in found.items()},
            expiry=found["inet6"].expiry,
        )

    def _of(self, family: Family, links: Mapping[str, Link]) -> _OfFamily:
        main = self._lan(family)
        tables = {number: self._parsed(family, of_table(number)) for number in self._tables}
        nexthops = self._nexthops([main, *tables.values()])
        shapes: Shapes = self._once(("shapes", family), (links, nexthops), dict)
        if len(shapes) > _MOST_SHAPES:
            shapes.clear()

        def routes(table: int, listing: list[Listed]) -> tuple[Route, ...]:
            origin = (listing, links, nexthops)
            return self._once((family, table), origin, lambda: parse.routes(listing, family, links, nexthops, shapes))

        lifetimes = [rest["expires"] for _, rest in main if "expires" in rest]
        return _OfFamily(
            main=routes(MAIN, main),
            tables={number: routes(number, listing) for number, listing in tables.items()},
            numbered=parse.numbered(self._parsed(family, _ADDRESSES), family) if self._config.manages else frozenset(),
            expiry=min((seconds for seconds in lifetimes if seconds >= 0), default=None),
        )

    def _parsed(self, family: Family, question: str) -> list[Any]:
        text = self._known[family, question]
        return self._once((family, question), text, lambda: parsed(family, question, text))

    def _nexthops(self, listings: Iterable[list[Listed]]) -> Mapping[int, Nexthop]:
        if not any(map(parse.needs_nexthops, listings)):
            return {}
        return parse.nexthops(answer(self._ip, None, "nexthop show"))

    def _all_rules(self) -> tuple[Rule, ...]:
        """The numbers of tables that have names, and who has made a rule, cost another question."""
        shown = {family: self._parsed(family, _RULES) for family in FAMILIES}
        doubtful = [
            family
            for family, rules in shown.items()
            if rules and (self._config.manages or parse_rules.needs_numbers(rules))
        ]
        unknown = [family for family in doubtful if self._unknown(family, [RULES_IN_DETAIL])]
        self._known |= self._answers([self._ip.ask(family, RULES_IN_DETAIL) for family in unknown])
        shown |= {family: self._parsed(family, RULES_IN_DETAIL) for family in doubtful}
        return self._once(_RULES, shown, lambda: _rules(shown))

    def _lan(self, family: Family) -> list[Listed]:
        """The routes of main that may be mirrored."""
        parts = []
        for question in self._lan_questions[family]:
            listing = self._parsed(family, question)
            if any("metrics" in rest for _, rest in listing):
                listing = _with_locks_marked(listing, self._ip.text(family, question))
            parts.append(listing)
        return parts[0] if len(parts) == 1 else _united(*parts)


def seen(source: Source, config: Config) -> tuple[Snapshot, dict[int, dict[Family, tuple[Route, ...]]]]:
    """A snapshot, and the routes that decide where packets go."""
    reader = Reader(source, config)
    snapshot = reader.read()
    return snapshot, reader.looked_up(snapshot)


def _rules(shown: Mapping[Family, list[Document]]) -> tuple[Rule, ...]:
    return tuple(rule for family, rules in shown.items() for rule in parse_rules.rules(rules, family))


def _part(family: Family, question: str) -> Part:
    return family if question.startswith(("route", "address")) else "links and rules"


def _with_locks_marked(listing: list[Listed], lines: Sequence[str]) -> list[Listed]:
    """Give routes with a locked metric a key that the parser does not know: they are reported, and not copied.

    `lines` are the same routes in the form for people, which shows locks.
    """
    # Both list routes to one destination in the same order. If main has changed in between, one lock counts for all.
    locks: dict[str, list[bool]] = defaultdict(list)
    for line in lines:
        if match := _DESTINATION.match(line):
            locks[match[1]].append(bool(_LOCKED.search(line)))
    left = Counter(dst for dst, _ in listing)
    found = []
    for route in listing:
        dst, rest = route
        locked = locks[dst].pop(0) if len(locks[dst]) == left[dst] else any(locks[dst])
        left[dst] -= 1
        found.append((dst, {**rest, "lock": None}) if locked and "metrics" in rest else route)
    return found


def _united(scope_link: list[Listed], *allowed: list[Listed]) -> list[Listed]:
    """The routes of several answers. All routes to one destination come from one answer, so they keep their order."""
    united: list[Listed] = []
    seen: set[str] = set()
    for part in (*allowed, scope_link):
        united += [(dst, rest) for dst, rest in part if dst not in seen]
        seen |= {dst for dst, _ in part}
    return united


# They stand for the internet: two halves, because some VPNs split their default route.
SAMPLES = [Prefix.parse(host) for host in ("9.9.9.9/32", "149.112.112.112/32", "2620:fe::fe/128", "2a00:1450::1/128")]
_RFC1918 = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")


def _telling(snapshot: Snapshot) -> Iterable[Route]:
    """Of IPv6 main, the routes that decide where packets to the internet and to LANs go."""
    main = snapshot.main["inet6"]
    prefixes = {route: Prefix.of_route(route.dst, "inet6") for route in main}
    samples = [host for host in SAMPLES if host.family == "inet6"]
    around = [[route for route in main if prefixes[route].covers(host)] for host in samples]
    if _is_needed_whole(around, "inet6", snapshot):
        return main
    return [
        route
        for route, prefix in prefixes.items()
        if route.attributes.on_link or PRIVATE.covers(prefix) or any(prefix.covers(host) for host in samples)
    ]


def _is_needed_whole(around: Sequence[Iterable[Route]], family: Family, snapshot: Snapshot) -> bool:
    """True if the routes to the samples do not tell what main does with most of the internet."""
    if any(_is_into_tunnel(routes, snapshot.links) for routes in around):
        return True
    if not any(route.dst == "default" for routes in around for route in routes):
        return True
    rules = (rule for rule in snapshot.rules if (rule.family, rule.table) == (family, MAIN))
    return any(name.startswith("suppress") for rule in rules for name, _ in rule.options)


def _is_into_tunnel(routes: Iterable[Route], links: Mapping[str, Link]) -> bool:
    """True if the narrowest of these routes to a host is as wide as the part of a default route, and by a tunnel."""

    def length(route: Route) -> int:
        return Prefix.of_route(route.dst, route.attributes.family).length

    route = max(routes, key=length, default=None)
    return (
        route is not None
        and length(route) <= _WIDE
        and any(device in links and links[device].may_be_tunnel for device in route.attributes.devices)
    )


# The parts of a default route that a VPN has split are not narrower.
_WIDE = 16


def _looked_up(rules: Iterable[Rule], family: Family) -> list[int]:
    """The tables that matter for the way of a packet: `local` also tells which sources a packet may have."""
    return sorted({MAIN, LOCAL, *(rule.table for rule in rules if rule.family == family and rule.table)})


def lan_questions(config: Config, family: Family) -> list[str]:
    """The questions for those routes of main that may be mirrored."""
    if family == "inet6":
        return [_MAIN]  # it has no scope to ask for
    questions = [_SCOPE_LINK, *(f"{_MAIN} root {prefix}" for prefix in config.lan.allow if prefix.family == family)]
    return [*questions, f"{_MAIN} exact default"] if config.lan.multicast else questions


def answer(source: Source, family: Family | None, question: str) -> list[Any]:
    """The parsed answer to one question. ReadFailed if there is any doubt."""
    (text,) = source.answers(source.ask(family, question))
    return parsed(family, question, text)


def parsed(family: Family | None, question: str, text: bytes) -> list[Any]:
    """What `ip -json` printed: routes as Listed, anything else as documents. ReadFailed if it is not JSON."""
    try:
        if not question.startswith("route show"):
            return parse.documents_of(text)
        return parse.listing_of(text, scope="link" if question == _SCOPE_LINK else "")
    except (ValueError, RecursionError) as error:
        option = f"{FAMILY_OPTION[family]} " if family else ""
        raise ReadFailed(f"ip -json {option}{question}: {error}") from None


@contextmanager
def shape_is_known() -> Iterator[None]:
    """ReadFailed if `ip` printed something else than it usually prints."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReadFailed(f"ip printed JSON of a shape that is not known here: {SHORT.repr(error)}") from None


# For messages: an error may quote all that `ip` has printed.
SHORT = Repr()
SHORT.maxother = 200
