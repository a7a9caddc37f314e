"""In every layout, the kernel (`ip route get`) sends packets the right way, with and without the mark."""

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.netns import terrain
from tests.netns.namespace import LAN, MAIN, MARK, MIRROR, TIER_INTERNET, TIER_LAN, TUNNEL, Machine, Namespace
from tests.netns.test_lookup import ask

Network = IPv4Network | IPv6Network

IN_THE_LAN = ["192.168.188.1", "192.168.188.200", "fd00:188::1", "fd00:188::abcd"]
ON_THE_UPLINK = ["10.77.0.1", "fd00:77::1"]
IN_THE_VPN = ["100.64.0.9", "100.96.1.1", "100.100.111.1", "fd00:2021:1111::77"]
ON_THE_INTERNET = ["8.8.8.8", "203.0.113.1", "2001:db8::1"]
TIERED = '[tables]\nlayout = "tiered"\n'
SINGLE = '[tables]\nlayout = "single"\n'


@pytest.fixture(scope="module", params=["single", "auto finds single", "tiered", "auto finds tiered"])
def laid_out(long_lived: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    """A machine in each layout, synced with the configuration for it; nobody changes it."""
    machine = long_lived(Machine)
    if "tiered" in request.param:
        machine.tiers()
    machine.fz("sync", config={"single": SINGLE, "tiered": TIERED}.get(request.param, ""))
    return machine


def test_packets_go_where_they_should(laid_out: Machine) -> None:
    for address in IN_THE_LAN:
        assert (LAN, LAN) == (laid_out.way(address), laid_out.way(address, mark=MARK))
    assert ["uplink0"] * 2 == [laid_out.way(address) for address in ON_THE_UPLINK]
    assert [TUNNEL] * 7 == [laid_out.way(address) for address in (*IN_THE_VPN, *ON_THE_INTERNET)]
    # Main itself sends the tunnel's own addresses into the tunnel, marked or not.
    assert ["uplink0"] * 6 == [
        laid_out.way(address, mark=MARK) for address in (*ON_THE_INTERNET, *IN_THE_VPN[:2], IN_THE_VPN[3])
    ]


def test_a_stale_copy_is_ours_though_the_layout_has_changed_since(machine: Machine) -> None:
    """Its source address is gone, and it would be found before the good copy: the LAN would be unreachable."""
    machine.fz("sync")
    copies = [
        f"{option}route add {line} table {MIRROR}"
        for option, prefix in (("", "192.168.188.0/24"), ("-6 ", "fd00:188::/64"))
        for line in machine.route(prefix)
    ]
    machine.tiers()
    machine.batch(copies)  # the client has left them where they were
    machine.address(LAN, "192.168.77.5/24")  # the device keeps an address, so the kernel keeps the copies
    machine.ip("addr", "del", "192.168.188.112/24", "dev", LAN)
    machine.address(LAN, "192.168.188.50/24")
    machine.ip("-6", "addr", "del", "fd00:188::112/64", "dev", LAN)
    machine.fz("sync")
    assert ([], []) == (machine.route("192.168.188.0/24"), machine.route("fd00:188::/64"))
    assert machine.reaches("192.168.188.1")
    assert "" == machine.fz("plan")


# Single against tiered

PREFIXES = {
    "inet": st.builds(
        lambda number, length: ip_network(((10 << 24) + (number << 12), length), strict=False),
        st.integers(0, 31),
        st.integers(12, 26),
    ),
    "inet6": st.builds(
        lambda number, length: ip_network(((0xFD07 << 112) + (number << 68), length), strict=False),
        st.integers(0, 31),
        st.integers(48, 72),
    ),
}


@st.composite
def inside(draw: st.DrawFn, networks: list[Network]) -> str:
    """An address in one of the networks, often its first or last."""
    network = draw(st.sampled_from(networks))
    last = network.num_addresses - 1
    return str(network[draw(st.sampled_from([0, last]) | st.integers(0, last))])


@pytest.fixture(scope="module")
def twins(long_lived: Callable[..., Any]) -> tuple[Namespace, Namespace]:
    """Two namespaces with the same devices: one for each layout."""
    made = long_lived(), long_lived()
    layouts = [(32765, MIRROR)], [(100, MIRROR), (200, TIER_LAN), (300, TIER_INTERNET)]
    for namespace, rules in zip(made, layouts, strict=True):
        namespace.veth("lan0")
        namespace.veth("lan1")
        namespace.veth("uplink0")
        namespace.tunnel(TUNNEL)
        for priority, table in rules:
            for option in ("", "-6 "):
                namespace.batch([f"{option}rule add not fwmark {MARK:#x} lookup {table} pref {priority}"])
    return made


@pytest.mark.long
@pytest.mark.parametrize("family", ["inet", "inet6"])
@settings(terrain.REAL_KERNEL, max_examples=20)
@given(data=st.data())
def test_single_and_tiered_send_every_packet_the_same_way(
    family: Any, data: st.DataObject, twins: tuple[Namespace, Namespace]
) -> None:
    lans = data.draw(st.dictionaries(PREFIXES[family], st.sampled_from(["lan0", "lan1"]), min_size=1, max_size=5))
    tunnel = data.draw(st.lists(PREFIXES[family], max_size=4, unique=True))
    internet = data.draw(st.booleans())
    addresses = data.draw(st.lists(inside([*lans, *tunnel]), min_size=1, max_size=12))
    single, tiered = twins
    option = "-6 " if family == "inet6" else ""
    link = "" if option else " scope link"
    wide = "" if option else " scope global"
    for namespace, table in ((single, MIRROR), (tiered, TIER_INTERNET)):
        tables = (MAIN, MIRROR, TIER_LAN, TIER_INTERNET)
        namespace.batch((f"{option}route flush table {number}" for number in tables), force=True)
        namespace.batch(
            [
                *(f"{option}route add {lan} dev {device}{link}" for lan, device in lans.items()),
                f"{option}route add default dev uplink0{wide}",
                *(f"{option}route add {prefix} dev {TUNNEL}{wide} table {MIRROR}" for prefix in tunnel),
                *([f"{option}route add default dev {TUNNEL}{wide} table {table}"] if internet else []),
            ]
        )
        namespace.fz("-q", "sync", config="[lan]\nmin_prefixlen = { inet = 8, inet6 = 32 }\n")
    questions = [f"{address}{marked}" for address in addresses for marked in ("", f" mark {MARK:#x}")]
    expected, actual = (
        [answer[0]["dev"] for answer in ask(one, family, [f"route get {question}" for question in questions])]
        for one in (tiered, single)
    )
    assert dict(zip(questions, expected, strict=True)) == dict(zip(questions, actual, strict=True))
