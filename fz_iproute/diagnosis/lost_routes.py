"""Finds LANs that main has no route to, although a network card of this machine belongs to them.

A copy in the VPN's table may still reach such a LAN. `sync` removes that copy: the tables must equal main, and a LAN
that the machine has left must go. So `sync` is no remedy here. Main must get its route back.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fz_iproute.diagnosis.internet import by
from fz_iproute.diagnosis.lans import key
from fz_iproute.diagnosis.lookup import within_link
from fz_iproute.diagnosis.reach import Network
from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.model import Command, Link, Route
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix, PrefixSet
from fz_iproute.mirror.words import LOCAL, MAIN, some


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
    homeless = _homeless(network, goal, family) if stale else {}
    lans = {key(each.route) for each in goal.judged[family].verdicts} if stale else ()
    for copy in (route for _, ours, _ in tables for route in ours if route in stale and route.attributes.on_link):
        own = [each for device in copy.attributes.devices for each in homeless.get(device, ())]
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


def _homeless(network: Network, goal: Desired, family: Family) -> dict[str, list[Route]]:
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


class Outage(NamedTuple):
    """A network card that does not reach its LAN."""

    name: str
    why: str  # `has no carrier`
    lans: tuple[str, ...]  # the LANs that main reaches by this card only
    is_cut: bool  # no packet gets to them
    lost: str = ""  # an own address to whose network main has no route, although no setting leaves that out
    also: tuple[str, ...] = ()  # `10.0.0.0/24 is also on eth1`, for LANs that packets would reach if the card was down

    def __str__(self) -> str:
        if self.lans:
            cut = "; ".join([f"{some(self.lans)} cannot be reached", *self.also])
            return f"{self.why}: {cut}" if self.is_cut else self.why
        return self.why if self.lost else f"{self.why}: no LAN is reached by it"


def outages(network: Network, goal: Desired, copies: Iterable[LostRoute]) -> list[Outage]:
    """The network cards that do not reach their LANs. `copies`: what lost_routes finds."""
    lans: dict[str, dict[str, None]] = defaultdict(dict)  # without repetitions
    also: dict[str, dict[str, None]] = defaultdict(dict)
    for route in (verdict.route for verdict in goal.verdicts):
        devices, best = route.attributes.devices, _best(network, route).attributes.devices
        if len(devices) == 1 and devices == best:
            lans[devices[0]][route.dst] = None
        elif devices != best and not network.outage(devices):
            also[best[0]][f"{route.dst} is also on {some(devices)}"] = None
    unrouted = _unrouted(network, goal, copies)
    numbered = {device for family in FAMILIES for device in network.numbered(family)}
    link_local = {device for each in network.own("inet6") for device in each.attributes.devices}
    found = []
    for name, link in network.links.items():
        if name in goal.tunnels:
            continue
        if link.outage:
            found.append(Outage(name, link.outage, tuple(lans[name]), is_cut=True, also=tuple(also[name])))
        elif not link.needs_address or LOCAL not in network.tables:
            continue
        elif (address := unrouted.get(name)) and (way := _by_another_table(network, name, address)):
            prefix, how = way
            found.append(
                Outage(name, f"reaches {prefix} by {how}, and main has no route to it", (prefix,), is_cut=False)
            )
        elif address:
            why = f"has the address {address}, and main no route to its network"
            lost = "" if _is_left_out(goal, address, link) else address
            found.append(Outage(name, why, tuple(lans[name]), is_cut=False, lost=lost))
        elif name not in numbered:
            why = "has only a link-local address" if name in link_local else "has no address"
            found.append(Outage(name, why, tuple(lans[name]), is_cut=False))
    return found


def _best(network: Network, route: Route) -> Route:
    """The route of main that packets to the same LAN take, even if its card has no carrier."""
    family, prefix = route.attributes.family, route.prefix
    same = (each for each in network.table(MAIN, family).to(prefix) if each.attributes.devices)
    return route if within_link(family, prefix.address) else next(same, route)


def _unrouted(network: Network, goal: Desired, copies: Iterable[LostRoute]) -> dict[str, str]:
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
    own = _homeless(network, goal, "inet").items()
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
