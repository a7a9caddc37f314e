"""Tells from events of `ip monitor` (one line each) what may have changed, and which routes main has got."""

import re
from collections.abc import Iterable

from fz_iproute.mirror.ahead import NewRoute
from fz_iproute.mirror.model import EVERYTHING, Part
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import PROTOCOLS, is_word


def changed_by(line: str) -> frozenset[Part]:
    """What may have changed. If in doubt, everything."""
    kind, _, rest = line.partition("]")
    words = rest.removeprefix("Deleted ").split()
    if kind == "[ADDR" and len(words) > 2 and words[2] in FAMILIES:
        # When an address goes, the kernel removes IPv4 routes without an event for each.
        return _ONLY[words[2]]
    if kind == "[ROUTE" and words:
        # The type of the route may precede its destination. A default route may be of either family.
        return next((_ONLY[family] for word in words[:2] for sign, family in _SIGNS if sign in word), _ROUTES)
    # When a link goes, the kernel also removes routes silently. Rules of both families look alike.
    return EVERYTHING


def new_routes(lines: Iterable[str]) -> list[NewRoute] | None:
    """The routes that main has got, if the events are about nothing else than them and new addresses; else None."""
    found = []
    for line in lines:
        if plain := _PLAIN.fullmatch(line):
            dst, device, number, scope, rest = plain.groups()
            protocol = _PROTOCOL_NAMES.get(number or _BOOT)
            family: Family = "inet6" if ":" in dst else "inet"
            if protocol is None or not is_word(device) or (family == "inet" and not scope):
                return None
            words = f"dev {device} proto {protocol}{' scope link' if scope else ''}{rest}"
            found.append(NewRoute(family, dst, device, words))
        elif not _OF_ADDRESS.match(line):
            return None
    return found


# An event about a new route of main, through a device and without rare options. `ip` prints options in this order.
_PLAIN = re.compile(
    r"\[ROUTE\](\d[\d.]+(?:/\d+)?|[\da-f]*:[\da-f:.]+(?:/\d+)?) dev (\S+)(?: proto (\d+))?( scope 253)?"
    r"((?: src \S+)?(?: metric \d{1,10})?(?: pref [a-z]+)?) ?",
    re.ASCII,
)
# A new address, and the routes of types local and broadcast that the kernel adds to table local with it.
_OF_ADDRESS = re.compile(r"\[ADDR\]\d|\[ROUTE\][23] \S+ dev \S+ table 255 ")

_ROUTES: frozenset[Part] = frozenset(FAMILIES)
_ONLY: dict[str, frozenset[Part]] = {family: frozenset([family]) for family in FAMILIES}
# Each address contains the character of its family. No type of a route contains one of them.
_SIGNS: tuple[tuple[str, Family], ...] = ((":", "inet6"), (".", "inet"))
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
_BOOT = PROTOCOLS["boot"]  # the protocol that `ip` does not print
