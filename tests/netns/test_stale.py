"""The kernel leaves copies behind, or removes them. After `sync`, the copies are right again."""

from typing import NamedTuple

import pytest

from tests.netns.namespace import LAN, MIRROR, TUNNEL, Machine, wait_until

SUBNET, SUBNET_V6 = "192.168.188.0/24", "fd00:188::/64"
PRINTER, PRINTER_V6 = "192.168.188.1", "fd00:188::1"
CONNECTED = f"{SUBNET} dev {LAN} proto kernel scope link"
THE_ADDRESS_GOES = f"addr del 192.168.188.112/24 dev {LAN}"
PRINTERS = {"4": PRINTER, "6": PRINTER_V6}


@pytest.fixture
def synced(machine: Machine) -> Machine:
    """A machine that is in step, whose LAN answers under the tunnel."""
    machine.fz("sync")
    assert machine.in_step()
    assert machine.reaches(PRINTER) and machine.reaches(PRINTER_V6)
    return machine


def assert_healed(machine: Machine, lan: str = "46") -> None:
    """After a sync the printer answers in these IP versions, and everything else goes through the tunnel."""
    machine.fz("sync")
    assert machine.in_step()
    for version, printer in PRINTERS.items():
        if version in lan:
            wait_until(lambda printer=printer: machine.reaches(printer), f"{printer} answers")
        else:
            assert TUNNEL == machine.way(printer)
    assert [TUNNEL, TUNNEL] == [machine.way(address) for address in ("8.8.8.8", "2001:db8::1")]


def test_before_the_first_sync_packets_for_the_lan_vanish_in_the_tunnel(machine: Machine) -> None:
    assert not machine.in_step()
    assert TUNNEL == machine.way(PRINTER)
    assert not machine.reaches(PRINTER)
    assert PRINTER in list(machine.vpn.destinations())
    assert_healed(machine)
    assert PRINTER not in list(machine.vpn.destinations())


class Change(NamedTuple):
    """Lines of `ip`; of which IP versions the kernel keeps a copy until the sync; in which the LAN answers then."""

    lines: list[str]
    kept: str = "46"
    lan: str = "46"


CHANGES = {
    "the last address goes and comes back": Change(
        [THE_ADDRESS_GOES, f"addr add 192.168.188.112/24 dev {LAN} metric 600"], kept="6"
    ),
    "another network": Change([f"addr add 10.20.0.9/16 dev {LAN}", THE_ADDRESS_GOES], lan="6"),
    "the IPv6 address goes": Change([f"-6 addr del fd00:188::112/64 dev {LAN}"], lan="4"),
    "the route is deleted": Change([f"route del {SUBNET} dev {LAN}"], lan="6"),
    "the copies are deleted": Change(
        [f"route del {SUBNET} table {MIRROR}", f"-6 route del {SUBNET_V6} table {MIRROR}"], kept=""
    ),
    "the device is deleted": Change([f"link del {LAN}"], "", ""),
    "the device goes down": Change([f"link set {LAN} down"], "", ""),
    "the device is moved": Change([f"link set {LAN} netns {{neighbour}}"], "", ""),
    "metric": Change([f"route del {SUBNET} dev {LAN}", f"route add {CONNECTED} src 192.168.188.112 metric 100"]),
    "mtu": Change([f"route change {CONNECTED} src 192.168.188.112 metric 600 mtu 1400"]),
    "mtu of IPv6": Change([f"-6 route change {SUBNET_V6} dev {LAN} proto kernel metric 256 mtu 1400"]),
    "metric of IPv6": Change([f"-6 route del {SUBNET_V6} dev {LAN}", f"-6 route add {SUBNET_V6} dev {LAN} metric 100"]),
    "protocol": Change([f"route change {SUBNET} dev {LAN} proto dhcp scope link src 192.168.188.112 metric 600"]),
    "source": Change([f"route change {CONNECTED} metric 600"]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_after_a_sync_the_copies_are_right_again(change: Change, synced: Machine) -> None:
    synced.batch(line.format(neighbour=synced.neighbour.name) for line in change.lines)
    assert not synced.in_step() or change.kept == change.lan == ""
    copies = {"4": synced.route(SUBNET), "6": synced.route(SUBNET_V6)}
    assert change.kept == "".join(version for version, copy in copies.items() if copy)
    assert_healed(synced, change.lan)


@pytest.mark.parametrize(
    ("addresses", "source"),
    [
        (["192.168.77.5/24", "192.168.188.50/24 metric 600"], 50),
        (["192.168.188.113/24 metric 600"], 113),
    ],
    ids=["an address is replaced while another stays", "a DHCP renewal promotes the new address"],
)
def test_a_copy_with_a_source_that_is_gone_breaks_the_lan_until_a_sync(
    addresses: list[str], source: int, synced: Machine
) -> None:
    first, *later = [f"addr add {address} dev {LAN}" for address in addresses]
    synced.batch([first, THE_ADDRESS_GOES, *later])
    assert [f"{CONNECTED} src 192.168.188.112 metric 600"] == synced.route(SUBNET)
    assert not synced.reaches(PRINTER)
    assert_healed(synced)
    assert [f"{CONNECTED} src 192.168.188.{source} metric 600"] == synced.route(SUBNET)


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


def test_an_ipv6_source_that_the_kernel_strips_from_main_and_copy(synced: Machine) -> None:
    synced.address(LAN, "fd00:188::200/64")
    synced.batch([f"-6 route add fd00:5::/64 dev {LAN} src fd00:188::200"])
    synced.fz("sync")
    synced.ip("-6", "addr", "del", "fd00:188::200/64", "dev", LAN)
    assert "src" not in synced.route("fd00:5::/64", "main")[0]
    assert_healed(synced)


@pytest.mark.parametrize("name", [LAN, "lan7"])
def test_a_link_that_went_down_and_up_perhaps_with_another_name(name: str, synced: Machine) -> None:
    synced.ip("link", "set", LAN, "down")
    if name != LAN:
        synced.ip("link", "set", LAN, "name", name)
    synced.ip("link", "set", name, "up")
    synced.address(name, "fd00:188::112/64")  # IPv6 addresses do not survive it
    # Connected IPv6 routes come when the link is ready.
    wait_until(lambda: synced.route(SUBNET, "main") and synced.route(SUBNET_V6, "main"), "main's connected routes")
    wait_until(lambda: len(synced.route("fe80::/64", "main")) == 3, "all devices have their link-local route")
    assert [] == synced.route(SUBNET), "nobody brings the copy back"
    assert TUNNEL == synced.way(PRINTER)
    assert_healed(synced)
    assert name == synced.way(PRINTER)


def test_an_interface_that_is_renamed_while_it_is_up_needs_nothing(synced: Machine) -> None:
    if "busy" in synced.ip("link", "set", LAN, "name", "lan7", check=False):
        pytest.skip("this kernel renames no interface that is up")
    assert "" == synced.fz("plan")
    assert_healed(synced)


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
    assert_healed(synced, "4")


def test_a_tunnel_that_went_away_leaves_the_copies_in_step(synced: Machine) -> None:
    synced.vpn.close()
    wait_until(lambda: TUNNEL not in synced.ip("link"), "the tunnel is gone")
    synced.fz("sync")
    assert synced.in_step(without=())
    assert LAN == synced.way(PRINTER)
