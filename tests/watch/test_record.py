"""The journal is a shell script of all commands; the log shows them line by line."""

import re
import signal
from pathlib import Path

import pytest

from tests.netns.namespace import LAN, MIRROR, Machine, wait_until
from tests.watch import oracle
from tests.watch.conftest import Watch
from tests.watch.daemon import Daemon


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def recording(journal: Path) -> str:
    return f'[watch]\njournal = "{journal}"\n'


def test_the_journal_has_the_commands_of_the_log(machine: Machine, watch: Watch, journal: Path) -> None:
    """tests/netns/test_replay.py runs such a journal, as a shell script too, on another machine."""
    daemon = watch(recording(journal))
    for line in ("addr add 10.5.0.2/24 dev wlp192s0", "-6 route add fd00:6::/64 dev wlp192s0"):
        machine.ip(*line.split())
        daemon.wait_in_step()
    assert daemon.says(" route ") != []
    assert [line.partition("  # ")[0] for line in daemon.lines if line.startswith("ip ")] == [
        line for line in journal.read_text().splitlines() if not line.startswith("#")
    ]


def test_a_pass_that_changed_something_has_one_line_with_its_reason_and_duration(
    machine: Machine, watch: Watch, journal: Path
) -> None:
    """It stands after the commands in the log, and before them in the journal, with the time and what woke it."""
    daemon = watch(recording(journal))
    before = len(daemon.lines)
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    daemon.wait_in_step()
    expected = f"ip -n {machine.name} route add table {MIRROR} 10.5.0.0/24 dev {LAN} proto boot scope link"
    # It was woken by the event itself, or by a late echo of its own last command.
    summary = r"[\d.]+ ms, 1 command"
    woken = rf"woken by: \[ROUTE\](10\.5\.0\.0/24 dev {LAN} |\S.* table {MIRROR} ).*"
    command, said = daemon.lines[before : before + 2]
    assert f"{expected}  # missing" == command
    assert re.fullmatch(f"# {summary}", said), said
    comment, command = journal.read_text().splitlines()[-2:]
    assert re.fullmatch(rf"# \d{{4}}-\d\d-\d\dT[\d:]{{8}}\.\d{{3}}Z {summary}, {woken}", comment), comment
    assert expected == command


def test_a_pass_that_changes_nothing_is_neither_recorded_nor_logged(
    machine: Machine, watch: Watch, journal: Path
) -> None:
    daemon = watch(recording(journal))
    before, lines = journal.read_text(), daemon.lines
    passes = daemon.counters()["passes"]
    machine.ip("link", "set", "dev", LAN, "txqueuelen", "500")
    wait_until(lambda: daemon.counters()["passes"] > passes, "it has looked")
    assert before == journal.read_text()
    assert lines == [line for line in daemon.lines if not line.startswith("# events=")]


@pytest.mark.parametrize("event", ["restart", "rotation"])
def test_the_journal_grows_over_restarts_and_goes_on_in_a_new_file_after_a_rotation(
    event: str, machine: Machine, watch: Watch, journal: Path
) -> None:
    daemon = watch(recording(journal))
    before = journal.read_text()
    if event == "restart":
        daemon.stop()
        daemon.start()
    else:
        old = journal.rename(journal.with_suffix(".1"))
        daemon.send(signal.SIGHUP)
        daemon.counters()
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    daemon.wait_in_step()
    if event == "rotation":
        assert before == old.read_text()
        before = ""
    assert journal.read_text().startswith(before)
    assert "10.5.0.0/24" in journal.read_text()[len(before) :]


@pytest.fixture
def full(machine: Machine, daemon: Watch, tmp_path: Path) -> tuple[Daemon, Path]:
    """A daemon with its journal on a file system of its own, which is full; and the folder of that, from here."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=16k tmpfs "$0" && exec "$@"', str(disk))
    made: Daemon = daemon(recording(disk / "journal"), inside=["ip", "netns", "exec", machine.name, *mounted])
    made.start()
    folder = Path(f"/proc/{made.process.pid}/root{disk}")
    with pytest.raises(OSError, match="No space left"), (folder / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)
    # The rest of the page that the journal has.
    while (room := 4096 - (folder / "journal").stat().st_size % 4096) != 4096:
        with (folder / "journal").open("ab") as file:
            file.write(b"#" * (room - 1) + b"\n")
    return made, folder


def changes(machine: Machine, daemon: Daemon, numbers: range) -> None:
    for number in numbers:
        machine.ip("route", "add", f"10.5.{number}.0/24", "dev", LAN)
        daemon.wait_in_step()


def test_on_a_full_disk_it_warns_once_and_goes_on_when_there_is_space(
    machine: Machine, full: tuple[Daemon, Path]
) -> None:
    daemon, folder = full
    changes(machine, daemon, range(2))
    assert 1 == len(daemon.complaints), daemon.complaints
    assert "No space left on device" in daemon.complaints[0]
    (folder / "filler").unlink()
    changes(machine, daemon, range(2, 4))
    text = (folder / "journal").read_text()
    assert ["10.5.2.0/24", "10.5.3.0/24"] == re.findall(r"route add table \d+ (10\.5\.\S+)", text)
    assert [] == [line for line in text.splitlines() if not line.startswith(("#", "ip "))]


# The log


def test_quiet_says_nothing_of_commands(machine: Machine, watch: Watch) -> None:
    daemon = watch(options=["-q"])
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    wait_until(lambda: oracle.in_step(machine), "in step")
    assert "" == daemon.log


def test_on_a_terminal_the_lines_have_times(watch: Watch) -> None:
    lines = watch().log.splitlines()
    assert lines
    assert [] == [line for line in lines if not re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", line)]


def test_under_journald_lines_have_priorities_and_no_times(machine: Machine, watch: Watch) -> None:
    daemon = watch(environment={"JOURNAL_STREAM": "8:1"})
    daemon.configure("[lan]\nnonsense = 1\n")
    daemon.send(signal.SIGHUP)
    daemon.wait_for("last good configuration")
    lines = daemon.log.splitlines()
    assert [] == [line for line in lines if not re.match(r"<[346]>(ip |# |\S+toml: |the last )", line)]
    assert {"<3>", "<4>", "<6>"} == {line[:3] for line in lines}


def test_under_journald_what_keeps_it_from_starting_is_an_error(daemon: Watch) -> None:
    made = daemon("[lan]\nnonsense = 1\nmore = 2\n", environment={"JOURNAL_STREAM": "8:1"}).start(ready=False)
    wait_until(lambda: not made.alive, "it ends")
    assert [True, True] == [line.startswith("<3>") for line in made.log.splitlines()]
