"""For the kernel, a copy differs from its source in nothing but the table, and a second sync changes nothing.

What is printed is what is run: the lines of `plan`, pasted into a shell, lead to the same copies.
"""

import json
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_network
from typing import Any, NamedTuple

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.netns import rtnetlink, terrain
from tests.netns.namespace import MAIN, MIRROR, TIER_LAN, TUNNEL, Namespace, comparable, mirrored, run
from tests.netns.rtnetlink import RTN_UNICAST, RawRoute
from tests.netns.wiretap import Wiretap
from tests.watch.oracle import indexes, network

FAMILIES = ("inet", "inet6")


@pytest.fixture(scope="module")
def tap(tmp_path_factory: pytest.TempPathFactory) -> Wiretap:
    return Wiretap(tmp_path_factory.mktemp("tap"))


class Policy(NamedTuple):
    """A configuration, and what it makes of each route of main."""

    refusing: str = ""  # a line of REFUSING
    allows: bool = False
    tiered: bool = False
    claims: bool = False  # the VPN has a route of its own to a part of the LANs

    @property
    def text(self) -> str:
        allowing = [f"allow = {json.dumps(ALLOWED)}"] if self.allows else []
        layout = "tiered" if self.tiered else "single"
        return "\n".join([f'[tables]\nlayout = "{layout}"\n[lan]', self.refusing, *allowing])

    def is_lan(self, route: RawRoute) -> bool:
        is_allowed = self.allows and route.type == RTN_UNICAST and lies_in(network(route), ALLOWED)
        return route.on_link or is_allowed

    def is_wanted(self, route: RawRoute, names: dict[int, str]) -> bool:
        dst, devices = network(route), {names[index] for index in route.devices}
        trusted = PRIVATE + ALLOWED * self.allows
        is_claimed = self.claims and not self.tiered and lies_in(dst, CLAIMED.values())
        return not is_claimed and not REFUSING[self.refusing](dst, devices, trusted)


PRIVATE = ["10.0.0.0/8", "fc00::/7", "fe80::/10"]
ALLOWED = ["10.0.1.0/24", "10.9.0.0/24", "203.0.113.0/24", "fd00:9::/64", "2001:db8:1::/48"]
# These are about the simplest routes, of which Hypothesis makes most.
CLAIMED = {"inet": "10.0.0.0/15", "inet6": "fd00::/40"}
PARTS, WHOLES = ["10.0.0.1/32", "fd00::/127"], ["10.0.0.0/23", "fd00::/32"]
# Lines of [lan], and whether they refuse a route to this destination by these devices.
REFUSING: dict[str, Callable[[Any, set[str], list[str]], bool]] = {
    "": lambda *_: False,
    f"deny = {json.dumps(PARTS)}": lambda dst, *_: overlaps(dst, PARTS),
    f"deny = {json.dumps(WHOLES)}": lambda dst, *_: overlaps(dst, WHOLES),
    "min_prefixlen = { inet = 25, inet6 = 65 }": lambda dst, *_: dst.prefixlen < {4: 25, 6: 65}[dst.version],
    'interfaces = ["lan0", "v[12]"]': lambda dst, devices, _: "v0" in devices,
    'exclude_interfaces = ["*0"]': lambda dst, devices, _: "v0" in devices,
    'trust = "private"': lambda dst, devices, trusted: not lies_in(dst, trusted),
}


def overlaps(dst: Any, others: Iterable[str]) -> bool:
    return any(dst.version == other.version and dst.overlaps(other) for other in map(ip_network, others))


def lies_in(dst: Any, others: Iterable[str]) -> bool:
    return any(dst.version == other.version and dst.subnet_of(other) for other in map(ip_network, others))


def flushed(land: Namespace, family: str) -> Namespace:
    terrain.flush(land, family, MAIN, MIRROR, TIER_LAN)
    for prefix in ("fd00:2021::/48" if family == "inet6" else "100.64.0.0/11", "default"):
        land.batch([terrain.spelled(family, "add", f"{prefix} dev {TUNNEL} proto static", MIRROR)])
    return land


def assert_identical(land: Namespace, family: str, policy: Policy = Policy()) -> None:  # noqa: B008  # immutable
    names = {index: name for name, index in indexes(land).items()}
    table, tunnel = TIER_LAN if policy.tiered else MIRROR, land.index(TUNNEL)
    lans = mirrored(land.raw(family, MAIN), {1}, policy.is_lan)
    expected = comparable([route for route in lans if policy.is_wanted(route, names)])
    actual = comparable(mirrored(land.raw(family, table), {1, tunnel}, policy.is_lan))
    if expected != actual:
        note("\n".join(["main:", *land.routes(family, "main"), "mirror:", *land.routes(family, table)]))
    assert expected == actual


def bring_in_step(land: Namespace, data: st.DataObject, config: str = "") -> None:
    """By `sync`, or by the lines of `plan`: a person who pastes them goes on after a refused one."""
    if data.draw(st.booleans(), label="pasted"):
        run("sh", stdin=land.fz("plan", config=config), check=False)
    else:
        land.fz("sync", config=config)


def assert_settled(land: Namespace, tap: Wiretap, config: str = "") -> None:
    tap.clear()
    land.fz("sync", path=tap.path, config=config)
    assert tap.lines, "the program ran no ip"
    assert [] == tap.writes


@pytest.mark.long
@pytest.mark.parametrize("refusing", REFUSING)
@pytest.mark.parametrize("family", FAMILIES)
@settings(terrain.REAL_KERNEL, max_examples=6)
@given(data=st.data())
def test_copies_are_identical_to_their_sources_and_follow_every_change(
    family: str, refusing: str, data: st.DataObject, land: Namespace, tap: Wiretap
) -> None:
    """Those of main, and those of the settings."""
    flushed(land, family)
    lines = data.draw(terrain.additions(family), label="main")
    land.batch([terrain.spelled(family, *line) for line in lines], force=True)
    land.fz("sync")
    assert_identical(land, family)

    policy = data.draw(st.builds(Policy, st.just(refusing), *[st.booleans()] * 3), label="policy")
    if policy.claims:
        land.batch([terrain.spelled(family, "add", f"{CLAIMED[family]} dev {TUNNEL} proto static", MIRROR)])
    changes = data.draw(terrain.changes(family, lines), label="changes")
    land.batch([terrain.spelled(family, *line) for line in changes], force=True)
    bring_in_step(land, data, policy.text)
    assert_identical(land, family, policy)
    assert_settled(land, tap, policy.text)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
@settings(terrain.REAL_KERNEL, max_examples=10)
@given(data=st.data())
def test_wrong_copies_in_the_mirror_table_are_corrected(
    family: str, data: st.DataObject, land: Namespace, tap: Wiretap
) -> None:
    flushed(land, family)
    lines = data.draw(terrain.additions(family), label="main")
    wrong = data.draw(st.lists(st.tuples(st.just("append"), terrain.routes(family)), max_size=8), label="mirror")
    land.batch([terrain.spelled(family, *line) for line in lines], force=True)
    land.batch([terrain.spelled(family, *line, table=MIRROR) for line in wrong], force=True)
    bring_in_step(land, data)
    assert_identical(land, family)
    assert_settled(land, tap)


SINGLE = [
    *("proto kernel", "proto boot", "proto dhcp", "proto 99", "proto 0", "metric 600", "metric 4294967295"),
    *("src 10.255.0.1", "tos 0x10", "tos 0xfc", "realms 7", "realms 3/4", "mtu 1400", "advmss 1360", "window 65535"),
    *("initcwnd 32", "initrwnd 20", "hoplimit 64", "quickack 1", "congctl reno", "features ecn", "rtt 30ms"),
    *("rttvar 7ms", "rto_min 200ms", "ssthresh 100", "cwnd 4", "reordering 5", "fastopen_no_cookie 1"),
    "mtu 1400 advmss 1360 initcwnd 32 rtt 30ms features ecn congctl reno",
]
MULTIPATH = [words for words in SINGLE if words.split()[0] != "realms"]
SINGLE_V6 = [
    *("pref low", "pref high", "src fd00:ffff::1", "expires 600"),
    *(words for words in SINGLE if words.split()[0] not in ("src", "tos", "realms")),
]
# The kinds of routes; each gets a destination of its own.
KINDS = {
    "inet": [
        *(f"dev v0 scope link {words}" for words in SINGLE),
        *(f"scope link {words} nexthop dev v0 weight 2 nexthop dev v1" for words in MULTIPATH),
        "scope link nexthop dev v0 realms 3/4 nexthop dev v1 realms 9",
        *(f"nhid {number} scope link proto dhcp metric 5" for number in (1, 2, 9)),
    ],
    "inet6": [
        *(f"dev v0 {words}" for words in SINGLE_V6),
        *(f"nhid {number} proto ra metric 5 pref high" for number in (11, 12)),
    ],
}


def destination(family: str, kind: str) -> str:
    number = KINDS[family].index(kind)
    return f"10.3.{number}.0/24" if family == "inet" else f"fd00:3:{number}::/64"


def add_every_kind(namespace: Namespace, *tables: int) -> None:
    terrain.furnish(namespace)
    for family, kinds in KINDS.items():
        for table in tables:
            words = (f"{destination(family, kind)} {kind}" for kind in kinds)
            namespace.batch(terrain.spelled(family, "append", route, table) for route in words)


@pytest.fixture(scope="module")
def showroom(long_lived: Callable[[], Namespace]) -> Namespace:
    """A namespace with a route of each kind, synced once."""
    namespace = long_lived()
    add_every_kind(namespace, MAIN)
    namespace.fz("sync")
    return namespace


@pytest.mark.parametrize(("family", "kind"), [(family, kind) for family, kinds in KINDS.items() for kind in kinds])
def test_every_attribute_is_carried_over(family: str, kind: str, showroom: Namespace) -> None:
    prefix, length = destination(family, kind).split("/")
    address = socket.inet_pton(rtnetlink.FAMILIES[family], prefix).hex()

    def there(table: int) -> list[RawRoute]:
        return [route for route in showroom.raw(family, table) if (address, int(length)) == route.group[:2]]

    (source,) = there(MAIN)
    assert [source] == there(MIRROR)


def test_a_copy_has_no_lifetime_of_its_own(land: Namespace) -> None:
    flushed(land, "inet6").batch(["-6 route add fd00:2:3::/64 dev v0 expires 600"])
    land.fz("sync")
    assert "expires" in land.route("fd00:2:3::/64", "main")[0]
    assert "expires" not in land.route("fd00:2:3::/64")[0]


def test_thousands_of_routes_are_copied_in_the_order_of_their_twins(land: Namespace) -> None:
    flushed(land, "inet").batch(
        f"route append 10.{i >> 8 & 255}.{i & 255}.0/24 dev {device} scope link proto {1 + i % 250}"
        for i in range(1500)
        for device in ("v1", "v0")
    )
    land.fz("-q", "sync")
    assert 3000 == len(mirrored(land.raw("inet", MAIN)))
    assert_identical(land, "inet")
