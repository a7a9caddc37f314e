"""The words of iproute2: names, numbers and options that more than one module needs."""

import re

from fz_iproute.mirror.prefix import Family

DEFAULT, MAIN, LOCAL = 253, 254, 255
KERNEL_TABLES = {DEFAULT: "default", MAIN: "main", LOCAL: "local"}
TABLE_NUMBERS = {name: number for number, name in KERNEL_TABLES.items()}

# The family is an option of the process, not of a line.
FAMILY_OPTION: dict[Family, str] = {"inet": "-4", "inet6": "-6"}

# A question of its own, never in a batch: -details and -Numeric are options of the process. Without -Numeric, tables
# have the names that the files of the machine give them; without -details, `ip` hides the protocol of a kernel rule.
RULES_IN_DETAIL = "-details -Numeric rule show"

# iproute2's rt_protos, by name. `ip -Numeric` prints the numbers.
PROTOCOLS = {
    name: str(number)
    for number, name in {
        0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 10: "mrt", 11: "zebra",
        12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk", 16: "dhcp", 18: "keepalived", 42: "babel", 84: "ovn",
        99: "openr", 186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
    }.items()
}  # fmt: skip

# The metrics of a route that take one value each, as a command spells them.
METRICS = (
    "mtu", "window", "rtt", "rttvar", "ssthresh", "cwnd", "advmss", "reordering", "hoplimit", "initcwnd", "quickack",
    "congctl", "rto_min", "initrwnd", "fastopen_no_cookie",
)  # fmt: skip

# Rule actions that refuse a packet, by the number that `ip -Numeric` prints.
REFUSALS = {"6": "blackhole", "7": "unreachable", "8": "prohibit"}

# One word of a batch line. `ip` splits lines at white space, `#` starts a comment even inside quotes, and a leading
# quote starts a quoted word. All other printable characters mean themselves.
WORD = r"""[^\s#'"][^\s#]*"""
_WORD = re.compile(WORD)


def is_word(text: str) -> bool:
    """True if a batch line can hold the text as one word."""
    return bool(_WORD.fullmatch(text)) and text.isprintable()


def table_name(table: int) -> str:
    """How a command names a table: the kernel's own by name, because a file may give their number to another table."""
    return KERNEL_TABLES.get(table, str(table))


def of_table(table: int) -> str:
    """The question for all routes of a table."""
    return f"route show table {table_name(table)}"


def printable(text: str) -> str:
    """The text without control characters: an interface name may hold any, and a terminal would obey them."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
