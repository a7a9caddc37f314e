"""Finds network cards that do not reach their LANs."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fz_iproute.diagnosis.internet import by
from fz_iproute.diagnosis.lookup import within_link
from fz_iproute.diagnosis.lost_routes import LostRoute, unrouted
from fz_iproute.diagnosis.reach import Network
from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.model import Link, Route
from fz_iproute.mirror.prefix import FAMILIES, Prefix, PrefixSet
from fz_iproute.mirror.words import LOCAL, MAIN, some


class Outage(NamedTuple):
    """A network card that does not reach its LAN."""

    name: str
    why: str  # `has no carrier`
    lans: tuple[str, ...] = ()  # the LANs that main reaches by this card only
    is_cut: bool = False  # no packet gets to them
    lost: str = ""  # an own address to whose network main has no route, although no setting leaves that out
    also: tuple[str, ...] = ()  # `10.0.0.0/24 is also on eth1`, for LANs that packets would reach if the card was down

    def __str__(self) -> str:
        if self.lans:
            cut = "; ".join([f"{some(self.lans)} cannot be reached", *self.also])
            return f"{self.why}: {cut}" if self.is_cut else self.why
        return self.why if self.lost else f"{self.why}: no LAN is reached by it"


def outages(network: Network, goal: Desired, copies: Iterable[LostRoute]) -> list[Outage]:
    """The network cards that do not reach their LANs. `copies`: what lost_routes finds."""
    cards = _Cards(network, goal, copies)
    found = (cards.outage(link) for link in network.links.values() if link.name not in goal.tunnels)
    return [outage for outage in found if outage]


class _Cards:
    """What the routes and addresses tell of the network cards."""

    def __init__(self, network: Network, goal: Desired, copies: Iterable[LostRoute]) -> None:
        self._network, self._goal = network, goal
        self._lost_addresses = _lost_addresses(network, goal, copies)
        self._numbered = {device for family in FAMILIES for device in network.numbered(family)}
        self._link_local = {device for each in network.own("inet6") for device in each.attributes.devices}
        # By device, and without repetitions. See Outage.
        self._lans: dict[str, dict[str, None]] = defaultdict(dict)
        self._also: dict[str, dict[str, None]] = defaultdict(dict)
        for route in (verdict.route for verdict in goal.verdicts):
            devices, best = route.attributes.devices, _best(network, route).attributes.devices
            if len(devices) == 1 and devices == best:
                self._lans[devices[0]][route.dst] = None
            elif devices != best and not network.outage(devices):
                self._also[best[0]][f"{route.dst} is also on {some(devices)}"] = None

    def outage(self, link: Link) -> Outage | None:
        """Why this card does not reach its LANs; None if it does, or is no card."""
        name, lans = link.name, tuple(self._lans[link.name])
        if link.outage:
            return Outage(name, link.outage, lans, is_cut=True, also=tuple(self._also[name]))
        if not link.needs_address or LOCAL not in self._network.tables:
            return None
        if address := self._lost_addresses.get(name):
            return self._without_route(link, address)
        if name in self._numbered:
            return None
        return Outage(name, f"has {'only a link-local' if name in self._link_local else 'no'} address", lans)

    def _without_route(self, link: Link, address: str) -> Outage:
        """Main has no route to the network of this own address."""
        if way := _by_another_table(self._network, link.name, address):
            prefix, how = way
            return Outage(link.name, f"reaches {prefix} by {how}, and main has no route to it", (prefix,))
        why = f"has the address {address}, and main no route to its network"
        lost = "" if _is_left_out(self._goal, address, link) else address
        return Outage(link.name, why, tuple(self._lans[link.name]), lost=lost)


def _best(network: Network, route: Route) -> Route:
    """The route of main that packets to the same LAN take, even if its card has no carrier."""
    family, prefix = route.attributes.family, route.prefix
    same = (each for each in network.table(MAIN, family).to(prefix) if each.attributes.devices)
    return route if within_link(family, prefix.address) else next(same, route)


def _lost_addresses(network: Network, goal: Desired, copies: Iterable[LostRoute]) -> dict[str, str]:
    """By device, an own address to whose network neither main nor a copy has a route."""
    # The kernel adds a route for the broadcast address of the network around an IPv4 address to table local.
    ends: dict[str, set[int]] = defaultdict(set)
    for route in network.table(LOCAL, "inet"):
        if route.attributes.type == "broadcast":
            ends[route.attributes.value("src")].add(route.prefix.address)
    verdicts = goal.judged["inet"].verdicts
    lans = [each.route.prefix for each in verdicts if not goal.is_by_tunnel(each.route.attributes.devices)]

    def is_lost(own: Route) -> bool:
        # Main may have the same network on another card.
        same = (lan for lan in lans if lan.covers(own.prefix) and lan.last in ends[own.dst])
        return own.dst in ends and not any(same)

    kept = {device for each in copies for device in each.copy.attributes.devices}
    own = unrouted(network, goal, "inet").items()
    lost = {device: [route.dst for route in routes if is_lost(route)] for device, routes in own}
    return {device: addresses[0] for device, addresses in lost.items() if addresses and device not in kept}


def _by_another_table(network: Network, device: str, address: str) -> tuple[str, str] | None:
    """The network of this own address, and by which table and rule packets reach it; None if they do not."""
    for route in network.homes(Prefix.of_route(address, "inet")):
        ways = network.ways_to_hosts(route.prefix)
        decision = max(ways, key=lambda way: way.part.size).decision if ways else None
        if decision and decision.route == route and device in decision.devices:
            return route.dst, by(decision)
    return None


def _is_left_out(goal: Desired, address: str, link: Link) -> bool:
    """True if a setting leaves out a LAN with this address on this link."""
    route = Route.make("inet", address, link._replace(word=link.name), scope="link")
    return any(each.refusal for each in goal.by_family["inet"].policy.verdicts([route], PrefixSet(())))


def together(found: Iterable[Outage]) -> Iterator[tuple[list[Outage], str]]:
    """Network cards, and what is said of them: one sentence for all unused sockets without a cable."""
    alike: dict[str, list[Outage]] = defaultdict(list)
    for outage in found:
        alike[outage.name if outage.lans else outage.why].append(outage)
    for same in alike.values():
        first = same[0]
        said = str(first) if len(same) == 1 else f"each {first.why}: no LAN is reached by them"
        yield same, said
