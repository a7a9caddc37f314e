"""Tells from an event of `ip monitor` (one line) what may have changed."""

from fz_iproute.mirror.model import EVERYTHING, Part
from fz_iproute.mirror.prefix import FAMILIES, Family


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


_ROUTES: frozenset[Part] = frozenset(FAMILIES)
_ONLY: dict[str, frozenset[Part]] = {family: frozenset([family]) for family in FAMILIES}
# Each address contains the character of its family. No type of a route contains one of them.
_SIGNS: tuple[tuple[str, Family], ...] = ((":", "inet6"), (".", "inet"))
