"""A VPN client copies LAN routes itself: a placeholder takes the place of each copy that the settings refuse."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.netns.namespace import LAN, MARK, MIRROR, TIER_LAN, TUNNEL, Machine, repeating, wait_until
from tests.watch.conftest import Watch

DENIED = "192.168.188.0/24"
SETTINGS = {
    "deny": f'[lan]\ndeny = ["{DENIED}"]\n',
    "trust": '[lan]\ntrust = "private"\n',
    "interfaces": '[lan]\ninterfaces = ["uplink0"]\n',
}
PUBLIC = "203.0.113.0/24"
ROUNDS = 10


def table_of_copies(machine: Machine, tiered: bool) -> int:
    """Of the layout, which the machine has from now on."""
    if tiered:
        machine.tiers()
    return TIER_LAN if tiered else MIRROR


class Client:
    """Copies the link-scoped routes of main as Firezone's client does: it only adds, and EEXIST is no error."""

    def __init__(self, machine: Machine, table: int) -> None:
        self._machine = machine
        self._table = table
        self.rounds = 0

    def copy(self) -> None:
        for route in self._machine.routes("inet", "main"):
            if "scope link" in route and TUNNEL not in route:
                self._machine.ip("route", "add", *route.split(), "table", str(self._table), check=False)
        self.rounds += 1

    @contextmanager
    def at_work(self) -> Iterator["Client"]:
        """It copies again and again, so no event escapes it."""
        with repeating(self.copy, 0.02):
            yield self

    def wait(self) -> None:
        """Until it has copied often."""
        first = self.rounds
        wait_until(lambda: self.rounds > first + ROUNDS, "the client has copied")


@pytest.mark.parametrize(
    ("setting", "tiered", "metrics"),
    [
        *[("deny", False, ""), ("trust", True, ""), ("trust", False, "mtu lock 1400 advmss 1000")],
        ("interfaces", True, ""),
    ],
)
def test_a_refused_copy_that_the_client_adds_gives_way_to_a_placeholder_without_a_fight(
    setting: str, tiered: bool, metrics: str, machine: Machine, watch: Watch
) -> None:
    table = table_of_copies(machine, tiered)
    machine.ip("route", "add", PUBLIC, "dev", LAN, "metric", "7", "tos", "0x10", *metrics.split())
    refused, host = (PUBLIC, "203.0.113.9") if setting == "trust" else (DENIED, "192.168.188.1")
    client = Client(machine, table)
    client.copy()
    assert refused in machine.ip("route", "show", "table", str(table))
    daemon = watch(SETTINGS[setting])
    with client.at_work():
        wait_until(lambda: "proto 245" in machine.ip("route", "show", "table", str(table), "to", "root", refused), "")
        client.wait()
        commands = daemon.counters()["commands"]
        client.wait()
        assert commands == daemon.counters()["commands"]
    assert [] == [line for line in daemon.complaints if "a public prefix" not in line]
    for mark in (0, MARK):
        with machine.sender(host, mark) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x10)
            sender.sendto(b"", (host, 9))
    assert [host] == [address for address in machine.vpn.destinations() if address == host]


def placeholders(machine: Machine, table: int) -> list[str]:
    return [route for route in machine.routes("inet", table) if "proto 245" in route]


def stand(machine: Machine, table: int, verb: str = "add") -> None:
    """The client's copy, beside the LAN's route in main."""
    words = ["proto", "kernel", "scope", "link", "src", "192.168.188.112", "metric", "600"]
    machine.ip("route", verb, DENIED, "dev", LAN, *words, "table", str(table))


ENDS = {
    "policy": lambda machine: machine.fz("sync"),
    "main": lambda machine: machine.ip("route", "del", DENIED),
    "tunnel": lambda machine: machine.ip("link", "set", TUNNEL, "down"),
    "down": lambda machine: machine.fz("down", config=SETTINGS["deny"]),
}


@pytest.mark.parametrize("tiered", [False, True], ids=["single", "tiered"])
@pytest.mark.parametrize("end", ENDS)
def test_a_placeholder_goes_when_nothing_needs_it(end: str, tiered: bool, machine: Machine) -> None:
    table = table_of_copies(machine, tiered)
    before = machine.raw("inet", table)
    stand(machine, table)
    machine.fz("sync", config=SETTINGS["deny"])
    way = f"{DENIED} dev {TUNNEL}" if not tiered else f"throw {DENIED}"
    assert [f"{way} proto 245 metric 600"] == placeholders(machine, table)
    ENDS[end](machine)
    if end not in ("policy", "down"):
        machine.fz("sync", config=SETTINGS["deny"])
    assert [] == placeholders(machine, table)
    if end == "policy":
        assert LAN == machine.way("192.168.188.1")
    if end == "down":
        assert before == machine.raw("inet", table)
