"""`status` on a terminal: it fits the width, has colours, and with --watch is drawn again after each change."""

import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fz_iproute.ip.monitor import LISTENS_AFTER
from tests.netns.namespace import DEADLINE, LAN, MIRROR, PROGRAM, Machine, wait_until
from tests.netns.wiretap import fake_ip

COLOUR = re.compile(r"\x1b\[\d*m")
CLEAR = "\x1b[H\x1b[2J"


class Terminal:
    """The program on a terminal of some width."""

    def __init__(self, machine: Machine, *argv: str, columns: int = 80, **environment: str) -> None:
        self._fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        options = machine.fz_options()
        options["env"] |= environment
        self.process = subprocess.Popen(
            machine.fz_argv(*argv), stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0),  # noqa: PLW1509  # nothing else makes it its own
            **options,
        )  # fmt: skip
        os.close(theirs)
        self.shown = ""
        self._children: list[str] = []

    def read(self, seconds: float = 0.0) -> str:
        """All that it has shown so far. Ends even if the program never stops drawing."""
        for _ in range(100):
            if not select.select([self._fd], [], [], seconds)[0]:
                break
            try:
                part = os.read(self._fd, 1 << 16)
            except OSError:  # nobody has it open any more
                break
            self.shown += part.decode().replace("\r\n", "\n")
        return self.shown

    @property
    def picture(self) -> str:
        """What it shows now, without colours."""
        return COLOUR.sub("", self.read().rpartition(CLEAR)[2])

    def wait_for(self, words: str, deadline: float = DEADLINE) -> None:
        """Wait until it shows these words."""
        wait_until(lambda: words in self.picture, f"it shows {words!r}", deadline)

    def wait_for_no_child(self) -> None:
        """Wait until all processes have ended that it had started."""
        wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in self._children), "no child is left")

    def listens(self) -> bool:
        """True if it has started `ip monitor`."""
        pid = self.process.pid
        self._children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return bool(self._children)

    def resize(self, columns: int) -> None:
        """Change the width; the kernel signals that to the program."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def end(self) -> int:
        """Wait until the program ends; return its exit code."""
        wait_until(lambda: self.read() is None or self.process.poll() is not None, "it has ended")
        self.read(0.05)
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stderr
        self.process.stderr.close()
        os.close(self._fd)


@contextmanager
def terminal(machine: Machine, *argv: str, columns: int = 80, **environment: str) -> Iterator[Terminal]:
    made = Terminal(machine, *argv, columns=columns, **environment)
    try:
        yield made
    finally:
        made.close()


def shown(machine: Machine, *argv: str, columns: int = 80, **environment: str) -> str:
    with terminal(machine, *argv, columns=columns, **environment) as made:
        assert 0 == made.end()
        return made.shown


@pytest.fixture
def eventful(machine: Machine) -> Machine:
    """A machine with at least one route for every mark of the picture."""
    machine.fz("sync")
    machine.ip("addr", "add", "192.168.188.77/24", "dev", LAN, "metric", "600")
    machine.ip("addr", "del", "192.168.188.112/24", "dev", LAN)
    machine.batch(
        [
            f"route add 10.50.0.0/16 dev {LAN} scope link",
            f"route add 100.96.7.0/24 dev {LAN} scope link",
            f"route add 10.9.0.0/24 dev {LAN} scope link table {MIRROR}",
        ]
    )
    return machine


def test_no_line_is_longer_than_the_terminal(eventful: Machine) -> None:
    plain = eventful.fz("status", "--routes")
    assert "\x1b" not in plain
    for columns in (0, 400, 100, 60, 30, 12):
        lines = COLOUR.sub("", shown(eventful, "status", "--routes", columns=columns)).splitlines()
        if columns in (0, 400):  # without a size, all is shown
            assert plain.splitlines() == lines
            continue
        assert [] == [line for line in lines if len(line) > columns], columns
        if columns == 60:
            assert any(line.endswith("…") for line in lines)
            # A long reason gets a line of its own.
            assert any(line.lstrip().startswith("# the VPN's table") for line in lines)


@pytest.mark.parametrize("verb", [("detect",), ("explain", "192.168.188.1", "9.9.9.9")], ids=" ".join)
def test_detect_and_explain_fit_the_terminal_and_lose_no_word(eventful: Machine, verb: tuple[str, ...]) -> None:
    def words(text: str) -> list[str]:
        return re.sub(r"-c\s+\S+\.toml", "", text).split()  # each run has a configuration of its own

    plain = words(eventful.fz(*verb))
    for columns in (400, 80, 40):
        text = COLOUR.sub("", shown(eventful, *verb, columns=columns))
        assert plain == words(text)
        assert [] == [line for line in text.splitlines() if len(line) > columns and ".toml" not in line]


def test_only_a_terminal_gets_colours_and_only_without_no_color(eventful: Machine) -> None:
    assert not COLOUR.search(shown(eventful, "status", "--routes", columns=200, NO_COLOR="1"))
    assert COLOUR.search(shown(eventful, "status", "--routes", columns=200, NO_COLOR=""))
    assert "\x1b" not in shown(eventful, "status", "--routes", "--json")
    assert "\x1b" not in eventful.fz("plan") + shown(eventful, "plan")


def test_watch_draws_again_after_a_change_and_ends_on_ctrl_c(machine: Machine) -> None:
    machine.fz("sync")
    with terminal(machine, "status", "--routes", "--watch", columns=200) as made:
        made.wait_for("= in step")
        first = made.shown.count(CLEAR)
        assert "10.50.0.0/16" not in made.shown
        machine.batch([f"route add 10.50.0.0/16 dev {LAN} scope link"])
        made.wait_for("+ 10.50.0.0/16")
        machine.ip("link", "set", "dev", LAN, "down")
        wait_until(lambda: "10.50.0.0/16" not in made.picture, "the third picture")
        # A burst of events leads to one or two pictures, not to one for each event.
        drawn = made.shown.count(CLEAR)
        assert drawn > first
        machine.batch([f"route add 10.51.{number}.0/24 dev uplink0 scope link" for number in range(200)])
        made.wait_for("10.51.199.0/24")
        assert made.shown.count(CLEAR) < drawn + 20
        assert made.listens()
        made.press(b"\x03")
        assert 130 == made.end()
        made.wait_for_no_child()
        assert made.process.stderr
        assert b"" == made.process.stderr.read()


def test_a_renamed_interface_is_shown_by_its_new_name(machine: Machine) -> None:
    with terminal(machine, "status", "--routes", "--watch", columns=200) as made:
        made.wait_for(f"dev {LAN} ")
        for words in (["down"], ["name", "other0"], ["up"]):
            machine.ip("link", "set", "dev", "other0" if words == ["up"] else LAN, *words)
        made.wait_for("dev other0 ")


def test_watch_draws_again_when_the_terminal_changes_its_size(eventful: Machine) -> None:
    def longest() -> int:
        return max(map(len, made.picture.splitlines()), default=0)

    with terminal(eventful, "status", "--routes", "--watch", columns=200) as made:
        wait_until(lambda: longest() > 60, "the first picture")
        made.resize(60)
        wait_until(lambda: 0 < longest() <= 60, "a narrow picture")
        made.resize(200)
        wait_until(lambda: longest() > 60, "a wide picture")


def test_sigterm_ends_watch_and_its_children(machine: Machine) -> None:
    with terminal(machine, "status", "--routes", "--watch") as made:
        wait_until(made.listens, "it listens")
        made.process.send_signal(signal.SIGTERM)
        assert 143 == made.end()
        made.wait_for_no_child()


def test_watch_draws_a_snapshot_once(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    machine.fz("snapshot", "-o", str(path))
    assert machine.fz("status", "--routes") == machine.fz("status", "--routes", "--watch", "--snapshot", str(path))


def with_monitor(folder: Path, script: str) -> str:
    """A folder for PATH, with an `ip` that runs the script instead of `ip monitor`."""
    return fake_ip(folder, f'case "$*" in *monitor*) {script} ;; esac\nexec "$ip" "$@"')


def test_a_change_before_the_monitor_listens_is_shown_without_another_event(machine: Machine, tmp_path: Path) -> None:
    path = f"{with_monitor(tmp_path, 'sleep 1')}:{os.environ['PATH']}"
    with terminal(machine, "status", "--routes", "--watch", columns=200, PATH=path) as made:
        made.wait_for("= in step")
        machine.batch([f"route add 10.50.0.0/16 dev {LAN} scope link"])
        made.wait_for("10.50.0.0/16", 6)


@pytest.mark.parametrize("option", ["--routes", "--json", "--color=auto"])
def test_watch_draws_again_only_what_has_changed_or_what_the_terminal_has_lost(machine: Machine, option: str) -> None:
    start = '"schema"' if option == "--json" else CLEAR
    drawn = 1

    def is_drawn() -> bool:
        return made.read().count(start) == drawn and made.shown.endswith("\n")

    with terminal(machine, "status", option, "--watch", columns=200) as made:
        wait_until(is_drawn, "the first picture")
        time.sleep(LISTENS_AFTER + 1.5)  # the second look comes in this time
        machine.batch([f"route add 10.50.0.0/16 dev {LAN} scope link table 999"])
        time.sleep(0.5)
        assert is_drawn(), "it shows no table but main and the VPN's"
        for draw_again in (lambda: made.resize(201), lambda: made.process.send_signal(signal.SIGCONT)):
            drawn += 1
            draw_again()
            wait_until(is_drawn, "the same picture again")


def test_the_end_of_the_monitor_ends_watch_with_an_error(machine: Machine, tmp_path: Path) -> None:
    """Otherwise the picture would never change again."""
    done = machine.fz_done("status", "--routes", "--watch", path=with_monitor(tmp_path, "echo oops >&2; exit 1"))
    assert 6 == done.returncode
    assert "error: ip monitor has ended: oops\n" == done.stderr
    assert "lookup" in done.stdout
    assert CLEAR not in done.stdout  # a pipe is no screen


def test_an_error_of_the_monitor_counts_as_one_event(machine: Machine, tmp_path: Path) -> None:
    """Left unread on stderr, it would wake the program for ever."""
    words = "netlink receive error No buffer space available (105)"
    folder = with_monitor(tmp_path, f"echo {shlex.quote(words)} >&2")
    path = f"{folder}:{os.environ['PATH']}"
    with terminal(machine, "status", "--routes", "--watch", columns=200, PATH=path) as made:
        made.wait_for("= in step")
        wait_until(lambda: made.read() == made.read(0.5), "it draws nothing while nothing changes", 10)
        machine.batch([f"route add 10.50.0.0/16 dev {LAN} scope link"])
        made.wait_for("+ 10.50.0.0/16")


# Runs the program and then reports the state of the garbage collector.
REPORT_COLLECTOR = """
import gc, sys
from fz_iproute.cli import main
code = main(sys.argv[1:])
print("collects garbage" if gc.isenabled() else "collects none", file=sys.stderr)
sys.exit(code)
"""


def test_watch_ends_when_nobody_reads_it_and_collects_its_garbage_until_then(machine: Machine) -> None:
    """As in `status --watch | head -1`, in a network where nothing changes."""
    argv = [sys.executable, "-c", REPORT_COLLECTOR, *machine.fz_argv("status", "--routes", "--watch")[len(PROGRAM) :]]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(argv, **pipes, **machine.fz_options())
    assert process.stdout and process.stderr
    with process.stderr as stderr:
        with process.stdout as stdout:
            assert stdout.readline()
        try:
            assert 0 == process.wait(DEADLINE)
        finally:
            process.kill()
        assert b"collects garbage\n" == stderr.read()
