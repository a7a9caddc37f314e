"""Decides which events of `ip monitor` (one line each) must wake a pass. If in doubt, an event does."""

from typing import NamedTuple

# Types of routes, by name and by number. `ip` prints the type before the destination. None of these is a LAN route.
_NO_LAN = frozenset(
    ["local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw", *"23456789"]
)


class Interest(NamedTuple):
    """What decides whether an event matters.

    An event about the VPN's tables matters, and so does one about main if the route may be copied.
    """

    tables: frozenset[str] = frozenset()  # main and the VPN's tables, by number, as text
    routers: bool = False  # routes through a router may be copied, too
    known: frozenset[str] = frozenset()  # the destinations of routes that should be copied
    every_table: bool = False  # the routes of all tables matter


def matters(line: str, interest: Interest) -> bool:
    """True unless the event certainly makes no difference to a pass."""
    kind, _, rest = line.partition("]")
    if kind != "[ROUTE":
        return True
    words = rest.split()
    if words[:1] == ["Deleted"]:
        del words[0]
    # An event about main names no table. An interface may have the name `table` or `via`.
    if "table" in words[:-1] and (place := words.index("table")) and words[place - 1] != "dev":
        return interest.every_table or words[place + 1] in interest.tables
    # When a route replaces another one, `ip monitor` prints only the new route. The old one may have been copied.
    if not interest.known.isdisjoint(words[:2]):
        return True
    if words and words[0] in _NO_LAN:
        return False
    return interest.routers or "via" not in words or "nexthop" in words or words[words.index("via") - 1] == "dev"


def is_about_links(line: str) -> bool:
    """True for an event about an interface. It may have a new name, and a long-lived `ip` remembers the old one."""
    return line.startswith("[LINK")
