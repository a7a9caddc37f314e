"""Says whether packets that this machine sends reach a LAN, and if not, where they go instead."""

from collections.abc import Collection
from typing import NamedTuple

from fz_iproute.diagnosis.lookup import Decision, Packet, within_link
from fz_iproute.diagnosis.reach import Network
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.prefix import Family, Prefix

# The outcomes for addresses of a LAN that no other host has: this machine's own, broadcast, and so on.
OF_NO_HOST = ("local", "broadcast", "anycast", "multicast")
_LOST = {"none": "have no route", "foreign": "have no valid source address"}


class Lan(NamedTuple):
    """A destination of LAN routes in main, and the paths of these routes. It has several if it is on several links."""

    family: Family
    dst: str
    paths: Collection[tuple[str, ...]]

    @property
    def prefix(self) -> Prefix:
        """The destination as a prefix."""
        return Prefix.of_route(self.dst, self.family)


def lost(network: Network, lan: Lan, route: Route) -> str:
    """Where most packets to the LAN of this route go instead: `enter tun-firezone`. "" if they reach it."""
    family, prefix = lan.family, lan.prefix
    if within_link(family, prefix.address):
        # A program that sends to a link-local address names the interface.
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
    # connect() takes the source address from the route. Then the kernel decides again, now with this source.
    source = attributes.value("src")
    if source and not packet.src:
        connected = packet._replace(src=Prefix.of_route(source, lan.family).address)
        again = network.way(connected)
        if again.outcome == "foreign":
            return f"get the source {source}, which this machine no longer has"
        if again.route != decision.route:
            return _fate(network, lan, connected, again)
    return ""
