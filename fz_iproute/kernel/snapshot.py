"""Reads what the planner needs, with as few `ip` as the facts allow, side by side."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from fz_iproute.core import parse
from fz_iproute.core.config import Config, Tables
from fz_iproute.core.desired import layout
from fz_iproute.core.model import Nexthop, Route, Rule, Snapshot
from fz_iproute.core.prefix import FAMILIES, Family
from fz_iproute.errors import ReadFailed
from fz_iproute.kernel.ip import OPTION, Asked, Document, Ip

# `mtu lock 1400`: the text shows it, the JSON does not. (rto_min is always locked.)
_LOCKED = re.compile(
    r" (?:mtu|window|rtt|rttvar|ssthresh|cwnd|advmss|reordering|hoplimit|initcwnd|initrwnd|quickack|congctl) lock "
)

_MAIN = "route show table main"


def read_snapshot(ip: Ip, config: Config) -> Snapshot:
    """One reading of links, rules and the tables concerned. ReadFailed if any part of it is in doubt."""
    try:
        return _read(ip, config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReadFailed(f"ip printed JSON of a shape that is not known here: {error!r}") from None
    finally:
        ip.abandon()


def _read(ip: Ip, config: Config) -> Snapshot:
    tables = _tables(config.tables)
    rules = [f"rule show table {table}" for table in tables]
    routes = [f"route show table {table}" for table in tables]
    # IPv4: two tables of one machine may differ by a million routes, so each dump gets a process that filters.
    asked = ip.ask("inet", *rules, "link show")
    asked_main = [ip.ask("inet", question) for question in _lan_of_main(config)]
    # IPv6 has no scope to ask for: all of main is read, and beside that the other dumps cost little.
    asked6 = ip.ask("inet6", *rules, _MAIN, *routes)

    *found_rules, found_links = ip.answers(asked)
    found6 = ip.answers(asked6)
    known = [*_rules(tables, found_rules, "inet"), *_rules(tables, found6, "inet6")]
    plane = layout(config.tables, known)
    concerned = {plane.mirror, plane.internet}
    asked_tables = {table: ip.ask("inet", f"route show table {table}") for table in concerned}

    inet = {table: ip.answers(asked_tables[table])[0] for table in concerned}
    inet6 = dict(zip(tables, found6[len(rules) + 1 :], strict=True))
    main: dict[Family, list[Document]] = {
        "inet": list(chain.from_iterable(_lan_documents(ip, asked) for asked in asked_main)),
        "inet6": _with_locks_marked(ip, "inet6", found6[len(rules)], _MAIN),
    }

    links = parse.links(found_links)
    nexthops: Mapping[int, Nexthop] = {}
    if any(parse.needs_nexthops(documents) for documents in (*main.values(), *inet.values(), *inet6.values())):
        nexthops = parse.nexthops(ip.answers(ip.ask("inet", "nexthop show"))[0])
    by_table: dict[int, dict[Family, tuple[Route, ...]]] = {
        table: {
            "inet": parse.routes(inet[table], "inet", links, nexthops),
            "inet6": parse.routes(inet6[table], "inet6", links, nexthops),
        }
        for table in concerned
    }
    return Snapshot(
        links=links,
        rules=tuple(known),
        main={family: parse.routes(main[family], family, links, nexthops) for family in FAMILIES},
        mirror=by_table[plane.mirror],
        internet=by_table[plane.internet],
    )


def _tables(tables: Tables) -> list[int]:
    """Every table that may play a part, whichever layout is in force."""
    return list(dict.fromkeys((tables.single, tables.lan, tables.internet)))


def _rules(tables: Iterable[int], answers: Iterable[list[Document]], family: Family) -> Iterator[Rule]:
    for table, documents in zip(tables, answers, strict=False):
        yield from parse.rules(documents, family, table)


_SCOPE_LINK = f"{_MAIN} scope link"


def _lan_of_main(config: Config) -> list[str]:
    """The questions for the LAN's share of IPv4 main: what is on-link, and what `lan.allow` adds to it."""
    allowed = [prefix for prefix in config.lan.allow if prefix.family == "inet"]
    return [_SCOPE_LINK, *(f"{_MAIN} root {prefix}" for prefix in allowed)]


def _lan_documents(ip: Ip, asked: Asked) -> list[Document]:
    documents = ip.answers(asked)[0]
    (question,) = asked.questions
    if question == _SCOPE_LINK:
        for document in documents:
            document["scope"] = "link"  # a filter leaves its own key out
    return _with_locks_marked(ip, "inet", documents, question)


def _with_locks_marked(ip: Ip, family: Family, documents: list[Document], question: str) -> list[Document]:
    """Mark the routes with a locked metric: no key that is known here, so they are reported and not copied."""
    if any("metrics" in document for document in documents):
        answer = ip.start("-oneline", OPTION[family], *question.split()).answer()
        if answer.code != 0:
            raise ReadFailed(answer.failure(answer.words))
        lines = answer.stdout.decode("utf-8", "surrogateescape").splitlines()
        locked = {line.split()[0] for line in lines if _LOCKED.search(line)}
        for document in documents:
            if "metrics" in document and document["dst"] in locked:
                document["lock"] = None
    return documents
