"""What the mirror has to hold, computed from raw netlink. No code of the program takes part."""

import ipaddress
import socket
from collections.abc import Callable, Iterable

from tests.netns import rtnetlink
from tests.netns.namespace import MIRROR, TIER_INTERNET, TIER_LAN, TUNNEL, Namespace, comparable
from tests.netns.rtnetlink import FAMILIES, RTA_DST, RTN_UNICAST, RawRoute

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_WIDEST = {"inet": 8, "inet6": 48}
_LOOPBACK = 1

Refused = Callable[[_Network], bool]


def network(route: RawRoute) -> _Network:
    """The destination of a route."""
    length = 4 if route.family == FAMILIES["inet"] else 16
    address = bytes.fromhex(dict(route.attributes).get(RTA_DST, "")).ljust(length, b"\0")
    return ipaddress.ip_network((address, route.dst_len))


def mirror_table(namespace: Namespace) -> int:
    """The table of the copies: that of the LAN's tier if a rule looks it up."""
    with rtnetlink.connect(namespace.name) as netlink:
        rules = [rule for family in FAMILIES for rule in rtnetlink.rules(netlink, family)]
    return TIER_LAN if any(rule.table == TIER_LAN for rule in rules) else MIRROR


def indexes(namespace: Namespace) -> dict[str, int]:
    """The interfaces by name."""
    found = rtnetlink.inside(namespace.name, socket.if_nameindex)
    return {name: index for index, name in found}


def owed(
    namespace: Namespace, table: int | None = None, *, tunnel: str = TUNNEL, refused: Refused = lambda network: False
) -> dict[str, tuple[list[RawRoute], list[RawRoute]]]:
    """For each family, the copies that there should be and those that there are, in comparable order."""
    table = mirror_table(namespace) if table is None else table
    internet = TIER_INTERNET if table == TIER_LAN else table
    names = indexes(namespace)
    tables = {family: namespace.raw(family, table) for family in FAMILIES}
    # The VPN's default route names its device too.
    tunnels = {_LOOPBACK, names.get(tunnel, _LOOPBACK)} | {
        index
        for family in FAMILIES
        for route in (tables[family] if internet == table else namespace.raw(family, internet))
        if not route.dst_len and route.type == RTN_UNICAST
        for index in route.devices
    }
    found = {}
    for family, there in tables.items():
        ours = [route for route in there if route.on_link and not route.devices & tunnels]
        explicit = [network(route) for route in there if route not in ours and route.dst_len] if table == MIRROR else []
        wanted = [
            route
            for route in namespace.raw(family, 254)
            if route.on_link
            and not route.devices & tunnels
            and route.dst_len >= _WIDEST[family]
            and not _inside(network(route), explicit)
            and not refused(network(route))
        ]
        found[family] = comparable(wanted), comparable(ours)
    return found


def in_step(namespace: Namespace, table: int | None = None, **options: object) -> bool:
    """True if the copies are exactly those that should be."""
    return all(wanted == ours for wanted, ours in owed(namespace, table, **options).values())


def _inside(network: _Network, others: Iterable[_Network]) -> bool:
    return any(network.subnet_of(other) for other in others)  # type: ignore[arg-type]


def destinations(namespace: Namespace, table: int = MIRROR, *, tunnel: str = TUNNEL) -> list[str]:
    """The destinations of the routes of a table that do not leave by the tunnel, with or without a router; sorted."""
    names = indexes(namespace)
    return sorted(
        str(network(route))
        for family in FAMILIES
        for route in namespace.raw(family, table)
        if route.devices and names.get(tunnel) not in route.devices
    )
