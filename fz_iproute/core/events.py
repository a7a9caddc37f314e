"""Which lines of `ip monitor` are worth waking for. Where there is doubt, all are."""

from collections.abc import Collection


def matters(line: str, tables: Collection[str], *, routers: bool) -> bool:
    """False for a line that cannot change what a pass would do.

    `tables` are the numbers of the tables in play, as text; main is always one, and has none in its lines.
    `routers` is true where routes through a router may be mirrored too.
    """
    kind, _, rest = line.partition("]")
    if kind != "[ROUTE":
        return True
    words = rest.split()
    # An interface may be called `table` or `via`.
    if "table" in words and (place := words.index("table")) and words[place - 1] != "dev":
        return words[place + 1] in tables
    return routers or "via" not in words or "nexthop" in words or words[words.index("via") - 1] == "dev"


def is_about_links(line: str) -> bool:
    """True for what a long-lived `ip` cannot know: it remembers the names of interfaces."""
    return line.startswith("[LINK")
