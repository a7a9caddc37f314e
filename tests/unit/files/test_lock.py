"""A lock has one holder at a time, and names it to others."""

import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fz_iproute.errors import Locked, UsageError
from fz_iproute.files.lock import Locks, locked, watching
from fz_iproute.files.report import Report
from tests.unit.ip.test_process import free_descriptors
from tests.user_ids import need_user_ids

TABLE, OTHER = 7, 8


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the locks are."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return tmp_path


def holder(kind: str, *tables: int) -> subprocess.Popen[str]:
    """Another process, which holds the locks until its stdin ends."""
    code = (
        "import sys; from fz_iproute.files.lock import Locks\n"
        f"locks = Locks(None); locks._take({kind!r}, {tables}, 0, ''); print(flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    process.stdout.readline()
    return process


def test_a_file_that_root_makes_belongs_to_the_owner_of_the_folder(folder: Path) -> None:
    """The daemon, as the user of its unit, has to open it later."""
    need_user_ids()
    os.chown(folder, 65534, 65534)
    with locked(None, [TABLE], 0):
        assert [65534] == [path.stat().st_uid for path in folder.iterdir()]


def test_a_held_lock_names_its_holder_and_is_free_afterwards(folder: Path) -> None:
    with holder("pass", TABLE) as other:
        with pytest.raises(Locked) as caught, locked(None, [TABLE, OTHER], 0.1):
            raise AssertionError("both hold it")
        assert f"another fz-iproute (process {other.pid}) is working on table 7; this one" in str(caught.value)
        assert "has waited for 0.1 s, and --wait SECONDS waits longer" in str(caught.value)
        other.communicate()
    with locked(None, [TABLE, OTHER], 0):
        pass


def test_the_locks_of_a_killed_holder_are_free(folder: Path) -> None:
    with holder("pass", TABLE) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
    with locked(None, [TABLE], 0):
        pass


def count_up(counter: Path, times: int) -> None:
    for _ in range(times):
        with locked(None, [TABLE, OTHER], 60):
            counter.write_text(str(int(counter.read_text()) + 1))


def test_many_never_hold_it_together(folder: Path) -> None:
    """If two held it at once, one of them would overwrite what the other has counted."""
    counter = folder / "counter"
    counter.write_text("0")
    # Fork is safe here, and starts fast enough for all to run at once.
    context = multiprocessing.get_context("fork")
    takers = [context.Process(target=count_up, args=(counter, 100)) for _ in range(6)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert [0] * len(takers) == [taker.exitcode for taker in takers]
    assert str(100 * len(takers)) == counter.read_text()


def test_a_daemon_that_is_refused_one_table_takes_none_and_keeps_what_it_has(folder: Path) -> None:
    locks = Locks(None)
    locks.watch([TABLE - 1])
    with holder("watch", OTHER) as other:
        with pytest.raises(Locked, match="one `watch` for a table is enough"):
            locks.watch([TABLE - 1, TABLE, OTHER])
        assert [os.getpid(), 0, other.pid] == [watching(None, [table]) for table in (TABLE - 1, TABLE, OTHER)]
        other.communicate()
    locks.watch([TABLE - 1, TABLE])
    locks.watch_only([TABLE])
    assert [0, os.getpid()] == [watching(None, [table]) for table in (TABLE - 1, TABLE)]
    locks.close()
    assert 0 == watching(None, [TABLE])


@pytest.mark.parametrize("passes", [{TABLE}, {TABLE + 1}, {TABLE - 1, TABLE, TABLE + 1}])
def test_a_daemon_is_found_during_a_pass(passes: set[int], folder: Path) -> None:
    """The kernel joins the locks of a pass with those of the daemon."""
    with closing(Locks(None)) as locks:
        locks.watch([TABLE])
        for _ in range(2):
            assert [0, os.getpid(), 0] == [watching(None, [table]) for table in (TABLE - 1, TABLE, TABLE + 1)]
            with locks.held(passes, 0):
                assert [0, os.getpid(), 0] == [watching(None, [table]) for table in (TABLE - 1, TABLE, TABLE + 1)]


def test_locks_of_other_kinds_tables_and_folders_are_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with holder("watch", TABLE) as other:
        with (
            locked(None, [TABLE], 0),
            pytest.raises(Locked, match="stop that process first"),
            locked(None, [TABLE], 0, True),
        ):
            raise AssertionError("both hold it")
        assert other.pid == watching(None, [OTHER, TABLE])
        assert 0 == watching(None, [OTHER])
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(folder / "other"))
        assert 0 == watching(None, [TABLE])
        other.communicate()


def test_without_descriptors_a_lock_is_refused_and_a_report_is_left_out(folder: Path) -> None:
    report = Report(None)
    with free_descriptors(0):
        with pytest.raises(UsageError, match="locks: Too many open files"):
            Locks(None)
        report.follow([TABLE])
    report.close()
    assert [] == list(folder.iterdir())
