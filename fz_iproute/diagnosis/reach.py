"""Finds where packets to each part of a prefix go. `parts` splits it where rules or routes treat it differently."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from fz_iproute.diagnosis.fib import Table
from fz_iproute.diagnosis.lookup import Decision, Packet, decide, usual, within_link
from fz_iproute.diagnosis.parts import Bounds, Part
from fz_iproute.mirror.config import MIN_PREFIXLEN
from fz_iproute.mirror.model import Link, Route, Rule, Snapshot
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix
from fz_iproute.mirror.words import LOCAL, MAIN, printable

# The outcomes for addresses that no other host has: this machine's own, broadcast, and so on.
OF_NO_HOST = ("local", "broadcast", "anycast", "multicast")


class Way(NamedTuple):
    """Where packets to one part go."""

    part: Part
    decision: Decision


def size(ways: Iterable[Way]) -> int:
    """How many addresses the parts have together."""
    return sum(way.part.size for way in ways)


@dataclass(frozen=True)
class Network:
    """The links, rules and routes of a machine. It is frozen, because it remembers the decisions about packets."""

    links: Mapping[str, Link]
    rules: tuple[Rule, ...]  # in the kernel's order
    tables: Mapping[int, Mapping[Family, tuple[Route, ...]]]  # local, main and all other tables that rules look up

    @classmethod
    def of(cls, snapshot: Snapshot, tables: Mapping[int, Mapping[Family, tuple[Route, ...]]]) -> "Network":
        """The network of a machine with these tables."""
        return cls(snapshot.links, snapshot.rules, tables)

    @cached_property
    def _fib(self) -> dict[tuple[int, Family], Table]:
        return {
            (table, family): routes if isinstance(routes, Table) else Table(routes)
            for table, families in self.tables.items()
            for family, routes in families.items()
        }

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """The families that the kernel supports. Without IPv6, it has no IPv6 rules."""
        return tuple(family for family in FAMILIES if any(rule.family == family for rule in self.rules))

    def table(self, table: int, family: Family) -> Table:
        """The routes of a table."""
        return self._fib.get((table, family), Table())

    def all_tables(self, family: Family) -> list[Table]:
        """All tables of the family."""
        return [routes for (_, other), routes in self._fib.items() if other == family]

    def own(self, family: Family) -> list[Route]:
        """The routes of table local to the machine's own addresses."""
        return [each for each in self.table(LOCAL, family) if each.attributes.type == "local" and "/" not in each.dst]

    def numbered(self, family: Family) -> frozenset[str]:
        """The devices that have an address with a wider scope than link."""
        wide = (each for each in self.own(family) if not within_link(family, each.prefix.address))
        return frozenset(device for each in wide for device in each.attributes.devices)

    def homes(self, host: Prefix) -> list[Route]:
        """The on-link routes of all tables to networks that have this host and an own address of the same card."""
        own = self.own(host.family)
        return [
            route
            for table in self.all_tables(host.family)
            for same in table.covering(host)
            for route in same
            if route.attributes.type == "unicast" and route.attributes.on_link
            if route.prefix.length >= MIN_PREFIXLEN[host.family]  # a wider route leads to more than a LAN
            if any(route.prefix.covers(it.prefix) and route.attributes.devices == it.attributes.devices for it in own)
        ]

    def selected(self, family: Family) -> list[Prefix]:
        """The destinations that rules select by."""
        destinations = (rule.dst for rule in self.rules if rule.family == family)
        # A rule may have host bits, as in `to 192.0.2.7/24`, and the kernel ignores them.
        return [dst._replace(address=dst.network(dst.length)) for dst in destinations if dst]

    @cached_property
    def _bounds(self) -> dict[Family, Bounds]:
        return {family: Bounds(self.all_tables(family), self.selected(family)) for family in FAMILIES}

    def may_be_tunnel(self, device: str) -> bool:
        """True if the device may be a tunnel, as far as the output of `ip` shows. A modem looks like one, too."""
        return device in self.links and self.links[device].may_be_tunnel

    def may_be_by_tunnel(self, devices: Iterable[str]) -> bool:
        """True if one of the devices may be a tunnel."""
        return any(map(self.may_be_tunnel, devices))

    def outage(self, devices: Sequence[str]) -> str:
        """`eth0 has no carrier`, if none of these devices can send; "" if one can."""
        out = [
            f"{each} {self.links[each].outage}" for each in devices if each in self.links and self.links[each].outage
        ]
        return " and ".join(out) if len(out) == len(devices) else ""

    def may_be_tunnelled(self, decision: Decision) -> bool:
        """True if the packet leaves by a device that may be a tunnel."""
        return not decision.stays and self.may_be_by_tunnel(decision.devices)

    def outside(self, decision: Decision, tunnels: Collection[str] = ()) -> list[str]:
        """The devices of the decision that are no tunnels. `tunnels` are some, whatever they look like."""
        return [each for each in decision.devices if each not in tunnels and not self.may_be_tunnel(each)]

    def gets_out(self, decision: Decision, tunnels: Collection[str] = ()) -> bool:
        """True if the packet, or one of several such packets, leaves by a device that is no tunnel."""
        return decision.outcome == "unicast" and bool(self.outside(decision, tunnels))

    def hop(self, decision: Decision, into: str, by: str, tunnels: Collection[str] = ()) -> str:
        """The devices: `goes into wg0 or leaves by eth0`, with `into` and `by` as the verbs."""
        outside = self.outside(decision, tunnels)
        inside = [each for each in decision.devices if each not in outside]
        found = {into: inside, by: outside}
        return " or ".join(f"{verb} {printable(' or '.join(names))}" for verb, names in found.items() if names)

    def way(self, packet: Packet) -> Decision:
        """Where one packet goes."""
        if packet not in self._known:
            self._known[packet] = decide(packet, self.rules, self._fib, self.links)
        return self._known[packet]

    @cached_property
    def main_alone(self) -> "Network":
        """The same network, if rules led all packets to main."""
        return replace(self, rules=tuple(Rule(family, 0, "lookup", MAIN) for family in FAMILIES))

    @cached_property
    def _known(self) -> dict[Packet, Decision]:
        return {}  # kept, because many checks ask about the same packets

    def ways(self, prefix: Prefix, like: Packet | None = None) -> list[Way]:
        """Where packets to each part of the prefix go. Apart from their destination, they are `like` this packet."""
        packet = like or usual(prefix.family)
        if (packet, prefix) not in self._ways:
            self._ways[packet, prefix] = self._ways_to(self._bounds[prefix.family].parts(prefix), packet)
        return self._ways[packet, prefix]

    def ways_to_hosts(self, prefix: Prefix, like: Packet | None = None) -> list[Way]:
        """The same for the parts that other hosts may have, which are most of a LAN."""
        return [way for way in self.ways(prefix, like) if way.decision.outcome not in OF_NO_HOST]

    def internet(self, like: Packet) -> list[Way]:
        """Where packets to each part of the internet go, the largest part first.

        Private and reserved addresses are left out.
        """
        if (like, None) not in self._ways:
            ways = self._ways_to(self._bounds[like.family].internet(like.family), like)
            self._ways[like, None] = sorted(ways, key=lambda way: -way.part.size)
        return self._ways[like, None]

    def _ways_to(self, parts: Iterable[Part], packet: Packet) -> list[Way]:
        return [Way(part, self.way(packet._replace(dst=part.address))) for part in parts]

    @cached_property
    def _ways(self) -> dict[tuple[Packet, Prefix | None], list[Way]]:
        return {}  # by the packet and the prefix; None is the internet
