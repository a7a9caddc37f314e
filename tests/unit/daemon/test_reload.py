"""A new configuration takes effect only if it can; what is refused is said once, and harms nothing."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fz_iproute.daemon.reload import Reloader
from fz_iproute.errors import FzError, ReadFailed, UsageError
from fz_iproute.files.lock import watching
from fz_iproute.mirror.config import Config, replace
from tests.unit.files.test_lock import holder

FIRST = replace(Config(), tables={"layout": "single", "single": 1})
SECOND = replace(Config(), tables={"layout": "single", "single": 2})


class World:
    """What a reloader reads, plans with and logs to."""

    def __init__(self) -> None:
        self.file: Config | Exception = FIRST
        self.trial: FzError | None = None
        self.said: list[str] = []
        self.error = self.warning = self.said.append  # it is the log, too
        self.reloader = Reloader(self.load, lambda config: self, None, 0, self)  # type: ignore[arg-type, return-value]

    def load(self) -> Config:
        if isinstance(self.file, Exception):
            raise self.file
        return self.file

    def plan_sync(self) -> list[str]:
        """As passes do."""
        if self.trial:
            raise self.trial
        return []

    def is_locked(self, table: int) -> bool:
        return watching(None, [table]) == os.getpid()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    made = World()
    yield made
    made.reloader.close()


@pytest.mark.parametrize("trial", [None, ReadFailed("no answer")], ids=["all is well", "ip fails"])
def test_a_good_configuration_takes_effect_and_its_table_is_locked(trial: FzError | None, world: World) -> None:
    """Also while `ip` fails: the passes that follow say what is wrong, and try again."""
    world.file, world.trial = SECOND, trial
    assert not world.is_locked(2)
    assert world.reloader.reload()
    assert SECOND == world.reloader.config
    assert world.is_locked(2)
    assert world.is_locked(1), "something may be left in the former table"


def test_a_configuration_that_cannot_follow_is_refused_once_and_its_locks_are_given_back(world: World) -> None:
    world.file, world.trial = SECOND, UsageError("run `down` first")
    assert not world.reloader.reload()
    assert not world.reloader.reload()
    assert FIRST == world.reloader.config
    assert ["run `down` first", "the last good configuration stays in force"] == world.said
    assert [True, False] == [world.is_locked(table) for table in (1, 2)]


@pytest.mark.parametrize("cause", ["the file", "the machine", "the trial", "the lock"])
def test_what_was_refused_takes_effect_when_its_cause_is_gone(cause: str, world: World) -> None:
    """Without an edit: the machine may have been out of descriptors when the file was read."""
    other = holder("watch", 2) if cause == "the lock" else None
    causes = {"the file": UsageError("not TOML"), "the machine": OSError(errno.EMFILE, "Too many open files")}
    world.file = causes.get(cause, SECOND)
    world.trial = UsageError("run `down` first") if cause == "the trial" else None
    assert not world.reloader.reload()
    assert world.reloader.trouble
    if other:
        other.communicate()
    world.file, world.trial = SECOND, None
    assert world.reloader.reload()
    assert not world.reloader.trouble


def test_the_same_trouble_is_told_again_when_it_had_been_over(world: World) -> None:
    for file in (UsageError("broken"), FIRST, UsageError("broken")):
        world.file = file
        world.reloader.reload()
    assert 2 == world.said.count("broken")
