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
from threading import Event
from typing import Any, NamedTuple

import sh

from fz_iproute.errors import IpUnusable, UsageError
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.words import FAMILY_OPTION, printable

# How long a single `ip` may take, in seconds. A dump of a million routes needs about half a second.
TIMEOUT = 10.0

# Directories that are missing in the PATH of cron and some service managers.
SBIN = "/usr/sbin:/sbin"

# The number of file descriptors that sh opens for a child, plus one for the pidfd.
_DESCRIPTORS_OF_A_START = 8


_SAFE_IN_A_SHELL = re.compile(r"[\w.:/ -]+", re.ASCII)


class Answer(NamedTuple):
    """What a process printed, and its exit code."""

    argv: tuple[str, ...]
    code: int | None  # negative: a signal ended it; None: it was killed after TIMEOUT
    stdout: bytes
    stderr: str

    @property
    def words(self) -> str:
        """The reason of a failure on one line: mostly the last lines of stderr."""
        if self.code is None:
            return f"no answer within {TIMEOUT:g} s"
        if self.code < 0:
            return f"killed by signal {-self.code}"
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return " / ".join(lines[-3:]) or f"exit code {self.code} and no message"

    def failure(self, words: str) -> str:
        """The message that this command failed, with these words as the reason."""
        return f"{shlex.join(self.argv)}: {words}"


# The longest duration of one poll(), in seconds. If a signal arrives just before poll() starts, Python runs its handler
# only after poll() has returned.
_LONGEST_POLL = 0.25


def is_ready(fd: int, event: int, seconds: float) -> bool:
    """Wait for an event (select.POLLIN or POLLOUT) on a descriptor. False if it does not occur in so many seconds."""
    waiting = select.poll()
    waiting.register(fd, event)
    end = time.monotonic() + seconds
    while not waiting.poll(1000 * max(0.0, min(_LONGEST_POLL, end - time.monotonic()))):
        if time.monotonic() >= end:
            return False
    return True


# The signals whose handlers may raise an exception in the middle of a pass.
_INTERRUPTING = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Delay these signals while a child starts.

    An exception between the start and the note of the child would leave a process that nobody ends. The threads that sh
    starts for the child keep these signals blocked. So only the main thread gets them, and sees them in time.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(in_child: Callable[[], None] | None) -> None:
    """Prepare the child, before it becomes `ip`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTING)
    if in_child:
        in_child()


class Process:
    """A started process. It uses the file descriptors directly: sh copies no data."""

    def __init__(
        self, command: Any, argv: tuple[str, ...], fds: tuple[int, int, int], in_child: Callable[[], None] | None
    ) -> None:
        stdin, stdout, stderr = fds
        words, encoding = argv[1:], "utf-8"
        if any("\udc80" <= sign <= "\udcff" for word in words for sign in word):
            # An argument has bytes that are not UTF-8. sh cannot encode the surrogates that stand for them. Latin-1
            # has a character for each byte.
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
        _let_sleep(self._process.process)
        self._pidfd: int | None = None
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except ProcessLookupError:
            pass  # it has ended already
        except OSError:  # the limit of descriptors was lowered after _check_descriptors()
            os.kill(self._process.pid, signal.SIGKILL)
            self.wait()
            raise

    def ends(self, seconds: float) -> bool:
        """Wait for the end of the process. False if it is still running after so many seconds."""
        return self._pidfd is None or is_ready(self._pidfd, select.POLLIN, seconds)

    def kill(self) -> None:
        """Kill the process if it is still running."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for the end of the process. Returns its exit code, which is negative if a signal ended it."""
        try:
            self._process.wait()
        except sh.ErrorReturnCode as failure:
            return int(failure.exit_code)  # no failure here: Ip.reply judges it (_ok_code fails for signals in sh 2.0)
        except ChildProcessError:
            return -signal.SIGKILL  # an earlier wait() was interrupted after it had read the exit code
        finally:
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None
        return int(self._process.exit_code)


def _let_sleep(process: Any) -> None:
    """Let the thread that sh has started for a process sleep until `wait` wakes it.

    Otherwise it would ask once a second whether the process is alive. sh has no option for that.
    """
    with suppress(AttributeError):  # another version of sh may do this in another way
        ending = process._quit_threads
        ending.wait = lambda _: Event.wait(ending)


def _check_descriptors(fd: int) -> None:
    """OSError if there are too few descriptors to start a process. sh would fail halfway, and leak some of them."""
    with ExitStack() as copies:
        for _ in range(_DESCRIPTORS_OF_A_START):
            copies.callback(os.close, os.dup(fd))


def _clean_up(error: Exception, *pipes: str) -> None:
    """After a failed start, close these pipes of sh and reap its child, because sh forgets to do so.

    The pipes are local variables of the function of sh that raised the error.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    for name in pipes:
        if name in frame.f_locals:
            os.close(frame.f_locals[name])
    if hasattr(frame.f_locals.get("self"), "pid"):
        os.waitpid(frame.f_locals["self"].pid, 0)


def pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """Create a pipe: the descriptors for reading and writing. Each stack closes the one of its side."""
    ends = os.pipe()
    reader.callback(os.close, ends[0])
    writer.callback(os.close, ends[1])
    return ends


class Running:
    """A process at work. It prints into files in memory, so it never has to wait for a reader."""

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
        """Kill the process if it is still running, and close its files."""
        if not self.done:
            self._process.kill()
            self.answer()

    def answer(self) -> Answer:
        """Wait for the end of the process, for at most TIMEOUT, and close its files."""
        # The option _timeout of sh would start a thread, and notice the end only at the next tenth of a second.
        is_late = not self._process.ends(max(0.0, self._deadline - time.monotonic()))
        if is_late:
            self._process.kill()
        exit_code = self._process.wait()
        self.done = True
        with self._files:
            self._stdout.seek(0)
            self._stderr.seek(0)
            stderr = self._stderr.read().decode("utf-8", "backslashreplace")
            return Answer(self._argv, None if is_late else exit_code, self._stdout.read(), stderr)


def _memory_file(name: str) -> Any:
    return os.fdopen(os.memfd_create(name), "w+b", buffering=0)


def _found(program: str, otherwise: str) -> Any:
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")
    if path is None:
        raise IpUnusable(f"{program}: not found in PATH; {otherwise}")
    return sh.Command(path)


def _reason(trace: str) -> str:
    """The reason in a Python traceback, without the name of the exception: `No such file or directory: '/sbin/ip'`."""
    return re.sub(r"^\s*\w+: (\[Errno \d+\] )?", "", trace.strip().splitlines()[-1])


def _spawned(
    command: Any, argv: tuple[str, ...], fds: tuple[int, int, int], in_child: Callable[[], None] | None
) -> Process:
    try:
        return Process(command, argv, fds, in_child)
    except (sh.ForkException, OSError) as error:
        if isinstance(error, sh.ForkException):
            _clean_up(error, "session_pipe_read", "session_pipe_write")
        words = (error.strerror if isinstance(error, OSError) else "") or _reason(str(error))
    except ValueError as error:  # the child ended before it had told sh its process group
        _clean_up(error, "session_pipe_read")
        words = "it was killed at its start"
    raise IpUnusable(f"{argv[0]}: cannot be started: {words}")


class Spelling:
    """Writes commands as lines for a shell, with `-n NETNS` if a network namespace is given."""

    def __init__(self, netns: str | None = None) -> None:
        ip = ("ip", "-n", netns) if netns else ("ip",)
        self._starts = {"inet": shlex.join(ip), "inet6": shlex.join((*ip, FAMILY_OPTION["inet6"]))}

    def line(self, command: Command) -> str:
        """The command as a line for a shell. It does exactly what fz-iproute does."""
        words = command.line if _SAFE_IN_A_SHELL.fullmatch(command.line) else shlex.join(command.words)
        return f"{self._starts[command.family]} {words}"

    def script(self, commands: Iterable[Command], *, reasons: bool) -> str:
        """Many commands, one line each. With `reasons`, a comment gives the reason of each."""
        # A reason may hold an interface name, and a newline in that would start a command.
        return "\n".join(
            self.line(command) + (f"  # {printable(command.reason)}" if reasons else "") for command in commands
        )


class Starter(Spelling):
    """Starts the `ip` of this machine, in the network namespace `netns` if one is given.

    `trace` is called with each command, as text for a shell; a batch is included as a here-document. `in_child` runs in
    each child before it becomes `ip`.
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
        """Start `ip` with these descriptors as stdin, stdout and stderr. `in_child` replaces that of the Starter."""
        with _signals_blocked():
            return _spawned(self._command, ("ip", *self._netns, *words), fds, in_child or self._in_child)

    def start_other(self, program: str, *words: str) -> Running:
        """Start another program in the network namespace, without waiting for it. IpUnusable if that fails."""
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
        """Kill all processes whose answers nobody has waited for: after a failure, none may outlive the pass."""
        for running in self._working:
            running.end()
        self._working.clear()
