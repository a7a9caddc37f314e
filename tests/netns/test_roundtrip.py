"""For the kernel, a copy differs from its source in nothing but the table, and a second sync changes nothing."""

import socket
from collections.abc import Callable

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.netns import rtnetlink, terrain
from tests.netns.namespace import MAIN, MIRROR, TUNNEL, Namespace, comparable, mirrored
from tests.netns.rtnetlink import RawRoute
from tests.netns.wiretap import Wiretap

FAMILIES = ("inet", "inet6")


@pytest.fixture(scope="module")
def tap(tmp_path_factory: pytest.TempPathFactory) -> Wiretap:
    return Wiretap(tmp_path_factory.mktemp("tap"))


def flushed(land: Namespace, family: str) -> Namespace:
    terrain.flush(land, family, MAIN, MIRROR)
    for prefix in ("fd00:2021::/48" if family == "inet6" else "100.64.0.0/11", "default"):
        land.batch([terrain.spelled(family, "add", f"{prefix} dev {TUNNEL} proto static", MIRROR)])
    return land


def assert_identical(land: Namespace, family: str) -> None:
    expected = comparable(mirrored(land.raw(family, MAIN)))
    tunnel = land.index(TUNNEL)
    actual = comparable(mirrored(land.raw(family, MIRROR), {1, tunnel}))
    if expected != actual:
        note("\n".join(["main:", *land.routes(family, "main"), "mirror:", *land.routes(family)]))
    assert expected == actual


def assert_settled(land: Namespace, tap: Wiretap) -> None:
    tap.clear()
    land.fz("sync", path=tap.path)
    assert tap.lines, "the program ran no ip"
    assert [] == tap.writes


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
@settings(terrain.REAL_KERNEL, max_examples=40)
@given(data=st.data())
def test_copies_are_identical_to_their_sources_and_follow_every_change(
    family: str, data: st.DataObject, land: Namespace, tap: Wiretap
) -> None:
    flushed(land, family)
    lines = data.draw(terrain.additions(family), label="main")
    land.batch([terrain.spelled(family, *line) for line in lines], force=True)
    land.fz("sync")
    assert_identical(land, family)

    changes = data.draw(terrain.changes(family, lines), label="changes")
    land.batch([terrain.spelled(family, *line) for line in changes], force=True)
    land.fz("sync")
    assert_identical(land, family)
    assert_settled(land, tap)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
@settings(terrain.REAL_KERNEL, max_examples=15)
@given(data=st.data())
def test_wrong_copies_in_the_mirror_table_are_corrected(
    family: str, data: st.DataObject, land: Namespace, tap: Wiretap
) -> None:
    flushed(land, family)
    lines = data.draw(terrain.additions(family), label="main")
    wrong = data.draw(st.lists(st.tuples(st.just("append"), terrain.routes(family)), max_size=8), label="mirror")
    land.batch([terrain.spelled(family, *line) for line in lines], force=True)
    land.batch([terrain.spelled(family, *line, table=MIRROR) for line in wrong], force=True)
    land.fz("sync")
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
