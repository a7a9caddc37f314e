"""Finds LANs that main has no route to, although a network card of this machine belongs to them.

A copy in the VPN's table may still reach such a LAN. `sync` removes that copy: the tables must equal main, and a LAN
that the machine has left must go. So `sync` is no remedy here. Main must get its route back.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from fz_iproute.diagnosis.lans import key
from fz_iproute.diagnosis.reach import Network
from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.model import Command, Route
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix, PrefixSet


class LostRoute(NamedTuple):
    """A copy whose original is gone, although this machine still has an address in that LAN."""

    copy: Route
    address: str  # the machine's own
    explicit: Prefix | None = None  # the VPN's explicit route because of which `sync` removes the copy anyway

    @property
    def original(self) -> Route:
        """The route that main needs: like the copy, with a source address that the machine still has."""
        attributes = self.copy.attributes
        words = list(attributes.words)
        if source := attributes.value("src"):
            # Options and values are told apart by their position, because an interface may have the name `src`.
            place = next(place for place in range(len(words)) if words[place : place + 2] == ["src", source])
            words[place + 1] = self.address
        return self.copy._replace(attributes=attributes._replace(words=tuple(words)))

    @property
    def restoring(self) -> Command:
        """The command that gives main its route back."""
        return Command.of(self.original.attributes.family, ("route", "add", *self.original.words))

    def __str__(self) -> str:
        by = " and ".join(self.copy.attributes.devices)
        return f"main has lost the route of {self.copy.dst}, but {by} still has the address {self.address}"


def lost_routes(network: Network, goal: Desired) -> list[LostRoute]:
    """The copies that `sync` would remove because main has lost their originals, and that the machine still needs."""
    return [lost for family in FAMILIES for lost in _lost_routes(network, goal, family)]


def _lost_routes(network: Network, goal: Desired, family: Family) -> Iterator[LostRoute]:
    here = goal.by_family[family]
    tables = here.contents.values()
    stale = {route for wanted, ours, _ in tables if wanted != ours for route in set(ours).difference(wanted)}
    addresses = unrouted(network, goal, family) if stale else {}
    lans = {key(each.route) for each in goal.judged[family].verdicts} if stale else ()
    for copy in (route for _, ours, _ in tables for route in ours if route in stale and route.attributes.on_link):
        own = [each for device in copy.attributes.devices for each in addresses.get(device, ())]
        inside = [each for each in own if copy.prefix.covers(each.prefix)]
        refusals = [each for each in here.policy.verdicts([copy], here.claimed) if each.refusal]
        # If a setting refuses the LAN, `sync` is right to remove the copy. If the VPN's explicit routes do, or if main
        # has the LAN on another card, packets may not take the copy.
        is_right = not all(each.is_accepted for each in refusals)
        is_needed = not (refusals or key(copy) in lans) or _is_taken(network, copy)
        if inside and is_needed and not is_right:
            best = max(inside, key=lambda each: each.dst == copy.attributes.value("src"))
            yield LostRoute(copy, best.dst, *(each.explicit for each in refusals))


def _is_taken(network: Network, copy: Route) -> bool:
    """True if packets to other hosts of the LAN take this copy."""
    return any(way.decision.route == copy for way in network.ways_to_hosts(copy.prefix))


def unrouted(network: Network, goal: Desired, family: Family) -> dict[str, list[Route]]:
    """The routes to own addresses, by device, for which main has no on-link route by the same device."""
    lans: dict[str, list[Prefix]] = defaultdict(list)
    for route in goal.judged[family].main:
        if route.attributes.on_link and route.dst != "default":
            for device in route.attributes.devices:
                lans[device].append(route.prefix)
    reached = {device: PrefixSet(prefixes) for device, prefixes in lans.items()}
    found: dict[str, list[Route]] = defaultdict(list)
    for own in network.own(family):
        for device in own.attributes.devices:
            if device not in reached or not reached[device].covers(own.prefix):
                found[device].append(own)
    return found
