"""A lock has one holder at a time, names it to others, and leaves no file behind."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fz_iproute.errors import Locked, UsageError
from fz_iproute.files import lock
from fz_iproute.files.lock import Lock, WatchLocks, locked, place, watching
from fz_iproute.files.report import Report
from tests.unit.ip.test_process import free_descriptors
from tests.user_ids import need_user_ids

TABLE, OTHER = 7, 8


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the locks are."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return tmp_path


def files(folder: Path) -> list[str]:
    return sorted(path.name.partition("-")[2] for path in folder.iterdir())


def holder(kind: str) -> subprocess.Popen[str]:
    """Another process, which holds the lock until its stdin ends."""
    code = (
        "import sys; from fz_iproute.files.lock import Lock\n"
        f"with Lock(None, [{TABLE}], {kind!r}).held(0): print(flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    process.stdout.readline()
    return process


def test_a_held_lock_names_its_holder_and_is_free_afterwards(folder: Path) -> None:
    with holder("pass") as other:
        with pytest.raises(Locked) as caught, locked(None, [TABLE, OTHER], 0.1):
            raise AssertionError("both hold it")
        assert str(caught.value).startswith(f"another fz-iproute (process {other.pid}) holds {folder}/")
        assert "has waited for 0.1 s, and --wait SECONDS waits longer" in str(caught.value)
        assert [f"{TABLE}.pass.lock"] == files(folder), "it is the holder's to remove"
        other.communicate()
    with locked(None, [TABLE, OTHER], 0):
        assert ["7.pass.lock", "8.pass.lock"] == files(folder)
    assert [] == files(folder)


def test_what_a_killed_holder_leaves_behind_is_removed_by_the_next(folder: Path) -> None:
    with holder("pass") as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert [f"{TABLE}.pass.lock"] == files(folder)
    with locked(None, [TABLE], 0):
        pass
    assert [] == files(folder)


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_on_a_new_file(folder: Path) -> None:
    """A daemon keeps its file open between passes. A `sync` in between removes it."""
    daemon = Lock(None, [TABLE])
    with locked(None, [TABLE], 0):
        pass
    with daemon.held(0):
        assert [f"{TABLE}.pass.lock"] == files(folder)
        with pytest.raises(Locked), locked(None, [TABLE], 0):
            raise AssertionError("both hold it")
    daemon.close()
    assert [] == files(folder)


def test_a_file_that_root_makes_belongs_to_the_owner_of_the_folder(folder: Path) -> None:
    """The daemon, as the user of its unit, has to open it later."""
    need_user_ids()
    os.chown(folder, 65534, 65534)
    with locked(None, [TABLE], 0):
        assert [65534] == [path.stat().st_uid for path in folder.iterdir()]


def count_up(counter: Path, times: int, folder: Path) -> None:
    os.environ["RUNTIME_DIRECTORY"] = str(folder)
    for _ in range(times):
        with locked(None, [TABLE, OTHER], 60):
            counter.write_text(str(int(counter.read_text()) + 1))


@pytest.mark.parametrize("folders", [1, 3], ids=["one folder", "a folder for each of three units"])
def test_many_that_take_and_remove_it_never_hold_it_together(
    folders: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If two held it at once, one of them would overwrite what the other has counted."""
    monkeypatch.setattr("fz_iproute.files.lock.RUN", tmp_path)
    counter = tmp_path / "counter"
    counter.write_text("0")
    units = [tmp_path / f"fz-iproute-{number}" for number in range(folders)]
    for unit in units:
        unit.mkdir()
    # Fork is safe here, and starts fast enough for all to run at once.
    context = multiprocessing.get_context("fork")
    takers = [context.Process(target=count_up, args=(counter, 100, units[number % folders])) for number in range(6)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert [0] * len(takers) == [taker.exitcode for taker in takers]
    assert str(100 * len(takers)) == counter.read_text()
    assert [] == [file for unit in units for file in unit.iterdir()]


def test_a_daemon_that_is_refused_one_table_takes_none(folder: Path) -> None:
    locks = WatchLocks(None)
    with holder("watch") as other:
        with pytest.raises(Locked, match="one `watch` for a table is enough"):
            locks.extend([TABLE - 1, TABLE])
        assert [f"{TABLE}.watch.lock"] == files(folder)
        other.communicate()
    locks.extend([TABLE - 1, TABLE])
    locks.restrict([TABLE])
    assert [f"{TABLE}.watch.lock"] == files(folder)
    locks.restrict()
    assert [] == files(folder)


def test_systemd_units_share_the_lock_of_a_table_though_each_has_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fz_iproute.files.lock.RUN", tmp_path)
    service, timer = tmp_path / "fz-iproute", tmp_path / "fz-iproute-sync"
    for folder in (service, timer):
        folder.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(service))
    with holder("pass") as other:
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(timer))
        waiting = Lock(None, [TABLE])
        with pytest.raises(Locked, match=str(service)), waiting.held(0):
            raise AssertionError("both hold it")
        assert [] == files(timer)
        other.communicate()
    shutil.rmtree(service)  # as systemd does when the unit stops
    with waiting.held(0):
        assert [f"{TABLE}.pass.lock"] == files(timer)


def test_files_that_two_units_have_left_are_one_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fz_iproute.files.lock.RUN", tmp_path)
    units = [tmp_path / f"fz-iproute-{number}" for number in range(2)]
    for unit in units:
        unit.mkdir()
        (unit / place(None, TABLE, "pass.lock").name).touch()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(units[0]))
    with locked(None, [TABLE], 0):
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(units[1]))
        with pytest.raises(Locked), locked(None, [TABLE], 0):
            raise AssertionError("both hold it")
    assert [] == [file for unit in units for file in unit.iterdir()]


def test_who_watches_a_table_is_told_without_opening_a_lock(folder: Path) -> None:
    assert 0 == watching(None, [TABLE])
    with holder("watch") as other:
        assert other.pid == watching(None, [OTHER, TABLE])
        assert 0 == watching(None, [OTHER])
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert [f"{TABLE}.watch.lock"] == files(folder), "what a killed one leaves behind holds no lock"
    assert 0 == watching(None, [TABLE])


def test_without_descriptors_a_lock_is_refused_and_a_report_is_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both look into the folders of other units, which takes a descriptor."""
    monkeypatch.setattr(lock, "RUN", folder.parent)
    report = Report(None)
    with free_descriptors(0):
        with pytest.raises(UsageError, match="the lock cannot be opened: Too many open files"):
            Lock(None, [TABLE])
        report.follow([TABLE])
    report.close()
    assert [] == files(folder)
