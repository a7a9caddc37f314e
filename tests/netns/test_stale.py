"""What the kernel leaves behind is right after `sync`. tests/watch/test_following.py has many more changes."""

import pytest

from tests.netns.namespace import LAN, TUNNEL, Machine, wait_until

SUBNET = "192.168.188.0/24"
PRINTER, PRINTER_V6 = "192.168.188.1", "fd00:188::1"
CONNECTED = f"{SUBNET} dev {LAN} proto kernel scope link"
THE_ADDRESS_GOES = f"addr del 192.168.188.112/24 dev {LAN}"


@pytest.fixture
def synced(machine: Machine) -> Machine:
    """A machine that is in step, whose LAN answers under the tunnel."""
    machine.fz("sync")
    assert machine.in_step()
    assert machine.reaches(PRINTER) and machine.reaches(PRINTER_V6)
    return machine


def assert_healed(machine: Machine) -> None:
    """After a sync the printer answers, and everything else goes through the tunnel."""
    machine.fz("sync")
    assert machine.in_step()
    for printer in (PRINTER, PRINTER_V6):
        wait_until(lambda printer=printer: machine.reaches(printer), f"{printer} answers")
    assert [TUNNEL, TUNNEL] == [machine.way(address) for address in ("8.8.8.8", "2001:db8::1")]


def test_before_the_first_sync_packets_for_the_lan_vanish_in_the_tunnel(machine: Machine) -> None:
    assert not machine.in_step()
    assert TUNNEL == machine.way(PRINTER)
    assert not machine.reaches(PRINTER)
    assert PRINTER in list(machine.vpn.destinations())
    assert_healed(machine)
    assert PRINTER not in list(machine.vpn.destinations())


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


def test_an_interface_that_is_renamed_while_it_is_up_needs_nothing(synced: Machine) -> None:
    if "busy" in synced.ip("link", "set", LAN, "name", "lan7", check=False):
        pytest.skip("this kernel renames no interface that is up")
    assert "" == synced.fz("plan")
    assert_healed(synced)


def test_a_tunnel_that_went_away_leaves_the_copies_in_step(synced: Machine) -> None:
    synced.vpn.close()
    wait_until(lambda: TUNNEL not in synced.ip("link"), "the tunnel is gone")
    synced.fz("sync")
    assert synced.in_step(without=())
    assert LAN == synced.way(PRINTER)
