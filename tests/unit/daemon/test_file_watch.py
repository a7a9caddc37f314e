"""Changes of a file are noticed, even while the machine cannot watch it."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchfiles._rust_notify import WatchfilesRustInternalError

from fz_iproute.daemon import file_watch
from fz_iproute.daemon.file_watch import CHANGED, FileWatch
from tests.netns.namespace import wait_until


@pytest.fixture
def bell() -> Iterator[tuple[int, int]]:
    fds = os.pipe()
    yield fds
    for fd in fds:
        os.close(fd)


def rings(fd: int) -> bool:
    return bool(select.select([fd], [], [], 20)[0]) and os.read(fd, 1) == bytes([CHANGED])


@pytest.mark.parametrize("error", [WatchfilesRustInternalError("Too many open files"), OSError(28, "No space left")])
def test_a_machine_that_cannot_watch_is_told_of_once_and_changes_are_still_noticed(
    error: Exception, bell: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[Exception] = []

    def watch(*paths: Path, **options: object) -> None:
        failures.append(error)
        raise error

    monkeypatch.setattr(file_watch, "watch", watch)
    path = tmp_path / "config.toml"
    path.write_text("1")
    warnings: list[str] = []
    watching = FileWatch(path, bell[1], warnings.append)
    try:
        path.write_text("22")
        assert rings(bell[0])
        wait_until(lambda: len(failures) >= 2, "it has tried again")
        monkeypatch.undo()
        path.write_text("333")
        assert rings(bell[0])
        path.write_text("4444")
        assert rings(bell[0])
    finally:
        watching.close()
    assert 1 == len(warnings)
    assert "on SIGHUP" in warnings[0]
