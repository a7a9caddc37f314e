"""Reads what the planner needs, with as few `ip` as the facts allow, side by side."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

from fz_iproute.errors import ReadFailed
from fz_iproute.ip.ip import Answers, Asked, Source
from fz_iproute.mirror import parse
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import own_tables
from fz_iproute.mirror.model import Link, Nexthop, Route, Rule, Snapshot
from fz_iproute.mirror.parse import Document, Listed
from fz_iproute.mirror.policy import PRIVATE
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix
from fz_iproute.mirror.words import LOCAL, MAIN, RULES_IN_DETAIL, of_table

# `mtu lock 1400`: the text shows it, the JSON does not. (rto_min is always locked.)
_LOCKED = re.compile(
    r" (?:mtu|window|rtt|rttvar|ssthresh|cwnd|advmss|reordering|hoplimit|initcwnd|initrwnd|quickack|congctl) lock "
)

_DESTINATION = re.compile(r"(?:[a-z]+ )?(\S+) ")  # behind the type, if that is not unicast

_MAIN = of_table(MAIN)
_SCOPE_LINK = f"{_MAIN} scope link"
_RULES = "rule show"

_Found = dict[tuple[Family, str], list[Any]]


class Reader:
    """Takes snapshots. An answer that is the same to the byte gives the same routes, without parsing it again."""

    def __init__(self, ip: Source, config: Config) -> None:
        self._ip = ip
        self._config = config
        # Whichever layout is in force, these are all the tables that may play a part.
        self._tables = [of_table(table) for table in sorted(config.tables.ids)]
        self._lan_questions = {family: lan_questions(config, family) for family in FAMILIES}
        addresses = ["address show"] if config.manages else []
        self._questions: dict[Family, list[str]] = {
            "inet": [_RULES, "link show", *addresses, *self._lan_questions["inet"]],
            "inet6": [_RULES, *addresses, *self._lan_questions["inet6"]],
        }
        self._last: _Found = {}
        self._last_rules: tuple[Rule, ...] = ()
        self._parsed: dict[tuple[Family, int], _Parsed] = {}
        self._detailed: dict[Family, tuple[list[Document], list[Document]]] = {}

    def read(self) -> Snapshot:
        """One reading of links, rules and the tables concerned. ReadFailed if any part of it is in doubt."""
        ip = self._ip
        try:
            # In a batch, `ip` filters all routes of the family by itself, which may be a million. For main that is no
            # loss, as most are in there; each of the VPN's tables waits for what it shows.
            found = self._answers(
                [
                    ip.ask(family, *self._questions[family], *(self._tables if ip.talks(family) else ()))
                    for family in FAMILIES
                ]
            )
            with shape_is_known():
                rules = self._rules(found)
            missing = [
                (family, question)
                for table in own_tables(self._config, rules)
                for family in FAMILIES
                if (family, question := of_table(table)) not in found
            ]
            found |= self._answers([ip.ask(family, question) for family, question in missing])
            return self._remember(found, rules)
        finally:
            ip.abandon()

    def questions(self, table: int) -> dict[Family, list[str]]:
        """What `read_again` wants to know, to be asked of the `ip` that has written to the table."""
        return {family: [of_table(table)] for family in FAMILIES}

    def read_again(self, table: int, answers: Answers) -> Snapshot:
        """The last snapshot with what is now in this table: the rest was not written to."""
        latest = {(family, of_table(table)): listing for family, (listing,) in answers.items()}
        return self._remember({**self._last, **latest}, self._last_rules)

    def around(self, hosts: Sequence[Prefix], snapshot: Snapshot) -> dict[int, dict[Family, tuple[Route, ...]]]:
        """Of main, local and every table that a rule of their family leads to, the routes to some addresses."""
        family = hosts[0].family
        tables = _looked_up(snapshot.rules, family)
        try:
            asked = [[self._ip.ask(family, f"{of_table(table)} match {host}") for host in hosts] for table in tables]
            dumps = [[route for part in parts for route in self._ip.answers(part)[0]] for parts in asked]
            with shape_is_known():
                nexthops: Mapping[int, Nexthop] = {}
                if any(parse.needs_nexthops(listing) for listing in dumps):
                    nexthops = parse.nexthops(self._ip.answers(self._ip.ask(None, "nexthop show"))[0])
                return {
                    table: {family: tuple(dict.fromkeys(parse.routes(listing, family, snapshot.links, nexthops)))}
                    for table, listing in zip(tables, dumps, strict=True)
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
        finally:
            self._ip.abandon()
        with shape_is_known():
            nexthops: Mapping[int, Nexthop] = {}
            if any(parse.needs_nexthops(listing) for listing in answers.values()):
                nexthops = parse.nexthops(self._ip.answers(self._ip.ask(None, "nexthop show"))[0])
            routes = {key: parse.routes(listing, key[0], snapshot.links, nexthops) for key, listing in answers.items()}
        main: dict[Family, dict[str, Sequence[Route]]] = {
            "inet": _by_destination(route for route in snapshot.main["inet"] if route.attributes.on_link),
            "inet6": _by_destination(filter(_is_telling, snapshot.main["inet6"])),
        }
        for (family, question), listing in routes.items():
            if question.startswith(f"{_MAIN} "):
                main[family] |= _by_destination(listing)  # of one destination all, in the kernel's order
            else:
                table = parse.table_number(question.split()[3])
                found.setdefault(table, {})[family] = listing
        found[MAIN] = {family: tuple(chain.from_iterable(here.values())) for family, here in main.items()}
        return found

    def forget_rules(self) -> None:
        """One has come or gone: the details of the same rules may be others now, or belong to those in between."""
        self._detailed.clear()

    def _answers(self, asked: Sequence[Asked]) -> _Found:
        return {
            (part.family, question): answer
            for part in asked
            if part.family
            for question, answer in zip(part.questions, self._ip.answers(part), strict=True)
        }

    def _remember(self, found: _Found, rules: tuple[Rule, ...]) -> Snapshot:
        with shape_is_known():
            snapshot = self._snapshot(found, rules)
        self._last, self._last_rules = found, rules
        return snapshot

    def _snapshot(self, found: _Found, rules: tuple[Rule, ...]) -> Snapshot:
        links = parse.links(found["inet", "link show"])
        main = {family: self._lan(family, found) for family in FAMILIES}
        numbers = own_tables(self._config, rules)
        tables: dict[int, dict[Family, list[Listed]]] = {
            number: {family: found[family, of_table(number)] for family in FAMILIES} for number in numbers
        }
        nexthops: Mapping[int, Nexthop] = {}
        if any(parse.needs_nexthops(part) for table in (main, *tables.values()) for part in table.values()):
            nexthops = parse.nexthops(self._ip.answers(self._ip.ask(None, "nexthop show"))[0])

        def routes(number: int, listings: Mapping[Family, list[Listed]]) -> dict[Family, tuple[Route, ...]]:
            return {family: self._routes(family, number, part, links, nexthops) for family, part in listings.items()}

        lifetimes = [rest["expires"] for _, rest in main["inet6"] if "expires" in rest]
        return Snapshot(
            links=links,
            rules=rules,
            main=routes(MAIN, main),
            tables={number: routes(number, listings) for number, listings in tables.items()},
            numbered={family: parse.numbered(found.get((family, "address show"), ()), family) for family in FAMILIES},
            expiry=min((seconds for seconds in lifetimes if seconds >= 0), default=None),
        )

    def _rules(self, found: _Found) -> tuple[Rule, ...]:
        """All rules. Whose they are, and the numbers of tables with names, costs another question."""
        plain = {family: found[family, _RULES] for family in FAMILIES}
        doubtful = [
            family for family, rules in plain.items() if rules and (self._config.manages or parse.needs_numbers(rules))
        ]
        asked = []
        for family in doubtful:
            last = self._detailed.get(family)
            if last is None or last[0] is not plain[family] or not self._ip.talks(family):
                asked.append(self._ip.ask(family, RULES_IN_DETAIL))
        for (family, _), rules in self._answers(asked).items():
            self._detailed[family] = plain[family], rules
        return tuple(
            rule
            for family, rules in plain.items()
            for rule in parse.rules(self._detailed[family][1] if family in doubtful else rules, family)
        )

    def _routes(
        self,
        family: Family,
        table: int,
        listing: list[Listed],
        links: Mapping[str, Link],
        nexthops: Mapping[int, Nexthop],
    ) -> tuple[Route, ...]:
        last = self._parsed.get((family, table))
        if last is None or last.listing is not listing or (links, nexthops) != (last.links, last.nexthops):
            routes = parse.routes(listing, family, links, nexthops)
            last = self._parsed[family, table] = _Parsed(listing, links, nexthops, routes)
        return last.routes

    def _lan(self, family: Family, found: _Found) -> list[Listed]:
        """Of main, what may be mirrored."""
        parts = []
        for question in self._lan_questions[family]:
            listing = found[family, question]
            if question == _SCOPE_LINK:
                for _, rest in listing:
                    rest["scope"] = "link"  # a filter leaves its own key out
            parts.append(self._with_locks_marked(family, listing, question))
        return parts[0] if len(parts) == 1 else _united(*parts)

    def _with_locks_marked(self, family: Family, listing: list[Listed], question: str) -> list[Listed]:
        """Give routes with a locked metric a key that is not known here: they are reported, and not copied."""
        if not any("metrics" in rest for _, rest in listing):
            return listing
        # Both list twins in the kernel's order. Where main has changed in between, one lock is enough for all.
        locks: dict[str, list[bool]] = defaultdict(list)
        for line in self._ip.text(family, question):
            if match := _DESTINATION.match(line):
                locks[match[1]].append(bool(_LOCKED.search(line)))
        twins = Counter(dst for dst, _ in listing)
        found = []
        for route in listing:
            dst, rest = route
            locked = locks[dst].pop(0) if len(locks[dst]) == twins[dst] else any(locks[dst])
            twins[dst] -= 1
            found.append((dst, {**rest, "lock": None}) if locked and "metrics" in rest else route)
        return found


def _united(scope_link: list[Listed], *allowed: list[Listed]) -> list[Listed]:
    """Each destination from one answer alone, so that its twins keep their order; `root P` brings all of them."""
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
    """What to ask for those routes of main that may be mirrored."""
    if family == "inet6":
        return [_MAIN]  # it has no scope to ask for
    questions = [_SCOPE_LINK, *(f"{_MAIN} root {prefix}" for prefix in config.lan.allow if prefix.family == family)]
    return [*questions, f"{_MAIN} exact default"] if config.lan.multicast else questions


@contextmanager
def shape_is_known() -> Iterator[None]:
    """ReadFailed if what `ip` printed is not what it usually prints."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReadFailed(f"ip printed JSON of a shape that is not known here: {error!r}") from None


class _Parsed(NamedTuple):
    """Routes, and all that they were made of."""

    listing: list[Listed]
    links: Mapping[str, Link]
    nexthops: Mapping[int, Nexthop]
    routes: tuple[Route, ...]
