"""Reads what the planner needs, with as few `ip` as the facts allow, side by side."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from fz_iproute.core import parse
from fz_iproute.core.config import Config
from fz_iproute.core.desired import layout
from fz_iproute.core.model import Link, Nexthop, Route, Rule, Snapshot
from fz_iproute.core.prefix import FAMILIES, Family
from fz_iproute.errors import ReadFailed
from fz_iproute.kernel.ip import OPTION, Asked, Document, Ip

# `mtu lock 1400`: the text shows it, the JSON does not. (rto_min is always locked.)
_LOCKED = re.compile(
    r" (?:mtu|window|rtt|rttvar|ssthresh|cwnd|advmss|reordering|hoplimit|initcwnd|initrwnd|quickack|congctl) lock "
)

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
        self._lan_of_main = [_SCOPE_LINK, *(f"{_MAIN} root {prefix}" for prefix in allowed)]
        self._parsed: dict[tuple[Family, str], _Parsed] = {}

    def read(self) -> Snapshot:
        """One reading of links, rules and the tables concerned. ReadFailed if any part of it is in doubt."""
        try:
            return self._read()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ReadFailed(f"ip printed JSON of a shape that is not known here: {error!r}") from None
        finally:
            self._ip.abandon()

    def _read(self) -> Snapshot:
        ip = self._ip
        rules = [f"rule show table {table}" for table in self._candidates]
        routes = [f"route show table {table}" for table in self._candidates]
        # IPv4: two tables of one machine may differ by a million routes, so each dump gets a process that filters.
        asked = ip.ask("inet", *rules, "link show")
        asked_main = [ip.ask("inet", question) for question in self._lan_of_main]
        # IPv6 has no scope to ask for: all of main is read, and beside that the other dumps cost little.
        asked6 = ip.ask("inet6", *rules, _MAIN, *routes)

        *found_rules, found_links = ip.answers(asked)
        found6 = ip.answers(asked6)
        known = (*self._rules(found_rules, "inet"), *self._rules(found6, "inet6"))
        plane = layout(self._tables, known)
        concerned = {plane.mirror, plane.internet}
        # Answers are heard in the order of the questions: they may all come from one `ip`.
        parts = [self._lan_documents(asked) for asked in asked_main]
        asked_tables = {table: ip.ask("inet", f"route show table {table}") for table in concerned}

        documents: dict[Family, dict[str, list[Document]]] = {
            "inet": {str(table): ip.answers(asked)[0] for table, asked in asked_tables.items()},
            "inet6": dict(zip(map(str, self._candidates), found6[len(rules) + 1 :], strict=True)),
        }
        documents["inet"]["main"] = parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))
        documents["inet6"]["main"] = self._with_locks_marked("inet6", found6[len(rules)], _MAIN)

        links = parse.links(found_links)
        nexthops: Mapping[int, Nexthop] = {}
        if any(parse.needs_nexthops(table) for tables in documents.values() for table in tables.values()):
            nexthops = parse.nexthops(ip.answers(ip.ask("inet", "nexthop show"))[0])

        def table(name: object) -> dict[Family, tuple[Route, ...]]:
            return {
                family: self._routes(family, str(name), documents[family][str(name)], links, nexthops)
                for family in FAMILIES
            }

        return Snapshot(links, known, main=table("main"), mirror=table(plane.mirror), internet=table(plane.internet))

    def _rules(self, answers: Iterable[list[Document]], family: Family) -> Iterator[Rule]:
        for table, documents in zip(self._candidates, answers, strict=False):
            yield from parse.rules(documents, family, table)

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

    def _lan_documents(self, asked: Asked) -> list[Document]:
        documents = self._ip.answers(asked)[0]
        (question,) = asked.questions
        if question == _SCOPE_LINK:
            for document in documents:
                document["scope"] = "link"  # a filter leaves its own key out
        return self._with_locks_marked("inet", documents, question)

    def _with_locks_marked(self, family: Family, documents: list[Document], question: str) -> list[Document]:
        """Give routes with a locked metric a key that is not known here: they are reported, and not copied."""
        if not any("metrics" in document for document in documents):
            return documents
        answer = self._ip.start("-oneline", OPTION[family], *question.split()).answer()
        if answer.code != 0:
            raise ReadFailed(answer.failure(answer.words))
        lines = answer.stdout.decode("utf-8", "surrogateescape").splitlines()
        locked = {line.split()[0] for line in lines if _LOCKED.search(line)}
        return [
            {**document, "lock": None} if "metrics" in document and document["dst"] in locked else document
            for document in documents
        ]


class _Parsed(NamedTuple):
    """Routes, and all that they were made of."""

    documents: list[Document]
    links: Mapping[str, Link]
    nexthops: Mapping[int, Nexthop]
    routes: tuple[Route, ...]
