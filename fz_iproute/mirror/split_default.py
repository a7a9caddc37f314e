"""Recognises split default routes. For example, a VPN may route 0.0.0.0/1 and 128.0.0.0/1 instead of default."""

from collections.abc import Iterable

from fz_iproute.mirror.model import Route
from fz_iproute.mirror.prefix import PRIVATE, Family, Prefix

# The parts of a split default route are at least this wide, and networks behind a VPN are narrower. Some VPNs route
# about 200 prefixes, to leave out the private ones. The wide ones among them still cover most of the internet.
_NARROWEST: dict[Family, int] = {"inet": 8, "inet6": 16}
_ENDS = {family: tuple(f"/{length}" for length in range(1, narrowest + 1)) for family, narrowest in _NARROWEST.items()}
# The global unicast addresses, as IANA has assigned them.
INTERNET: dict[Family, Prefix] = {"inet": Prefix("inet", 0, 0), "inet6": Prefix.parse("2000::/3")}


def wide(routes: Iterable[Route], family: Family) -> list[Route]:
    """The routes that are wide enough to be parts of a split default route.

    The test compares text, because it is fast and most routes of a table fail it.
    """
    ends = _ENDS[family]
    return [route for route in routes if route.dst.endswith(ends)]


def split_default(prefixes: Iterable[Prefix], family: Family) -> frozenset[Prefix]:
    """The wide public prefixes among these if together they cover at least half of the internet, else none."""
    wide = [prefix for prefix in prefixes if 0 < prefix.length <= _NARROWEST[family] and not PRIVATE.covers(prefix)]
    return frozenset(wide) if share(wide, family) >= 0.5 else frozenset()


def share(prefixes: Iterable[Prefix], family: Family) -> float:
    """The part of the internet that the prefixes cover together, from 0 to 1."""
    outer: Prefix | None = None
    found = 0.0
    # Sorting puts each prefix before the prefixes inside it, which add nothing.
    for prefix in sorted(set(prefixes)):
        if outer is None or not outer.covers(prefix):
            outer = prefix
            found += _share(prefix, family)
    return found


def _share(prefix: Prefix, family: Family) -> float:
    """The part of the internet that one prefix covers, from 0 to 1."""
    internet = INTERNET[family]
    if prefix.covers(internet):
        return 1.0
    return 0.5 ** (prefix.length - internet.length) if internet.covers(prefix) else 0.0
