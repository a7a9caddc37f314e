"""Says whether packets of this machine reach a LAN, and what becomes of them otherwise."""

from collections.abc import Collection
from typing import NamedTuple

from fz_iproute.diagnosis.lookup import Decision, Packet
from fz_iproute.diagnosis.reach import Network
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.prefix import Family, Prefix

_LINK_LOCAL = Prefix.parse("fe80::/10")
# The addresses of this machine and of everybody belong to no host of the LAN.
OF_NO_HOST = ("local", "broadcast", "anycast", "multicast")
_LOST = {"none": "have no route", "foreign": "have no valid source address"}


class Lan(NamedTuple):
    """A destination of main, and the paths of its LAN routes there: several if it is on several links."""

    family: Family
    dst: str
    paths: Collection[tuple[str, ...]]

    @property
    def prefix(self) -> Prefix:
        """The addresses."""
        return Prefix.of_route(self.dst, self.family)


def lost(network: Network, lan: Lan, route: Route) -> str:
    """What becomes of most packets to the LAN of this route: `enter tun-firezone`. "" if they reach it."""
    family, prefix = lan.family, lan.prefix
    if _LINK_LOCAL.covers(prefix):
        # Programs name the interface themselves.
        packet = Packet(family, prefix.address + 1, oif=next(iter(route.attributes.devices), ""))
        return _fate(network, lan, packet, network.way(packet))
    ways = [way for way in network.ways(prefix) if way.decision.outcome not in OF_NO_HOST]
    if not ways:
        return ""
    part, decision = max(ways, key=lambda way: way.part.size)
    return _fate(network, lan, Packet(family, part.address), decision)


def _fate(network: Network, lan: Lan, packet: Packet, decision: Decision) -> str:
    if decision.outcome != "unicast" or decision.route is None:
        return _LOST.get(decision.outcome, "are refused")
    attributes = decision.route.attributes
    if attributes.path not in lan.paths:
        verb = "enter" if network.may_be_tunnelled(decision) else "leave by"
        router = attributes.value("via")
        return f"{verb} {' or '.join(decision.devices)}" + (f" through the router {router}" if router else "")
    # A program that connects gets the source address of the route, and the kernel decides again.
    source = attributes.value("src")
    if source and not packet.src:
        connected = packet._replace(src=Prefix.of_route(source, lan.family).address)
        again = network.way(connected)
        if again.outcome == "foreign":
            return f"get the source {source}, which this machine no longer has"
        if again.route != decision.route:
            return _fate(network, lan, connected, again)
    return ""
