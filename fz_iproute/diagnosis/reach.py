"""Says which way all of a prefix goes: the prefix is split where rules or routes treat parts of it differently."""

from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from fz_iproute.diagnosis.lookup import Decision, Fib, Packet, decide
from fz_iproute.mirror.model import Link, Route, Rule
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix

# What of the address space the internet is: global unicast, as IANA has assigned it.
INTERNET: dict[Family, Prefix] = {"inet": Prefix("inet", 0, 0), "inet6": Prefix.parse("2000::/3")}
_NOT_INTERNET = [
    Prefix.parse(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "224.0.0.0/3"),
    )
]
_BITS: dict[Family, int] = {"inet": 32, "inet6": 128}


class Part(NamedTuple):
    """What of `prefix` no smaller part covers: `size` addresses, which all go the same way as `address`."""

    prefix: Prefix
    address: int
    size: int


class Way(NamedTuple):
    """Where a part goes."""

    part: Part
    decision: Decision


@dataclass(frozen=True)
class Network:
    """The rules and all routes of a machine, and who asks them. Frozen: what changes is another network."""

    links: Mapping[str, Link]
    rules: tuple[Rule, ...]  # in the kernel's order
    tables: Mapping[int, Mapping[Family, tuple[Route, ...]]]  # local, main and all that rules look up

    @cached_property
    def _fib(self) -> Fib:
        return Fib(self.tables)

    def bounds(self, family: Family) -> list[Prefix]:
        """Every prefix that a route or a rule names, sorted: a prefix stands before those inside it."""
        return self._bounds[family]

    @cached_property
    def _bounds(self) -> dict[Family, list[Prefix]]:
        found = {family: set(self._fib.destinations(family)) for family in FAMILIES}
        for rule in self.rules:
            if rule.dst:
                found[rule.family].add(Prefix(rule.family, rule.dst.network(rule.dst.length), rule.dst.length))
        return {family: sorted(prefixes, key=_place) for family, prefixes in found.items()}

    def may_be_tunnel(self, device: str) -> bool:
        """True if the device is no Ethernet, as far as `ip` shows that."""
        return device in self.links and self.links[device].may_be_tunnel

    def may_be_tunnelled(self, decision: Decision) -> bool:
        """True if the packet leaves by a device that may be a tunnel."""
        return not decision.stays and any(map(self.may_be_tunnel, decision.devices))

    def way(self, packet: Packet) -> Decision:
        """What becomes of one packet."""
        if packet not in self._known:
            self._known[packet] = decide(packet, self.rules, self._fib, self.links)
        return self._known[packet]

    @cached_property
    def _known(self) -> dict[Packet, Decision]:
        return {}  # the checks ask for the same packets

    def ways(self, prefix: Prefix, *, mark: int = 0, src: int = 0) -> list[Way]:
        """What becomes of packets of this machine to each part of the prefix."""
        return self.ways_like(Packet(prefix.family, 0, src=src, mark=mark), self.parts_of(prefix))

    def internet(self, family: Family, *, mark: int = 0, src: int = 0) -> list[Way]:
        """What becomes of packets to the internet, without the address space that nobody there has."""
        return self.ways_like(Packet(family, 0, src=src, mark=mark), self.internet_parts(family))

    def ways_like(self, packet: Packet, these: Iterable[Part]) -> list[Way]:
        """What becomes of packets that differ from this one in the destination alone."""
        return [Way(part, self.way(packet._replace(dst=part.address))) for part in these]

    def parts_of(self, prefix: Prefix) -> Iterator[Part]:
        """The parts that rules and routes may treat differently."""
        bounds = self._bounds[prefix.family]
        last = prefix.address + _size(prefix) - 1
        first, end = bisect(bounds, prefix[1:], key=_place), bisect(bounds, (last, _BITS[prefix.family]), key=_place)
        return parts([prefix, *bounds[first:end]])

    def internet_parts(self, family: Family) -> Iterator[Part]:
        """Those of the internet."""
        whole = INTERNET[family]
        holes = [hole for hole in _NOT_INTERNET if hole.family == family]
        inside = [
            other
            for other in self._bounds[family]
            if whole.covers(other) and other != whole and not any(hole.covers(other) for hole in holes)
        ]
        found = parts(sorted({whole, *inside, *holes}, key=_place))
        return (part for part in found if part.prefix not in holes)


def _place(prefix: Prefix) -> tuple[int, int]:
    """A prefix stands before those inside it."""
    return prefix.address, prefix.length


def parts(prefixes: Iterable[Prefix]) -> Iterator[Part]:
    """Each prefix without those inside it. They come sorted by address and length; the first holds all others."""
    children: dict[Prefix, list[Prefix]] = defaultdict(list)
    around: list[Prefix] = []
    order = list(prefixes)
    for prefix in order:
        while around and not around[-1].covers(prefix):
            around.pop()
        if around:
            children[around[-1]].append(prefix)
        around.append(prefix)
    for prefix in order:
        within = children[prefix]
        size = _size(prefix) - sum(map(_size, within))
        if size:
            yield Part(prefix, _free_address(prefix, within), size)


def _size(prefix: Prefix) -> int:
    return 1 << _BITS[prefix.family] - prefix.length


def _free_address(prefix: Prefix, within: list[Prefix]) -> int:
    """An address of the prefix in none of those within it: not the first of all, which may be the network's own."""
    address = prefix.address + (_size(prefix) > 2)
    for other in within:
        if address < other.address:
            break
        address = max(address, other.address + _size(other))
    return address if address < prefix.address + _size(prefix) else prefix.address
