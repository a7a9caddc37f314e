"""A `watch` process under test: its log, its children, what it tells the service manager, and its end."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from fz_iproute.ip.coprocess import WORN_OUT
from fz_iproute.ip.process import TIMEOUT
from tests.netns.namespace import DEADLINE, Namespace, wait_until
from tests.watch import oracle

_COUNTERS = re.compile(r"# events=.*")
# Runs the program with other limits. A test cannot wait ten seconds for each `ip` that hangs.
_ALTERED = """
import sys
import fz_iproute.ip.process
fz_iproute.ip.process.TIMEOUT = {patience}
import fz_iproute.ip.coprocess
fz_iproute.ip.coprocess.WORN_OUT = {most_lines}
from fz_iproute.cli import main
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def ending(namespace: Namespace) -> Iterator[Callable[..., "Daemon"]]:
    """Makes daemons for the namespace without starting them, and ends them after the block."""
    with ExitStack() as stack:

        def make(config: str = "", **options: Any) -> Daemon:
            made = Daemon(namespace, config, **options)
            stack.callback(made.end)
            return made

        yield make


class Daemon:
    """`fz-iproute watch` in a namespace. It may be started again after its end. `end` checks that nothing is left."""

    def __init__(
        self,
        namespace: Namespace,
        config: str = "",
        *,
        path: Path | None = None,
        environment: dict[str, str] | None = None,
        options: Sequence[str] = (),
        inside: Sequence[str] = (),
        patience: float | None = None,
        most_lines: int | None = None,
        default_config: bool = False,
    ) -> None:
        """`path` goes in front of PATH; `inside` is a command that runs the rest of its line, in the namespace.

        `patience` replaces the ten seconds that an `ip` may take, `most_lines` the number after which a coprocess is
        renewed; with `default_config`, there is no `-c`.
        """
        self.namespace = namespace
        self.config = namespace.config(config)
        self.told: list[str] = []  # by sd_notify, an assignment each
        self._token = secrets.token_hex(8)
        folder = namespace.runtime / self._token
        folder.mkdir()
        self.log_file = folder / "log"
        self.socket = folder / "notify"
        self._telling = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._telling.bind(str(self.socket))
        self.socket.chmod(0o777)
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

        altered = _ALTERED.format(patience=patience or TIMEOUT, most_lines=most_lines or WORN_OUT)
        code = ["-c", altered] if patience or most_lines else ["-m", "fz_iproute"]
        where = [] if inside else ["--netns", namespace.name]
        config_words = [] if default_config else ["-c", str(self.config)]
        self.argv = [*inside, sys.executable, *code, *where, *config_words, *options, "watch"]
        self._settings = namespace.fz_options(str(path) if path else None)
        self._settings["env"] |= {"NOTIFY_SOCKET": str(self.socket), "FZ_TEST": self._token, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    # Life

    def start(self, *, ready: bool = True) -> "Daemon":
        """Start it; with `ready`, wait for its first pass."""
        self.told.clear()
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, **self._settings
            )
        if ready:
            wait_until(lambda: "READY=1" in self.told or not self.alive, "READY=1")
            assert self.alive, f"it ended with {self.process.returncode}: {self.log}"
        return self

    def configure(self, text: str) -> None:
        """Replace its configuration file in one step: it must never see an empty one."""
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o644)
        new.replace(self.config)

    def reload(self, text: str) -> None:
        """Put a new configuration in force."""
        before = self.counters()["reloads"]
        self.configure(text)
        self.send(signal.SIGHUP)
        wait_until(lambda: self.counters()["reloads"] > before, "it has reloaded")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process
        return self._process

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and check that no child is left. Returns the exit code."""
        self.send(number)
        code = self.process.wait(DEADLINE)
        self.wait_for_no_child()
        return code

    def kill(self) -> None:
        """Send SIGKILL, and wait until its children have ended by themselves."""
        self.stop(signal.SIGKILL)

    def end(self) -> None:
        """After a test: end it, and check that it has left no process and logged no traceback."""
        try:
            if self.alive:
                self.kill()
            self.wait_for_no_child()
            assert "Traceback" not in self.log
        finally:
            for pid in self.family():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self._process:
                self._process.wait(DEADLINE)
            self._telling.shutdown(socket.SHUT_RD)
            self._listener.join()
            self._telling.close()

    # Children

    def family(self) -> list[int]:
        """The daemon and all that it has started, orphans too. They have a mark in their environment."""
        mark = f"FZ_TEST={self._token}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (path / "environ").read_bytes().split(b"\0"):
                    found.append(int(path.name))
        return found

    def children(self) -> dict[int, str]:
        """The command lines of its children, by process."""
        found: dict[int, str] = {}
        for task in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with suppress(OSError):
                for pid in map(int, task.read_text().split()):
                    found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def monitor(self) -> int:
        """The process of `ip monitor`."""
        return wait_until(lambda: next(iter(self.children_like(" monitor ")), 0), "there is an ip monitor")

    def coprocesses(self) -> list[int]:
        """The processes of its coprocesses, one for each family."""

        def both() -> list[int]:
            # A process that answers and ends reads a file in memory.
            found = self.children_like(" -batch ")
            with suppress(OSError):
                talking = [pid for pid in found if str(Path(f"/proc/{pid}/fd/0").readlink()).startswith("pipe:")]
                return talking if len(talking) == 2 else []
            return []

        return wait_until(both, "there are two coprocesses")

    def children_like(self, words: str) -> list[int]:
        return [pid for pid, line in self.children().items() if words in line]

    def wait_for_no_child(self) -> None:
        wait_until(lambda: not set(self.family()) - ({self.process.pid} if self.alive else set()), "no child is left")

    # Words

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8", "surrogateescape")

    @property
    def lines(self) -> list[str]:
        """The log without its time stamps."""
        return [re.sub(r"^\d{4}-\d\d-\d\dT\S+Z ", "", line) for line in self.log.splitlines()]

    @property
    def complaints(self) -> list[str]:
        """Its warnings and errors."""
        return [line for line in self.lines if line.startswith(("warning: ", "error: "))]

    def says(self, words: str) -> list[str]:
        """The log lines with these words."""
        return [line for line in self.lines if words in line]

    def wait_for(self, words: str, count: int = 1) -> str:
        """Wait for the `count`-th log line with these words, and return it."""
        try:
            wait_until(lambda: len(self.says(words)) >= count or not self.alive, f"it logs {words!r}")
        except AssertionError as error:
            error.add_note(self.log)
            raise
        found = self.says(words)
        assert len(found) >= count, f"it ended with {self.process.returncode}: {self.log}"
        return found[count - 1]

    def counters(self) -> dict[str, int]:
        """What it logs for SIGUSR1. It has then read all that `ip monitor` had printed before."""
        before = len(_COUNTERS.findall(self.log))
        self.send(signal.SIGUSR1)
        wait_until(lambda: len(_COUNTERS.findall(self.log)) > before or not self.alive, "it logs its counters")
        assert self.alive, f"it ended with {self.process.returncode}: {self.log}"
        return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", _COUNTERS.findall(self.log)[-1])}

    def _listen(self) -> None:
        while words := self._telling.recv(65536).decode():
            self.told += words.split("\n")

    # The state of the kernel

    def wait_in_step(self, condition: Callable[[], bool] | None = None) -> None:
        """Wait until the mirror is in step, or `condition` holds, and that is still so when all events are read."""
        holds = condition or (lambda: oracle.in_step(self.namespace))
        for _ in range(3):
            try:
                wait_until(lambda: holds() or not self.alive, "the mirror is in step")
            except AssertionError as error:
                error.add_note(self.log)
                raise
            assert self.alive, f"it ended with {self.process.returncode}: {self.log}"
            self.counters()
            if holds():
                return
        raise AssertionError(f"in step for moments only: {self.log}")
