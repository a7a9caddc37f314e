"""The mirror follows every change of links, addresses, routes and rules, announced or not."""

from typing import NamedTuple

import pytest

from tests.netns.namespace import LAN, MARK, MIRROR, TIER_INTERNET, TIER_LAN, TUNNEL, Machine, wait_until
from tests.watch import oracle
from tests.watch.conftest import Watch

NEIGHBOUR, NEIGHBOUR6 = "192.168.188.1", "fd00:188::1"

# A pass may read the state a millisecond before the next step of a change. Then a command may fail, and this is said.
TOO_LATE = "; trying again"


class Change(NamedTuple):
    """Lines for `ip`, or `sysctl KEY VALUE`, before the daemon starts and then under it; and what holds after."""

    name: str
    lines: str
    before: str = ""
    ways: dict[str, str] = {}  # noqa: RUF012  # nobody writes to it
    reached: tuple[str, ...] = (NEIGHBOUR, NEIGHBOUR6)


SECOND = "addr add 192.168.188.113/24 dev wlp192s0 metric 600"
FIRST_GOES, LAN_GOES_DOWN = "addr del 192.168.188.112/24 dev wlp192s0", "link set dev wlp192s0 down"
FIRST6, LAN_COMES_UP = "addr add fd00:188::112/64 dev wlp192s0 nodad", "link set dev wlp192s0 up"
BY_HAND = "route add 10.5.0.0/24 dev wlp192s0; -6 route add fd00:5::/64 dev wlp192s0"
NEXTHOP = "nexthop add id 7 dev wlp192s0; route add 10.5.0.0/24 nhid 7 scope link"
WIDER = f"192.168.0.0/16 dev {TUNNEL} table {MIRROR}"
BRIDGE = (
    "link add name br0 type bridge; addr add 172.17.0.1/16 dev br0; link set dev br0 up;"
    "link add name port0 type veth peer name port1; link set dev port0 master br0 up"
)
NEW_LAN, NEW_LAN6 = "10.5.0.9", "fd00:5::9"
CHANGES = [
    Change("addresses come", "addr add 10.5.0.2/24 dev wlp192s0; addr add fd00:5::2/64 dev wlp192s0 nodad",
           ways={NEW_LAN: LAN, NEW_LAN6: LAN}),
    Change("an address makes way for another of the same subnet", f"{SECOND}; {FIRST_GOES}", reached=(NEIGHBOUR,)),
    Change("the first address goes, and the second is promoted", FIRST_GOES, before=SECOND),
    Change("the first address goes, and takes the second along",
           "sysctl net.ipv4.conf.all.promote_secondaries 0;"
           f"sysctl net.ipv4.conf.wlp192s0.promote_secondaries 0; {FIRST_GOES}",
           before=SECOND, ways={NEIGHBOUR: TUNNEL}, reached=()),
    Change("the last address goes", FIRST_GOES, ways={NEIGHBOUR: TUNNEL}, reached=(NEIGHBOUR6,)),
    Change("an IPv6 address goes", "addr del fd00:188::112/64 dev wlp192s0",
           ways={NEIGHBOUR6: TUNNEL}, reached=(NEIGHBOUR,)),
    Change("an address gets another metric", "addr change 192.168.188.112/24 dev wlp192s0 metric 50"),
    Change("a link goes down", LAN_GOES_DOWN, ways={NEIGHBOUR: TUNNEL, "10.77.0.1": "uplink0"},
           reached=("10.77.0.1", "fd00:77::1")),
    Change("a link is renamed, and gets another address",
           "link set dev wlp192s0 name wlan0; addr add 10.5.0.2/24 dev wlan0",
           ways={"192.168.188.9": "wlan0", NEW_LAN: "wlan0"}),
    Change("two links swap their names",
           "link set dev wlp192s0 name swap0; link set dev uplink0 name wlp192s0; link set dev swap0 name uplink0;"
           "addr add 10.5.0.2/24 dev uplink0; addr add 10.6.0.2/24 dev wlp192s0",
           ways={"192.168.188.9": "uplink0", NEW_LAN: "uplink0", "10.6.0.9": "wlp192s0"}),
    Change("a link is deleted", "link del dev wlp192s0",
           ways={NEIGHBOUR: TUNNEL, NEIGHBOUR6: TUNNEL}, reached=("10.77.0.1",)),
    Change("a link is deleted, and another takes its name",
           f"link del dev wlp192s0; link add name wlp192s0 type bridge; {LAN_COMES_UP};"
           "addr add 192.168.188.77/24 dev wlp192s0",
           ways={NEIGHBOUR: LAN, NEIGHBOUR6: TUNNEL}, reached=()),
    Change("the MTU of a link becomes too small for IPv6", "link set dev wlp192s0 mtu 1000", reached=(NEIGHBOUR,)),
    Change("a container's bridge goes", "link set dev port0 nomaster; link del dev port0; link del dev br0",
           before=BRIDGE, ways={"172.17.0.2": TUNNEL}),
    Change("the better of two ways into one subnet goes", "link set dev uplink0 down",
           before="addr add 192.168.188.77/24 dev uplink0 metric 100", ways={NEIGHBOUR: LAN}),
    Change("the first of two links in one subnet is deleted", "link del dev wlp192s0",
           before="addr add 192.168.188.77/24 dev uplink0 metric 600; addr add fd00:188::77/64 dev uplink0 nodad",
           ways={NEIGHBOUR: "uplink0", NEIGHBOUR6: "uplink0"}, reached=()),
    Change("a route to a device becomes a blackhole", "route replace blackhole 10.5.0.0/24",
           before=BY_HAND, ways={NEW_LAN: TUNNEL}),
    Change("a source goes, and the kernel strips it from main and from the copy",
           "addr del fd00:188::200/64 dev wlp192s0",
           before="addr add fd00:188::200/64 dev wlp192s0 nodad;"
           "-6 route add fd00:5::/64 dev wlp192s0 src fd00:188::200", ways={NEW_LAN6: LAN}),
    Change("a modem gets another peer",
           "addr add 10.64.64.2 peer 10.64.64.65/32 dev uplink0; addr del 10.64.64.1 peer 10.64.64.64/32 dev uplink0",
           before="addr add 10.64.64.1 peer 10.64.64.64/32 dev uplink0",
           ways={"10.64.64.64": TUNNEL, "10.64.64.65": "uplink0"}),
    Change("main is flushed", "route flush table main; -6 route flush table main",
           ways={NEIGHBOUR: TUNNEL}, reached=()),
    Change("the mirror is flushed, the VPN's routes too",
           f"route flush table {MIRROR}; -6 route flush table {MIRROR}", ways={"10.77.0.1": "uplink0"}),
    Change("a nexthop object goes, and its route with it", "nexthop del id 7", before=NEXTHOP, ways={NEW_LAN: TUNNEL}),
    Change("IPv6 is disabled on a link, and enabled again",
           "sysctl net.ipv6.conf.wlp192s0.disable_ipv6 1; sysctl net.ipv6.conf.wlp192s0.disable_ipv6 0;" + FIRST6),
    Change("the VPN gives back what was the LAN's", f"route del {WIDER}",
           before=f"route add {WIDER} proto static scope global"),
]  # fmt: skip


def perform(machine: Machine, lines: str) -> None:
    for words in map(str.split, lines.split(";")):
        if words[:1] == ["sysctl"]:
            machine.sysctl(*words[1:])
        elif words:
            machine.ip(*words)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name.replace(" ", "-"))
def test_the_mirror_follows(change: Change, machine: Machine, watch: Watch) -> None:
    perform(machine, change.before)
    daemon = watch()
    perform(machine, change.lines)
    daemon.wait_in_step()
    assert change.ways == {address: machine.way(address) for address in change.ways}
    assert set(change.reached) == {address for address in change.reached if machine.reaches(address)}
    assert [] == [line for line in daemon.complaints if not line.endswith(TOO_LATE)]


def test_a_link_takes_its_copies_to_another_namespace_and_is_served_again_when_it_is_back(
    machine: Machine, watch: Watch
) -> None:
    daemon = watch()
    machine.ip("link", "set", "dev", LAN, "netns", machine.neighbour.name)
    daemon.wait_in_step()
    assert ["10.77.0.0/24", "fd00:77::/64", "fe80::/64"] == oracle.destinations(machine)
    machine.neighbour.ip("link", "set", "dev", LAN, "netns", machine.name)
    machine.ip("link", "set", "dev", LAN, "up")
    machine.address(LAN, "192.168.188.112/24")
    daemon.wait_in_step()
    assert machine.reaches(NEIGHBOUR)


def test_a_link_without_carrier_keeps_its_copies_and_reaches_its_neighbour_later(
    machine: Machine, watch: Watch
) -> None:
    daemon = watch()
    machine.neighbour.ip("link", "set", "dev", "lan0", "down")
    wait_until(lambda: "NO-CARRIER" in machine.ip("link", "show", LAN), "the link has lost its carrier")
    daemon.wait_in_step()
    assert LAN == machine.way(NEIGHBOUR)
    machine.neighbour.ip("link", "set", "dev", "lan0", "up")
    daemon.wait_in_step()
    wait_until(lambda: machine.reaches(NEIGHBOUR), "the neighbour answers")


def test_the_lan_is_served_without_a_tunnel_and_beside_one_that_returns(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    machine.vpn.close()
    machine.address(LAN, "10.5.0.2/24")
    daemon.wait_in_step()
    assert "10.5.0.0/24" in oracle.destinations(machine)
    machine.tunnel(TUNNEL, "100.64.0.5/32")
    machine.tunnel_route("default", MIRROR)
    daemon.wait_in_step()
    assert [TUNNEL, LAN, LAN] == [machine.way(address) for address in ("8.8.8.8", NEIGHBOUR, NEW_LAN)]


def test_the_copies_move_to_a_tier_when_a_rule_looks_it_up_and_back(machine: Machine, watch: Watch) -> None:
    """A packet would look up the single table first, where nobody would keep the copies in step.

    But IPv6 packets look up nothing else until there is a rule for them, too.
    """
    daemon = watch()
    for prefix in ("default", "::/0"):
        machine.tunnel_route(prefix, TIER_INTERNET)
    machine.ip("rule", "add", "not", "fwmark", hex(MARK), "lookup", str(TIER_LAN), "pref", "200")
    daemon.wait_in_step()
    assert TIER_LAN == oracle.mirror_table(machine)
    wait_until(lambda: not any("." in dst for dst in oracle.destinations(machine)), "the IPv4 copies have moved", 5)
    assert [LAN, LAN] == [machine.way(NEIGHBOUR), machine.way(NEIGHBOUR6)]
    machine.ip("-6", "rule", "add", "not", "fwmark", hex(MARK), "lookup", str(TIER_LAN), "pref", "200")
    wait_until(lambda: oracle.destinations(machine) == [], "no copy is left in the single table", 5)
    assert [LAN, LAN] == [machine.way(NEIGHBOUR), machine.way(NEIGHBOUR6)]
    machine.batch(f"{option}rule del pref 200" for option in ("", "-6 "))
    daemon.wait_in_step()
    assert MIRROR == oracle.mirror_table(machine)
    assert [LAN, LAN] == [machine.way(NEIGHBOUR), machine.way(NEIGHBOUR6)]


@pytest.mark.parametrize("attempt", range(3))
def test_a_route_that_expires_loses_its_copy(attempt: int, machine: Machine, watch: Watch) -> None:
    """Several times: in the second around its end, `ip` prints no lifetime at all."""
    daemon = watch()
    machine.batch([f"-6 route add fd00:5::/64 dev {LAN} expires 1"])
    wait_until(lambda: machine.route("fd00:5::/64"), "the copy is there")
    wait_until(lambda: not machine.route("fd00:5::/64"), "the copy is gone", 10)
    assert LAN == machine.way(NEIGHBOUR6)
    assert [] == daemon.complaints


def test_its_own_changes_do_not_keep_it_busy(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    machine.address(LAN, "10.5.0.2/24")
    machine.address(LAN, "fd00:5::2/64")
    daemon.wait_in_step()
    before = daemon.counters()
    # Quiet is shown by the absence of passes in a while of many of them.
    with pytest.raises(AssertionError, match="not within"):
        wait_until(lambda: daemon.counters()["passes"] > before["passes"] + 2, "it runs again and again", 0.3)


def test_in_a_storm_no_route_with_an_mtu_is_taken_for_locked(machine: Machine, watch: Watch) -> None:
    """Only the text of `ip` shows a lock, and it is read later than the JSON: a route may be gone by then."""
    daemon = watch()
    for mtu in range(1300, 1330):
        lines = [f"route replace 10.5.{i}.0/24 dev {LAN} mtu {mtu}" for i in range(100)]
        machine.batch([*lines, *[f"route del 10.5.{i}.0/24" for i in range(0, 100, 2)]])
    daemon.wait_in_step()
    assert [] == daemon.says("cannot be copied exactly")


def test_a_change_in_a_storm_is_served_before_the_storm_ends(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    machine.address(LAN, "10.5.0.2/24")
    for i in range(3000):
        if i % 100 == 0:
            machine.batch(f"route replace 10.9.0.0/24 dev {LAN} metric {metric}" for metric in range(1, 20))
            if machine.route("10.5.0.0/24"):
                break
    assert machine.route("10.5.0.0/24"), "not while the storm was on"
    daemon.wait_in_step()
