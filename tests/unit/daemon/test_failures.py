"""A failed pass is repeated less and less often, and a failure that lasts is logged once."""

from fz_iproute.daemon.failures import PAUSES, Failures
from fz_iproute.errors import Locked, ReadFailed


class FakeLog:
    """Remembers the errors."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.error = self.errors.append


def test_the_pauses_grow_and_start_again_after_a_success() -> None:
    failures = Failures(FakeLog())  # type: ignore[arg-type]
    assert [*PAUSES, PAUSES[-1]] == [failures.add(ReadFailed("no")) for _ in range(len(PAUSES) + 1)]
    failures.clear()
    assert PAUSES[0] == failures.add(ReadFailed("no"))


def test_a_lock_is_tried_again_soon_and_is_logged_late() -> None:
    log = FakeLog()
    failures = Failures(log)  # type: ignore[arg-type]
    assert 1.0 == max(failures.add(Locked("held")) for _ in range(4))
    assert [] == log.errors
    assert 1.0 == failures.add(Locked("held"))
    assert ["held; trying again"] == log.errors


def test_each_failure_is_logged_once_and_the_first_not_at_all() -> None:
    log = FakeLog()
    failures = Failures(log)  # type: ignore[arg-type]
    for words in ("one", "one", "one", "two", "two"):
        failures.add(ReadFailed(words))
    assert ["one; trying again", "two; trying again"] == log.errors
    failures.clear()
    failures.add(ReadFailed("two"))
    failures.add(ReadFailed("two"))
    assert "two; trying again" == log.errors[-1] and 3 == len(log.errors)
