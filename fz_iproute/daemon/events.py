"""Which lines of `ip monitor` are worth a pass, and what they tell. In doubt, a line is, and tells of everything."""

import re
from typing import NamedTuple

from fz_iproute.mirror.model import EVERYTHING, Attributes, Part, Route
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import PROTOCOLS, is_word

# Types of routes that `ip` prints before the destination, by name or by number. In main, none of them is a LAN.
_NO_LAN = frozenset(
    ["local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw", *"23456789"]
)


class Interest(NamedTuple):
    """What the next pass depends on."""

    tables: frozenset[str] = frozenset()  # the numbers of the tables in play, as text; a line about main names none
    routers: bool = False  # routes through a router may be mirrored too
    known: frozenset[str] = frozenset()  # the destinations that are mirrored
    every_table: bool = False  # the routes of any table may matter


def matters(line: str, interest: Interest) -> bool:
    """False for a line that cannot change what a pass would do."""
    kind, _, rest = line.partition("]")
    if kind != "[ROUTE":
        return True
    words = rest.split()
    if words[:1] == ["Deleted"]:
        del words[0]
    # An interface may be called `table` or `via`.
    if "table" in words[:-1] and (place := words.index("table")) and words[place - 1] != "dev":
        return interest.every_table or words[place + 1] in interest.tables
    # A route that replaces a mirrored one is announced without a word about the old one.
    if not interest.known.isdisjoint(words[:2]):
        return True
    if words and words[0] in _NO_LAN:
        return False
    return interest.routers or "via" not in words or "nexthop" in words or words[words.index("via") - 1] == "dev"


class News(NamedTuple):
    """What lines tell: the parts that may be different now, also without another line.

    If main has got the routes `arrivals` and nothing else has changed, these; None if more may have changed.
    """

    changed: frozenset[Part]
    arrivals: tuple[Route, ...] | None = None

    @property
    def more_follows(self) -> bool:
        """Only addresses have come. The kernel announces the route of an IPv4 address after it, in the same moment."""
        return self.arrivals == ()


NO_NEWS = News(frozenset(), ())
ANYTHING = News(EVERYTHING)


def both(one: News, other: News) -> News:
    """What two News tell together."""
    changed = one.changed | other.changed
    if one.arrivals is None or other.arrivals is None:
        return News(changed)
    return News(changed, one.arrivals + other.arrivals)


def told_by(line: str) -> News:
    """With an address or a device that goes, the kernel removes routes of IPv4 silently.

    Rules of both families look alike, and so do default routes.
    """
    if plain := _PLAIN.fullmatch(line):
        return _arrival(plain)
    kind, _, rest = line.partition("]")
    words = rest.removeprefix("Deleted ").split()
    if kind == "[ADDR" and len(words) > 2 and words[2] in FAMILIES:
        return News(_ONLY[words[2]], None if rest.startswith("Deleted ") else ())
    if kind == "[ROUTE" and words:
        # A type may precede the destination.
        return News(next((_ONLY[family] for word in words[:2] for sign, family in _SIGNS if sign in word), _ROUTES))
    return ANYTHING


# A route of main that leads to a link and has no option that is rare. `ip` always prints options in this order.
_PLAIN = re.compile(
    r"\[ROUTE\](?P<dst>\d[\d.]+(?:/\d+)?|[\da-f]*:[\da-f:.]+(?:/\d+)?) dev (?P<dev>\S+)"
    r"(?: proto (?P<proto>\d+))?(?P<scope> scope 253)?"
    r"(?: src (?P<src>\S+))?(?: metric (?P<metric>\d+))?(?: pref (?P<pref>[a-z]+))? ?",
    re.ASCII,
)


def _arrival(line: re.Match[str]) -> News:
    """A new route of main, as the parser makes it of the JSON that lists it."""
    dst, dev, number, scope, src, metric, pref = line.groups()
    family: Family = "inet6" if ":" in dst else "inet"
    protocol = _PROTOCOL_NAMES.get(number or _BOOT)
    if protocol is None or not is_word(dev) or (family == "inet" and not scope):
        return News(_ONLY[family])
    words = ["dev", dev, "proto", protocol]
    words += ["scope", "link"] if scope else []
    words += ["src", src] if src else []
    words += ["metric", metric] if metric else []
    words += ["pref", pref] if pref else []
    kernels_scope = "link" if scope else "global"
    path = ("dev", dev)
    attributes = Attributes(family, "unicast", tuple(words), path, (dev,), scope=kernels_scope, metric=int(metric or 0))
    return News(_ONLY[family], (Route(dst, attributes),))


_ROUTES: frozenset[Part] = frozenset(FAMILIES)
_ONLY: dict[str, frozenset[Part]] = {family: frozenset([family]) for family in FAMILIES}
# They are in each address of the family, and in no type of a route.
_SIGNS: tuple[tuple[str, Family], ...] = ((":", "inet6"), (".", "inet"))
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
_BOOT = PROTOCOLS["boot"]  # `ip` does not print it


def is_about_links(line: str) -> bool:
    """True if a long-lived `ip` may now have a wrong name for an interface: it looks each up only once."""
    return line.startswith("[LINK")
