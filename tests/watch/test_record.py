"""The journal is a shell script of all commands; the log shows them line by line."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.namespace import LAN, MIRROR, Machine, removing, run, wait_until
from tests.watch import oracle
from tests.watch.conftest import Watch
from tests.watch.daemon import Daemon


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def twin(runtime: Path) -> Iterator[Machine]:
    """Another machine, the same to the last route."""
    with removing(Machine(runtime)) as made:
        assert isinstance(made, Machine)
        yield made


def woken_by(route: str) -> str:
    """A pattern: the event itself, or a late echo of the daemon's own last command."""
    return rf"woken by: \[ROUTE\]({route} |\S.* table {MIRROR} ).*"


def recording(journal: Path) -> str:
    return f'[watch]\njournal = "{journal}"\n'


# No link goes down here: then the kernel deletes routes by itself, which no record of commands shows.
LIFE = [
    "addr add 10.5.0.2/24 dev wlp192s0",
    "route add 10.6.0.0/24 dev wlp192s0 mtu 1300",
    "-6 route add fd00:6::/64 dev wlp192s0",
    "addr add 192.168.188.113/24 dev wlp192s0 metric 600",
    "addr del 192.168.188.112/24 dev wlp192s0",
    "route del 10.6.0.0/24",
    "addr add 10.7.0.2/24 dev uplink0",
    "-6 route replace fd00:6::/64 dev uplink0 metric 50",
]


def lived(machine: Machine, daemon: Daemon) -> None:
    for line in LIFE:
        machine.ip(*line.split())
        daemon.wait_in_step()


# The journal


def repeated_on(twin: Machine, machine: Machine, commands: str) -> None:
    """Do there what has happened to the machine, then run the commands: the mirrors are the same."""
    for line in LIFE:
        twin.ip(*line.split())
    run("sh", stdin=commands.replace(machine.name, twin.name), check=False)
    families = ("inet", "inet6")
    assert [machine.routes(family) for family in families] == [twin.routes(family) for family in families]


def test_the_journal_is_a_shell_script_with_the_commands_of_the_log(
    machine: Machine, twin: Machine, watch: Watch, journal: Path
) -> None:
    daemon = watch(recording(journal))
    lived(machine, daemon)
    repeated_on(twin, machine, journal.read_text())
    assert daemon.says(" route ") != []
    assert [line for line in daemon.lines if line.startswith("ip ")] == [
        line for line in journal.read_text().splitlines() if not line.startswith("#")
    ]


def test_a_comment_with_time_reason_and_duration_stands_before_the_commands(
    machine: Machine, watch: Watch, journal: Path
) -> None:
    daemon = watch(recording(journal))
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    daemon.wait_in_step()
    comment, command = journal.read_text().splitlines()[-2:]
    assert re.fullmatch(
        r"# \d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z [\d.]+ ms, 1 command, " + woken_by(r"10\.5\.0\.0/24 dev wlp192s0"),
        comment,
    )
    assert f"ip -n {machine.name} route add table {MIRROR} 10.5.0.0/24 dev {LAN} proto boot scope link" == command


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


def test_the_journal_grows_over_restarts(machine: Machine, watch: Watch, journal: Path) -> None:
    daemon = watch(recording(journal))
    before = journal.read_text()
    daemon.stop()
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    daemon.start()
    assert journal.read_text().startswith(before)
    assert "10.5.0.0/24" in journal.read_text()[len(before) :]


def test_after_a_rotation_it_goes_on_in_a_new_file(machine: Machine, watch: Watch, journal: Path) -> None:
    daemon = watch(recording(journal))
    old = journal.rename(journal.with_suffix(".1"))
    before = old.read_text()
    daemon.send(signal.SIGHUP)
    daemon.counters()
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    daemon.wait_in_step()
    assert before == old.read_text()
    assert "10.5.0.0/24" in journal.read_text()


def test_a_journal_that_is_a_fifo_is_told_of_once_and_does_not_keep_it_from_working(
    machine: Machine, watch: Watch, journal: Path
) -> None:
    os.mkfifo(journal)
    daemon = watch(recording(journal))
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    daemon.wait_in_step()
    assert [f"warning: watch.journal: {journal}: not a regular file; going on without the record"] == daemon.complaints


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


def test_a_pass_that_changed_something_is_summed_up_in_one_line(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    before = len(daemon.lines)
    machine.batch(["-6 route add fd00:5::/64 dev wlp192s0"])
    daemon.wait_for("fd00:5::/64")
    wait_until(lambda: len(daemon.lines) >= before + 2, "it has summed up")
    command, summary = daemon.lines[before : before + 2]
    assert command.startswith(f"ip -n {machine.name} -6 route add table {MIRROR} fd00:5::/64 ")
    assert re.fullmatch(r"# [\d.]+ ms, 1 command, " + woken_by("fd00:5::/64 dev wlp192s0"), summary), summary


def test_quiet_says_nothing_of_commands(machine: Machine, watch: Watch) -> None:
    daemon = watch(options=["-q"])
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    wait_until(lambda: oracle.in_step(machine), "in step")
    assert "" == daemon.log


def test_on_a_terminal_the_lines_have_times(watch: Watch) -> None:
    lines = watch().log.splitlines()
    assert lines
    assert [] == [line for line in lines if not re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", line)]


def test_as_json_each_line_is_a_document(machine: Machine, watch: Watch) -> None:
    daemon = watch(options=["--log-format", "json"])
    documents = [json.loads(line) for line in daemon.log.splitlines()]
    assert [{"time", "level", "message"}] * len(documents) == [set(document) for document in documents]
    assert {"info"} == {document["level"] for document in documents}
    assert any(document["message"].startswith(f"ip -n {machine.name} ") for document in documents)


def test_under_journald_lines_have_priorities_and_no_times(machine: Machine, watch: Watch) -> None:
    daemon = watch(environment={"JOURNAL_STREAM": "8:1"})
    daemon.config.write_text("[lan]\nnonsense = 1\n")
    daemon.send(signal.SIGHUP)
    daemon.wait_for("last good configuration")
    lines = daemon.log.splitlines()
    assert [] == [line for line in lines if not re.match(r"<[346]>(ip |# |\S+toml: |the last )", line)]
    assert {"<3>", "<4>", "<6>"} == {line[:3] for line in lines}


def test_under_journald_what_keeps_it_from_starting_is_an_error(daemon: Watch) -> None:
    made = daemon("[lan]\nnonsense = 1\nmore = 2\n", environment={"JOURNAL_STREAM": "8:1"}).start(ready=False)
    wait_until(lambda: not made.alive, "it ends")
    assert [True, True] == [line.startswith("<3>") for line in made.log.splitlines()]
