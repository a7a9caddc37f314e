"""What the planner knows of a machine: links, rules and routes, as `ip` names them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fz_iproute.core.prefix import Family


class Attributes(NamedTuple):
    """All of a route but its destination and its state.

    Two routes are the same for the kernel exactly if they have the same destination and equal attributes.
    A LAN has many routes but few shapes, so one instance serves all routes of a shape.
    """

    family: Family
    type: str  # unicast, broadcast, unreachable, …
    words: tuple[str, ...]  # the arguments that follow the destination in `ip route add`
    path: tuple[str, ...]  # those of the words that say where it leads: nhid, via, dev, nexthop
    devices: tuple[str, ...]  # by the names the kernel gives; one for each nexthop
    gatewayed: bool  # some nexthop is a router
    scope: str  # always "global" for inet6: the kernel knows no other
    metric: int
    tos: str
    expired: bool  # inet6: timed out, still listed for up to 30 s, no longer matched
    inexpressible: str  # why no `ip` command can recreate it, or ""

    @property
    def on_link(self) -> bool:
        """Reaches its destination without a router. IPv4 says so by its scope; IPv6 has none."""
        return (
            self.type == "unicast"
            and bool(self.devices)
            and not self.gatewayed
            and (self.family == "inet6" or self.scope == "link")
        )


class Route(NamedTuple):
    """A route of some table; `dst` as `ip` prints it: `default`, `192.0.2.1` or `192.0.2.0/24`."""

    dst: str
    attributes: Attributes

    def __str__(self) -> str:
        return " ".join((self.dst, *self.attributes.words))

    def changed_from(self, old: "Route") -> str:
        """What of `old` is different here: `src 192.0.2.7`, or all of it if the two have not the same options."""
        before, after = old.attributes.words, self.attributes.words
        if len(before) != len(after):
            return " ".join(before)
        places = [place for place, word in enumerate(before) if word != after[place]]
        return " ".join(f"{before[place - 1]} {before[place]}" for place in places)


class Link(NamedTuple):
    """A network interface. `word` is how a command names it, None if no batch line can."""

    name: str
    ifindex: int
    up: bool  # administratively; carrier and operstate do not matter here
    loopback: bool
    word: str | None


class Rule(NamedTuple):
    """A rule that looks up `table`; `text` as `ip rule` prints it, without the priority."""

    family: Family
    priority: int
    table: int
    text: str


class Nexthop(NamedTuple):
    """A nexthop object, resolved to what matters for its routes."""

    devices: tuple[str, ...]
    gatewayed: bool


@dataclass(frozen=True)
class Snapshot:
    """All that one pass has read. Routes stand in the kernel's order."""

    links: Mapping[str, Link] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    main: Mapping[Family, tuple[Route, ...]] = field(default_factory=dict)  # what may be mirrored, and more
    mirror: Mapping[Family, tuple[Route, ...]] = field(default_factory=dict)  # all of the table that gets the copies
    internet: Mapping[Family, tuple[Route, ...]] = field(default_factory=dict)  # all of the table with the default
    expiry: int | None = None  # in how many seconds the next route of IPv6 main times out, which no event tells


class Command(NamedTuple):
    """One `ip` command that writes. `words` is the batch line, from `route` on."""

    family: Family
    words: tuple[str, ...]
    reason: str
    independent: bool = False  # of all others: an on-link route where there is none
