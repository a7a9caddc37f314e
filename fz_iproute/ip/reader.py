"""Reads what the planner needs, with as few processes as possible, side by side."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar

from fz_iproute.errors import ReadFailed
from fz_iproute.ip.ip import Asked, Source
from fz_iproute.mirror import parse, parse_rules
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import own_tables
from fz_iproute.mirror.model import Nexthop, Route, Rule, Snapshot
from fz_iproute.mirror.parse import Listed
from fz_iproute.mirror.prefix import FAMILIES, PRIVATE, Family, Prefix
from fz_iproute.mirror.words import FAMILY_OPTION, LOCAL, MAIN, METRICS, RULES_IN_DETAIL, of_table

# `mtu lock 1400` is in the form for people, but not in the JSON. `ip` itself always locks rto_min.
_LOCKED = re.compile(f" (?!rto_min )(?:{'|'.join(METRICS)}) lock ")

_DESTINATION = re.compile(r"(?:[a-z]+ )?(\S+) ")  # a type other than unicast precedes it

_MAIN = of_table(MAIN)
_SCOPE_LINK = f"{_MAIN} scope link"
_RULES, _LINKS, _ADDRESSES = "rule show", "link show", "address show"

# What `ip` printed, by family and question.
_Found = dict[tuple[Family, str], bytes]
_Made = TypeVar("_Made")


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
        self._made: dict[object, tuple[object, Any]] = {}
        self._detailed: dict[Family, tuple[bytes, bytes]] = {}  # the rules in short, and the same in detail

    def read(self) -> Snapshot:
        """One reading of links, rules and the tables concerned. ReadFailed if any part of it is in doubt."""
        ip = self._ip
        try:
            # In a batch, `ip` has to filter all routes of the family itself, which may be a million. Most of them are
            # in main, so its questions lose nothing; each of the VPN's tables would wait for a dump of main.
            tables = [of_table(table) for table in self._tables]
            found = self._answers(
                [ip.ask(family, *self._questions[family], *(tables if ip.talks(family) else ())) for family in FAMILIES]
            )
            with shape_is_known():
                rules = self._rules(found)
            self._tables = own_tables(self._config, rules)
            missing = [
                (family, question)
                for table in self._tables
                for family in FAMILIES
                if (family, question := of_table(table)) not in found
            ]
            found |= self._answers([ip.ask(family, question) for family, question in missing])
            with shape_is_known():
                return self._snapshot(found, rules)
        finally:
            ip.abandon()

    def around(self, hosts: Sequence[Prefix], snapshot: Snapshot) -> dict[int, dict[Family, tuple[Route, ...]]]:
        """The routes to some addresses, from main, local and every table that a rule of their family leads to."""
        family = hosts[0].family
        tables = _looked_up(snapshot.rules, family)
        try:
            asked = [
                (table, self._ip.ask(family, f"{of_table(table)} match {host}")) for table in tables for host in hosts
            ]
            found: dict[int, list[Listed]] = {table: [] for table in tables}
            for table, part in asked:
                (text,) = self._ip.answers(part)
                found[table] += parsed(family, part.questions[0], text)
            with shape_is_known():
                nexthops = self._nexthops(found.values())
                return {
                    table: {family: tuple(dict.fromkeys(parse.routes(listing, family, snapshot.links, nexthops)))}
                    for table, listing in found.items()
                }
        finally:
            self._ip.abandon()

    def looked_up(self, snapshot: Snapshot) -> dict[int, dict[Family, tuple[Route, ...]]]:
        """The routes that decide where packets to the internet and to LANs go.

        Those of the snapshot; of other tables that rules look up, all; of main, those that are on-link, private, or
        lead to one of the hosts in `SAMPLES`: it may have a million others.
        """
        found: dict[int, dict[Family, tuple[Route, ...]]] = {
            table: dict(families) for table, families in snapshot.tables.items()
        }
        try:
            questions = {
                family: [of_table(table) for table in _looked_up(snapshot.rules, family) if table not in (*found, MAIN)]
                for family in FAMILIES
            }
            # As IPv6 has no scope to ask for, the snapshot has all of its main.
            questions["inet"] += [f"{_MAIN} match {host}" for host in SAMPLES if host.family == "inet"]
            questions["inet"] += [f"{_MAIN} root {prefix}" for prefix in _RFC1918]
            answers = self._answers(
                [self._ip.ask(family, question) for family, asked in questions.items() for question in asked]
            )
            listings = {key: parsed(*key, text) for key, text in answers.items()}
            with shape_is_known():
                nexthops = self._nexthops(listings.values())
                routes = {
                    key: parse.routes(listing, key[0], snapshot.links, nexthops) for key, listing in listings.items()
                }
        finally:
            self._ip.abandon()
        main: dict[Family, dict[str, Sequence[Route]]] = {
            "inet": _by_destination(route for route in snapshot.main["inet"] if route.attributes.on_link),
            "inet6": _by_destination(filter(_is_telling, snapshot.main["inet6"])),
        }
        for (family, question), listing in routes.items():
            if question.startswith(f"{_MAIN} "):
                main[family] |= _by_destination(listing)  # of one destination all, in the kernel's order
            else:
                table = parse_rules.table_number(question.split()[3])
                found.setdefault(table, {})[family] = listing
        found[MAIN] = {family: tuple(chain.from_iterable(here.values())) for family, here in main.items()}
        return found

    def forget_rules(self) -> None:
        """Ask for the details of the rules again: one has come or gone, perhaps with no trace in the short form."""
        self._detailed.clear()

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

    def _snapshot(self, found: _Found, rules: tuple[Rule, ...]) -> Snapshot:
        links = parse.links(self._parsed("inet", _LINKS, found))
        main = {family: self._lan(family, found) for family in FAMILIES}
        tables = {
            number: {family: self._parsed(family, of_table(number), found) for family in FAMILIES}
            for number in self._tables
        }
        nexthops = self._nexthops(part for table in (main, *tables.values()) for part in table.values())

        def routes(family: Family, table: int, listing: list[Listed]) -> tuple[Route, ...]:
            origin = (listing, links, nexthops)
            return self._once((family, table), origin, lambda: parse.routes(listing, family, links, nexthops))

        lifetimes = [rest["expires"] for _, rest in main["inet6"] if "expires" in rest]
        return Snapshot(
            links=links,
            rules=rules,
            main={family: routes(family, MAIN, listing) for family, listing in main.items()},
            tables={
                number: {family: routes(family, number, listing) for family, listing in listings.items()}
                for number, listings in tables.items()
            },
            numbered={
                family: parse.numbered(self._parsed(family, _ADDRESSES, found), family)
                for family in FAMILIES
                if self._config.manages
            },
            expiry=min((seconds for seconds in lifetimes if seconds >= 0), default=None),
        )

    def _parsed(self, family: Family, question: str, found: _Found) -> list[Any]:
        text = found[family, question]
        return self._once((family, question), text, lambda: parsed(family, question, text))

    def _nexthops(self, listings: Iterable[list[Listed]]) -> Mapping[int, Nexthop]:
        if not any(map(parse.needs_nexthops, listings)):
            return {}
        return parse.nexthops(answer(self._ip, None, "nexthop show"))

    def _rules(self, found: _Found) -> tuple[Rule, ...]:
        """All rules. The numbers of tables that have names, and who has made a rule, cost another question."""
        shown = {family: self._parsed(family, _RULES, found) for family in FAMILIES}
        doubtful = [
            family
            for family, rules in shown.items()
            if rules and (self._config.manages or parse_rules.needs_numbers(rules))
        ]
        asked = [
            self._ip.ask(family, RULES_IN_DETAIL)
            for family in doubtful
            if self._detailed.get(family, (b"", b""))[0] != found[family, _RULES] or not self._ip.talks(family)
        ]
        for (family, _), detailed in self._answers(asked).items():
            self._detailed[family] = found[family, _RULES], detailed
        for family in doubtful:
            detailed = self._detailed[family][1]
            shown[family] = self._parsed(family, RULES_IN_DETAIL, {(family, RULES_IN_DETAIL): detailed})
        return tuple(rule for family, rules in shown.items() for rule in parse_rules.rules(rules, family))

    def _lan(self, family: Family, found: _Found) -> list[Listed]:
        """The routes of main that may be mirrored."""
        parts = []
        for question in self._lan_questions[family]:
            listing = self._parsed(family, question, found)
            if any("metrics" in rest for _, rest in listing):
                listing = _with_locks_marked(listing, self._ip.text(family, question))
            parts.append(listing)
        return parts[0] if len(parts) == 1 else _united(*parts)


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


def _is_telling(route: Route) -> bool:
    prefix = Prefix.of_route(route.dst, route.attributes.family)
    return route.attributes.on_link or PRIVATE.covers(prefix) or any(prefix.covers(host) for host in SAMPLES)


def _by_destination(routes: Iterable[Route]) -> dict[str, Sequence[Route]]:
    found: dict[str, list[Route]] = defaultdict(list)
    for route in routes:
        found[route.dst].append(route)
    return dict(found)


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
        listing = parse.listing_of(text)
    except (ValueError, RecursionError) as error:
        option = f"{FAMILY_OPTION[family]} " if family else ""
        raise ReadFailed(f"ip -json {option}{question}: {error}") from None
    if question == _SCOPE_LINK:
        for _, rest in listing:
            rest["scope"] = "link"  # `ip` does not print what the question filters by
    return listing


@contextmanager
def shape_is_known() -> Iterator[None]:
    """ReadFailed if `ip` printed something else than it usually prints."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReadFailed(f"ip printed JSON of a shape that is not known here: {error!r}") from None
