"""Devices that appear and disappear while the daemon runs: a bridge with its veth, and two NICs on one subnet."""

import pytest

from tests.netns.namespace import LAN, TUNNEL, Machine, wait_until
from tests.netns.witness import Witness

SUBNET, PRINTER = "192.168.188.0/24", "192.168.188.1"
SUBNET_V6, PRINTER_V6 = "fd00:188::/64", "fd00:188::1"
BRIDGED, CONTAINER = "172.17.0.0/16", "172.17.0.2"
BRIDGED_V6, CONTAINER_V6 = "fd00:17::/64", "fd00:17::2"


def test_the_copies_of_a_bridge_appear_and_disappear_with_it(watched: Machine, witness: Witness) -> None:
    """Packets reach a container's network while it exists. Afterwards no copy of its routes is left."""
    machine = watched
    for _ in range(2):
        assert "tunnel" == witness.path(CONTAINER)
        assert "tunnel" == witness.path(CONTAINER_V6)

        machine.bridge("br-c0", "172.17.0.1/16", "fd00:17::1/64")
        machine.veth("veth-c0", peer="eth-c0", to=machine.neighbour)
        machine.ip("link", "set", "veth-c0", "master", "br-c0")
        machine.neighbour.address("eth-c0", f"{CONTAINER}/16")
        machine.neighbour.address("eth-c0", f"{CONTAINER_V6}/64")
        expected = [f"{BRIDGED} dev br-c0 proto kernel scope link src 172.17.0.1"]
        wait_until(lambda: machine.route(BRIDGED, "main") == expected, "the bridge has its route")  # noqa: B023
        wait_until(lambda: machine.route(BRIDGED) == expected, "the bridge's route is copied")  # noqa: B023
        wait_until(lambda: machine.route(BRIDGED_V6), "the bridge's IPv6 route is copied")
        wait_until(machine.in_step, "all copies are right")
        assert witness.sees("neighbour, from 172.17.0.1", CONTAINER)
        assert witness.sees("neighbour, from fd00:17::1", CONTAINER_V6)

        machine.ip("link", "del", "veth-c0")
        wait_until(lambda: "linkdown" in machine.route(BRIDGED, "main")[0], "the bridge has lost its carrier")
        wait_until(machine.in_step, "the copies are the same as in main, which keeps the route")
        assert 1 == len(machine.route(BRIDGED))
        assert "br-c0" == machine.way(CONTAINER)
        assert not witness.path(CONTAINER).startswith(("neighbour", "tunnel"))

        machine.ip("link", "del", "br-c0")
        wait_until(
            lambda: not machine.route(BRIDGED) and not machine.route(BRIDGED_V6),
            "the copies are deleted",
        )
        wait_until(machine.in_step, "all other copies are right")
    assert "tunnel" == witness.path(CONTAINER)
    assert "tunnel" == witness.path(CONTAINER_V6)
    assert witness.sees("neighbour, from 192.168.188.112", PRINTER)


@pytest.fixture
def two_nics(watched: Machine) -> Machine:
    """A machine with two NICs, both connected to the printer's switch."""
    neighbour = watched.neighbour
    neighbour.ip("addr", "flush", "dev", "lan0", "scope", "global")
    neighbour.bridge("switch0")
    neighbour.ip("link", "set", "switch0", "address", "02:00:00:00:00:01")  # it would change with the ports
    watched.veth("eth7", peer="lan7", to=neighbour)
    for port in ("lan0", "lan7"):
        neighbour.ip("link", "set", port, "master", "switch0")
    for address in (f"{PRINTER}/24", f"{PRINTER_V6}/64"):
        neighbour.address("switch0", address)
    return watched


@pytest.mark.parametrize("going", ["set eth7 down", "del eth7"])
@pytest.mark.parametrize("metric", ["100", "600"], ids=["better", "equal"])
def test_when_one_of_two_nics_on_a_subnet_disappears_the_other_takes_over(
    two_nics: Machine, witness: Witness, metric: str, going: str
) -> None:
    """With equal metrics the kernel uses the route that was added first, and the copies are in the same order."""
    machine = two_nics
    machine.address("eth7", "192.168.188.113/24", "metric", metric)
    machine.address("eth7", "fd00:188::113/64", "metric", metric)
    radio = f"{SUBNET} dev {LAN} proto kernel scope link src 192.168.188.112 metric 600"
    cable = f"{SUBNET} dev eth7 proto kernel scope link src 192.168.188.113 metric {metric}"
    both = [cable, radio] if metric == "100" else [radio, cable]
    wait_until(lambda: machine.route(SUBNET) == both, "both routes are copied, in main's order")
    wait_until(machine.in_step, "all copies are right")
    assert witness.sees(f"neighbour, from 192.168.188.{113 if metric == '100' else 112}", PRINTER)
    assert witness.sees("neighbour, from fd00:188::11", PRINTER_V6)

    machine.ip("link", *going.split())
    wait_until(lambda: machine.route(SUBNET) == [radio], "only the copy of the other NIC's route is left")
    wait_until(machine.in_step, "all copies are right")
    assert 1 == len(machine.route(SUBNET_V6))
    assert witness.sees("neighbour, from 192.168.188.112", PRINTER)
    assert witness.sees("neighbour, from fd00:188::112", PRINTER_V6)

    machine.ip("link", "set", LAN, "down")
    wait_until(lambda: not machine.route(SUBNET) and not machine.route(SUBNET_V6), "no copy is left")
    wait_until(machine.in_step, "all copies are right")
    assert "tunnel" == witness.path(PRINTER)
    assert "tunnel" == witness.path(PRINTER_V6)
    assert TUNNEL == machine.way("8.8.8.8")
