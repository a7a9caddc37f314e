"""While another program undoes its changes, it tries ever more rarely, says so once, and goes on afterwards."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.netns import rtnetlink
from tests.netns.namespace import LAN, MIRROR, Machine, run, wait_until
from tests.watch.conftest import Watch

COPY = "192.168.188.0/24"
ROUND = 5.0
# Pauses of 250 ms, doubled each time, allow 5 attempts in 5 s. The rest is room for a slow machine and its echoes.
MOST = 15


class Adversary:
    """A thread that runs `ip` with `words` whenever `there` holds of the destinations in the mirror."""

    def __init__(self, machine: Machine, words: list[str], *, when_there: bool) -> None:
        self.attempts = 0
        self._machine = machine
        self._words = words
        self._when_there = when_there
        self._over = threading.Event()
        self._netlink = rtnetlink.connect(machine.name)  # not shared with another thread
        self._thread = threading.Thread(target=self._act)
        self._thread.start()

    def _act(self) -> None:
        network = bytes([192, 168, 188, 0]).hex()
        stale = bytes([10, 5, 0, 0]).hex()
        looked_for = network if self._when_there else stale
        while not self._over.wait(0.002):
            found = rtnetlink.routes(self._netlink, "inet", MIRROR)
            there = any(route.group[0] == looked_for for route in found)
            if there == self._when_there:
                self.attempts += 1
                run("ip", "-n", self._machine.name, *self._words, check=False)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._netlink.close()


@contextmanager
def deleting(machine: Machine) -> Iterator[Adversary]:
    """Somebody deletes a copy whenever it appears."""
    adversary = Adversary(machine, ["route", "del", "table", str(MIRROR), COPY, "dev", LAN], when_there=True)
    try:
        yield adversary
    finally:
        adversary.stop()


@contextmanager
def adding(machine: Machine) -> Iterator[Adversary]:
    """Somebody adds a stale route whenever it is gone."""
    words = ["route", "add", "table", str(MIRROR), "10.5.0.0/24", "dev", LAN, "scope", "link"]
    adversary = Adversary(machine, words, when_there=False)
    try:
        yield adversary
    finally:
        adversary.stop()


SIDES = pytest.mark.parametrize("side", [deleting, adding])


@pytest.mark.long
@SIDES
def test_its_attempts_become_rare_and_one_warning_tells_of_them(side, machine: Machine, watch: Watch) -> None:  # type: ignore[no-untyped-def]
    daemon = watch()
    with side(machine) as adversary:
        time.sleep(ROUND)  # what is counted is what happens in this while
        attempts = adversary.attempts
    assert 2 <= attempts <= MOST
    assert 1 == len(daemon.complaints), daemon.complaints
    assert "somebody undoes this again and again" in daemon.complaints[0]
    assert ("10.5.0.0/24" if side is adding else COPY) in daemon.complaints[0]


@SIDES
def test_after_a_fight_the_mirror_is_in_step(side, machine: Machine, watch: Watch) -> None:  # type: ignore[no-untyped-def]
    daemon = watch()
    with side(machine):
        daemon.wait_for("somebody undoes this again and again")
    daemon.wait_in_step()


def test_during_a_fight_other_routes_are_copied(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    with deleting(machine):
        daemon.wait_for("somebody undoes this again and again")
        for number in range(5):
            prefix = f"10.6.{number}.0/24"
            machine.ip("route", "add", prefix, "dev", LAN)
            wait_until(lambda prefix=prefix: machine.route(prefix), f"{prefix} is copied", 5)


def test_links_and_routes_that_come_and_go_are_no_fight(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    for _ in range(6):
        machine.ip("link", "set", "dev", LAN, "down")
        machine.ip("link", "set", "dev", LAN, "up")
        wait_until(lambda: machine.route(COPY), "the copy is there", 5)
        machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
        wait_until(lambda: machine.route("10.5.0.0/24"), "the copy is there", 5)
        machine.ip("route", "del", "10.5.0.0/24")
        wait_until(lambda: not machine.route("10.5.0.0/24"), "the copy is gone", 5)
    assert [] == daemon.says("somebody undoes")


def test_the_vpn_that_builds_its_table_anew_is_no_fight(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    machine.batch(f"route del table {MIRROR} {prefix} dev {LAN}" for prefix in [COPY])
    machine.ip("route", "flush", "table", str(MIRROR), "proto", "static")
    for prefix in ("default", "100.64.0.0/11"):
        machine.tunnel_route(prefix, MIRROR)
    wait_until(lambda: machine.route(COPY), "the copy is there", 5)
    assert [] == daemon.complaints
