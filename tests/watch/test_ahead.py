"""A plain new route of main is copied before anything is read; what is read afterwards agrees."""

import pytest

from tests.netns.namespace import LAN, Machine, wait_until
from tests.watch import oracle
from tests.watch.conftest import Watch

PLAIN = [
    f"route add 10.5.0.0/24 dev {LAN}",
    f"route add 10.5.0.7 dev {LAN} proto dhcp src 192.168.188.112 metric 9",
    f"-6 route add fd00:5::/64 dev {LAN}",
    f"-6 route add fd00:5::7 dev {LAN} proto static metric 9 pref high",
]


@pytest.mark.parametrize("line", PLAIN)
def test_the_first_command_after_a_new_route_is_its_copy(line: str, machine: Machine, watch: Watch) -> None:
    daemon = watch(options=["--verbose"])
    daemon.wait_in_step()
    before = len(daemon.lines)
    machine.ip(*line.split())
    daemon.wait_in_step()
    run = [words for words in daemon.lines[before:] if words.startswith("debug: ip ") and " route " in words]
    assert [" add table " in words for words in run] == [True] + [False] * (len(run) - 1), run


def test_many_addresses_are_copied_as_a_reading_would(machine: Machine, watch: Watch) -> None:
    """Each command adds one copy, none is refused, and none has to be corrected."""
    daemon = watch()
    daemon.wait_in_step()
    before = daemon.counters()
    for number in range(8):
        machine.ip("addr", "add", f"10.5.{number}.2/24", "dev", LAN)
        machine.ip("addr", "add", f"fd00:5:{number}::2/64", "dev", LAN, "nodad")
        wait_until(lambda: oracle.in_step(machine), "the copies are there")
    after = daemon.counters()
    assert (16, 0) == tuple(after[name] - before[name] for name in ("commands", "refused"))
