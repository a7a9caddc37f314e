"""Runs `ip`: starts it, waits for it, and tells its ways of failing apart. The only module that imports sh."""

import json
import os
import re
import shlex
import shutil
import threading
from contextlib import suppress
from typing import Any, NamedTuple

import sh

from fz_iproute.core.model import Command
from fz_iproute.errors import IpUnusable, ReadFailed, UsageError

# The longest a single `ip` may take; a dump of a million routes needs about half a second.
TIMEOUT = 10.0

# cron and some service managers leave the administrator's folders out of PATH.
_SBIN = "/usr/sbin:/sbin"

# Printing routes as JSON came with 4.17, -Numeric with 5.2, nexthop objects with 5.3 (2019).
OLDEST = (5, 3)

_NOT_KNOWN = re.compile(r'Option "-[^"]*" is unknown|unrecognized option|invalid option|BusyBox', re.IGNORECASE)
_VERSION = re.compile(r"iproute2-(?:ss)?v?(\d+)(?:\.(\d+))?")


class Answer(NamedTuple):
    """What an `ip` said. `code` is negative if a signal ended it, None if it had to be killed for its silence."""

    argv: tuple[str, ...]
    code: int | None
    stdout: bytes
    stderr: str

    @property
    def words(self) -> str:
        """`ip`'s own words for a failure, on one line."""
        if self.code is None:
            return f"no answer within {TIMEOUT:g} s"
        if self.code < 0:
            return f"killed by signal {-self.code}"
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return " / ".join(lines[-3:]) or f"exit code {self.code} without a word"

    def documents(self) -> list[dict[str, Any]]:
        """The JSON array of a read. ReadFailed if there is any doubt: a failed read is never an empty one."""
        if self.code != 0:
            raise ReadFailed(f"{shlex.join(self.argv)}: {self.words}")
        try:
            # Interface names may hold control characters and bytes that are not UTF-8; `ip` prints them raw.
            text = self.stdout.decode("utf-8", "surrogateescape")
            documents = json.loads(text, strict=False)
        except ValueError as error:
            raise ReadFailed(f"{shlex.join(self.argv)}: printed broken JSON: {error}") from None
        if not isinstance(documents, list) or not all(isinstance(document, dict) for document in documents):
            raise ReadFailed(f"{shlex.join(self.argv)}: printed JSON, but not a list of objects")
        return documents


class Running:
    """An `ip` at work. Its output goes to files in memory, so that it never waits for us, however much it prints."""

    def __init__(self, command: Any, argv: tuple[str, ...], stdin: bytes) -> None:
        self._argv = argv
        self._stdin, self._stdout, self._stderr = (os.memfd_create(name) for name in ("stdin", "stdout", "stderr"))
        os.write(self._stdin, stdin)
        os.lseek(self._stdin, 0, os.SEEK_SET)
        self._process = command(
            *argv[1:],
            _in=self._stdin,
            _out=self._stdout,
            _err=self._stderr,
            _bg=True,
            _bg_exc=False,
            _return_cmd=True,
            _ok_code=range(-64, 256),  # read in one place, by whoever asked
        )
        # sh's own _timeout would look for the end only ten times a second.
        self._silence = threading.Timer(TIMEOUT, self._give_up)
        self._silence.daemon = True
        self._silent = False
        self._silence.start()
        self.done = False

    def _give_up(self) -> None:
        self._silent = True
        self.kill()

    def kill(self) -> None:
        """End it, whatever it is doing."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def answer(self) -> Answer:
        """Wait for the end."""
        try:
            self._process.wait()
        finally:
            self._silence.cancel()
        self.done = True
        code = None if self._silent else self._process.exit_code
        stdout, stderr = _content(self._stdout), _content(self._stderr)
        os.close(self._stdin)
        return Answer(self._argv, code, stdout, stderr.decode("utf-8", "backslashreplace"))


def _content(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()


class Ip:
    """The `ip` of this machine, in the network namespace `netns` if one is named."""

    def __init__(self, netns: str | None = None) -> None:
        path = shutil.which("ip", path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")
        if path is None:
            raise IpUnusable("ip: not found in PATH; install iproute2")
        self._command = sh.Command(path)
        self._netns = ("-n", netns) if netns else ()
        self._working: list[Running] = []

    def start(self, *words: str, stdin: bytes = b"") -> Running:
        """Start `ip` with these arguments and leave it to its work."""
        try:
            running = Running(self._command, ("ip", *self._netns, *words), stdin)
        except (sh.ForkException, OSError) as error:
            raise IpUnusable(f"ip: cannot be started: {str(error).strip().splitlines()[-1]}") from None
        self._working.append(running)
        return running

    def abandon(self) -> None:
        """End those that nobody waited for: after a failure, no child may outlive the pass."""
        for running in self._working:
            if not running.done:
                running.kill()
        self._working.clear()

    def read(self, running: Running, *, missing_is_empty: bool = False) -> list[dict[str, Any]]:
        """The documents of a read. With `missing_is_empty`, those of a table that does not exist are none."""
        answer = running.answer()
        if missing_is_empty and answer.code == 2 and "FIB table does not exist" in answer.stderr:
            return []
        if answer.code and "Cannot open network namespace" in answer.stderr:
            raise UsageError(answer.words)
        if _NOT_KNOWN.search(answer.stderr):
            raise self._too_old(answer)
        try:
            return answer.documents()
        except ReadFailed:
            # Before 4.17, `ip` took -json for a route and printed text.
            if answer.code == 0 and self._version() < OLDEST:
                raise self._too_old(answer) from None
            raise

    def line(self, command: Command) -> str:
        """The command as a line for a shell: what is printed is what is run."""
        family = ("-6",) if command.family == "inet6" else ()
        return shlex.join(("ip", *self._netns, *family, *command.words))

    def _version(self) -> tuple[int, int]:
        found = _VERSION.search(self.start("-V").answer().stdout.decode("utf-8", "replace"))
        return (int(found[1]), int(found[2] or 0)) if found else OLDEST

    def _too_old(self, answer: Answer) -> IpUnusable:
        needed = ".".join(map(str, OLDEST))
        return IpUnusable(f"{shlex.join(answer.argv)}: {answer.words}; iproute2 {needed} or newer is needed")
