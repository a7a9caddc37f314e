"""A command that another program keeps undoing is repeated less and less often. A change of main or a link ends it."""

import itertools

import pytest

from fz_iproute.daemon.fight import FIRST_PAUSE, LONGEST_PAUSE, Fight
from fz_iproute.mirror.model import Command


def command(verb: str, dst: str = "10.0.0.0/24", dev: str = "eth0") -> Command:
    return Command("inet", f"route {verb} table 7 {dst} dev {dev} proto kernel scope link", "")


def attempts(fight: Fight, due: Command, seconds: float, step: float = 0.01, start: float = 0.0) -> list[float]:
    """When the command is run, if somebody undoes it each time at once."""
    ran, now = [], start
    while now < start + seconds:
        if fight.admit([due], now).admitted:
            fight.ran([due], now)
            ran.append(now)
        now += step
    return ran


def test_attempts_grow_rarer_up_to_the_longest_pause() -> None:
    """The first repetition is not held back."""
    ran = attempts(Fight(), command("add"), 200)
    pauses = [later - earlier for earlier, later in itertools.pairwise(ran)]
    rounded = [round(pause, 1) for pause in pauses]
    assert sorted(rounded) == rounded
    assert 0.0 == rounded[0]
    assert FIRST_PAUSE <= pauses[1] < 2 * FIRST_PAUSE
    assert LONGEST_PAUSE <= pauses[-1] < LONGEST_PAUSE + 0.1


def test_a_fight_is_reported_once() -> None:
    fight, reported = Fight(), []
    for second in range(200):
        admission = fight.admit([command("add")], float(second))
        fight.ran(admission.admitted, float(second))
        reported += admission.to_report
    assert [command("add")] == reported


def test_a_command_whose_route_is_replaced_is_forgotten() -> None:
    fight = Fight()
    attempts(fight, command("add"), 10)
    assert [] == fight.admit([command("add")], 10.0).admitted
    fight.admit([command("replace", dev="eth1")], 10.1)
    assert [command("add")] == fight.admit([command("add")], 10.2).admitted


@pytest.mark.parametrize(
    ("end", "is_same"),
    [
        ("metric 7 pref high", True),
        ("metric 7", True),
        ("metric 8 pref medium", False),
        ("metric 70 pref medium", False),
        ("pref medium", False),
    ],
)
def test_a_route_is_known_by_its_metric(end: str, is_same: bool) -> None:
    added = Command("inet6", "route add table 7 fd00::/64 dev eth0 proto kernel metric 7 pref medium", "")
    fight = Fight()
    attempts(fight, added, 10)
    fight.admit([Command("inet6", f"route replace table 7 fd00::/64 dev eth1 proto kernel {end}", "")], 10.0)
    assert ([added] if is_same else []) == fight.admit([added], 10.0).admitted


def test_it_knows_which_routes_were_changed_lately() -> None:
    fight = Fight()
    fight.ran([command("add"), Command("inet6", "route del table 7 fd00::/64 dev eth0", "")], 0.0)
    fight.ran([Command("inet", "rule add priority 7 from all to 10.9.0.0/16 lookup 7", "")], 0.0)
    assert {"10.0.0.0/24", "fd00::/64"} == fight.destinations


def test_a_command_of_the_other_family_is_another_one() -> None:
    line = "rule add priority 7 not fwmark 0x1 lookup 7 protocol kernel"
    one, other = Command("inet", line, ""), Command("inet6", line, "")
    fight = Fight()
    fight.ran([one, other], 0.0)
    fight.ran([other], 1.0)
    assert [one] == fight.admit([one, other], 1.1).admitted


def test_a_route_of_main_that_changes_to_and_fro_is_no_fight() -> None:
    fight = Fight()
    for number in range(10):
        due = command("replace" if number else "add", dev=f"eth{number % 2}")
        assert ([due], []) == fight.admit([due], number / 10)[::2]
        fight.ran([due], number / 10)
    held = command("replace", dst="10.1.0.0/24")
    for now in (1.0, 1.1, 1.2):
        fight.ran([held], now)
    assert [] == fight.admit([held], 1.25).admitted


def test_what_is_undone_twice_at_once_is_no_fight() -> None:
    """`ip route flush` deletes in rounds, so it finds what was put back meanwhile."""
    fight = Fight()
    for now in (0.0, 0.01, 0.02 + FIRST_PAUSE):
        admission = fight.admit([command("add")], now)
        assert ([command("add")], []) == (admission.admitted, admission.to_report)
        fight.ran(admission.admitted, now)


def test_a_fight_that_has_ended_is_forgotten() -> None:
    """After twice the next pause, which is twice the last one."""
    fight = Fight()
    *_, before, last = attempts(fight, command("add"), 20)
    assert 3 <= len(attempts(fight, command("add"), 1, start=last + 4.1 * (last - before)))


@pytest.mark.parametrize(
    "event",
    [
        "[LINK]2: eth1: <BROADCAST,MULTICAST,UP> mtu 1500",
        "[ADDR]2: eth1    inet 10.0.0.2/24 brd 10.0.0.255 scope link eth1",
        "[ADDR]2: scope    inet 10.7.0.0/24 scope 0 scope",
        "[LINK]2: eth1@eth0: <BROADCAST,MULTICAST,UP> mtu 1500",
        "[ROUTE]10.0.0.0/24 dev eth0 scope 253",
    ],
)
def test_other_routes_are_not_held_back_nor_excused_by_other_interfaces(event: str) -> None:
    fight = Fight()
    attempts(fight, command("add"), 10)
    fight.forgive(event)
    other = command("add", "10.1.0.0/24")
    assert [other] == fight.admit([command("add"), other], 10.0).admitted


@pytest.mark.parametrize(
    ("verbs", "event"),
    [
        (["add", "del"], "[LINK]3: eth1: <UP>"),
        (["add"], "[LINK]2: eth0: <BROADCAST,MULTICAST,UP> mtu 1500"),
        (["add"], "[LINK]2: eth0@if3: <BROADCAST,MULTICAST,UP> mtu 1500"),
        (["add"], "[ADDR]2: eth0    inet 10.0.0.2/24 scope 0 eth0"),
        (["add"], "[ADDR]Deleted 2: eth0    inet 10.0.0.2/24 scope 0 eth0"),
    ],
)
def test_following_is_not_fighting(verbs: list[str], event: str) -> None:
    fight = Fight()
    for number in range(100):
        due = command(verbs[number % len(verbs)])
        fight.forgive(event)
        assert [due] == fight.admit([due], number / 100).admitted
        fight.ran([due], number / 100)


def test_it_says_when_what_is_held_back_may_be_tried() -> None:
    fight = Fight()
    ran = attempts(fight, command("add"), 2)
    admission = fight.admit([command("add")], ran[-1] + 0.001)
    assert admission.again is not None and ran[-1] + FIRST_PAUSE <= admission.again <= ran[-1] + LONGEST_PAUSE
    assert [command("add")] == fight.admit([command("add")], admission.again).admitted


def test_a_fight_goes_on_while_other_commands_are_due() -> None:
    fight = Fight()
    attempts(fight, command("add"), 10)
    for other in (command("add", "10.1.0.0/24"), command("replace", "10.2.0.0/24")):
        assert [other] == fight.admit([other], 10.0).admitted
    assert [] == fight.admit([command("add")], 10.0).admitted
