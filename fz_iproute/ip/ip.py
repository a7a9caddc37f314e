"""Runs `ip`: starts it, waits for it, and tells its ways of failing apart. The only module that imports sh."""

import os
import re
import select
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, Protocol

import sh

from fz_iproute.errors import IpUnusable, ReadFailed, UsageError
from fz_iproute.ip.version import OLDEST, is_too_old
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.parse import Document, answer_of, documents_of
from fz_iproute.mirror.prefix import Family
from fz_iproute.mirror.words import FAMILY_OPTION

# The longest a single `ip` may take; a dump of a million routes needs about half a second.
TIMEOUT = 10.0

# cron and some service managers leave the administrator's folders out of PATH.
_SBIN = "/usr/sbin:/sbin"

_NOT_KNOWN = re.compile(r'Option "-[^"]*" is unknown|unrecognized option|invalid option|BusyBox', re.IGNORECASE)
# The kernel's answer, for IPv6; that no netlink socket can be opened in a sandbox is said with similar words.
_NO_FAMILY = "RTNETLINK answers: Address family not supported"
_PLAIN = re.compile(r"[\w.:/ \n-]+", re.ASCII)  # nothing that a shell would read otherwise
_FAILED = re.compile(r"Command failed -:(\d+)")
_NO_TABLE = "FIB table does not exist"
# Something came or went while the kernel listed it: what was there all the time may be missing.
_INTERRUPTED = "Dump was interrupted"
# Where interfaces come and go all the time, one dump in ten is; how often it is asked for again.
_MOST_TRIES = 8


# For each question, what parse.answer_of() makes of its answer.
Answers = dict[Family, list[list[Any]]]


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

    def failure(self, words: str) -> str:
        """The message that the command failed with these words."""
        return f"{shlex.join(self.argv)}: {words}"


# A signal that comes just before the kernel begins to wait is only heard when it has ended: the longest, in seconds.
_DEAF = 0.25


def is_ready(fd: int, event: int, seconds: float) -> bool:
    """Wait for select.POLLIN or POLLOUT; False if it has not come within so many seconds."""
    waiting = select.poll()
    waiting.register(fd, event)
    end = time.monotonic() + seconds
    while not waiting.poll(1000 * max(0.0, min(_DEAF, end - time.monotonic()))):
        if time.monotonic() >= end:
            return False
    return True


# What may break a pass off.
_BREAKS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals wait while the block runs: a child that nobody has noted yet could not be ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BREAKS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(in_child: Callable[[], None] | None) -> None:
    """In the child, before it becomes `ip`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BREAKS)
    if in_child:
        in_child()


class Process:
    """A started `ip`. It works on the given file descriptors itself: no thread of ours stands in between."""

    def __init__(
        self, command: Any, argv: tuple[str, ...], fds: tuple[int, int, int], in_child: Callable[[], None] | None
    ) -> None:
        stdin, stdout, stderr = fds
        words, encoding = argv[1:], "utf-8"
        if any("\udc80" <= sign <= "\udcff" for word in words for sign in word):
            # A name that is no UTF-8. sh knows no surrogateescape, but in Latin-1 every byte is a sign of its own.
            words, encoding = tuple(os.fsencode(word).decode("latin-1") for word in words), "latin-1"
        self._process = command(
            *words,
            _encoding=encoding,
            _in=stdin,
            _out=stdout,
            _err=stderr,
            _bg=True,
            _bg_exc=False,
            _return_cmd=True,
            _ok_code=range(-64, 256),  # judged in one place, by whoever asked
            _preexec_fn=partial(_begin, in_child),
        )
        try:
            self._end: int | None = os.pidfd_open(self._process.pid)
        except ProcessLookupError:
            self._end = None  # it has ended already

    def ends(self, seconds: float) -> bool:
        """Wait for its end; False if it has not come within so many seconds."""
        return self._end is None or is_ready(self._end, select.POLLIN, seconds)

    def kill(self) -> None:
        """End it, whatever it is doing."""
        if self._end is not None:  # its number may be another's by now
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._end, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end; the exit code, negative if a signal ended it."""
        try:
            self._process.wait()
        except ChildProcessError:
            return -signal.SIGKILL  # it had ended when somebody broke off the waiting for it: nobody knows how
        finally:
            if self._end is not None:
                os.close(self._end)
                self._end = None
        return int(self._process.exit_code)


class Running:
    """An `ip` at work. Its output goes to files in memory, so that it never waits for us, however much it prints."""

    def __init__(self, start: Callable[[tuple[int, int, int]], Process], argv: tuple[str, ...], stdin: bytes) -> None:
        self.done = False
        self._argv = argv
        self._stdin, self._stdout, self._stderr = (os.memfd_create(name) for name in ("stdin", "stdout", "stderr"))
        fds = self._stdin, self._stdout, self._stderr
        try:
            with os.fdopen(self._stdin, "wb", closefd=False) as file:
                file.write(stdin)
                file.seek(0)
            self._process = start(fds)
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        self._deadline = time.monotonic() + TIMEOUT

    def end(self) -> None:
        """End it, if it still works, and leave nothing of it."""
        if not self.done:
            self._process.kill()
            self.answer()

    def answer(self) -> Answer:
        """Wait for the end."""
        # sh's own _timeout would take a thread, and look for the end only ten times a second.
        silent = not self._process.ends(max(0.0, self._deadline - time.monotonic()))
        if silent:
            self._process.kill()
        exit_code = self._process.wait()
        self.done = True
        stdout, stderr = _content(self._stdout), _content(self._stderr)
        os.close(self._stdin)
        code = None if silent else exit_code
        return Answer(self._argv, code, stdout, stderr.decode("utf-8", "backslashreplace"))


def _content(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()


class Answering(Protocol):
    """Something that works on an answer."""

    def answer(self) -> Answer:
        """Wait for it."""


class Asked(NamedTuple):
    """Lines on their way: first those that write, then questions. Without a family, they are about both."""

    family: Family | None
    writes: int
    questions: tuple[str, ...]
    running: "Answering"


class Spelling:
    """How commands are written for a shell; those of the network namespace `netns`, if one is named."""

    def __init__(self, netns: str | None = None) -> None:
        ip = ("ip", "-n", netns) if netns else ("ip",)
        self._starts = {"inet": shlex.join(ip), "inet6": shlex.join((*ip, FAMILY_OPTION["inet6"]))}

    def line(self, command: Command) -> str:
        """The command as a line for a shell: what is printed is what is run."""
        start = self._starts[command.family]
        return f"{start} {command.line}" if _PLAIN.fullmatch(command.line) else f"{start} {shlex.join(command.words)}"

    def lines(self, commands: Sequence[Command]) -> str:
        """Many of them, a line each."""
        text = "\n".join([f"{self._starts[command.family]} {command.line}" for command in commands])
        return text if _PLAIN.fullmatch(text) else "\n".join(map(self.line, commands))


class Outcome(NamedTuple):
    """What became of the lines."""

    failures: dict[int, str]  # the writing lines that failed, counted from 0, with `ip`'s words
    answers: list[list[Any]]  # one for each question
    doubt: str  # why the rest of this is not to be trusted, or ""
    interrupted: bool = False  # only the answers are in doubt: what was to be done is done


class Source(Protocol):
    """Whoever can be asked what `ip` prints: a running machine, or the record of one."""

    def ask(self, family: Family | None, *questions: str) -> Asked:
        """Start to find the answers to questions such as `link show`."""

    def answers(self, asked: Asked) -> list[list[Any]]:
        """The answers: for each question a list of documents, or of routes."""

    def text(self, family: Family, question: str) -> list[str]:
        """The lines that answer the question, in words."""

    def talks(self, family: Family) -> bool:
        """True if a question costs no process."""

    def abandon(self) -> None:
        """Forget the questions whose answers nobody wants any more."""


class Ip:
    """The `ip` of this machine, in the network namespace `netns` if one is named.

    `trace` is told each command that is started, as a line for a shell; the lines of a batch follow in it.
    """

    def __init__(self, netns: str | None = None, trace: Callable[[str], None] | None = None) -> None:
        if netns == "":
            raise UsageError("--netns: the name is empty")
        path = shutil.which("ip", path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")
        if path is None:
            raise IpUnusable("ip: not found in PATH; install iproute2")
        self._command = sh.Command(path)
        self.netns = netns
        self._netns = ("-n", netns) if netns else ()
        spelling = Spelling(netns)
        self.line, self.lines = spelling.line, spelling.lines
        self.trace = trace
        self._working: list[Running] = []
        self._answered: dict[tuple[Family | None, str], tuple[bytes, list[Any]]] = {}

    def start(self, *words: str, stdin: bytes = b"") -> Running:
        """Start `ip` with these arguments and leave it to its work."""
        argv = ("ip", *self._netns, *words)
        if self.trace:
            text = stdin.decode("utf-8", "backslashreplace")
            self.trace(f"{shlex.join(argv)} <<END\n{text}END" if text else shlex.join(argv))
        with _undisturbed():
            running = Running(partial(self.spawn, words), argv, stdin)
            self._working.append(running)
        return running

    def spawn(
        self, words: tuple[str, ...], fds: tuple[int, int, int], in_child: Callable[[], None] | None = None
    ) -> Process:
        """Start `ip` on these descriptors for stdin, stdout and stderr; `in_child` runs before it does."""
        try:
            return Process(self._command, ("ip", *self._netns, *words), fds, in_child)
        except (sh.ForkException, OSError) as error:
            raise IpUnusable(f"ip: cannot be started: {str(error).strip().splitlines()[-1]}") from None

    def abandon(self) -> None:
        """End those that nobody waited for: after a failure, no child may outlive the pass."""
        for running in self._working:
            running.end()
        self._working.clear()

    def ask(self, family: Family | None, *questions: str, first: Sequence[str] = ()) -> Asked:
        """Start to carry out the lines `first`, such as `route add …`, then to answer questions, such as `link show`.

        A question alone has a process of its own, in which the kernel filters the dump; in the batch that
        several lines share, `ip` has to filter all routes of the family by itself. A line that fails does not
        stop the others.
        """
        options = ("-json", FAMILY_OPTION[family]) if family else ("-json",)
        if len(questions) == 1 and not first:
            running = self.start(*options, *questions[0].split())
        else:
            stdin = "".join(f"{line}\n" for line in (*first, *questions)).encode("utf-8", "surrogateescape")
            running = self.start(*options, "-force", "-batch", "-", stdin=stdin)
        return Asked(family, len(first), questions, running)

    def talks(self, family: Family) -> bool:
        """True if a question costs no process."""
        return False

    def answers(self, asked: Asked) -> list[list[Any]]:
        """What was asked for: for each question a list of documents, or of routes.

        A table that does not exist is an empty one, and so are those of a family that the kernel was built
        without. Anything else that is not a whole answer raises: a failed read is never an empty one.
        The same bytes as last time give the same objects.
        """
        outcome = self.outcome(asked)
        for _ in range(_MOST_TRIES):
            if not outcome.interrupted:
                break
            # By a process of its own: a dialogue may have other questions to answer first.
            outcome = self.outcome(Ip.ask(self, asked.family, *asked.questions))
        if outcome.doubt:
            raise ReadFailed(outcome.doubt)
        return outcome.answers

    def outcome(self, asked: Asked) -> Outcome:
        """Wait for what was asked, and judge it. The only place that reads the exit codes and words of `ip`."""
        answer = asked.running.answer()
        if _NOT_KNOWN.search(answer.stderr):
            raise self._too_old(answer)
        if answer.code == 255 and "Cannot open network namespace" in answer.stderr:
            raise UsageError(answer.words)
        if answer.code == 2 and asked.questions and _NO_TABLE in answer.stderr:
            return Outcome({}, [[]], "")
        if asked.family == "inet6" and _NO_FAMILY in answer.stderr:
            return Outcome({}, [[] for _ in asked.questions], "")
        failures = _failures(answer.stderr)
        # In a batch, 1 says that lines have failed. Without one, or with any other code, it has ended early.
        if answer.code != (1 if failures else 0) or any(line >= asked.writes for line in failures):
            return Outcome(failures, [], answer.failure(answer.words))
        if asked.questions and _INTERRUPTED in answer.stderr:
            return Outcome(failures, [], answer.failure(f"{_INTERRUPTED}, again and again"), interrupted=True)
        try:
            return Outcome(failures, self._parsed(asked, answer.stdout), "")
        except ValueError as error:
            # Before 4.17, `ip` took -json for a route and printed text.
            if is_too_old(self.version()):
                raise self._too_old(answer) from None
            return Outcome(failures, [], answer.failure(str(error)))

    def _parsed(self, asked: Asked, stdout: bytes) -> list[list[Any]]:
        *answers, rest = stdout.split(b"\n")
        if len(answers) != len(asked.questions) or rest:
            raise ValueError(f"it stopped in its answer to question {len(answers) + 1} of {len(asked.questions)}")
        found = []
        for question, text in zip(asked.questions, answers, strict=True):
            last = self._answered.get((asked.family, question))
            if last is None or last[0] != text:
                last = self._answered[asked.family, question] = text, answer_of(question, text)
            found.append(last[1])
        return found

    def printed(self, family: Family | None, question: str) -> str:
        """What `ip` printed when it was last asked; `[]` for a table that does not exist."""
        text, _ = self._answered.get((family, question), (b"[]", []))
        return text.decode("utf-8", "surrogateescape")

    def way(self, words: Sequence[str], family: Family) -> Document | str:
        """The document of `ip route get`, or the kernel's refusal in its own words."""
        answer = self.start("-json", FAMILY_OPTION[family], "route", "get", *words).answer()
        if answer.code == 2:
            return answer.words
        if answer.code != 0:
            raise ReadFailed(answer.failure(answer.words))
        try:
            (document,) = documents_of(answer.stdout)
        except ValueError as error:
            raise ReadFailed(answer.failure(str(error))) from None
        return document

    def version(self) -> str:
        """How `ip` calls itself."""
        return self.start("-V").answer().stdout.decode("utf-8", "replace").strip()

    def text(self, family: Family, question: str) -> list[str]:
        """What `ip` says to a question in words, a line each. ReadFailed if there is any doubt."""
        for _ in range(_MOST_TRIES):
            answer = self.start("-oneline", FAMILY_OPTION[family], *question.split()).answer()
            if _INTERRUPTED not in answer.stderr:
                break
        if answer.code != 0 or _INTERRUPTED in answer.stderr:
            raise ReadFailed(answer.failure(answer.words))
        *lines, rest = answer.stdout.decode("utf-8", "surrogateescape").split("\n")
        if rest or not lines:
            raise ReadFailed(answer.failure("it stopped before the end"))
        return lines

    def _too_old(self, answer: Answer) -> IpUnusable:
        return IpUnusable(answer.failure(f"{answer.words}; iproute2 {OLDEST} or newer is needed"))


def _failures(stderr: str) -> dict[int, str]:
    """The failed lines of a batch: each prints its words, and then `Command failed -:LINE`."""
    failures: dict[int, str] = {}
    words: list[str] = []
    for text in stderr.splitlines():
        if match := _FAILED.fullmatch(text):
            failures[int(match[1]) - 1] = " / ".join(words) or "no reason given"
            words = []
        elif text.strip():
            words.append(text.strip())
    return failures
