"""Says which way all of a prefix goes: the prefix is split where rules or routes treat parts of it differently."""

from bisect import bisect_left, bisect_right
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
        found: dict[Family, set[Prefix]] = {family: set() for family in FAMILIES}
        for families in self.tables.values():
            for family, routes in families.items():
                found[family].update(Prefix.of_route(dst, family) for dst in {route.dst for route in routes})
        for rule in self.rules:
            if rule.dst:
                found[rule.family].add(Prefix(rule.family, rule.dst.network(rule.dst.length), rule.dst.length))
        return {family: sorted(prefixes, key=lambda prefix: prefix[1:]) for family, prefixes in found.items()}

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
        bounds = self._bounds[prefix.family]
        # Sorted: those inside stand together, behind the prefix itself.
        first = bisect_right(bounds, prefix)
        last = bisect_left(bounds, Prefix(prefix.family, prefix.address + _size(prefix), 0), first)
        return [
            Way(part, self.way(Packet(prefix.family, part.address, src=src, mark=mark)))
            for part in parts([prefix, *bounds[first:last]])
        ]

    def internet(self, family: Family, *, mark: int = 0, src: int = 0) -> list[Way]:
        """What becomes of packets to the internet, without the address space that nobody there has."""
        whole = INTERNET[family]
        holes = [hole for hole in _NOT_INTERNET if hole.family == family]
        inside = [
            other
            for other in self._bounds[family]
            if whole.covers(other) and other != whole and not any(hole.covers(other) for hole in holes)
        ]
        found = parts(sorted({whole, *inside, *holes}, key=lambda prefix: prefix[1:]))
        return [
            Way(part, self.way(Packet(family, part.address, src=src, mark=mark)))
            for part in found
            if part.prefix not in holes
        ]


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
