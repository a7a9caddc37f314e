"""Strategies for property tests: lines that add and change on-link routes of every kind that `ip` knows."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.netns.namespace import Namespace

DEVICES = ["v0", "v1", "v2"]
SOURCES = {"inet": ["10.255.0.1", "10.255.0.2"], "inet6": ["fd00:ffff::1", "fd00:ffff::2"]}
NEXTHOPS = {"inet": [1, 2, 9], "inet6": [11, 12]}  # 9 is a group of 1 and 2

REAL_KERNEL = settings(
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),  # a real kernel is slow, and refuses part of the routes
)

# (verb, words after the verb), so that a test can put `table N` between them.
Line = tuple[str, str]


def furnish(namespace: Namespace) -> None:
    """Add the devices, source addresses and nexthop objects that the routes use."""
    for device in DEVICES:
        namespace.veth(device)
    for addresses in SOURCES.values():
        for address, device in zip(addresses, DEVICES, strict=False):
            namespace.address(device, address)
    _add_nexthops(namespace)


def _add_nexthops(namespace: Namespace) -> None:
    namespace.batch(["nexthop add id 1 dev v0", "nexthop add id 2 dev v1 proto 77"])
    namespace.batch(["-6 nexthop add id 11 dev v0", "-6 nexthop add id 12 dev v2"])
    namespace.ip("nexthop", "add", "id", "9", "group", "1,3/2,5")


def flush(namespace: Namespace, family: str, *tables: int) -> None:
    """Empty the tables. Routes by a nexthop object are deleted with the object, since `route flush` does not."""
    namespace.ip("nexthop", "flush")
    namespace.batch((spelled(family, "flush", "", table) for table in tables), force=True)
    _add_nexthops(namespace)


def spelled(family: str, verb: str, words: str, table: int | None = None) -> str:
    """The line of a batch."""
    option = "-6 " if family == "inet6" else ""
    where = f" table {table}" if table is not None else ""
    return f"{option}route {verb}{where} {words}"


_PROTOCOLS = ["kernel", "boot", "static", "dhcp", "ra", "bird", "zebra", "keepalived", "5", "99", "255"]
_METRICS = {
    "inet": st.sampled_from(["", "", "metric 0", "metric 1", "metric 100", "metric 600", "metric 4294967295"]),
    "inet6": st.sampled_from(["", "", "metric 1", "metric 256", "metric 1024", "metric 4294967295"]),
}
# A word and its values
_PAIRS = {
    "inet": ["tos 0x04 0x10 0x14 0xb8 0xfc", "realms 7 3/4 255/65535"],
    "inet6": ["pref low medium high", "expires 600"],
}
_PATH_METRICS = [
    *("mtu 1280 1400 9000", "advmss 536 1360", "window 65535", "initcwnd 10 32", "initrwnd 20", "hoplimit 1 64 255"),
    *("quickack 1", "congctl reno", "features ecn", "rtt 30ms 1ms 2s", "rttvar 7ms", "rto_min 5ms 200ms"),
    *("ssthresh 100", "cwnd 4", "reordering 5", "fastopen_no_cookie 1"),
]


def _maybe(pairs: list[str], rarely: int) -> st.SearchStrategy[str]:
    """Some of the words, each with one of its values. Each is absent `rarely` times as often as present."""
    options = [
        st.sampled_from([""] * (rarely * len(values)) + [f"{name} {value}" for value in values])
        for name, *values in map(str.split, pairs)
    ]
    return st.tuples(*options).map(lambda words: " ".join(filter(None, words)))


# Few destinations, so that twins, nested prefixes and adjacent prefixes are common.
_DESTINATIONS = {
    "inet": st.sampled_from([f"10.{a}.{b}.0/24" for a in range(2) for b in range(2)])
    | st.sampled_from(["10.0.0.0/16", "10.0.0.0/8", "10.1.1.1/32", "10.1.1.2/31", "10.1.0.128/25", "203.0.113.0/24"]),
    "inet6": st.sampled_from([f"fd00:{a}:{b}::/64" for a in range(2) for b in range(2)])
    | st.sampled_from(["fe80::/64", "fd00::/48", "fd00:1:1::1/128", "fd00:1:1::/127", "2001:db8:1::/48"]),
}
_WEIGHTS = st.sampled_from(["", " weight 1", " weight 3", " weight 256"])


@st.composite
def _nexthops(draw: st.DrawFn) -> str:
    devices = draw(st.lists(st.sampled_from(DEVICES), min_size=2, max_size=4))
    realms = st.sampled_from(["", "", " realms 9"])
    return " ".join(f"nexthop dev {device}{draw(_WEIGHTS)}{draw(realms)}" for device in devices)


@st.composite
def routes(draw: st.DrawFn, family: str) -> str:
    """The words after `ip route add` for one on-link route. The kernel refuses some of them."""
    words = [draw(_DESTINATIONS[family])]
    kinds = ["device"] * 4 + ["object"] + (["nexthops"] if family == "inet" else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "object":
        words.append(f"nhid {draw(st.sampled_from(NEXTHOPS[family]))}")
    elif kind == "device":
        words.append(f"dev {draw(st.sampled_from(DEVICES))}")
    if draw(st.booleans()):
        words.append(f"proto {draw(st.sampled_from(_PROTOCOLS))}")
    if family == "inet":
        words.append("scope link")
    if kind != "object" and draw(st.integers(0, 3)) == 0:
        words.append(f"src {draw(st.sampled_from(SOURCES[family]))}")
    # `ip -6 route del` cannot choose between a route by an object and another one with the same metric.
    words.append("metric 7777" if (family, kind) == ("inet6", "object") else draw(_METRICS[family]))
    if draw(st.integers(0, 1)):
        words.append(draw(_maybe(_PAIRS[family], 2)))
    # Routes by the same nexthop object share their metrics.
    if kind != "object" and draw(st.integers(0, 2)) == 0:
        words.append(draw(_maybe(_PATH_METRICS, 3)))
    if kind == "nexthops":
        words.append(draw(_nexthops()))
    return " ".join(filter(None, words))


def others(family: str) -> st.SearchStrategy[str]:
    """Routes that are not copied."""
    return st.sampled_from(
        [
            "10.9.0.0/24 dev v0 scope global",
            "10.0.1.0/24 via 10.255.0.77 dev v0 onlink metric 5000",
            "unreachable 10.9.2.0/24",
            "blackhole 10.0.0.0/24 metric 7000",
            "default dev v1 scope link metric 8000",
        ]
        if family == "inet"
        else [
            "fd00:9::/64 via fe80::1 dev v0 metric 5000",
            "unreachable fd00:9:1::/64",
            "blackhole fd00:0:1::/64 metric 7000",
            "default dev v1 metric 8000",
        ]
    )


def additions(family: str, most: int = 14) -> st.SearchStrategy[list[Line]]:
    """The lines that fill a table. `append` makes twins, which `add` cannot."""
    lines = st.tuples(st.sampled_from(["append", "append", "append", "prepend"]), routes(family))
    strangers = st.tuples(st.just("append"), others(family))
    return st.tuples(st.lists(lines, min_size=1, max_size=most), st.lists(strangers, max_size=2)).map(
        lambda both: both[0] + both[1]
    )


@st.composite
def changes(draw: st.DrawFn, family: str, present: list[Line]) -> list[Line]:
    """Lines that add, delete, change and reorder routes of such a table."""
    lines: list[Line] = []
    for _ in range(draw(st.integers(1, 6))):
        _, words = draw(st.sampled_from(present))
        kind = draw(st.sampled_from(["add", "remove", "change", "reorder"]))
        if kind == "add":
            lines.append(("append", draw(routes(family))))
        if kind in ("remove", "reorder"):
            lines.append(("del", words))
        if kind == "change":
            lines.append((draw(st.sampled_from(["replace", "change", "append"])), draw(routes(family))))
        if kind == "reorder":
            lines.append((draw(st.sampled_from(["append", "prepend"])), words))
    return lines
