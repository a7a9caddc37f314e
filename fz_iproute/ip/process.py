"""Starts `ip` and waits for it. The only module that imports sh."""

import os
import re
import select
import shlex
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import sh

from fz_iproute.errors import IpUnusable, UsageError
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.words import FAMILY_OPTION, printable

# The longest that a single `ip` may take, in seconds. A dump of a million routes needs about half a second.
TIMEOUT = 10.0

# cron and some service managers leave these directories out of PATH.
SBIN = "/usr/sbin:/sbin"

# As many descriptors as sh opens for a child, and one for the pidfd.
_DESCRIPTORS_OF_A_START = 8


_SAFE_IN_A_SHELL = re.compile(r"[\w.:/ -]+", re.ASCII)


class Answer(NamedTuple):
    """What an `ip` printed. `code` is negative if a signal ended it, None if it was killed because it was silent."""

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
        return " / ".join(lines[-3:]) or f"exit code {self.code} and no message"

    def failure(self, words: str) -> str:
        """The message that the command failed with these words."""
        return f"{shlex.join(self.argv)}: {words}"


# If a signal arrives just before poll() starts, Python's handler runs only after poll() has returned. So each poll()
# is at most this long, in seconds.
_LONGEST_POLL = 0.25


def is_ready(fd: int, event: int, seconds: float) -> bool:
    """Wait for select.POLLIN or POLLOUT; False if it does not come within so many seconds."""
    waiting = select.poll()
    waiting.register(fd, event)
    end = time.monotonic() + seconds
    while not waiting.poll(1000 * max(0.0, min(_LONGEST_POLL, end - time.monotonic()))):
        if time.monotonic() >= end:
            return False
    return True


# The signals whose handlers may interrupt a pass by raising.
_INTERRUPTING = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Delay signals until a new child is noted: nobody could end a child that is not."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(in_child: Callable[[], None] | None) -> None:
    """Run in the child, before it becomes `ip`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTING)
    if in_child:
        in_child()


class Process:
    """A started `ip`. It reads and writes the given file descriptors directly, without a thread of ours between."""

    def __init__(
        self, command: Any, argv: tuple[str, ...], fds: tuple[int, int, int], in_child: Callable[[], None] | None
    ) -> None:
        stdin, stdout, stderr = fds
        words, encoding = argv[1:], "utf-8"
        if any("\udc80" <= sign <= "\udcff" for word in words for sign in word):
            # A name that is not UTF-8. sh does not know surrogateescape, but Latin-1 has a character for every byte.
            words, encoding = tuple(os.fsencode(word).decode("latin-1") for word in words), "latin-1"
        _check_descriptors(stderr)
        self._process = command(
            *words,
            _encoding=encoding,
            _in=stdin,
            _out=stdout,
            _err=stderr,
            _bg=True,
            _bg_exc=False,
            _return_cmd=True,
            _preexec_fn=partial(_begin, in_child),
        )
        try:
            self._pidfd: int | None = os.pidfd_open(self._process.pid)
        except ProcessLookupError:
            self._pidfd = None  # it has ended already

    def ends(self, seconds: float) -> bool:
        """Wait for its end; False if that does not come within so many seconds."""
        return self._pidfd is None or is_ready(self._pidfd, select.POLLIN, seconds)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end; the exit code, negative if a signal ended it."""
        try:
            self._process.wait()
        except sh.ErrorReturnCode as failure:
            return int(failure.exit_code)  # Ip.reply judges it (sh 2.0 ignores an _ok_code for signals)
        except ChildProcessError:
            return -signal.SIGKILL  # an earlier wait() was interrupted after it had fetched the exit code
        finally:
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None
        return int(self._process.exit_code)


def _check_descriptors(fd: int) -> None:
    """OSError if there are not enough descriptors for a start: sh would fail halfway and leak those it has opened."""
    with ExitStack() as copies:
        for _ in range(_DESCRIPTORS_OF_A_START):
            copies.callback(os.close, os.dup(fd))


def _clean_up(error: Exception, *pipes: str) -> None:
    """Close the pipes and reap the child that sh forgets where the child could not become `ip`."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    for name in pipes:
        if name in frame.f_locals:
            os.close(frame.f_locals[name])
    if hasattr(frame.f_locals.get("self"), "pid"):
        os.waitpid(frame.f_locals["self"].pid, 0)


def pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """A new pipe; each stack closes the end of its side."""
    ends = os.pipe()
    reader.callback(os.close, ends[0])
    writer.callback(os.close, ends[1])
    return ends


class Running:
    """An `ip` at work. It writes to files in memory, so it never waits for us, however much it prints."""

    def __init__(self, start: Callable[[tuple[int, int, int]], Process], argv: tuple[str, ...], stdin: bytes) -> None:
        self.done = False
        self._argv = argv
        with ExitStack() as files:
            opened = [files.enter_context(_memory_file(name)) for name in ("stdin", "stdout", "stderr")]
            self._stdin, self._stdout, self._stderr = opened
            self._stdin.write(stdin)
            self._stdin.seek(0)
            self._process = start((self._stdin.fileno(), self._stdout.fileno(), self._stderr.fileno()))
            self._files = files.pop_all()
        self._deadline = time.monotonic() + TIMEOUT

    def end(self) -> None:
        """Kill it if it still runs, and close its files."""
        if not self.done:
            self._process.kill()
            self.answer()

    def answer(self) -> Answer:
        """Wait for its end, and close its files."""
        # sh's own _timeout would start a thread, and look for the end only ten times a second.
        silent = not self._process.ends(max(0.0, self._deadline - time.monotonic()))
        if silent:
            self._process.kill()
        exit_code = self._process.wait()
        self.done = True
        with self._files:
            self._stdout.seek(0)
            self._stderr.seek(0)
            stderr = self._stderr.read().decode("utf-8", "backslashreplace")
            return Answer(self._argv, None if silent else exit_code, self._stdout.read(), stderr)


def _memory_file(name: str) -> Any:
    return os.fdopen(os.memfd_create(name), "w+b", buffering=0)


def _found(program: str, otherwise: str) -> Any:
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")
    if path is None:
        raise IpUnusable(f"{program}: not found in PATH; {otherwise}")
    return sh.Command(path)


def _spawned(
    command: Any, argv: tuple[str, ...], fds: tuple[int, int, int], in_child: Callable[[], None] | None
) -> Process:
    try:
        return Process(command, argv, fds, in_child)
    except (sh.ForkException, OSError) as error:
        if isinstance(error, sh.ForkException):
            _clean_up(error, "session_pipe_read", "session_pipe_write")
        words = str(error).strip().splitlines()[-1]
    except ValueError as error:  # sh could not read what the child says of itself
        _clean_up(error, "session_pipe_read")
        words = "it was killed at its start"
    raise IpUnusable(f"{argv[0]}: cannot be started: {words}")


class Spelling:
    """How commands are written for a shell; those of the network namespace `netns`, if one is named."""

    def __init__(self, netns: str | None = None) -> None:
        ip = ("ip", "-n", netns) if netns else ("ip",)
        self._starts = {"inet": shlex.join(ip), "inet6": shlex.join((*ip, FAMILY_OPTION["inet6"]))}

    def line(self, command: Command) -> str:
        """The command as a line for a shell: what is printed is what is run."""
        words = command.line if _SAFE_IN_A_SHELL.fullmatch(command.line) else shlex.join(command.words)
        return f"{self._starts[command.family]} {words}"

    def script(self, commands: Iterable[Command], *, reasons: bool) -> str:
        """A line for each of them, with its reason as a comment if wanted."""
        # A reason may hold an interface name, and a newline in that would start a command.
        return "\n".join(
            self.line(command) + (f"  # {printable(command.reason)}" if reasons else "") for command in commands
        )


class Starter(Spelling):
    """Starts the `ip` of this machine, in the network namespace `netns` if one is named.

    `trace` is told each command that is started, as a line for a shell; the lines of a batch follow in it. `in_child`
    runs in each child before it becomes `ip`.
    """

    def __init__(
        self,
        netns: str | None = None,
        trace: Callable[[str], None] | None = None,
        in_child: Callable[[], None] | None = None,
    ) -> None:
        if netns == "":
            raise UsageError("--netns: the name is empty")
        super().__init__(netns)
        self._command = _found("ip", "install iproute2")
        self.netns = netns
        self._netns = ("-n", netns) if netns else ()
        self.trace = trace
        self._in_child = in_child
        self._working: list[Running] = []

    def start(self, *words: str, stdin: bytes = b"") -> Running:
        """Start `ip` with these arguments, without waiting for it."""
        return self._started(self._command, ("ip", *self._netns, *words), stdin)

    def spawn(
        self, words: tuple[str, ...], fds: tuple[int, int, int], in_child: Callable[[], None] | None = None
    ) -> Process:
        """Start `ip` on these descriptors for stdin, stdout and stderr, perhaps with an `in_child` of its own."""
        return _spawned(self._command, ("ip", *self._netns, *words), fds, in_child or self._in_child)

    def start_other(self, program: str, *words: str) -> Running:
        """Start another program in the network namespace, without waiting for it. IpUnusable if it cannot be."""
        command = _found(program, "it is not installed")
        if self.netns:
            return self.start("netns", "exec", self.netns, program, *words)
        return self._started(command, (program, *words), b"")

    def _started(self, command: Any, argv: tuple[str, ...], stdin: bytes) -> Running:
        if self.trace:
            text = stdin.decode("utf-8", "backslashreplace")
            self.trace(f"{shlex.join(argv)} <<END\n{text}END" if text else shlex.join(argv))
        with _signals_blocked():
            running = Running(lambda fds: _spawned(command, argv, fds, self._in_child), argv, stdin)
            self._working.append(running)
        return running

    def abandon(self) -> None:
        """Kill those that nobody has waited for: after a failure, no child may outlive the pass."""
        for running in self._working:
            running.end()
        self._working.clear()
