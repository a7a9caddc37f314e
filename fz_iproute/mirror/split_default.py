"""Recognises prefixes that together stand for a default route, such as 0.0.0.0/1 and 128.0.0.0/1 of a VPN."""

from collections.abc import Iterable

from fz_iproute.mirror.model import Route
from fz_iproute.mirror.prefix import PRIVATE, Family, Prefix

# A resource of a VPN is narrower than this. Some VPNs split their default into some 200 prefixes that leave out the
# private ones; those that are at least this wide cover most of the internet.
_NARROWEST: dict[Family, int] = {"inet": 8, "inet6": 16}
_ENDS = {family: tuple(f"/{length}" for length in range(1, narrowest + 1)) for family, narrowest in _NARROWEST.items()}
_INTERNET: dict[Family, Prefix] = {"inet": Prefix("inet", 0, 0), "inet6": Prefix.parse("2000::/3")}


def wide(routes: Iterable[Route], family: Family) -> list[Route]:
    """Those that may be parts of a split default, told by their text: most routes of a table are narrower."""
    ends = _ENDS[family]
    return [route for route in routes if route.dst.endswith(ends)]


def split_default(prefixes: Iterable[Prefix], family: Family) -> frozenset[Prefix]:
    """Those of the prefixes that together stand for a default route: they cover half of the internet or more."""
    wide = [prefix for prefix in prefixes if 0 < prefix.length <= _NARROWEST[family] and not PRIVATE.covers(prefix)]
    return frozenset(wide) if share(wide, family) >= 0.5 else frozenset()


def share(prefixes: Iterable[Prefix], family: Family) -> float:
    """What part of the internet the prefixes cover together."""
    outer: Prefix | None = None
    found = 0.0
    # Sorted, a prefix stands before those inside it.
    for prefix in sorted(set(prefixes)):
        if outer is None or not outer.covers(prefix):
            outer = prefix
            found += _share(prefix, family)
    return found


def _share(prefix: Prefix, family: Family) -> float:
    """What part of the internet the prefix covers."""
    internet = _INTERNET[family]
    if prefix.covers(internet):
        return 1.0
    return 0.5 ** (prefix.length - internet.length) if internet.covers(prefix) else 0.0
