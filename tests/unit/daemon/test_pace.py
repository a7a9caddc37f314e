"""Events are served at once after quiet, less and less often in a storm, and never later than `max_wait`."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fz_iproute.daemon.pace import Pace

SETTLE, MAX_WAIT, PASS = 0.002, 0.5, 0.001


def passes(events: list[float]) -> list[float]:
    """When the passes run that these events wake, each taking a millisecond."""
    pace = Pace(SETTLE, MAX_WAIT)
    ran: list[float] = []
    for event in events:
        while pace.due is not None and pace.due <= event:
            ran.append(pace.due)
            pace.ran(pace.due + PASS)
        pace.wake(event)
    if pace.due is not None:
        ran.append(pace.due)
    return ran


def test_the_first_event_after_quiet_is_served_at_once() -> None:
    assert [1.0, 9.0] == passes([1.0, 9.0])


def test_later_events_do_not_put_a_pass_off() -> None:
    pace = Pace(SETTLE, MAX_WAIT)
    for now in (1.0, 1.5, 2.0):
        pace.wake(now)
        assert 1.0 == pace.due


def test_the_pause_doubles_while_events_keep_coming_up_to_max_wait() -> None:
    ran = passes([number / 1000 for number in range(5000)])
    pauses = [later - earlier - PASS for earlier, later in itertools.pairwise(ran)]
    assert [0.002, 0.004, 0.008, 0.016] == [round(pause, 3) for pause in pauses[:4]]
    assert MAX_WAIT == pytest.approx(max(pauses), abs=0.002)


@pytest.mark.parametrize("later", [[9.0], [4 + number * 0.1 for number in range(50)]], ids=["one", "sparse"])
def test_after_a_storm_later_events_are_served_at_once(later: list[float]) -> None:
    storm = [number / 1000 for number in range(3000)]
    assert later == passes([*storm, *later])[-len(later) :]


@given(st.lists(st.floats(0, 5), min_size=1, max_size=300).map(sorted))
def test_no_event_waits_longer_than_max_wait_and_no_pass_runs_without_one(events) -> None:
    ran = passes(events)
    for event in events:
        served = min(moment for moment in ran if moment >= event)
        assert served - event <= MAX_WAIT + PASS
    assert len(ran) <= len(events)


@pytest.mark.parametrize("storm", [0, 3000], ids=["after quiet", "after a storm"])
def test_an_echo_of_our_own_commands_is_no_storm(storm: int) -> None:
    pace = Pace(0.002, 0.5)
    for number in range(storm):
        pace.wake(number / 1000)
        if pace.due is not None and pace.due <= number / 1000:
            pace.ran(number / 1000)
    now = storm / 1000
    if pace.due is not None:
        now = pace.due
        pace.ran(now)
        pace.wake(now + 0.001)  # the echo of what the last pass of the storm has done
    for _ in range(50):
        now += 0.06  # quiet lies in between
        pace.wake(now)
        assert pace.due == now, "served at once"
        pace.ran(now)
        pace.wake(now + 0.001)
        now = max(now + 0.001, pace.due or 0)
        pace.ran(now, echo=True)


def test_an_echo_puts_no_later_event_off() -> None:
    pace = Pace(SETTLE, MAX_WAIT)
    for now, echo in ((1.0, False), (1.002, True)):
        pace.wake(now)
        pace.ran(now, echo=echo)
    pace.wake(1.003)
    assert 1.003 == pace.due
