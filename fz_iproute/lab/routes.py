"""Rebuilds the nexthop objects and the routes."""

import re
from collections.abc import Mapping, Sequence

from fz_iproute.lab.printed import Found, Lost, Printed, command, number_of
from fz_iproute.mirror import parse
from fz_iproute.mirror.model import Command, Link, Route
from fz_iproute.mirror.parse import Document
from fz_iproute.mirror.prefix import Family
from fz_iproute.mirror.words import MAIN


def nexthops(printed: Printed, links: Mapping[str, Link]) -> Found:
    """Add the nexthop objects, then the groups, which consist of other objects."""
    of_inet6 = {
        rest.get("nhid") for (family, _), listing in printed.routes.items() if family == "inet6" for _, rest in listing
    }
    for document in sorted(printed.nexthops, key=lambda document: "group" in document):
        what = f"nexthop {document['id']}"
        words = ["nexthop", "add", "id", str(document["id"])]
        family: Family = "inet"
        if unknown := document.keys() - _NEXTHOP_KEYS:
            yield Lost(what, f"`ip` shows an attribute that is not known here: {', '.join(sorted(unknown))}")
            continue
        if "group" in document:
            words += ["group", "/".join(_member(member) for member in document["group"])]
        elif "blackhole" in document:
            words.append("blackhole")
            family = "inet6" if document["id"] in of_inet6 else "inet"
        else:
            gateway, link = document.get("gateway"), links.get(document.get("dev", ""))
            if link is None or link.word is None:
                yield Lost(what, "its link does not exist here")
                continue
            # The output does not show the family of an object without a gateway. But only for IPv4, its scope is host.
            is_inet = "." in gateway if gateway else document.get("scope") == "host"
            family = "inet" if is_inet else "inet6"
            words += ["via", gateway] if gateway else []
            words += ["dev", link.word]
            words += ["onlink"] if "onlink" in document.get("flags", ()) else []
        words += ["proto", number_of(document.get("protocol", "unspec"))]
        yield command(what, family, words)


def _member(member: Document) -> str:
    return f"{member['id']},{member['weight']}" if "weight" in member else str(member["id"])


_NEXTHOP_KEYS = frozenset({"id", "gateway", "dev", "scope", "protocol", "flags", "blackhole", "group"})


def routes(printed: Printed, links: Mapping[str, Link]) -> tuple[list[Command | Lost], list[Command | Lost]]:
    """The independent routes, and the routes that need another route or a nexthop object first.

    Routes with the same destination, tos and metric stay together, so that they keep their order.
    """
    early: list[Command | Lost] = []
    late: list[Command | Lost] = []
    for (family, table), listing in printed.routes.items():
        numbered = [(dst, {**rest, "protocol": number_of(rest.get("protocol", "boot"))}) for dst, rest in listing]
        found = parse.routes(numbered, family, links)
        dependent = {_group(route) for route in found if _is_dependent(route)}
        lines = printed.lines.get(family, ()) if table == MAIN else ()
        for route in found:
            (late if _group(route) in dependent else early).append(_route(family, table, route, lines))
    return early, late


def _group(route: Route) -> tuple[str, int, str]:
    return route.dst, route.attributes.metric, route.attributes.tos


def _is_dependent(route: Route) -> bool:
    return route.attributes.gatewayed or route.attributes.path[:1] == ("nhid",)


def _route(family: Family, table: int, route: Route, lines: Sequence[str]) -> Command | Lost:
    what = f"route {route} table {table}"
    if route.attributes.inexpressible:
        return Lost(what, route.attributes.inexpressible)
    if route.attributes.expired:
        return Lost(what, "it has timed out")
    if route.attributes.type not in _TYPES or not 0 < table < 2**32:
        return Lost(what, "`ip` has no such type or table")
    words = _locked(route, lines)
    if words is None:
        return Lost(what, "which of its metrics are locked is not certain")
    return command(what, family, ("route", "append", "table", str(table), *words))


# fmt: off
_TYPES = frozenset([
    "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw",
])
# fmt: on


def _locked(route: Route, lines: Sequence[str]) -> tuple[str, ...] | None:
    """The words of the route, with `lock` in front of each locked metric.

    None if it is uncertain which metrics are locked, because several of `lines` may be about this route.
    """
    starts = [f"{route.dst} ", f"{route.attributes.type} {route.dst} "]
    metric = f" metric {route.attributes.metric} "
    alike = {
        frozenset(_LOCK.findall(line)) - {"rto_min"}  # `ip` always locks rto_min
        for line in lines
        if line.startswith(tuple(starts))
        and all(f" dev {device} " in f"{line} " for device in route.attributes.devices)
        and (not route.attributes.metric or metric in f"{line} ")
    }
    if len(alike) > 1:
        return None
    (locked,) = alike or {frozenset()}
    words: list[str] = []
    for word in route.words:
        is_metric = word in locked and words[-1:] != ["dev"]
        words += [word, "lock"] if is_metric else [word]
    return tuple(words) if words.count("lock") == len(locked) else None


_LOCK = re.compile(r" (\w+) lock ")
