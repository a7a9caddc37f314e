"""Finds where packets to each part of a prefix go. `parts` splits it where rules or routes treat it differently."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from fz_iproute.diagnosis.fib import Fib, Table
from fz_iproute.diagnosis.lookup import Decision, Packet, decide
from fz_iproute.diagnosis.parts import Bounds, Part
from fz_iproute.mirror.model import Link, Route, Rule
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix


class Way(NamedTuple):
    """Where packets to one part go."""

    part: Part
    decision: Decision


@dataclass(frozen=True)
class Network:
    """The links, rules and routes of a machine. It is frozen, because it remembers the decisions about packets."""

    links: Mapping[str, Link]
    rules: tuple[Rule, ...]  # in the kernel's order
    tables: Mapping[int, Mapping[Family, tuple[Route, ...]]]  # local, main and all other tables that rules look up

    @cached_property
    def _fib(self) -> Fib:
        return Fib(self.tables)

    def table(self, table: int, family: Family) -> Table:
        """The routes of a table."""
        return self._fib.table(table, family)

    def all_tables(self, family: Family) -> list[Table]:
        """All tables of the family."""
        return self._fib.of(family)

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

    def may_be_tunnelled(self, decision: Decision) -> bool:
        """True if the packet leaves by a device that may be a tunnel."""
        return not decision.stays and any(map(self.may_be_tunnel, decision.devices))

    def way(self, packet: Packet) -> Decision:
        """Where one packet goes."""
        if packet not in self._known:
            self._known[packet] = decide(packet, self.rules, self._fib, self.links)
        return self._known[packet]

    @cached_property
    def _known(self) -> dict[Packet, Decision]:
        return {}  # kept, because many checks ask about the same packets

    def ways(self, prefix: Prefix, *, mark: int = 0, src: int = 0) -> list[Way]:
        """Where packets that this machine sends to each part of the prefix go."""
        return self.ways_like(Packet(prefix.family, 0, src=src, mark=mark), self.parts_of(prefix))

    def internet(self, family: Family, *, mark: int = 0, src: int = 0) -> list[Way]:
        """Where packets to each part of the internet go. Private and reserved addresses are left out."""
        return self.ways_like(Packet(family, 0, src=src, mark=mark), self.internet_parts(family))

    def ways_like(self, packet: Packet, these: Iterable[Part]) -> list[Way]:
        """Where packets go that are like this one, but have a destination in one of these parts."""
        return [Way(part, self.way(packet._replace(dst=part.address))) for part in these]

    def parts_of(self, prefix: Prefix) -> list[Part]:
        """The parts of the prefix that rules and routes may treat differently."""
        return self._bounds[prefix.family].parts(prefix)

    def internet_parts(self, family: Family) -> list[Part]:
        """The parts of the internet that rules and routes may treat differently."""
        if family not in self._internet:
            self._internet[family] = self._bounds[family].internet(family)
        return self._internet[family]

    @cached_property
    def _internet(self) -> dict[Family, list[Part]]:
        return {}
