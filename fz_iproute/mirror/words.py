"""The vocabulary of iproute2, and how messages spell and count: what more than one module needs."""

import re
from collections.abc import Iterable

from fz_iproute.mirror.prefix import Family

DEFAULT, MAIN, LOCAL = 253, 254, 255
KERNEL_TABLES = {DEFAULT: "default", MAIN: "main", LOCAL: "local"}
TABLE_NUMBERS = {name: number for number, name in KERNEL_TABLES.items()}

# `ip` takes the family as a global option, not in each line of a batch.
FAMILY_OPTION: dict[Family, str] = {"inet": "-4", "inet6": "-6"}

# Without -Numeric, `ip` prints the names that the machine's own files give to tables. Without -details, it hides the
# protocol `kernel` of a rule. Both are global options, so this question cannot be a line of a batch.
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

# The metrics of a route that take one value, by their names on the command line.
METRICS = (
    "mtu", "window", "rtt", "rttvar", "ssthresh", "cwnd", "advmss", "reordering", "hoplimit", "initcwnd", "quickack",
    "congctl", "rto_min", "initrwnd", "fastopen_no_cookie",
)  # fmt: skip

# Rule actions that drop a packet, by the number that `ip -Numeric` prints for them.
REFUSALS = {"6": "blackhole", "7": "unreachable", "8": "prohibit"}

# How names of interfaces start that tell what the output of `ip link` does not: a tap is an Ethernet device, a modem
# looks like a tunnel, and the bridges and cables of containers and virtual machines look like network cards.
TUNS = ("tun", "tap")
MODEMS = ("ppp", "ww", "rmnet")
OF_GUESTS = ("docker", "podman", "br-", "virbr", "lxcbr", "lxdbr", "incusbr", "cni", "veth", "vnet")

# One word of a batch line. `ip` splits lines at white space. `#` starts a comment, even inside quotes, and a quote at
# the start of a word begins a quoted word. All other printable characters stand for themselves.
WORD = r"""[^\s#'"][^\s#]*"""
_WORD = re.compile(WORD)


def is_word(text: str) -> bool:
    """True if a batch line can hold the text as one word."""
    return bool(_WORD.fullmatch(text)) and text.isprintable()


def table_name(table: int) -> str:
    """How a command names a table. The kernel's tables are named, because `rt_tables` may reassign their numbers."""
    return KERNEL_TABLES.get(table, str(table))


def of_table(table: int) -> str:
    """The arguments with which `ip` shows all routes of a table."""
    return f"route show table {table_name(table)}"


def sysctl_name(name: str) -> str:
    """How `sysctl` spells `ipv4/conf/eth0/rp_filter`. If the name of a device has a dot, it wants slashes."""
    return f"net/{name}" if "." in name else f"net.{name.replace('/', '.')}"


def printable(text: str) -> str:
    """The text with control characters escaped. An interface name may hold them, and a terminal would obey them."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def ip_protocol(number: str) -> str:
    """The name of a protocol above IP, as `ip rule` prints it: `tcp` for `6`. If it is not known, the number.

    `ip` accepts names only on machines that have /etc/protocols. So they are for people, and no arguments.
    """
    number = number.removeprefix("ipproto-")
    return _IP_PROTOCOLS.get(number, number)


_IP_PROTOCOLS = {"1": "icmp", "6": "tcp", "17": "udp", "47": "gre", "50": "esp", "58": "ipv6-icmp", "132": "sctp"}


def some(names: Iterable[str], *, is_sample: bool = False) -> str:
    """The first three names, and how many more there are. If it is a sample, that number is not known."""
    different = list(dict.fromkeys(names))
    if is_sample:
        return f"{', '.join(different[:3])} and others"
    return ", ".join(different[:3]) + (f" and {len(different) - 3} more" if len(different) > 3 else "")


def count(number: int, one: str, many: str) -> str:
    """`1 copy`, `2 copies`."""
    return f"{number} {one if number == 1 else many}"
