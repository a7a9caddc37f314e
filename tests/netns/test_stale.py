"""The kernel leaves copies behind, or removes them. After `sync`, the copies are right again."""

import pytest

from tests.netns.namespace import LAN, TUNNEL, Machine, wait_until

SUBNET, SUBNET_V6 = "192.168.188.0/24", "fd00:188::/64"
PRINTER, PRINTER_V6 = "192.168.188.1", "fd00:188::1"


@pytest.fixture
def synced(machine: Machine) -> Machine:
    """A machine that is in step, whose LAN answers under the tunnel."""
    machine.fz("sync")
    assert machine.in_step()
    assert machine.reaches(PRINTER) and machine.reaches(PRINTER_V6)
    return machine


def assert_healed(machine: Machine) -> None:
    """After a sync the printer answers, and the internet still goes through the tunnel."""
    machine.fz("sync")
    assert machine.in_step()
    wait_until(lambda: machine.reaches(PRINTER), "the printer answers")
    wait_until(lambda: machine.reaches(PRINTER_V6), "the printer answers over IPv6")
    assert TUNNEL == machine.way("8.8.8.8")
    assert TUNNEL == machine.way("2001:db8::1")


def test_before_the_first_sync_packets_for_the_lan_vanish_in_the_tunnel(machine: Machine) -> None:
    assert not machine.in_step()
    assert TUNNEL == machine.way(PRINTER)
    assert not machine.reaches(PRINTER)
    assert PRINTER in list(machine.vpn.destinations())
    assert_healed(machine)
    assert PRINTER not in list(machine.vpn.destinations())


def test_an_address_that_is_replaced_while_another_stays(synced: Machine) -> None:
    synced.address(LAN, "192.168.77.5/24")  # the device keeps an address, so the kernel keeps the copies
    synced.ip("addr", "del", "192.168.188.112/24", "dev", LAN)
    synced.address(LAN, "192.168.188.50/24", "metric", "600")
    assert [f"{SUBNET} dev {LAN} proto kernel scope link src 192.168.188.112 metric 600"] == synced.route(SUBNET)
    assert not synced.reaches(PRINTER), "the copy has a dead source"
    assert_healed(synced)
    assert [f"{SUBNET} dev {LAN} proto kernel scope link src 192.168.188.50 metric 600"] == synced.route(SUBNET)


def test_a_dhcp_renewal_that_promotes_the_new_address(synced: Machine) -> None:
    synced.address(LAN, "192.168.188.113/24", "metric", "600")
    synced.ip("addr", "del", "192.168.188.112/24", "dev", LAN)
    assert "src 192.168.188.112" in synced.route(SUBNET)[0]
    assert "src 192.168.188.113" in synced.route(SUBNET, "main")[0]
    assert not synced.reaches(PRINTER), "the copy has a dead source"
    assert_healed(synced)
    assert "src 192.168.188.113" in synced.route(SUBNET)[0]


def test_a_modem_that_gets_another_peer(synced: Machine) -> None:
    synced.tunnel("ppp0")
    synced.ip("addr", "add", "10.64.64.1", "peer", "10.64.64.64/32", "dev", "ppp0")
    synced.fz("sync")
    assert "ppp0" == synced.way("10.64.64.64")
    synced.ip("addr", "add", "10.64.64.2", "peer", "10.64.64.65/32", "dev", "ppp0")
    synced.ip("addr", "del", "10.64.64.1", "peer", "10.64.64.64/32", "dev", "ppp0")
    assert 1 == len(synced.route("10.64.64.64")), "the copy outlives its original"
    synced.fz("sync")
    assert ([], 1) == (synced.route("10.64.64.64"), len(synced.route("10.64.64.65")))
    assert synced.in_step()


def test_an_ipv6_address_that_is_removed(synced: Machine) -> None:
    synced.ip("-6", "addr", "del", "fd00:188::112/64", "dev", LAN)
    assert [] == synced.route(SUBNET_V6, "main")
    assert 1 == len(synced.route(SUBNET_V6)), "the copy outlives its address"
    assert LAN == synced.way(PRINTER_V6)
    synced.fz("sync")
    assert synced.in_step()
    assert [] == synced.route(SUBNET_V6)
    assert TUNNEL == synced.way(PRINTER_V6)


def test_an_ipv6_source_that_the_kernel_strips_from_main_and_copy(synced: Machine) -> None:
    synced.address(LAN, "fd00:188::200/64")
    synced.batch([f"-6 route add fd00:5::/64 dev {LAN} src fd00:188::200"])
    synced.fz("sync")
    synced.ip("-6", "addr", "del", "fd00:188::200/64", "dev", LAN)
    assert "src" not in synced.route("fd00:5::/64", "main")[0]
    assert_healed(synced)


def test_a_link_that_went_down_and_up(synced: Machine) -> None:
    synced.ip("link", "set", LAN, "down")
    assert [] == synced.route(SUBNET)
    synced.ip("link", "set", LAN, "up")
    synced.address(LAN, "fd00:188::112/64")  # IPv6 addresses do not survive it
    wait_until(lambda: synced.route(SUBNET, "main"), "main's connected route is back")
    assert [] == synced.route(SUBNET), "nobody brings the copy back"
    assert TUNNEL == synced.way(PRINTER)
    # Connected IPv6 routes come when the link is ready.
    wait_until(lambda: synced.route(SUBNET_V6, "main"), "main's connected IPv6 route is back")
    wait_until(lambda: len(synced.route("fe80::/64", "main")) == 3, "all devices have their link-local route")
    assert_healed(synced)


def test_an_interface_that_is_renamed(synced: Machine) -> None:
    synced.ip("link", "set", LAN, "down")
    synced.ip("link", "set", LAN, "name", "lan7")
    synced.ip("link", "set", "lan7", "up")
    synced.address("lan7", "fd00:188::112/64")
    wait_until(lambda: synced.route(SUBNET_V6, "main"), "main's connected routes are back")
    wait_until(lambda: len(synced.route("fe80::/64", "main")) == 3, "all devices have their link-local route")
    assert [] == synced.route(SUBNET)
    assert_healed(synced)
    assert "lan7" == synced.way(PRINTER)


def test_an_interface_that_is_renamed_while_it_is_up_needs_nothing(synced: Machine) -> None:
    if "busy" in synced.ip("link", "set", LAN, "name", "lan7", check=False):
        pytest.skip("this kernel renames no interface that is up")
    assert "" == synced.fz("plan")
    assert_healed(synced)


def test_a_route_that_was_deleted_by_hand(synced: Machine) -> None:
    synced.batch([f"route del {SUBNET} dev {LAN}"])
    assert 1 == len(synced.route(SUBNET)), "the copy outlives its original"
    synced.fz("sync")
    assert [] == synced.route(SUBNET)
    assert TUNNEL == synced.way(PRINTER)


@pytest.mark.parametrize("words", ["link del {}", "link set {} down", "link set {} netns {neighbour}"])
def test_an_interface_that_goes_away(words: str, synced: Machine) -> None:
    synced.batch([words.format(LAN, neighbour=synced.neighbour.name)])
    assert [] == synced.route(SUBNET, "main")
    synced.fz("sync")
    assert synced.in_step()
    assert [TUNNEL, TUNNEL] == [synced.way(PRINTER), synced.way(PRINTER_V6)]


def test_a_copy_that_somebody_deleted(synced: Machine) -> None:
    synced.batch([f"route del {SUBNET} table 539098368", "-6 route del fd00:188::/64 table 539098368"])
    assert TUNNEL == synced.way(PRINTER)
    assert_healed(synced)


CONNECTED = f"{SUBNET} dev {LAN} proto kernel scope link"
CHANGES = {
    "metric": [f"route del {SUBNET} dev {LAN}", f"route add {CONNECTED} src 192.168.188.112 metric 100"],
    "mtu": [f"route change {CONNECTED} src 192.168.188.112 metric 600 mtu 1400"],
    "mtu of IPv6": [f"-6 route change {SUBNET_V6} dev {LAN} proto kernel metric 256 mtu 1400"],
    "metric of IPv6": [f"-6 route del {SUBNET_V6} dev {LAN}", f"-6 route add {SUBNET_V6} dev {LAN} metric 100"],
    "protocol": [f"route change {SUBNET} dev {LAN} proto dhcp scope link src 192.168.188.112 metric 600"],
    "source": [f"route change {CONNECTED} metric 600"],
}


@pytest.mark.parametrize("lines", CHANGES.values(), ids=CHANGES.keys())
def test_a_route_of_main_that_changed(lines: list[str], synced: Machine) -> None:
    synced.batch(lines)
    assert not synced.in_step()
    assert_healed(synced)


def test_the_last_address_of_a_device(synced: Machine) -> None:
    synced.ip("addr", "del", "192.168.188.112/24", "dev", LAN)
    assert [] == synced.route(SUBNET)
    synced.address(LAN, "192.168.188.112/24", "metric", "600")
    assert [] == synced.route(SUBNET), "the address is back, the copy is not"
    assert_healed(synced)


def test_a_network_that_is_exchanged_for_another(synced: Machine) -> None:
    synced.address(LAN, "10.20.0.9/16")
    synced.ip("addr", "del", "192.168.188.112/24", "dev", LAN)
    synced.fz("sync")
    assert synced.in_step()
    assert [] == synced.route(SUBNET)
    assert LAN == synced.way("10.20.255.1")
    assert TUNNEL == synced.way(PRINTER)


def test_a_nexthop_object_that_moves_to_another_device_and_is_deleted(synced: Machine) -> None:
    synced.batch([f"nexthop add id 7 dev {LAN}", "route add 10.30.0.0/16 nhid 7 scope link"])
    for words, way in (("", LAN), ("nexthop replace id 7 dev uplink0", "uplink0"), ("nexthop del id 7", TUNNEL)):
        synced.batch([words] if words else [])
        synced.fz("sync")
        assert synced.in_step()
        assert way == synced.way("10.30.0.1")


def test_ipv6_that_is_switched_off_on_the_lan(synced: Machine) -> None:
    synced.sysctl(f"net.ipv6.conf.{LAN}.disable_ipv6", 1)
    wait_until(lambda: not synced.route(SUBNET_V6, "main"), "main's IPv6 route is gone")
    synced.fz("sync")
    assert synced.in_step()
    assert synced.reaches(PRINTER)


def test_a_tunnel_that_went_away_leaves_the_copies_in_step(synced: Machine) -> None:
    synced.vpn.close()
    wait_until(lambda: TUNNEL not in synced.ip("link"), "the tunnel is gone")
    synced.fz("sync")
    assert synced.in_step(without=())
    assert LAN == synced.way(PRINTER)
