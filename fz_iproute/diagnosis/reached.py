"""Says whether packets that this machine sends reach a LAN, and if not, where they go instead."""

from collections.abc import Collection, Iterable

from fz_iproute.diagnosis.lookup import Decision, Packet, within_link
from fz_iproute.diagnosis.reach import OF_NO_HOST, Network
from fz_iproute.mirror.model import Route

_LOST = {"none": "have no route", "foreign": "have no valid source address"}


def lost(network: Network, route: Route, copies: Iterable[Route]) -> str:
    """Where most packets to the LAN of this route of main go instead: `enter tun-firezone`. "" if they reach it.

    They also reach it by one of the `copies`, which are all routes to the LAN that are to be copied: it may be on
    several links.
    """
    found = fate(network, route, copies)
    return found[0] if found else ""


def fate(network: Network, route: Route, copies: Iterable[Route]) -> tuple[str, Decision] | None:
    """The same, and the decision about these packets. None if they reach the LAN."""
    family, prefix = route.attributes.family, route.prefix
    paths = {each.attributes.path for each in (route, *copies)}
    if within_link(family, prefix.address):
        # A program that sends to a link-local address names the interface.
        packet = Packet(family, prefix.host, oif=next(iter(route.attributes.devices), ""))
        decision = network.way(packet)
        return None if decision.outcome in OF_NO_HOST else _fate(network, paths, packet, decision)
    ways = network.ways_to_hosts(prefix)
    if not ways:
        return None
    part, decision = max(ways, key=lambda way: way.part.size)
    return _fate(network, paths, Packet(family, part.address), decision)


def _fate(
    network: Network, paths: Collection[tuple[str, ...]], packet: Packet, decision: Decision
) -> tuple[str, Decision] | None:
    if decision.outcome != "unicast" or decision.route is None:
        return _LOST.get(decision.outcome, "are refused"), decision
    attributes = decision.route.attributes
    if attributes.path not in paths:
        verb = "enter" if network.may_be_tunnelled(decision) else "leave by"
        router = attributes.value("via")
        by = f" through the router {router}" if router else ""
        return f"{verb} {' or '.join(decision.devices)}{by}", decision
    # connect() takes the source address from the route. Then the kernel decides again, now with this source.
    if attributes.source and not packet.src:
        connected = packet._replace(src=attributes.source)
        again = network.way(connected)
        if again.outcome == "foreign":
            return f"get the source {attributes.value('src')}, which this machine no longer has", again
        if again.route != decision.route:
            return _fate(network, paths, connected, again)
    return None
