"""A real DHCP server gives a real client other addresses, while the interface stays up."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients.programs import Program, need
from tests.netns.namespace import LAN, TUNNEL, Machine, wait_until
from tests.netns.witness import Witness
from tests.watch import oracle

SUBNET, ROUTER = "192.168.188.0/24", "192.168.188.1"
OTHER_SUBNET, OTHER_ROUTER = "10.20.30.0/24", "10.20.30.1"

# The script that the client runs for each event. NetworkManager and systemd-networkd do `new first`.
ORDERS = {
    "new first": """\
case $1 in bound | renew)
    ip -4 addr replace "$ip/$mask" metric 600 dev "$interface"
    ip -o -4 addr show dev "$interface" | while read -r _ _ _ old _; do
        [ "$old" = "$ip/$mask" ] || ip -4 addr del "$old" dev "$interface"
    done ;;
esac
""",
    "old first": """\
case $1 in
deconfig) ip -4 addr flush dev "$interface" ;;
bound | renew) ip -4 addr replace "$ip/$mask" metric 600 dev "$interface" ;;
esac
""",
}


class Server:
    """dnsmasq at the neighbour, with one client; the test chooses the client's address."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self._hosts = folder / "hosts"
        self._mac = machine.ip_json("link", "show", LAN)[0]["address"]
        machine.neighbour.address("lan0", f"{OTHER_ROUTER}/24")
        argv = [
            need("dnsmasq", "dnsmasq-base"), "--no-daemon", "--conf-file=/dev/null", "--port=0",
            "--interface=lan0", "--bind-interfaces", "--pid-file", "--no-ping",
            "--dhcp-authoritative", "--leasefile-ro", f"--dhcp-hostsfile={self._hosts}",
            "--dhcp-range=192.168.188.0,static,255.255.255.0", "--dhcp-range=10.20.30.0,static,255.255.255.0",
        ]  # fmt: skip
        self.program = Program(machine.neighbour, argv, folder / "dnsmasq.log")

    def lease(self, address: str) -> None:
        """Give this address from the next request on. For a server that does not run yet."""
        self._hosts.write_text(f"{self._mac},{address}\n")

    def change(self, address: str) -> None:
        """Give this address from the next request on."""
        known = self.program.words.count(str(self._hosts))
        self.lease(address)
        self.program.signal(signal.SIGHUP)
        wait_until(lambda: self.program.words.count(str(self._hosts)) > known, "dnsmasq has read its hosts again")


def addresses(machine: Machine) -> list[str]:
    """The IPv4 addresses on the LAN interface."""
    links = machine.ip_json("-4", "addr", "show", "dev", LAN)
    return [f"{found['local']}/{found['prefixlen']}" for link in links for found in link.get("addr_info", [])]


@pytest.fixture(params=ORDERS)
def renew(request: pytest.FixtureRequest, watched: Machine, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Makes the client renew its lease and get another address. Its first lease is the address that it already has."""
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\nset -eu\n{ORDERS[request.param]}")
    script.chmod(0o755)
    busybox = need("busybox", "busybox")
    argv = [busybox, "udhcpc", "-f", "-i", LAN, "-s", str(script), "-t", "20", "-T", "1", "-A", "1"]
    server = Server(watched, tmp_path)
    server.lease("192.168.188.112")
    with ExitStack() as stack:
        stack.enter_context(server.program)
        client = stack.enter_context(Program(watched, argv, tmp_path / "udhcpc.log"))
        wait_until(lambda: "192.168.188.112 obtained" in client.words, "the client has a lease")
        wait_until(lambda: addresses(watched) == ["192.168.188.112/24"], "the client has set its address")

        def made(address: str) -> None:
            server.change(address)
            client.signal(signal.SIGUSR1)
            wait_until(lambda: addresses(watched) == [f"{address}/24"], f"the client has got {address}")

        yield made


@pytest.mark.long
def test_copies_and_packets_follow_a_lease_to_another_address_and_subnet(
    renew: Callable[[str], None], watched: Machine, witness: Witness
) -> None:
    """Packets to a subnet that is no longer local go into the tunnel."""
    machine = watched
    assert oracle.in_step(machine)
    assert witness.sees("neighbour, from 192.168.188.112", ROUTER)
    assert "tunnel" == witness.path(OTHER_ROUTER)
    here, there = (SUBNET, ROUTER), (OTHER_SUBNET, OTHER_ROUTER)
    for address, (subnet, router), (left, its_router) in [
        ("192.168.188.50", here, there),
        ("10.20.30.40", there, here),
        ("192.168.188.112", here, there),
    ]:
        renew(address)
        copy = f"{subnet} dev {LAN} proto kernel scope link src {address} metric 600"
        wait_until(lambda: machine.route(subnet) == [copy], f"{subnet} is copied, with the new source")  # noqa: B023
        wait_until(lambda: not machine.route(left), f"{left} is not copied")  # noqa: B023
        wait_until(lambda: oracle.in_step(machine), "all copies are right")
        assert f"neighbour, from {address}" == witness.path(router)
        assert "tunnel" == witness.path(its_router)
    assert TUNNEL == machine.way("8.8.8.8")
