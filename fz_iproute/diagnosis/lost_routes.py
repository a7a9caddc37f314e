"""Finds LANs that main has no route to, although a network card of this machine belongs to them.

A copy in the VPN's table may still reach such a LAN. `sync` removes that copy: the tables must equal main, and a LAN
that the machine has left must go. So `sync` is no remedy here. Main must get its route back.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from fz_iproute.diagnosis.reach import Network
from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import LOCAL, some


class LostRoute(NamedTuple):
    """A copy whose original is gone, although this machine still has an address in that LAN."""

    copy: Route
    address: str  # the machine's own

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

    def __str__(self) -> str:
        by = " and ".join(self.copy.attributes.devices)
        return f"main has lost the route of {self.copy.dst}, but {by} still has the address {self.address}"


def lost_routes(network: Network, goal: Desired, *, prune: bool) -> list[LostRoute]:
    """The copies that `sync` would remove because main has lost their originals, and that the machine still needs.

    Without `prune`, `sync` removes none.
    """
    return [lost for family in FAMILIES for lost in _lost_routes(network, goal, family)] if prune else []


def _lost_routes(network: Network, goal: Desired, family: Family) -> Iterator[LostRoute]:
    here = goal.by_family[family]
    for wanted, ours, _ in here.contents.values():
        stale = set(ours).difference(wanted)
        for copy in (route for route in ours if route in stale and route.attributes.on_link):
            devices = copy.attributes.devices
            inside = [own for own in _own(network, family, devices) if copy.prefix.covers(own.prefix)]
            if not inside or any(_has_lan(goal, own, devices) for own in inside):
                continue
            # If the settings or the VPN's explicit routes refuse the LAN, `sync` is right to remove the copy.
            if not any(verdict.refusal for verdict in here.policy.verdicts([copy], here.claimed)):
                best = max(inside, key=lambda own: own.dst == copy.attributes.value("src"))
                yield LostRoute(copy, best.dst)


def _own(network: Network, family: Family, devices: Collection[str]) -> list[Route]:
    """The routes of table local to the machine's own addresses on these devices."""
    local = [route for route in network.table(LOCAL, family) if route.attributes.type == "local"]
    return [route for route in local if "/" not in route.dst and not set(devices).isdisjoint(route.attributes.devices)]


def _has_lan(goal: Desired, own: Route, devices: Collection[str]) -> bool:
    """True if main has an on-link route by one of the devices to the LAN of this address."""
    return any(
        route.attributes.on_link
        and route.dst != "default"
        and not set(devices).isdisjoint(route.attributes.devices)
        and route.prefix.covers(own.prefix)
        for route in goal.judged[own.attributes.family].main
    )


class Outage(NamedTuple):
    """A network card that does not reach its LAN."""

    name: str
    why: str  # `has no carrier`
    lans: tuple[str, ...]  # the LANs that main reaches by this card only
    is_cut: bool  # no packet gets to them

    def __str__(self) -> str:
        if self.lans:
            return f"{self.why}: {some(self.lans)} cannot be reached" if self.is_cut else self.why
        return f"{self.why}: no LAN is reached by it"


def outages(network: Network, goal: Desired) -> list[Outage]:
    """The network cards that do not reach their LANs."""
    kept = {lost.copy.attributes.devices for lost in lost_routes(network, goal, prune=True)}
    found = []
    for name, link in network.links.items():
        why = link.outage or (_loss(network, goal, name) if link.needs_address and (name,) not in kept else "")
        if why and name not in goal.tunnels:
            routes = (verdict.route for verdict in goal.verdicts)
            lans = dict.fromkeys(route.dst for route in routes if route.attributes.devices == (name,))
            found.append(Outage(name, why, tuple(lans), is_cut=bool(link.outage)))
    return found


def _loss(network: Network, goal: Desired, name: str) -> str:
    """Why a network card that works has no LAN: it has no address, or main has no route to the network of one."""
    own = [route for family in FAMILIES for route in _own(network, family, [name])]
    own = [route for route in own if not route.dst.startswith("fe80:")]
    if not own:
        return "has no address" if LOCAL in network.tables else ""
    # The kernel adds a broadcast route to table local for each IPv4 address with a network around it.
    local = network.table(LOCAL, "inet")
    wide = {route.attributes.value("src") for route in local if route.attributes.type == "broadcast"}
    lost = [route.dst for route in own if route.dst in wide and not _has_lan(goal, route, [name])]
    return f"has the address {lost[0]}, and main no route to its network" if lost else ""


def together(found: Iterable[Outage]) -> Iterator[tuple[str, str]]:
    """The names of network cards, and what is said of them: one sentence for all unused sockets without a cable."""
    alike: dict[str, list[Outage]] = defaultdict(list)
    for outage in found:
        alike[outage.name if outage.lans else outage.why].append(outage)
    for same in alike.values():
        first = same[0]
        said = str(first) if len(same) == 1 else f"each {first.why}: no LAN is reached by them"
        yield some(outage.name for outage in same), said
