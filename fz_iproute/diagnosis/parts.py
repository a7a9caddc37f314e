"""Splits a prefix into parts, so that rules and routes treat all addresses of a part alike.

To know where packets to a prefix go, it is then enough to look up one address of each part.
"""

from bisect import bisect, bisect_left
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

from fz_iproute.diagnosis.fib import MANY, Table, end_of, place
from fz_iproute.mirror.prefix import BITS, FAMILIES, PRIVATE, Family, Prefix
from fz_iproute.mirror.split_default import INTERNET

# Private and reserved addresses among those of the internet.
_NOT_INTERNET = [
    Prefix.parse(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "224.0.0.0/3"),
    )
]
# For these, the kernel has rules of its own, beside the routing tables.
_SPECIAL = [Prefix.parse(text) for text in ("224.0.0.0/4", "255.255.255.255/32", "::1/128", "ff00::/8")]


class Part(NamedTuple):
    """The addresses of `prefix` that are in no narrower part. Packets to all of them go the same way."""

    prefix: Prefix
    address: int  # one of the addresses, for a look-up
    size: int  # how many addresses there are; if it is a sample, in all the prefixes together
    is_sample: bool  # the prefix stands for several prefixes whose packets go the same way


# The kind of a place (a prefix as a number) in each large table, see Table.kind. Places of the same kinds may be one
# part. None: the place is always a part of its own.
Kinds = tuple[Hashable, ...] | None


class _Open:
    """A prefix while the prefixes inside it are being visited."""

    __slots__ = ("end", "free", "key", "kinds", "number", "owner", "uncovered")

    def __init__(self, number: int, bits: int) -> None:
        address = number >> 8
        self.number = number
        self.uncovered = 1 << bits - (number & 0xFF)  # how many addresses no inner prefix covers
        self.end = address + self.uncovered
        # An address that no inner prefix covers. Not the first one, which may be the address of the network itself.
        self.free = address + (self.uncovered > 2)
        self.owner = number  # the narrowest part around this prefix that stands for no others, or this prefix itself
        self.kinds: Kinds = None
        self.key: Hashable = number

    def take_in(self, inner: "_Open", kinds: Kinds, region: int) -> None:
        """Note a prefix that is directly inside this one."""
        self.uncovered -= inner.uncovered
        if inner.number >> 8 <= self.free < inner.end:
            self.free = inner.end
        if kinds is not None:
            inner.owner = self.owner
            inner.kinds = tuple(own or above for own, above in zip(kinds, self.kinds or kinds, strict=True))
            inner.key = self.owner, region, inner.kinds


class Bounds:
    """All prefixes that routes or rules name. Addresses that are in the same of these prefixes are treated alike."""

    def __init__(self, tables: Iterable[Table], prefixes: Iterable[Prefix]) -> None:
        """`prefixes` are the destinations in rules, and any other prefixes that must be parts of their own."""
        known = {id(table): table for table in tables}.values()
        self._named = frozenset(map(place, prefixes)).union(*(table.named for table in known))
        self._many = [table for table in known if len(table) > len(table.named)]
        self._places = sorted([*self._named, *(number for table in self._many for number in table.places)])

    def parts(self, whole: Prefix, holes: Sequence[Prefix] = ()) -> list[Part]:
        """The parts of a prefix, without the `holes` in it."""
        gaps = frozenset(map(place, holes))
        start, end = bisect(self._places, place(whole)), bisect_left(self._places, end_of(whole))
        chosen = sorted([*self._places[start:end], *gaps])
        own = self._named | gaps
        # `doctor` tries many remedies. Most of them leave the prefixes as they are, so the result can be used again.
        known = self._many[0].splits if len(self._many) == 1 and len(chosen) > MANY else {}
        if (whole, own) not in known:
            known[whole, own] = _split(whole, chosen, lambda number: None if number in own else self._kinds(number))
        return [part for part in known[whole, own] if not any(hole.covers(part.prefix) for hole in holes)]

    def internet(self, family: Family) -> list[Part]:
        """The parts of the internet."""
        return self.parts(INTERNET[family], [hole for hole in _NOT_INTERNET if hole.family == family])

    def _kinds(self, number: int) -> Kinds:
        return tuple(table.kind(number) for table in self._many)


def _split(whole: Prefix, places: Iterable[int], kinds: Callable[[int], Kinds]) -> list[Part]:
    """Split `whole` at the `places`, which are prefixes inside it, as sorted numbers.

    Each prefix becomes a part that lacks the prefixes inside it. Prefixes of equal kinds inside the same prefix become
    one part together.
    """
    bits, edges = BITS[whole.family], _EDGES[whole.family]
    around = [_Open(place(whole), bits)]
    found: dict[Hashable, Part] = {}

    def close(here: _Open) -> None:
        """All prefixes inside this one have been visited: add its remaining addresses to its part."""
        if here.uncovered and (part := found.get(here.key)):
            found[here.key] = part._replace(size=part.size + here.uncovered, is_sample=True)
        elif here.uncovered:
            first = here.number >> 8
            address = here.free if here.free < here.end else first
            found[here.key] = Part(Prefix(whole.family, first, here.number & 0xFF), address, here.uncovered, False)

    for number in places:
        if number == around[-1].number:
            continue
        here = _Open(number, bits)
        while around[-1].end <= number >> 8:
            close(around.pop())
        around[-1].take_in(here, kinds(number), bisect(edges, number))
        around.append(here)
    while around:
        close(around.pop())
    return sorted(found.values())


_EDGES: dict[Family, list[int]] = {
    family: sorted(
        edge
        for prefix in {*_NOT_INTERNET, *_SPECIAL, *PRIVATE, *INTERNET.values()}
        if prefix.family == family
        for edge in (place(prefix), end_of(prefix))
    )
    for family in FAMILIES
}
