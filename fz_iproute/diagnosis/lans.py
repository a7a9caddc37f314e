"""Judges the LANs: what becomes of packets to each part of them, and which rule or route is the cause."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from fz_iproute.diagnosis.lookup import Decision, Packet, matching, usual, within_link
from fz_iproute.diagnosis.parts import Part
from fz_iproute.diagnosis.reach import OF_NO_HOST, Network, Way
from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.policy import Verdict
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.mirror.words import MAIN, some, table_name

_LOST = {"none": "have no route", "foreign": "have no valid source address"}

# The destination of a LAN. Each link has a link-local network of its own, so its devices belong to its key.
Key = tuple[str, tuple[str, ...]]


class Fate(NamedTuple):
    """What becomes of packets to a part of a LAN."""

    part: Part
    lost: str  # where they go instead: `enter tun-firezone`; "" if they reach the LAN
    decision: Decision  # about them

    @property
    def by(self) -> str:
        """See decided_by."""
        return decided_by([self.decision])


def decided_by(decisions: Iterable[Decision]) -> str:
    """The routes and the rules that decide: `192.168.1.0/24 of table main, by rule 5 (from all lookup main)`.

    "" if the kernel decides without rules.
    """
    routes: dict[str, None] = {}  # without repetitions
    rules: dict[str, None] = {}
    for decision in decisions:
        if route := decision.route:
            kind = "" if route.attributes.type == "unicast" else f"{route.attributes.type} "
            routes[f"{kind}{route.dst} of table {table_name(decision.table)}"] = None
        jumps = [step for step in decision.steps[:-1] if step.result == "goto"]
        for step in (*jumps, *decision.steps[-1:]):
            rules[f"rule {step.rule.priority} ({step.rule})"] = None
    return ", by ".join(filter(None, [some(routes), some(rules)]))


def explained(found: Sequence[Fate]) -> str:
    """Why packets go where they go: `packets take 192.168.1.0/24 of table main, by rule 5 (from all lookup main)`.

    "" if there are no fates.
    """
    by = decided_by(each.decision for each in found)
    if any(each.decision.route for each in found):
        return f"packets take {by}"
    return by or next((f"packets {each.lost}" for each in found), "")


class Lan(NamedTuple):
    """A network that main reaches, and what becomes of packets to it."""

    routes: tuple[Route, ...]  # of main
    is_wanted: bool  # no setting leaves it out
    fates: tuple[Fate, ...]  # of all its parts that other hosts may have
    most: Fate | None  # the fate of most packets; None if there are none

    @property
    def prefix(self) -> Prefix:
        """The addresses of the LAN."""
        return self.routes[0].prefix

    @property
    def lost(self) -> str:
        """Where most packets go instead. "" if they reach the LAN."""
        return self.most.lost if self.most else ""

    @property
    def is_cut(self) -> bool:
        """True if most packets do not reach the LAN, although no setting leaves it out."""
        return self.is_wanted and bool(self.lost)

    @property
    def missed(self) -> list[Fate]:
        """The fates of the parts that packets do not reach."""
        return [each for each in self.fates if each.lost]

    @property
    def is_all_missed(self) -> bool:
        """True if packets reach no part of it."""
        return len(self.missed) == len(self.fates)

    def part_name(self, fate: Fate) -> str:
        """The prefix of a part, if it has one of its own."""
        if not fate.part.is_sample and fate.part.prefix != self.prefix:
            return str(fate.part.prefix)
        return f"a part of {self.prefix}"


def _size(found: Sequence[Fate]) -> int:
    return sum(each.part.size for each in found)


def key(route: Route) -> Key:
    """The key of the LAN that this route leads to."""
    attributes = route.attributes
    return route.dst, attributes.devices if within_link(attributes.family, route.prefix.address) else ()


def lans(network: Network, goal: Desired) -> dict[Key, Lan]:
    """What becomes of packets to each LAN. The network of a tunnel, or of a port of a bridge, is no LAN."""
    found: dict[Key, list[Verdict]] = defaultdict(list)
    for verdict in goal.verdicts:
        devices = verdict.route.attributes.devices
        links = [network.links[device] for device in devices if device in network.links]
        if not goal.is_by_tunnel(devices) and not any(link.no_lan for link in links):
            found[key(verdict.route)].append(verdict)
    return {place: _lan(network, same) for place, same in found.items()}


def _lan(network: Network, verdicts: Sequence[Verdict]) -> Lan:
    routes = tuple(verdict.route for verdict in verdicts)
    is_wanted = any(verdict.is_accepted or verdict.warning for verdict in verdicts)
    found = tuple(fates(network, routes))
    return Lan(routes, is_wanted, found, _of_most(found))


def _of_most(found: Sequence[Fate]) -> Fate | None:
    """The fate of most packets: they are lost if more than half of them are."""
    missed, reached = ([each for each in found if bool(each.lost) is lost] for lost in (True, False))
    alike = missed if _size(missed) > _size(reached) else reached
    return max(alike, key=lambda each: each.part.size, default=None)


def fates(network: Network, routes: Sequence[Route], like: Packet | None = None) -> Iterator[Fate]:
    """What becomes of packets to each part of the LAN of these routes of main, of usual ones or those `like` this one.

    They also reach it by another on-link route of main: it may be on several links. A part to which main has a
    narrower route is another LAN.
    """
    family, prefix = routes[0].attributes.family, routes[0].prefix
    packet = like or usual(family)
    if within_link(family, prefix.address):
        # A program that sends to a link-local address names the interface.
        packet = packet._replace(dst=prefix.host, oif=next(iter(routes[0].attributes.devices), ""))
        way = Way(Part(prefix, prefix.host, 1, is_sample=False), network.way(packet))
        ways = [] if way.decision.outcome in OF_NO_HOST else [way]
    else:
        ways = [way for way in network.ways_to_hosts(prefix, packet) if not _is_elsewhere(network, prefix, way.part)]
    by_main = (
        each
        for each in network.table(MAIN, family).to(prefix)
        if each.attributes.on_link and not network.may_be_by_tunnel(each.attributes.devices)
    )
    paths = {each.attributes.path for each in (*routes, *by_main)}
    for part, decision in ways:
        yield Fate(part, *_fate(network, paths, packet._replace(dst=part.address), decision))


def _is_elsewhere(network: Network, lan: Prefix, part: Part) -> bool:
    """True if main has a narrower route to this part of the LAN, and not into a tunnel: it is another LAN."""
    host = Prefix.of_host(lan.family, part.address)
    routes = (route for same in network.table(MAIN, lan.family).covering(host) for route in same)
    return any(
        route.prefix.length > lan.length
        and route.attributes.type == "unicast"
        and not network.may_be_by_tunnel(route.attributes.devices)
        for route in routes
    )


def _fate(
    network: Network, paths: Collection[tuple[str, ...]], packet: Packet, decision: Decision
) -> tuple[str, Decision]:
    if decision.outcome != "unicast" or decision.route is None:
        return _LOST.get(decision.outcome, "are refused"), decision
    attributes = decision.route.attributes
    if attributes.path not in paths:
        router = attributes.value("via")
        by = f" through the router {router}" if router else ""
        return f"{network.hop(decision, 'enter', 'leave by')}{by}", decision
    # connect() takes the source address from the route. Then the kernel decides again, now with this source.
    if attributes.source and not packet.src:
        connected = packet._replace(src=attributes.source)
        again = network.way(connected)
        if again.outcome == "foreign":
            return f"get the source {attributes.value('src')}, which this machine no longer has", again
        if again.route != decision.route:
            return _fate(network, paths, connected, again)
    return "", decision


# What is lost, by its cause


Extent = Literal["whole", "part", "some packets"]  # the last: only those that a rule selects by a port or the like


class Loss(NamedTuple):
    """LANs, or parts of LANs, that packets do not reach, all for the same reason."""

    family: Family
    lost: str  # `enter tun-firezone`
    by: str  # see decided_by
    extent: Extent
    names: tuple[str, ...]  # of the LANs or parts
    lans: tuple[Lan, ...]
    fates: tuple[Fate, ...]  # of most packets to each of them
    is_due: bool = False  # not so yet, but after a `sync`

    @property
    def prefixes(self) -> list[Prefix]:
        """The addresses that it is about."""
        if self.extent == "whole":
            return [lan.prefix for lan in self.lans]
        return [fate.part.prefix for fate in self.fates]

    @property
    def decision(self) -> Decision:
        """The decision about most packets to the first of them."""
        return self.fates[0].decision

    @property
    def why(self) -> str:
        """Where packets go instead, and by which routes and rules."""
        return ": ".join(filter(None, [self.lost, self.by]))

    @property
    def when(self) -> str:
        """The start of the sentence if it is not so yet; else ""."""
        return "after `sync`, " if self.is_due else ""

    @property
    def document(self) -> dict[str, Any]:
        """The loss as JSON."""
        named = {"family": self.family, "dst": list(self.names), "extent": self.extent}
        return {**named, "lost": self.lost, "by": self.by, "due": self.is_due}

    def __str__(self) -> str:
        is_most = self.extent == "whole" and not all(lan.is_all_missed for lan in self.lans)
        some_packets = "some packets" if self.extent == "some packets" else "most packets" if is_most else "packets"
        part = ", a part of a LAN," if self.extent == "part" and "part of" not in self.names[0] else ""
        return f"{self.when}{some_packets} to {some(self.names)}{part} {self.why}"


def losses(network: Network, found: Mapping[Key, Lan]) -> list[Loss]:
    """What packets do not reach of the LANs that are wanted."""
    groups: dict[tuple[Family, str, str, Extent], list[tuple[str, Lan, Fate]]] = defaultdict(list)
    for lan in (lan for lan in found.values() if lan.is_wanted):
        family = lan.prefix.family
        if lan.most and lan.lost:
            by = decided_by(each.decision for each in lan.missed)
            groups[family, lan.lost, by, "whole"].append((str(lan.prefix), lan, lan.most))
            continue
        for fate in lan.missed:
            groups[family, fate.lost, fate.by, "part"].append((lan.part_name(fate), lan, fate))
        for fate in _selected(network, lan):
            name = lan.part_name(fate) if fate.part.prefix != lan.prefix else str(lan.prefix)
            groups[family, fate.lost, fate.by, "some packets"].append((name, lan, fate))
    return [
        Loss(
            *group,
            tuple(dict.fromkeys(name for name, _, _ in same)),
            tuple(lan for _, lan, _ in same),
            tuple(fate for _, _, fate in same),
        )
        for group, same in groups.items()
    ]


def _selected(network: Network, lan: Lan) -> Iterator[Fate]:
    """The fates of packets that do not reach the LAN because of a port, a user or the like, by which a rule selects."""
    family = lan.prefix.family
    for rule in network.rules:
        like = matching(rule) if rule.family == family else None
        if like is None or like == usual(family) or within_link(family, lan.prefix.address):
            continue
        for fate in fates(network, lan.routes, like):
            steps = fate.decision.steps
            if fate.lost and any(step.rule == rule and step.result in ("decides", "goto") for step in steps):
                yield fate
