"""Routing tables, indexed by prefix: a search needs one look-up for each prefix length, even among a million routes."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from fz_iproute.mirror.model import Attributes, Route
from fz_iproute.mirror.prefix import BITS, Family, Prefix
from fz_iproute.mirror.words import REFUSALS

# If a table has more routes than this, routes that differ only in their destination are examined as one group.
MANY = 1_000


def place(prefix: Prefix) -> int:
    """The prefix as one number, for sorting: its address and its length. A prefix sorts before the prefixes in it."""
    return prefix.address << 8 | prefix.length


def end_of(prefix: Prefix) -> int:
    """A number that is larger than the place of any prefix inside this one, and not larger than the next place."""
    return prefix.address + (1 << BITS[prefix.family] - prefix.length) << 8


class Table(tuple[Route, ...]):
    """The routes of one table and family, in the kernel's order. Its indexes are computed only once."""

    @cached_property
    def _lengths(self) -> dict[int, dict[int, tuple[Route, ...]]]:
        found: dict[int, dict[int, tuple[Route, ...]]] = {}
        for route in self:
            prefix = route.prefix
            here = found.setdefault(prefix.length, {})
            here[prefix.address] = (*here.get(prefix.address, ()), route)
        return dict(sorted(found.items(), reverse=True))

    def covering(self, host: Prefix) -> Iterator[Sequence[Route]]:
        """The routes to each prefix that covers `host`, longest prefix first."""
        for length, routes in self._lengths.items():
            if found := routes.get(host.network(length)):
                yield found

    def inside(self, prefix: Prefix) -> Iterator[Route]:
        """The routes to this prefix and to those inside it, sorted by prefix."""
        first, end = bisect_left(self.places, place(prefix)), bisect_left(self.places, end_of(prefix))
        for number in self.places[first:end]:
            yield from self._at(number)

    def to(self, prefix: Prefix) -> tuple[Route, ...]:
        """The routes to exactly this prefix."""
        return self._at(place(prefix))

    def _at(self, number: int) -> tuple[Route, ...]:
        return self._lengths.get(number & 0xFF, {}).get(number >> 8, ())

    @cached_property
    def places(self) -> list[int]:
        """The places of all destinations, sorted."""
        return sorted(address << 8 | length for length, addresses in self._lengths.items() for address in addresses)

    @cached_property
    def named(self) -> frozenset[int]:
        """The places to examine one by one.

        In a large table, all but those with only gatewayed or refusing routes: these are examined in groups.
        """
        if len(self) <= MANY:
            return frozenset(self.places)
        alike = {id(shape) for shape in self.shapes if shape.gatewayed or shape.type in REFUSALS.values()}
        return frozenset(
            number for number in self.places if not all(id(route.attributes) in alike for route in self._at(number))
        )

    def kind(self, number: int) -> tuple[int, ...] | None:
        """A key that is equal for two places if their routes differ only in the address; None if there is no route."""
        routes = self._at(number)
        # The length belongs to the key because rules may look at it (suppress_prefixlength). To compare attributes by
        # identity is enough: equal attributes mostly are one object, and otherwise there are only more groups.
        return (number & 0xFF, *(id(route.attributes) for route in routes)) if routes else None

    @cached_property
    def splits(self) -> dict[Any, Any]:
        """A memory for `parts`: how it has split prefixes by this table."""
        return {}

    @cached_property
    def shapes(self) -> list[Attributes]:
        """The different attributes of the routes: thousands of routes share a few."""
        return list({id(route.attributes): route.attributes for route in self}.values())

    @cached_property
    def devices(self) -> frozenset[str]:
        """The devices that routes of the table lead to."""
        return frozenset(device for shape in self.shapes for device in shape.devices)


# All tables that rules look up, including `local`, by number and family.
Fib = Mapping[tuple[int, Family], Table]
