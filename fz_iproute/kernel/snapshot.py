"""Reads what the planner needs, with as few `ip` as the facts allow, side by side."""

import re
from collections.abc import Mapping
from itertools import chain
from typing import Any, NamedTuple

from fz_iproute.core import parse
from fz_iproute.core.config import Config
from fz_iproute.core.desired import layout
from fz_iproute.core.model import Nexthop, Snapshot
from fz_iproute.core.prefix import FAMILIES, Family
from fz_iproute.errors import ReadFailed
from fz_iproute.kernel.ip import Ip, Running

_OPTION: dict[Family, str] = {"inet": "-4", "inet6": "-6"}

# `mtu lock 1400`: the text shows it, the JSON does not. (rto_min is always locked.)
_LOCKED = re.compile(
    r" (?:mtu|window|rtt|rttvar|ssthresh|cwnd|advmss|reordering|hoplimit|initcwnd|initrwnd|quickack|congctl) lock "
)


def read_snapshot(ip: Ip, config: Config) -> Snapshot:
    """One reading of links, rules and the tables concerned. ReadFailed if any part of it is in doubt."""
    try:
        return _read(ip, config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReadFailed(f"ip printed JSON of a shape that is not known here: {error!r}") from None
    finally:
        ip.abandon()


def _read(ip: Ip, config: Config) -> Snapshot:
    asked_rules = {family: ip.start("-N", "-json", _OPTION[family], "rule", "show") for family in FAMILIES}
    asked_main = {family: _ask_main(ip, family, config) for family in FAMILIES}
    asked_links = ip.start("-json", "link", "show")

    rules = tuple(rule for family in FAMILIES for rule in parse.rules(ip.read(asked_rules[family]), family))
    tables = layout(config.tables, rules)
    asked = {
        (family, table): ip.start("-json", _OPTION[family], "route", "show", "table", str(table))
        for family in FAMILIES
        for table in {tables.mirror, tables.internet}
    }

    links = parse.links(ip.read(asked_links))
    main = {family: list(chain.from_iterable(_documents(ip, a) for a in asked_main[family])) for family in FAMILIES}
    others = {key: ip.read(running, missing_is_empty=True) for key, running in asked.items()}
    nexthops: Mapping[int, Nexthop] = {}
    if any(parse.needs_nexthops(documents) for documents in [*main.values(), *others.values()]):
        nexthops = parse.nexthops(ip.read(ip.start("-json", "nexthop", "show")))

    routes = {key: parse.routes(documents, key[0], links, nexthops) for key, documents in others.items()}
    return Snapshot(
        links=links,
        rules=rules,
        main={family: parse.routes(main[family], family, links, nexthops) for family in FAMILIES},
        mirror={family: routes[family, tables.mirror] for family in FAMILIES},
        internet={family: routes[family, tables.internet] for family in FAMILIES},
    )


class _Asked(NamedTuple):
    """A read of main on its way: the arguments again, and what they make `ip` leave out of the documents."""

    running: Running
    words: tuple[str, ...]
    left_out: dict[str, Any]


def _ask_main(ip: Ip, family: Family, config: Config) -> list[_Asked]:
    """The LAN's share of main. IPv6 has no scope to ask for: there, all of it is read."""
    show = (_OPTION[family], "route", "show", "table", "main")
    # As a filter, `scope link` prints no scope; `root P` (all that is inside P) leaves nothing out.
    if family == "inet6":
        filters: list[tuple[tuple[str, ...], dict[str, Any]]] = [((), {})]
    else:
        filters = [(("scope", "link"), {"scope": "link"})]
        filters += [(("root", str(prefix)), {}) for prefix in config.lan.allow if prefix.family == family]
    return [_Asked(ip.start("-json", *show, *words), (*show, *words), left_out) for words, left_out in filters]


def _documents(ip: Ip, asked: _Asked) -> list[dict[str, Any]]:
    documents = ip.read(asked.running, missing_is_empty=True)
    for document in documents:
        document.update(asked.left_out)
    if any("metrics" in document for document in documents):
        locked = _locked(ip, asked.words)
        for document in documents:
            if "metrics" in document and document["dst"] in locked:
                document["lock"] = None  # no attribute that is known here: the route is reported, not copied
    return documents


def _locked(ip: Ip, words: tuple[str, ...]) -> set[str]:
    """The destinations of routes with a locked metric."""
    answer = ip.start("-oneline", *words).answer()
    if answer.code != 0:
        raise ReadFailed(f"{' '.join(answer.argv)}: {answer.words}")
    lines = answer.stdout.decode("utf-8", "surrogateescape").splitlines()
    return {line.split()[0] for line in lines if _LOCKED.search(line)}
