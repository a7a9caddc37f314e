"""Tells what may have changed, from events of `ip monitor` (one line each). If in doubt, everything."""

import re
from typing import NamedTuple

from fz_iproute.mirror.model import EVERYTHING, Attributes, Part, Route
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import PROTOCOLS, is_word


class News(NamedTuple):
    """What some events mean.

    `changed` has the parts of the machine's state that may have changed. `new_routes` has the routes that main has got,
    if nothing else that matters has changed; it is None if something else may have changed.
    """

    changed: frozenset[Part]
    new_routes: tuple[Route, ...] | None = None

    @property
    def more_follows(self) -> bool:
        """True after new addresses only. Within a moment, the kernel announces the route of a new IPv4 address."""
        return self.new_routes == ()


NO_NEWS = News(frozenset(), ())
ANYTHING = News(EVERYTHING)


def merged(one: News, other: News) -> News:
    """What both mean together."""
    changed = one.changed | other.changed
    if one.new_routes is None or other.new_routes is None:
        return News(changed)
    return News(changed, one.new_routes + other.new_routes)


def news_of(line: str) -> News:
    """What one event means."""
    if plain := _PLAIN.fullmatch(line):
        return _new_route(plain)
    kind, _, rest = line.partition("]")
    words = rest.removeprefix("Deleted ").split()
    if kind == "[ADDR" and len(words) > 2 and words[2] in FAMILIES:
        # When an address goes, the kernel removes IPv4 routes without an event for each.
        return News(_ONLY[words[2]], None if rest.startswith("Deleted ") else ())
    if kind == "[ROUTE" and words:
        # The type of the route may precede its destination. A default route may be of either family.
        return News(next((_ONLY[family] for word in words[:2] for sign, family in _SIGNS if sign in word), _ROUTES))
    # When a link goes, the kernel also removes routes silently. Rules of both families look alike.
    return ANYTHING


# An event about a new route of main, through a device and without rare options. `ip` prints options in this order.
_PLAIN = re.compile(
    r"\[ROUTE\](?P<dst>\d[\d.]+(?:/\d+)?|[\da-f]*:[\da-f:.]+(?:/\d+)?) dev (?P<dev>\S+)"
    r"(?: proto (?P<proto>\d+))?(?P<scope> scope 253)?"
    r"(?: src (?P<src>\S+))?(?: metric (?P<metric>\d{1,10}))?(?: pref (?P<pref>[a-z]+))? ?",
    re.ASCII,
)


def _new_route(line: re.Match[str]) -> News:
    """The new route of main in this event. It equals the Route that the parser makes from JSON."""
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
# Each address contains the character of its family. No type of a route contains one of them.
_SIGNS: tuple[tuple[str, Family], ...] = ((":", "inet6"), (".", "inet"))
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
_BOOT = PROTOCOLS["boot"]  # the protocol that `ip` does not print
