"""While another program undoes its changes, it tries less and less often, says so once, and goes on afterwards."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.netns.namespace import LAN, MIRROR, Machine, repeating, run, wait_until
from tests.watch.conftest import Watch

COPY, STALE = "192.168.188.0/24", "10.5.0.0/24"
ROUND = 2.5
# Pauses of 250 ms, doubled each time, allow 4 attempts in 2.5 s. The rest is room for a slow machine and its echoes.
MOST = 12


# What somebody does again and again: deletes a copy, or adds a stale route.
SIDES = {
    COPY: ["del", "table", str(MIRROR), COPY, "dev", LAN],
    STALE: ["add", "table", str(MIRROR), STALE, "dev", LAN, "scope", "link"],
}


@contextmanager
def somebody_undoes(route: str, machine: Machine) -> Iterator[list[float]]:
    """Yields the times when somebody has undone what the daemon did with this route."""
    times: list[float] = []

    def act() -> None:
        if run("ip", "-n", machine.name, "route", *SIDES[route], check=False).returncode == 0:
            times.append(time.monotonic())

    with repeating(act, 0.02):
        yield times


@pytest.mark.long
@pytest.mark.parametrize("route", SIDES)
def test_its_attempts_become_rare_and_one_warning_tells_of_them(route: str, machine: Machine, watch: Watch) -> None:
    daemon = watch()
    with somebody_undoes(route, machine) as times:
        time.sleep(ROUND)  # what is counted is what happens in this while
        assert 2 <= len(times) <= MOST
        found = json.loads(machine.fz_done("doctor", "--json").stdout)["checks"]
        (due,) = [each for each in found if each["name"] == "mirror" and each["level"] == "failure"]
        assert f"(process {daemon.process.pid})" in due["why"] and "the log of `watch`" in due["remedy"]
    assert 1 == len(daemon.complaints), daemon.complaints
    assert "another program undoes this again and again" in daemon.complaints[0]
    assert route in daemon.complaints[0]
    daemon.wait_in_step()


def test_links_and_routes_that_come_and_go_are_no_fight(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    for _ in range(4):
        machine.ip("link", "set", "dev", LAN, "down")
        machine.ip("link", "set", "dev", LAN, "up")
        wait_until(lambda: machine.route(COPY), "the copy is there", 5)
        machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
        wait_until(lambda: machine.route("10.5.0.0/24"), "the copy is there", 5)
        machine.ip("route", "del", "10.5.0.0/24")
        wait_until(lambda: not machine.route("10.5.0.0/24"), "the copy is gone", 5)
    assert [] == daemon.says("another program undoes")
