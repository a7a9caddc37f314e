"""Which lines of `ip monitor` are worth a pass. In doubt, a line is."""

from typing import NamedTuple

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


def is_about_links(line: str) -> bool:
    """True if a long-lived `ip` may now have a wrong name for an interface: it looks each up only once."""
    return line.startswith("[LINK")
