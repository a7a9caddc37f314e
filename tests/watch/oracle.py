"""What the mirror has to hold, computed from raw netlink. No code of the program takes part."""

import ipaddress
import socket
from collections.abc import Iterable

from tests.netns import rtnetlink
from tests.netns.namespace import MIRROR, TIER_INTERNET, TIER_LAN, TUNNEL, Namespace, comparable
from tests.netns.rtnetlink import FAMILIES, RTA_DST, RTN_UNICAST, RawRoute

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_WIDEST = {"inet": 8, "inet6": 48}
_LOOPBACK = 1


def network(route: RawRoute) -> _Network:
    """The destination of a route."""
    length = 4 if route.family == FAMILIES["inet"] else 16
    address = bytes.fromhex(dict(route.attributes).get(RTA_DST, "")).ljust(length, b"\0")
    return ipaddress.ip_network((address, route.dst_len))


def mirror_table(namespace: Namespace) -> int:
    """The table of the copies: that of the LAN's tier if a rule looks it up."""
    with rtnetlink.connect(namespace.name) as netlink:
        rules = [rule for family in FAMILIES for rule in rtnetlink.rules(netlink, family)]
    if not any(rule.table == TIER_LAN for rule in rules):
        return MIRROR
    # Rules may outlive the client that had used them: its default route tells where all of its routes are.
    first, last = (
        any(
            not route.dst_len
            for family in FAMILIES
            for route in namespace.raw(family, table)
            if route.type == RTN_UNICAST
        )
        for table in (MIRROR, TIER_INTERNET)
    )
    return MIRROR if first and not last else TIER_LAN


def indexes(namespace: Namespace) -> dict[str, int]:
    """The interfaces by name."""
    found = rtnetlink.inside(namespace.name, socket.if_nameindex)
    return {name: index for index, name in found}


def in_step(namespace: Namespace) -> bool:
    """True if the copies are exactly those that should be."""
    table = mirror_table(namespace)
    internet = TIER_INTERNET if table == TIER_LAN else table
    names = indexes(namespace)
    # The VPN's default route names its device too.
    tunnels = {_LOOPBACK, names.get(TUNNEL, _LOOPBACK)} | {
        index
        for family in FAMILIES
        for route in namespace.raw(family, internet)
        if not route.dst_len and route.type == RTN_UNICAST
        for index in route.devices
    }

    def family_in_step(family: str) -> bool:
        there = namespace.raw(family, table)
        ours = [route for route in there if route.on_link and not route.devices & tunnels]
        explicit = [network(route) for route in there if route not in ours and route.dst_len] if table == MIRROR else []
        wanted = [
            route
            for route in namespace.raw(family, 254)
            if route.on_link
            and not route.devices & tunnels
            and route.dst_len >= _WIDEST[family]
            and not _inside(network(route), explicit)
        ]
        return comparable(wanted) == comparable(ours)

    return all(map(family_in_step, FAMILIES))


def _inside(network: _Network, others: Iterable[_Network]) -> bool:
    return any(network.subnet_of(other) for other in others)  # type: ignore[arg-type]


def destinations(namespace: Namespace, table: int = MIRROR) -> list[str]:
    """The destinations of the routes of a table that do not leave by the tunnel, with or without a router; sorted."""
    tunnel = indexes(namespace).get(TUNNEL)
    return sorted(
        str(network(route))
        for family in FAMILIES
        for route in namespace.raw(family, table)
        if route.devices and tunnel not in route.devices
    )
