"""What lines of `ip monitor` tell. In doubt, that everything may have changed."""

import re
from typing import NamedTuple

from fz_iproute.mirror.model import EVERYTHING, Attributes, Part, Route
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import PROTOCOLS, is_word


class News(NamedTuple):
    """What lines tell.

    `changed` are the parts that may be different now, also without another line. `arrivals` are main's new routes if
    nothing else has changed, and None if more may have changed.
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
    """What a line tells.

    With an address or a device that goes, the kernel removes routes of IPv4 silently. Rules of both families look
    alike, and so do default routes.
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
