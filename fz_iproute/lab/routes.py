"""Rebuilds the nexthop objects, the routes and the rules."""

from collections.abc import Mapping

from fz_iproute.lab.printed import Found, Lost, Printed, command
from fz_iproute.mirror import parse, parse_rules
from fz_iproute.mirror.ip_json import Document
from fz_iproute.mirror.model import Command, Link, Route
from fz_iproute.mirror.prefix import FAMILIES, Family


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
        words += ["proto", document["protocol"]] if "protocol" in document else []
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
        found = parse.routes(listing, family, links)
        dependent = {_group(route) for route in found if _is_dependent(route)}
        for route in found:
            (late if _group(route) in dependent else early).append(_route(family, table, route))
    return early, late


def _group(route: Route) -> tuple[str, int, str]:
    return route.dst, route.attributes.metric, route.attributes.tos


def _is_dependent(route: Route) -> bool:
    return route.attributes.gatewayed or route.attributes.path[:1] == ("nhid",)


def _route(family: Family, table: int, route: Route) -> Command | Lost:
    what = f"route {route} table {table}"
    if route.attributes.inexpressible:
        return Lost(what, route.attributes.inexpressible)
    if route.attributes.expired:
        return Lost(what, "it has timed out")
    return command(what, family, ("route", "append", "table", str(table), *route.words))


def rules(printed: Printed) -> Found:
    """Delete the rules that every new namespace has, then add the recorded ones in order."""
    for family in FAMILIES:
        found = parse_rules.rules(printed.rules.get(family, ()), family)
        if found:
            for priority in (0, 32766, 32767) if family == "inet" else (0, 32766):
                yield Command.of(family, ("rule", "del", "priority", str(priority)))
        for rule in found:
            words = list(rule.words)
            if rule.mark:
                # The mask must be given: without one, `fwmark 0` matches every packet.
                words[words.index("fwmark") + 1] = f"{rule.mark.value:#x}/{rule.mark.mask:#x}"
            if rule.protocol not in ("", "unspec"):
                words += ["protocol", rule.protocol]
            what = f"rule {rule.priority}: {rule}"
            line = ("rule", "add", "priority", str(rule.priority), *words)
            yield command(what, family, line, devices=(rule.iif, rule.oif))
