"""Which lines of `ip monitor` are worth waking for. Where there is doubt, all are."""

from collections.abc import Collection

# Types of routes that `ip` prints in front, by name or by number: in main, none of them is a LAN.
_NO_LAN = frozenset(
    ["local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw", *"23456789"]
)


def matters(line: str, tables: Collection[str], *, routers: bool, known: frozenset[str] = frozenset()) -> bool:
    """False for a line that cannot change what a pass would do.

    `tables` are the numbers of the tables in play, as text; main is always one, and has none in its lines.
    `routers` is true where routes through a router may be mirrored too; `known` are the destinations that are
    mirrored: a route that takes the place of one is announced without a word about the old one.
    """
    kind, _, rest = line.partition("]")
    if kind != "[ROUTE":
        return True
    words = rest.split()
    if words[:1] == ["Deleted"]:
        del words[0]
    # An interface may be called `table` or `via`.
    if "table" in words and (place := words.index("table")) and words[place - 1] != "dev":
        return words[place + 1] in tables
    if not known.isdisjoint(words[:2]):
        return True
    if words and words[0] in _NO_LAN:
        return False
    return routers or "via" not in words or "nexthop" in words or words[words.index("via") - 1] == "dev"


def is_about_rules(line: str) -> bool:
    """True for what the plain list of rules need not show: who has made one."""
    return line.startswith("[RULE")


def is_about_links(line: str) -> bool:
    """True for what a long-lived `ip` cannot know: it remembers the names of interfaces."""
    return line.startswith("[LINK")
