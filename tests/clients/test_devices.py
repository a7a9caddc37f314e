"""Devices that come and go under a running daemon: a bridge with its veth, and two NICs on one subnet."""

import pytest

from tests.clients.witness import Witness
from tests.netns.namespace import LAN, TUNNEL, Machine, wait_until

SUBNET, PRINTER = "192.168.188.0/24", "192.168.188.1"
SUBNET_V6, PRINTER_V6 = "fd00:188::/64", "fd00:188::1"
BRIDGED, CONTAINER = "172.17.0.0/16", "172.17.0.2"
BRIDGED_V6, CONTAINER_V6 = "fd00:17::/64", "fd00:17::2"


def test_a_bridge_and_its_veth_that_appear_and_go(watched: Machine, witness: Witness) -> None:
    """A container's network is reached for as long as it is there, and then no copy of it stays."""
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
        wait_until(lambda: machine.route(BRIDGED_V6), "so is that of IPv6")
        wait_until(machine.in_step, "all copies are right")
        assert witness.sees("neighbour, from 172.17.0.1", CONTAINER)
        assert witness.sees("neighbour, from fd00:17::1", CONTAINER_V6)

        machine.ip("link", "del", "veth-c0")
        wait_until(lambda: "linkdown" in machine.route(BRIDGED, "main")[0], "the bridge has noticed")
        wait_until(machine.in_step, "main keeps the route, and so do the copies")
        assert 1 == len(machine.route(BRIDGED))
        assert "br-c0" == machine.way(CONTAINER)
        assert not witness.path(CONTAINER).startswith(("neighbour", "tunnel"))

        machine.ip("link", "del", "br-c0")
        wait_until(lambda: not machine.route(BRIDGED) and not machine.route(BRIDGED_V6), "the copies have gone")
        wait_until(machine.in_step, "and nothing else")
    assert "tunnel" == witness.path(CONTAINER)
    assert "tunnel" == witness.path(CONTAINER_V6)
    assert witness.sees("neighbour, from 192.168.188.112", PRINTER)


@pytest.fixture
def two_nics(watched: Machine) -> Machine:
    """A machine with both a cable and a radio to one switch, which the printer is at."""
    neighbour = watched.neighbour
    neighbour.ip("addr", "flush", "dev", "lan0", "scope", "global")
    neighbour.bridge("switch0")
    neighbour.ip("link", "set", "switch0", "address", "02:00:00:00:00:01")  # else it changes with the ports
    watched.veth("eth7", peer="lan7", to=neighbour)
    for port in ("lan0", "lan7"):
        neighbour.ip("link", "set", port, "master", "switch0")
    for address in (f"{PRINTER}/24", f"{PRINTER_V6}/64"):
        neighbour.address("switch0", address)
    return watched


@pytest.mark.parametrize("going", ["set eth7 down", "del eth7"])
@pytest.mark.parametrize("metric", ["100", "600"], ids=["better", "equal"])
def test_two_nics_on_one_subnet_of_which_the_better_goes(
    two_nics: Machine, witness: Witness, metric: str, going: str
) -> None:
    """What is left serves the subnet; with equal metrics the kernel prefers the first, and so do the copies."""
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
    wait_until(lambda: machine.route(SUBNET) == [radio], "the copy of what went has gone")
    wait_until(machine.in_step, "all copies are right")
    assert 1 == len(machine.route(SUBNET_V6))
    assert witness.sees("neighbour, from 192.168.188.112", PRINTER)
    assert witness.sees("neighbour, from fd00:188::112", PRINTER_V6)

    machine.ip("link", "set", LAN, "down")
    wait_until(lambda: not machine.route(SUBNET) and not machine.route(SUBNET_V6), "no copy is left")
    assert machine.in_step()
    assert "tunnel" == witness.path(PRINTER)
    assert "tunnel" == witness.path(PRINTER_V6)
    assert TUNNEL == machine.way("8.8.8.8")
