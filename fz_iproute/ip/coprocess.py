"""Coprocesses: long-lived `ip -batch` processes, one for each family, that answer questions without a fork.

No coprocess is kept for long, because its batch mode leaks memory, and because it goes on using the old name of an
interface that has been renamed.
"""

import os
import re
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from fz_iproute.ip import process
from fz_iproute.ip.apply import MOST_LINES
from fz_iproute.ip.ip import Asked, Ip, Reply
from fz_iproute.ip.process import Answer, Process, is_ready, pipe
from fz_iproute.mirror.model import has_numbers
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import FAMILY_OPTION

# `ip -batch` leaks about 4 KB a line. `watch` renews a coprocess after 2,000 lines, which are 8 MB.
WORN_OUT = 2_000
# A coprocess that needs longer than this for an answer, in seconds, is not used any more. In a batch, the kernel does
# not filter dumps. So if the machine has very many routes, a new process is faster, although it costs a fork.
SLOW = 0.1
# How often to look at stderr while an answer is awaited, in seconds. A question that fails gets no answer on stdout.
_STDERR_INTERVAL = 0.05

# A cheap question that follows commands without questions. Its answer means that `ip` has worked through them.
_MARKER = "rule show table 253"
_FAILED = re.compile(r"(?<=Command failed -:)\d{1,9}\b")


class Coprocess:
    """A running `ip -json -force -batch -`. It prints one line of JSON for each question, and failures on stderr."""

    def __init__(self, ip: Ip, family: Family) -> None:
        self.lines = 0  # how many lines it has been sent
        self.open = True
        self.code: int | None = None  # the exit code, or 1 after a failed question; None if it did not answer in time
        self._rest = b""  # output that belongs to later questions
        words = ("-json", FAMILY_OPTION[family], "-force", "-batch", "-")
        self.argv = ("ip", *words)
        self._stderr_size = 0  # how many bytes of stderr were read
        with ExitStack() as theirs, ExitStack() as ours:
            stdin, self._stdin = pipe(theirs, ours)
            self._stdout, stdout = pipe(ours, theirs)
            # A file, because writing to it never blocks `ip`. With a pipe there could be a deadlock: `ip` waits until
            # we read its stderr, while we wait until it reads its stdin.
            self._stderr = os.memfd_create("stderr")
            ours.callback(os.close, self._stderr)
            self._process: Process = ip.spawn(words, (stdin, stdout, self._stderr))
            self._descriptors = ours.pop_all()
        os.set_blocking(self._stdin, False)

    def send(self, lines: Sequence[str], answers: int) -> "_Request":
        """Send the lines. The last `answers` of them are questions."""
        first, self.lines = self.lines, self.lines + len(lines)
        text = "\n".join([*lines, ""]).encode("utf-8", "surrogateescape")
        while text and self.open:
            try:
                text = text[os.write(self._stdin, text) :]
            except BlockingIOError:
                if not is_ready(self._stdin, select.POLLOUT, process.TIMEOUT):
                    self.close()
            except OSError:
                break  # it has ended, which receive() notices
        return _Request(self, first, range(self.lines - answers, self.lines))

    def receive(self, questions: range) -> tuple[bytes, str, bool]:
        """Wait for the answers to these lines, which are counted from 0.

        Returns the answers, the new text on stderr, and whether the answers are complete. If not, the coprocess is
        closed.
        """
        deadline = time.monotonic() + process.TIMEOUT
        parts, stderr = [self._rest], ""
        missing = len(questions) - self._rest.count(b"\n")
        while missing > 0 and self.open and time.monotonic() < deadline:
            if not is_ready(self._stdout, select.POLLIN, _STDERR_INTERVAL):
                stderr += self._new_stderr()
                if any(int(line) - 1 in questions for line in _FAILED.findall(stderr)):
                    self.code = 1
                    break
            elif part := os.read(self._stdout, 1 << 20):
                parts.append(part)
                missing -= part.count(b"\n")
            else:
                self.code = self._process.wait()  # it has ended by itself
                break
        stdout = b"".join(parts)
        # Complete: `ip` writes the failures of earlier lines to stderr before it prints an answer.
        stderr += self._new_stderr()
        if missing > 0:
            self.close()
            return stdout, stderr, False
        *answers, self._rest = stdout.split(b"\n", len(questions))
        return b"\n".join([*answers, b""]), stderr, True

    def _new_stderr(self) -> str:
        if not self.open:
            return ""
        size = os.fstat(self._stderr).st_size
        if size == self._stderr_size:
            return ""
        found = os.pread(self._stderr, size - self._stderr_size, self._stderr_size)
        self._stderr_size = size
        return found.decode("utf-8", "backslashreplace")

    def kill(self) -> None:
        """Kill the process without waiting for its end."""
        if self.open:
            self._process.kill()

    def close(self) -> None:
        """Kill the process, wait for its end, and close its descriptors."""
        if self.open:
            self.kill()
            self.open = False
            with self._descriptors:
                self._process.wait()


class _Request:
    """Lines that were sent to a coprocess."""

    def __init__(self, coprocess: Coprocess, first: int, questions: range) -> None:
        self.answered = False
        self.seconds = 0.0  # from the start to the answer
        self._started = time.monotonic()
        self._coprocess = coprocess
        self._first = first
        self._questions = questions

    def answer(self) -> Answer:
        """The answer that a process of its own would have given for these lines."""
        self.answered = True
        stdout, stderr, is_complete = self._coprocess.receive(self._questions)
        # `ip` counts the lines of all requests. The numbers in the answer count those of this request.
        stderr, failures = _FAILED.subn(lambda number: str(int(number[0]) - self._first), stderr)
        self.seconds = time.monotonic() - self._started
        code = self._coprocess.code
        if is_complete:
            code = 1 if failures else 0
        return Answer(self._coprocess.argv, code, stdout, stderr)


class CoprocessIp(Ip):
    """An Ip that asks coprocesses where it can, and starts a process for each other question.

    The first question for a family starts its coprocess. After `end_coprocesses`, only `start_coprocesses` does so.
    """

    def __init__(
        self,
        netns: str | None = None,
        trace: Callable[[str], None] | None = None,
        in_child: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(netns, trace, in_child)
        self._coprocesses: dict[Family, Coprocess] = {}
        self._requests: list[_Request] = []
        self._slow: set[Family] = set()  # families whose answers were slow
        self._is_disabled = False
        self._may_start = True  # the next question may start a coprocess

    def start_coprocesses(self) -> None:
        """Start the coprocesses that are missing or worn out, so that they are ready for the next questions."""
        for family in FAMILIES:
            coprocess = self._coprocesses.get(family)
            if coprocess and coprocess.lines > WORN_OUT:
                coprocess.close()
            if family not in self._slow and not (coprocess and coprocess.open):
                self._coprocesses[family] = Coprocess(self, family)

    def end_coprocesses(self) -> None:
        """End all coprocesses, because they may remember outdated names of interfaces."""
        self._may_start = False
        for coprocess in self._coprocesses.values():
            coprocess.kill()  # all of them, before close() waits for the first one
        for coprocess in self._coprocesses.values():
            coprocess.close()
        self._coprocesses.clear()
        self._requests.clear()

    @contextmanager
    def without_coprocesses(self) -> Iterator[None]:
        """Use no coprocess inside the `with` block."""
        self._is_disabled = True
        try:
            yield
        finally:
            self._is_disabled = False

    def needs_no_process(self, family: Family) -> bool:
        """True if a coprocess answers questions about this family, or would do so if that were allowed now.

        So it has answered soon until now, and a batch with many questions is cheaper than a process for each.
        """
        coprocess = self._coprocesses.get(family)
        return coprocess is not None and coprocess.open and family not in self._slow

    def allow_slow_families(self) -> None:
        """Allow coprocesses again for families whose answers were slow."""
        self._slow.clear()

    def ask(self, family: Family | None, *questions: str, first: Sequence[str] = ()) -> Asked:
        """As Ip.ask, but use a coprocess if possible."""
        coprocess = self._coprocess_for(family, questions, first)
        if family is None or coprocess is None:
            return super().ask(family, *questions, first=first)
        asked = questions or (_MARKER,)
        return self._sent(coprocess.send([*first, *asked], len(asked)), family, first, asked)

    def ask_coprocess(self, first: Sequence[str], family: Family) -> Asked | None:
        """Let the coprocess run these commands, which have no numbers. None if that is not possible.

        It calls few functions, for the same reason as `Ahead.lines`.
        """
        coprocess = self._coprocesses.get(family)
        if coprocess is None or not coprocess.open or family in self._slow:
            return None
        return self._sent(coprocess.send([*first, _MARKER], 1), family, first, (_MARKER,))

    def _sent(self, request: _Request, family: Family, first: Sequence[str], asked: tuple[str, ...]) -> Asked:
        if self.trace:
            for line in (*first, *asked):
                if line is not _MARKER:
                    self.trace(f"ip {FAMILY_OPTION[family]} {line}")
        self._requests.append(request)
        return Asked(family, len(first), asked, request)

    def reply(self, asked: Asked) -> Reply:
        """Wait for the answer, and judge it."""
        reply = super().reply(asked)
        request = asked.running
        if isinstance(request, _Request) and asked.family and not asked.writes and request.seconds > SLOW:
            self._slow.add(asked.family)
        return reply

    def _coprocess_for(self, family: Family | None, questions: Sequence[str], first: Sequence[str]) -> Coprocess | None:
        """The coprocess that can work on these lines, if any."""
        if family is None or family in self._slow or self._is_disabled:
            return None
        # Numbers would make `ip` misread names in later lines. Questions with options need a process of their own.
        if has_numbers("\n".join(first)) or any(question.startswith("-") for question in questions):
            return None
        if self._may_start and family not in self._coprocesses:
            self._coprocesses[family] = Coprocess(self, family)
        coprocess = self._coprocesses.get(family)
        if coprocess is None or not coprocess.open or (first and coprocess.lines + len(first) > MOST_LINES):
            return None
        return coprocess

    def abandon(self) -> None:
        """Drop unanswered questions. A coprocess that still has to answer one is ended.

        Otherwise, its answer would be taken for that to the next question.
        """
        super().abandon()
        if not all(request.answered for request in self._requests):
            self.end_coprocesses()
        self._requests.clear()
        for family in self._slow & self._coprocesses.keys():
            self._coprocesses.pop(family).close()
