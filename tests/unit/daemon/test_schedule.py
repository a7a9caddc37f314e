"""One pass serves all that is due; full passes are rare; nothing that is due is forgotten."""

import pytest

from fz_iproute.daemon.schedule import Due, Schedule
from fz_iproute.mirror.config import Watch
from fz_iproute.mirror.model import EVERYTHING, Part

INET: frozenset[Part] = frozenset(["inet"])
INET6: frozenset[Part] = frozenset(["inet6"])


@pytest.fixture
def schedule() -> Schedule:
    """After the first full pass, at 100 s."""
    made = Schedule(Watch(resync=60))
    assert Due("start", full=True) == made.due(0.0)
    made.full_begins(100.0)
    made.ran(100.0, echo=False, unfinished=False)
    return made


def test_a_resync_follows_the_last_full_pass(schedule: Schedule) -> None:
    assert 160.0 == schedule.next
    assert schedule.due(159.9) is None
    assert Due("resync", full=True) == schedule.due(160.0)


def test_full_passes_keep_a_distance_whoever_asks_for_them(schedule: Schedule) -> None:
    schedule.want_full("events were lost", 101.0)
    assert schedule.due(101.0) is None
    assert Due("events were lost", full=True) == schedule.due(105.0)
    schedule.full_begins(105.0)
    assert 165.0 == schedule.next


def test_an_event_wakes_once_and_is_the_reason(schedule: Schedule) -> None:
    assert schedule.wake("first", INET, 110.0)
    assert not schedule.wake("second", INET, 110.0)
    assert Due("first", INET, full=False) == schedule.due(110.0)
    schedule.ran(110.0, echo=False, unfinished=False)
    assert schedule.due(120.0) is None


def test_events_wait_for_the_pause_after_a_pass(schedule: Schedule) -> None:
    schedule.wake("first", INET, 110.0)
    schedule.ran(110.0, echo=False, unfinished=False)
    schedule.wake("second", INET, 110.0)
    assert schedule.due(110.0) is None
    assert Due("second", INET) == schedule.due(schedule.next)
    assert 110.0 < schedule.next < 110.5


def test_after_the_start_of_a_monitor_there_is_one_second_look(schedule: Schedule) -> None:
    schedule.monitor_listens(112.0)
    schedule.ran(110.5, echo=False, unfinished=False)
    assert (112.0, Due("ip monitor has just been started", full=True)) == (schedule.next, schedule.due(112.0))
    schedule.ran(112.0, echo=False, unfinished=False)
    assert 160.0 == schedule.next


def test_what_was_held_back_is_tried_at_the_earliest_time(schedule: Schedule) -> None:
    schedule.retry(130.0)
    schedule.retry(120.0)
    schedule.retry(140.0)
    assert (120.0, Due("a retry")) == (schedule.next, schedule.due(120.0))


def test_a_pass_reads_what_the_events_since_the_last_one_have_changed(schedule: Schedule) -> None:
    schedule.wake("first", INET, 110.0)
    schedule.wake("second", INET6, 110.0)
    assert Due("first", INET | INET6) == schedule.due(110.0)
    schedule.ran(110.0, echo=False, unfinished=False)
    schedule.wake("third", INET6, 120.0)
    assert Due("third", INET6) == schedule.due(120.0)


def test_a_pass_that_serves_another_reason_too_reads_everything(schedule: Schedule) -> None:
    schedule.wake("first", INET, 110.0)
    schedule.retry(110.0)
    assert Due("first", EVERYTHING) == schedule.due(110.0)
    schedule.ran(110.0, echo=False, unfinished=True)
    assert Due("the last pass left something to do", EVERYTHING) == schedule.due(120.0)


@pytest.mark.parametrize(("seconds", "due"), [(3, 105.5), (0, 102.5), (None, 160.0)])
def test_an_expiry_is_awaited_until_ip_shows_it(seconds: int | None, due: float, schedule: Schedule) -> None:
    schedule.expires(7, 100.0)
    schedule.expires(seconds, 100.0)
    assert due == schedule.next


def test_an_unfinished_pass_is_followed_by_another(schedule: Schedule) -> None:
    schedule.ran(110.0, echo=False, unfinished=True)
    assert schedule.next < 111.0


def test_a_new_pace_counts_from_the_next_full_pass(schedule: Schedule) -> None:
    schedule.adopt(Watch(resync=5))
    schedule.full_begins(110.0)
    assert 115.0 == schedule.next
