"""Says whether packets that this machine sends reach a LAN, and if not, where they go instead."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from fz_iproute.diagnosis.lookup import Decision, Packet, usual, within_link
from fz_iproute.diagnosis.parts import Part
from fz_iproute.diagnosis.reach import OF_NO_HOST, Network, Way
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.prefix import Prefix
from fz_iproute.mirror.words import MAIN

_LOST = {"none": "have no route", "foreign": "have no valid source address"}


class Fate(NamedTuple):
    """What becomes of packets to a part of a LAN."""

    part: Part
    lost: str  # where they go instead: `enter tun-firezone`; "" if they reach the LAN
    decision: Decision  # about them


def lost(network: Network, route: Route, copies: Iterable[Route]) -> str:
    """Where most packets to the LAN of this route of main go instead. "" if they reach it."""
    found = of_most(fates(network, route, copies))
    return found.lost if found else ""


def fates(network: Network, route: Route, copies: Iterable[Route], like: Packet | None = None) -> list[Fate]:
    """What becomes of packets to each part of the LAN of this route of main, of usual ones or of those `like` this one.

    They also reach it by one of the `copies`, which are all routes to the LAN that are to be copied, or by another
    route of main: it may be on several links. A part to which main has a narrower route is another LAN.
    """
    family, prefix = route.attributes.family, route.prefix
    packet = (like or usual(family))._replace(dst=prefix.host)
    if within_link(family, prefix.address):
        # A program that sends to a link-local address names the interface.
        packet = packet._replace(oif=next(iter(route.attributes.devices), ""))
        way = Way(Part(prefix, prefix.host, 1, is_sample=False), network.way(packet))
        ways = [] if way.decision.outcome in OF_NO_HOST else [way]
    else:
        ways = [
            way
            for way in network.ways_to_hosts(prefix, packet._replace(dst=0))
            if not _is_elsewhere(network, prefix, way.part)
        ]
    by_main = (
        each
        for each in network.table(MAIN, family).to(prefix)
        if each.attributes.on_link and not any(map(network.may_be_tunnel, each.attributes.devices))
    )
    paths = {each.attributes.path for each in (route, *copies, *by_main)}
    return [Fate(part, *_fate(network, paths, packet._replace(dst=part.address), decision)) for part, decision in ways]


def of_most(found: Sequence[Fate]) -> Fate | None:
    """The fate of most packets. None if there are none."""
    missed = [each for each in found if each.lost]
    size = sum(each.part.size for each in found)
    is_lost = 2 * sum(each.part.size for each in missed) > size
    alike = missed if is_lost else [each for each in found if not each.lost]
    return max(alike, key=lambda each: each.part.size, default=None)


def _is_elsewhere(network: Network, lan: Prefix, part: Part) -> bool:
    """True if main has a narrower route to this part of the LAN, and not into a tunnel: it is another LAN."""
    host = Prefix.of_host(lan.family, part.address)
    routes = (route for same in network.table(MAIN, lan.family).covering(host) for route in same)
    return any(
        route.prefix.length > lan.length
        and route.attributes.type == "unicast"
        and not any(map(network.may_be_tunnel, route.attributes.devices))
        for route in routes
    )


def _fate(
    network: Network, paths: Collection[tuple[str, ...]], packet: Packet, decision: Decision
) -> tuple[str, Decision]:
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
    return "", decision
