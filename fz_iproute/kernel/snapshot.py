"""Reads what the planner needs, with as few `ip` as the facts allow, side by side."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from fz_iproute.core import parse
from fz_iproute.core.config import Config
from fz_iproute.core.desired import layout
from fz_iproute.core.model import Link, Nexthop, Route, Rule, Snapshot
from fz_iproute.core.prefix import FAMILIES, Family
from fz_iproute.errors import ReadFailed
from fz_iproute.kernel.ip import OPTION, Answers, Document, Ip

# `mtu lock 1400`: the text shows it, the JSON does not. (rto_min is always locked.)
_LOCKED = re.compile(
    r" (?:mtu|window|rtt|rttvar|ssthresh|cwnd|advmss|reordering|hoplimit|initcwnd|initrwnd|quickack|congctl) lock "
)

_DESTINATION = re.compile(r"(?:[a-z]+ )?(\S+) ")  # behind the type, if that is not unicast

_MAIN = "route show table main"
_SCOPE_LINK = f"{_MAIN} scope link"


class Reader:
    """Takes snapshots. An answer that is the same to the byte gives the same routes, without parsing it again."""

    def __init__(self, ip: Ip, config: Config) -> None:
        self._ip = ip
        self._tables = config.tables
        # Whichever layout is in force, these are all the tables that may play a part.
        self._candidates = list(dict.fromkeys((config.tables.single, config.tables.lan, config.tables.internet)))
        allowed = [prefix for prefix in config.lan.allow if prefix.family == "inet"]
        rules = [f"rule show table {table}" for table in self._candidates]
        # IPv6 has no scope to ask for: all of main is read.
        self._questions: dict[Family, list[str]] = {
            "inet": [*rules, "link show", _SCOPE_LINK, *(f"{_MAIN} root {prefix}" for prefix in allowed)],
            "inet6": [*rules, _MAIN],
        }
        self._last: Answers = {}
        self._parsed: dict[tuple[Family, str], _Parsed] = {}

    def read(self) -> Snapshot:
        """One reading of links, rules and the tables concerned. ReadFailed if any part of it is in doubt."""
        ip = self._ip
        tables = [_of_table(table) for table in self._candidates]
        try:
            # In a batch, `ip` filters all routes of the family by itself, which may be a million. For main of IPv4
            # that is no loss, as most are in there; each of the VPN's tables is better off with its own process.
            at_once = tables if ip.talks("inet") else []
            asked = ip.ask("inet", *self._questions["inet"], *at_once)
            asked6 = ip.ask("inet6", *self._questions["inet6"], *tables)
            answers: Answers = {"inet": ip.answers(asked), "inet6": ip.answers(asked6)}
            if not at_once:
                with _shape_is_known():
                    plane = layout(self._tables, self._rules(answers))
                asked_tables = {table: ip.ask("inet", _of_table(table)) for table in {plane.mirror, plane.internet}}
                found = {table: ip.answers(asked)[0] for table, asked in asked_tables.items()}
                answers["inet"] += [found.get(table, []) for table in self._candidates]
            return self._remember(answers)
        finally:
            ip.abandon()

    def questions(self, mirror: int) -> dict[Family, list[str]]:
        """What `read_again` wants to know, to be asked of the `ip` that has written to the mirror table."""
        return {family: [_of_table(mirror)] for family in FAMILIES}

    def read_again(self, mirror: int, answers: Answers) -> Snapshot:
        """The last snapshot with what is now in the mirror table: the rest was not written to."""
        latest = {family: list(known) for family, known in self._last.items()}
        place = self._candidates.index(mirror) - len(self._candidates)
        for family, (documents,) in answers.items():
            latest[family][place] = documents
        return self._remember(latest)

    def _remember(self, answers: Answers) -> Snapshot:
        with _shape_is_known():
            snapshot = self._snapshot(answers)
        self._last = answers
        return snapshot

    def _snapshot(self, answers: Answers) -> Snapshot:
        rules = self._rules(answers)
        plane = layout(self._tables, rules)
        count = len(self._candidates)
        links = parse.links(answers["inet"][count])
        documents: dict[Family, dict[str, list[Document]]] = {}
        starts: dict[Family, int] = {"inet": count + 1, "inet6": count}  # behind the rules, and the links
        for family, first in starts.items():
            lan = zip(self._questions[family][first:], answers[family][first:-count], strict=True)
            parts = [self._lan_documents(family, question, part) for question, part in lan]
            documents[family] = dict(zip(map(str, self._candidates), answers[family][-count:], strict=True))
            documents[family]["main"] = parts[0] if len(parts) == 1 else _united(*parts)

        nexthops: Mapping[int, Nexthop] = {}
        if any(parse.needs_nexthops(table) for tables in documents.values() for table in tables.values()):
            nexthops = parse.nexthops(self._ip.answers(self._ip.ask(None, "nexthop show"))[0])

        def table(name: object) -> dict[Family, tuple[Route, ...]]:
            return {
                family: self._routes(family, str(name), documents[family][str(name)], links, nexthops)
                for family in FAMILIES
            }

        lifetimes = [document["expires"] for document in documents["inet6"]["main"] if "expires" in document]
        return Snapshot(
            links=links,
            rules=rules,
            main=table("main"),
            mirror=table(plane.mirror),
            internet=table(plane.internet),
            expiry=min((seconds for seconds in lifetimes if seconds >= 0), default=None),
        )

    def _rules(self, answers: Answers) -> tuple[Rule, ...]:
        return tuple(
            rule
            for family in FAMILIES
            for table, documents in zip(self._candidates, answers[family], strict=False)
            for rule in parse.rules(documents, family, table)
        )

    def _routes(
        self,
        family: Family,
        table: str,
        documents: list[Document],
        links: Mapping[str, Link],
        nexthops: Mapping[int, Nexthop],
    ) -> tuple[Route, ...]:
        last = self._parsed.get((family, table))
        if last is None or last.documents is not documents or (links, nexthops) != (last.links, last.nexthops):
            routes = parse.routes(documents, family, links, nexthops)
            last = self._parsed[family, table] = _Parsed(documents, links, nexthops, routes)
        return last.routes

    def _lan_documents(self, family: Family, question: str, documents: list[Document]) -> list[Document]:
        if question == _SCOPE_LINK:
            for document in documents:
                document["scope"] = "link"  # a filter leaves its own key out
        return self._with_locks_marked(family, documents, question)

    def _with_locks_marked(self, family: Family, documents: list[Document], question: str) -> list[Document]:
        """Give routes with a locked metric a key that is not known here: they are reported, and not copied."""
        if not any("metrics" in document for document in documents):
            return documents
        answer = self._ip.start("-oneline", OPTION[family], *question.split()).answer()
        if answer.code != 0:
            raise ReadFailed(answer.failure(answer.words))
        *lines, rest = answer.stdout.decode("utf-8", "surrogateescape").split("\n")
        if rest or not lines:
            raise ReadFailed(answer.failure("it stopped before the end"))
        # Both list twins in the kernel's order. Where main has changed in between, one lock is enough for all.
        locks: dict[str, list[bool]] = defaultdict(list)
        for line in lines:
            if match := _DESTINATION.match(line):
                locks[match[1]].append(bool(_LOCKED.search(line)))
        twins = Counter(document["dst"] for document in documents)
        found = []
        for document in documents:
            dst = document["dst"]
            locked = locks[dst].pop(0) if len(locks[dst]) == twins[dst] else any(locks[dst])
            twins[dst] -= 1
            found.append({**document, "lock": None} if locked and "metrics" in document else document)
        return found


def _united(scope_link: list[Document], *allowed: list[Document]) -> list[Document]:
    """Each destination from one answer alone, so that its twins keep their order; `root P` brings all of them."""
    united: list[Document] = []
    seen: set[str] = set()
    for part in (*allowed, scope_link):
        united += [document for document in part if document["dst"] not in seen]
        seen |= {document["dst"] for document in part}
    return united


@contextmanager
def _shape_is_known() -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReadFailed(f"ip printed JSON of a shape that is not known here: {error!r}") from None


def _of_table(table: int) -> str:
    return f"route show table {table}"


class _Parsed(NamedTuple):
    """Routes, and all that they were made of."""

    documents: list[Document]
    links: Mapping[str, Link]
    nexthops: Mapping[int, Nexthop]
    routes: tuple[Route, ...]
