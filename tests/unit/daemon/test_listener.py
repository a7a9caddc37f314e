"""The monitor is kept running, and is accused of nothing that it did not do."""

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from fz_iproute.daemon.events import Interest
from fz_iproute.daemon.listener import PATIENCE, RESTART_PAUSES, STORM_PAUSE, Listener
from fz_iproute.daemon.schedule import Due, Schedule
from fz_iproute.errors import IpUnusable
from fz_iproute.mirror.config import Watch
from fz_iproute.mirror.prefix import Family

LINE = "[ROUTE]10.5.0.0/24 dev eth0 scope 253"
ADDRESS = "[ADDR]2: eth0    inet 10.5.0.1/24 scope 0 eth0"
LOCAL = "[ROUTE]2 10.5.0.1 dev eth0 table 255 proto 2 scope 254 src 10.5.0.1 "


class FakeMonitor:
    """Says what the test lets it say."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0)
        self.said: list[str] = []
        self.follows: list[str] = []  # it says these one by one, to whoever waits
        self.words = ""
        self.ended = False

    def read(self, seconds: float = 0.0) -> str:
        if seconds and self.follows:
            self.said.append(self.follows.pop(0))
        read = "".join(f"{line}\n" for line in [*self.said, *filter(None, [self.words])])
        self.said, self.words = [], ""
        return read

    def close(self) -> int:
        os.close(self.fd)
        return 1


class FakeAhead:
    """Copies each line about a route of main, if all lines are about addresses and such routes."""

    def lines(self, text: str) -> tuple[Family, list[str]] | None:
        lines = text.splitlines()
        if any(line not in (ADDRESS, LOCAL, LINE) for line in lines):
            return None
        return "inet", [line for line in lines if line == LINE]


class World:
    """A listener and all that it talks to; `monitors` are those that it has started."""

    def __init__(self) -> None:
        self.monitors: list[FakeMonitor] = []
        self.broken = False
        self.warnings: list[str] = []
        self.warning = self.warnings.append  # it is the log, too
        self.schedule = Schedule(Watch())
        self.schedule.full_begins(0.0)
        self.copied: list[tuple[list[str], str]] = []  # ahead of all else: the batch lines, and the event
        self.listener = Listener(self.begin, self.copy, self.schedule, Counter(), self)  # type: ignore[arg-type]
        self.listener.interest = Interest(frozenset(["254"]))

    def copy(self, family: Family, lines: list[str], text: str) -> None:
        assert self.schedule.due(1.0) is None  # no pass is asked for before
        assert "inet" == family
        self.copied.append((lines, text.splitlines()[0]))

    def listen(self, now: float) -> list[str]:
        return self.listener.judge(self.listener.hear(), now)

    def begin(self) -> FakeMonitor:
        if self.broken:
            raise IpUnusable("ip: cannot be started")
        self.monitors.append(FakeMonitor())
        return self.monitors[-1]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.listener.start(0.0)
    yield made
    made.listener.stop()


@pytest.mark.parametrize(
    "comes", ["before the resync", "during the resync", "just after the resync", "never", "nothing new"]
)
def test_only_a_monitor_that_says_nothing_at_all_of_a_change_is_deaf(comes: str, world: World) -> None:
    """A change may come during a resync: that has seen it, but the line about it is not read yet."""
    if comes == "before the resync":
        world.monitors[0].said.append(LINE)
    world.listen(60.0)
    if comes == "during the resync":
        world.monitors[0].said.append(LINE)
    world.listener.resynced(60.1, missed=comes != "nothing new")
    world.listen(60.1)
    world.listener.restart_if_due(60.1)
    if comes == "just after the resync":
        world.monitors[0].said.append(LINE)
    for now in (60.2, 60.1 + PATIENCE):
        world.listen(now)
        world.listener.restart_if_due(now)
    said = [f"ip monitor has ended ({words})" for words in ("it did not report a change",) if comes == "never"]
    assert said == [warning.split(";")[0] for warning in world.warnings]


@pytest.mark.parametrize(("broken", "start"), [(False, 0.0), (True, 1000.0)], ids=["ends", "cannot be started"])
def test_a_failing_monitor_is_started_ever_more_rarely_with_one_warning(
    broken: bool, start: float, world: World
) -> None:
    """However long the last one has run."""
    world.broken = broken
    now, pauses = start, []
    for _ in range(len(RESTART_PAUSES) + 1):
        world.monitors[-1].ended = True
        world.listener.restart_if_due(now)
        assert world.listener.due is not None
        pauses.append(world.listener.due - now)
        now = world.listener.due
        world.listener.restart_if_due(now)
    assert [*RESTART_PAUSES, RESTART_PAUSES[-1]] == pytest.approx(pauses)
    assert (1 if broken else len(pauses) + 1) == len(world.monitors)
    assert 1 == len(world.warnings)


@pytest.mark.parametrize(("after", "reason"), [([], "netlink receive error"), ([LINE], "exit code 1")])
def test_the_last_words_of_a_monitor_are_the_reason_of_its_end(after: list[str], reason: str, world: World) -> None:
    world.monitors[0].words = "netlink receive error"
    world.listen(1000.0)
    world.monitors[0].said += after
    world.listen(1000.1)
    world.monitors[0].ended = True
    world.listen(1000.2)
    world.listener.restart_if_due(1000.2)
    assert [f"ip monitor has ended ({reason})"] == [warning.split(";")[0] for warning in world.warnings]


def test_a_monitor_that_can_be_started_again_asks_for_a_full_pass(world: World) -> None:
    world.broken = True
    world.monitors[0].ended = True
    world.listener.restart_if_due(1000.0)
    world.listener.restart_if_due(1010.0)
    world.broken = False
    world.listener.restart_if_due(2000.0)
    assert 2 == len(world.monitors)
    assert Due("ip monitor was started again", full=True) == world.schedule.due(2000.0)


def test_lost_events_ask_for_a_full_pass(world: World) -> None:
    world.monitors[0].words = "netlink receive error No buffer space available (105)"
    world.listen(20.0)
    assert Due("events were lost", full=True) == world.schedule.due(20.0)
    assert [] == world.warnings


def test_the_first_line_that_matters_wakes(world: World) -> None:
    matter = [LINE, "[LINK]2: eth0"]
    world.monitors[0].said += ["[ROUTE]10.9.0.0/16 dev eth0 table 77", *matter]
    assert matter == world.listen(1.0)
    assert Due(LINE) == world.schedule.due(1.0)


@pytest.mark.parametrize(
    ("said", "follows", "copied"),
    [
        ([LINE], [], [([LINE], LINE)]),
        ([ADDRESS], [LOCAL, LINE], [([LINE], ADDRESS)]),
        ([ADDRESS], [LOCAL], []),
        ([ADDRESS], ["[LINK]2: eth0", LINE], []),
        (["[RULE]7: from all lookup 7", LINE], [], []),
    ],
    ids=["a route", "an address and its route", "an address", "an address and more", "a rule and a route"],
)
def test_new_routes_are_copied_first(
    said: list[str], follows: list[str], copied: list[tuple[list[str], str]], world: World
) -> None:
    """An address waits for its route, and then all that came wakes one pass."""
    world.listener.ahead = FakeAhead()  # type: ignore[assignment]
    world.monitors[0].said += said
    world.monitors[0].follows += follows
    world.listen(1.0)
    assert copied == world.copied
    assert world.listener.ahead is None  # a pass has to look first
    assert (due := world.schedule.due(1.0)) and said[0] == due.reason


def test_only_a_storm_of_events_that_do_not_matter_is_read_with_pauses(world: World) -> None:
    ignored = "[ROUTE]10.9.0.0/16 dev eth0 table 77"
    pauses = []
    for now, line in ((20.0, ignored), (20.001, ignored), (20.007, ignored), (20.013, LINE), (21.0, ignored)):
        world.monitors[0].said.append(line)
        world.listen(now)
        pauses.append(world.listener.pause)
    assert [0.0, STORM_PAUSE, STORM_PAUSE, 0.0, 0.0] == pauses
