"""Reads the state of the machine that the planner needs, with as few `ip` processes as possible, in parallel."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from fz_iproute.ip.answers import SCOPE_LINK, answers_of, nexthops_of, parsed, shape_is_known
from fz_iproute.ip.ip import Source
from fz_iproute.mirror import parse, parse_links, parse_rules
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import own_tables
from fz_iproute.mirror.ip_json import Document, Listed
from fz_iproute.mirror.model import EVERYTHING, Link, Part, Route, Rule, Snapshot
from fz_iproute.mirror.parse import Shapes
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import MAIN, METRICS, RULES_IN_DETAIL, of_table

# A locked metric, such as `mtu lock 1400`. Only the output without `-json` shows it. `ip` itself always locks rto_min.
_LOCKED = re.compile(f" (?!rto_min )(?:{'|'.join(METRICS)}) lock ")

_DESTINATION = re.compile(r"(?:[a-z]+ )?(\S+) ")  # after the type, which is printed unless it is unicast

_MAIN = of_table(MAIN)
_RULES, _LINKS, _ADDRESSES = "rule show", "link show", "address show"

# The most entries of a cache (`parse.Shapes`). It keeps entries of routes that have gone.
_MOST_SHAPES = 1_000

# The JSON that `ip` printed, by family and question.
_Found = dict[tuple[Family, str], bytes]
_Made = TypeVar("_Made")


class _OfFamily(NamedTuple):
    """The part of a snapshot that is about one family."""

    main: tuple[Route, ...]
    tables: Mapping[int, tuple[Route, ...]]
    numbered: frozenset[str]
    expiry: int | None


class Reader:
    """Takes snapshots. If `ip` prints the same bytes again, they are not parsed again, and give the same objects."""

    def __init__(self, ip: Source, config: Config) -> None:
        self._ip = ip
        self._config = config
        # The tables of the last reading. The rules decide, so it may be other ones after the next reading of rules.
        self._tables = own_tables(config, ())
        self._lan_questions = {family: lan_questions(config, family) for family in FAMILIES}
        addresses = [_ADDRESSES] if config.manages else []
        self._questions: dict[Family, list[str]] = {
            "inet": [_RULES, _LINKS, *addresses, *self._lan_questions["inet"]],
            "inet6": [_RULES, *addresses, *self._lan_questions["inet6"]],
        }
        self._known: _Found = {}  # answers that are still valid
        self._rules: tuple[Rule, ...] | None = None  # parsed from valid answers, like the next one
        self._families: dict[Family, _OfFamily] = {}
        self._cache: dict[object, tuple[object, Any]] = {}  # see _once

    def read(self, changed: Collection[Part] = EVERYTHING) -> Snapshot:
        """The links, the rules, main and the VPN's tables. ReadFailed if any part of them is in doubt.

        Only the parts that may have `changed` since the last reading are read again.
        """
        self.forget(changed)
        ip = self._ip
        try:
            # In a batch, the kernel does not filter, so each question about a table reads all routes of the family:
            # perhaps a million, mostly in main. For questions about main, that makes no difference. But a question
            # about another table costs less in a process of its own, unless a coprocess is running.
            tables = [of_table(table) for table in self._tables]
            asked = []
            for family in FAMILIES:
                questions = self._questions[family] + (tables if ip.needs_no_process(family) else [])
                if unknown := self._unknown(family, questions):
                    asked.append(ip.ask(family, *unknown))
            self._known |= answers_of(self._ip, asked)
            if self._rules is None:
                with shape_is_known():
                    self._rules = self._all_rules()
                self._tables = own_tables(self._config, self._rules)
                tables = [of_table(table) for table in self._tables]
            missing = [(family, question) for family in FAMILIES for question in self._unknown(family, tables)]
            self._known |= answers_of(self._ip, [ip.ask(family, question) for family, question in missing])
            with shape_is_known():
                return self._snapshot(self._rules)
        finally:
            ip.abandon()

    def forget(self, changed: Collection[Part]) -> None:
        """Read these parts again next time, even if the caller does not say that they have changed."""
        for key in [key for key in self._known if _part(*key) in changed]:
            del self._known[key]
        if "links and rules" in changed:
            self._rules = None
            self._families.clear()
        for family in self._families.keys() & changed:
            del self._families[family]

    def _unknown(self, family: Family, questions: Iterable[str]) -> list[str]:
        return [question for question in questions if (family, question) not in self._known]

    def _once(self, key: object, origin: object, make: Callable[[], _Made]) -> _Made:
        """Call `make` only if `origin` differs from that of the last call for this key; else return the old result."""
        last = self._cache.get(key)
        if last is None or last[0] != origin:
            last = self._cache[key] = origin, make()
        made: _Made = last[1]
        return made

    def _snapshot(self, rules: tuple[Rule, ...]) -> Snapshot:
        links = self._once(_LINKS, self._known["inet", _LINKS], lambda: parse_links.links(self._parsed("inet", _LINKS)))
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
        nexthops = nexthops_of(self._ip, [main, *tables.values()])
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
            numbered=self._numbered(family),
            expiry=min((seconds for seconds in lifetimes if seconds >= 0), default=None),
        )

    def _numbered(self, family: Family) -> frozenset[str]:
        is_asked = self._config.manages
        return parse_links.numbered(self._parsed(family, _ADDRESSES), family) if is_asked else frozenset()

    def _parsed(self, family: Family, question: str) -> list[Any]:
        text = self._known[family, question]
        return self._once((family, question), text, lambda: parsed(family, question, text))

    def _all_rules(self) -> tuple[Rule, ...]:
        """The rules of both families.

        Where a rule may name a table, or protocols matter (in manage mode), the rules are read in detail.
        """
        shown = {family: self._parsed(family, _RULES) for family in FAMILIES}
        doubtful = [
            family
            for family, rules in shown.items()
            if rules and (self._config.manages or parse_rules.needs_numbers(rules))
        ]
        unknown = [family for family in doubtful if self._unknown(family, [RULES_IN_DETAIL])]
        self._known |= answers_of(self._ip, [self._ip.ask(family, RULES_IN_DETAIL) for family in unknown])
        shown |= {family: self._parsed(family, RULES_IN_DETAIL) for family in doubtful}
        return self._once(_RULES, shown, lambda: _rules(shown))

    def _lan(self, family: Family) -> list[Listed]:
        """The routes of main that may be copied. Routes with a locked metric are marked."""
        parts = []
        for question in self._lan_questions[family]:
            listing = self._parsed(family, question)
            if any("metrics" in rest for _, rest in listing):
                listing = with_locks_marked(listing, self._ip.text(family, question))
            parts.append(listing)
        return parts[0] if len(parts) == 1 else _united(*parts)


def _rules(shown: Mapping[Family, list[Document]]) -> tuple[Rule, ...]:
    return tuple(rule for family, rules in shown.items() for rule in parse_rules.rules(rules, family))


def _part(family: Family, question: str) -> Part:
    return family if question.startswith(("route", "address")) else "links and rules"


def with_locks_marked(listing: list[Listed], lines: Sequence[str]) -> list[Listed]:
    """Add the key `lock` to routes with a locked metric. The parser does not know it, so such routes are not copied.

    `lines` are the same routes in the output without `-json`, which shows locks.
    """
    # Both outputs list the routes to a destination in the same order. If main has changed between the two, their
    # numbers may differ. Then a lock on one route counts for all routes to its destination.
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
    """Join several answers. All routes to a destination are taken from one answer, so their order stays right."""
    united: list[Listed] = []
    seen: set[str] = set()
    for part in (*allowed, scope_link):
        united += [(dst, rest) for dst, rest in part if dst not in seen]
        seen |= {dst for dst, _ in part}
    return united


def lan_questions(config: Config, family: Family) -> list[str]:
    """The questions whose answers have all routes of main that may be copied."""
    if family == "inet6":
        return [_MAIN]  # IPv6 routes have no scope, so `ip` cannot filter by it
    questions = [SCOPE_LINK, *(f"{_MAIN} root {prefix}" for prefix in config.lan.allow if prefix.family == family)]
    return [*questions, f"{_MAIN} exact default"] if config.lan.multicast else questions
