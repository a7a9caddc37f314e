"""A conversation with one `ip` for each family, that answers question after question without a fork.

It is not trusted for long: it keeps the names of interfaces it has once seen, and its batch mode leaks.
"""

import fcntl
import os
import re
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from fz_iproute.ip.apply import MOST_LINES
from fz_iproute.ip.ip import TIMEOUT, Answer, Asked, Ip, Process, is_ready
from fz_iproute.mirror.model import has_numbers
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import FAMILY_OPTION

# `ip -batch` leaks about 4 KB a line: 8 MB, for one that is to be kept.
_WORN_OUT = 2_000
# In a batch the kernel does not filter a dump. Where answers take longer than this, in seconds, a fork costs less.
_SLOW = 0.1
# An answer of so many bytes tells of thousands of routes: a second dialogue begins then, so that two can write. When
# they have been read, a fork costs twice as much.
_LARGE = 1 << 18
# Of each pipe, as much as the kernel gives to anybody: ten thousand lines fit, and whoever writes them need not wait.
_PIPE_BYTES = 1 << 20

# How often a silent one is looked at, in seconds: a question that has failed is not answered.
_GLANCE = 0.05

# Asked behind the lines that write: its answer says that they are done.
_MARKER = "rule show table 253"
_FAILED = re.compile(r"(?<=Command failed -:)\d+")


class Dialogue:
    """One `ip -json -force -batch -`. Each question is answered with one line of JSON; failures go to stderr."""

    def __init__(self, ip: Ip, family: Family) -> None:
        self.lines = 0
        self.open = True
        self.code: int | None = None  # how it ended; None if it did not, and was silent
        self._heard = b""
        words = ("-json", FAMILY_OPTION[family], "-force", "-batch", "-")
        self._argv = ("ip", *words)
        (stdin, self._stdin), (self._stdout, stdout) = os.pipe(), os.pipe()
        # A file, and no pipe: it does not wait for us with its complaints while we wait for it to read on.
        self._stderr = os.memfd_create("stderr")
        self._complaints = 0  # how much of it is known
        try:
            self._process = ip.spawn(words, (stdin, stdout, self._stderr))
        except BaseException:
            for fd in (self._stdin, self._stdout, self._stderr):
                os.close(fd)
            raise
        finally:
            for fd in (stdin, stdout):
                os.close(fd)
        for fd in (self._stdin, self._stdout):
            with suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_blocking(self._stdin, False)

    def say(self, lines: Sequence[str], answers: int) -> "_Turn":
        """Send the lines, of which `answers` are questions."""
        first, self.lines = self.lines, self.lines + len(lines)
        text = memoryview("\n".join([*lines, ""]).encode("utf-8", "surrogateescape"))
        while text and self.open:
            try:
                text = text[os.write(self._stdin, text) :]
            except BlockingIOError:
                if not is_ready(self._stdin, select.POLLOUT, TIMEOUT):
                    self.close()
            except OSError:
                break  # it has ended, which is heard soon
        return _Turn(self, self._argv, first, range(self.lines - answers, self.lines))

    def hear(self, questions: range) -> tuple[bytes, str, bool]:
        """The answers to these lines, counted from 0; what stderr holds by then; and whether that is all of it."""
        deadline = time.monotonic() + TIMEOUT
        parts, stderr = [self._heard], ""
        missing = len(questions) - self._heard.count(b"\n")
        while missing > 0 and self.open and time.monotonic() < deadline:
            if not is_ready(self._stdout, select.POLLIN, _GLANCE):
                stderr += self._new_complaints()
                if any(int(line) - 1 in questions for line in _FAILED.findall(stderr)):
                    self.code = 1
                    break
            elif part := os.read(self._stdout, _PIPE_BYTES):
                parts.append(part)
                missing -= part.count(b"\n")
            else:
                self.code = self._process.wait()  # it has ended by itself
                break
        heard = b"".join(parts)
        # What failed before an answer was written before it.
        stderr += self._new_complaints()
        if missing > 0:
            self.close()
            return heard, stderr, False
        # The rest answers the turns that follow.
        end = len(heard) if missing == 0 and heard.endswith(b"\n") else _end_of_lines(heard, len(questions))
        self._heard = heard[end:]
        return heard[:end], stderr, True

    def _new_complaints(self) -> str:
        if not self.open:
            return ""
        size = os.fstat(self._stderr).st_size
        found = os.pread(self._stderr, size - self._complaints, self._complaints)
        self._complaints = size
        return found.decode("utf-8", "backslashreplace")

    def kill(self) -> None:
        """Have it end. It is not asked to finish: what it says is not wanted any more."""
        if self.open:
            self._process.kill()

    def close(self) -> None:
        """End it, and leave nothing of it."""
        if self.open:
            self.kill()
            self.open = False
            self._process.wait()
            for fd in (self._stdin, self._stdout, self._stderr):
                os.close(fd)


def _end_of_lines(text: bytes, count: int) -> int:
    end = 0
    for _ in range(count):
        end = text.index(b"\n", end) + 1
    return end


class _Turn:
    """Lines that a dialogue works on."""

    def __init__(self, dialogue: Dialogue, argv: tuple[str, ...], first: int, questions: range) -> None:
        self.heard = False
        self.dialogue = dialogue
        self._argv = argv
        self._first = first
        self._questions = questions

    def answer(self) -> Answer:
        """As if an `ip` of its own had worked on these lines."""
        self.heard = True
        stdout, stderr, whole = self.dialogue.hear(self._questions)
        # It counts the lines of all turns.
        stderr, failures = _FAILED.subn(lambda number: str(int(number[0]) - self._first), stderr)
        code = self.dialogue.code if not whole else 1 if failures else 0
        return Answer(self._argv, code, stdout, stderr)


class TalkingIp(Ip):
    """An `ip` that keeps a dialogue with each family, from the first question or `warm` on, until `hang_up`.

    Where there are thousands of routes, a second one helps to write. What has no dialogue gets a process of its own.
    `in_child` runs in each child before it becomes `ip`.
    """

    def __init__(
        self,
        netns: str | None = None,
        trace: Callable[[str], None] | None = None,
        in_child: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(netns, trace)
        self._in_child = in_child
        self._dialogues: dict[Family, list[Dialogue]] = {family: [] for family in FAMILIES}
        self._turns: list[_Turn] = []
        self._slow: set[Family] = set()
        self._silent = False
        self._is_new = True  # nobody has hung up yet

    def spawn(
        self, words: tuple[str, ...], fds: tuple[int, int, int], in_child: Callable[[], None] | None = None
    ) -> Process:
        """Start `ip` on these descriptors for stdin, stdout and stderr."""
        return super().spawn(words, fds, in_child or self._in_child)

    def warm(self) -> None:
        """Start what is missing, so that the next questions find it ready."""
        for family, dialogues in self._dialogues.items():
            for dialogue in dialogues:
                if dialogue.lines > _WORN_OUT:
                    dialogue.close()
            dialogues[:] = [dialogue for dialogue in dialogues if dialogue.open]
            if family not in self._slow and not dialogues:
                dialogues.append(Dialogue(self, family))

    def hang_up(self) -> None:
        """End the dialogues: they may know too much. Only `warm` begins others."""
        self._is_new = False
        dialogues = [dialogue for some in self._dialogues.values() for dialogue in some]
        for dialogue in dialogues:
            dialogue.kill()  # all of them first, so that they end side by side
        for dialogue in dialogues:
            dialogue.close()
        for some in self._dialogues.values():
            some.clear()
        self._turns.clear()

    @contextmanager
    def fresh(self) -> Iterator[None]:
        """Without the dialogues while the block runs."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    def talks(self, family: Family) -> bool:
        """True if a question costs no process."""
        is_open = any(dialogue.open for dialogue in self._dialogues[family][:1])
        return is_open and not self._silent and family not in self._slow

    def reconsider(self) -> None:
        """Give families another try whose tables were too large for a dialogue."""
        self._slow.clear()

    def ask(self, family: Family | None, *questions: str, first: Sequence[str] = ()) -> Asked:
        """In the dialogue, if there is one for these lines."""
        dialogue = self._partner(family, questions, first)
        if family is None or dialogue is None:
            return super().ask(family, *questions, first=first)
        if self.trace:
            for line in (*first, *questions):
                self.trace(f"ip {FAMILY_OPTION[family]} {line}")
        asked = questions or (_MARKER,)
        started = time.monotonic()
        turn = dialogue.say([*first, *asked], len(asked))
        self._turns.append(turn)
        if first:
            return Asked(family, len(first), asked, turn)
        return Asked(family, 0, asked, _Timed(turn, lambda size: self._judge(family, time.monotonic() - started, size)))

    def _partner(self, family: Family | None, questions: Sequence[str], first: Sequence[str]) -> Dialogue | None:
        """A dialogue for these lines, unless they are slow, have work to do, or would be confused by them for later."""
        if family is None or family in self._slow or self._silent:
            return None
        if has_numbers("\n".join(first)) or any(question.startswith("-") for question in questions):
            return None
        dialogues = self._dialogues[family]
        if self._is_new and not dialogues:
            dialogues.append(Dialogue(self, family))
        if not first:
            return next((dialogue for dialogue in dialogues[:1] if dialogue.open), None)
        busy = [turn.dialogue for turn in self._turns if not turn.heard]
        return next(
            (
                dialogue
                for dialogue in dialogues
                if dialogue.open and dialogue not in busy and dialogue.lines + len(first) <= MOST_LINES
            ),
            None,
        )

    def abandon(self) -> None:
        """A question that nobody heard the answer to would answer the next."""
        super().abandon()
        if not all(turn.heard for turn in self._turns):
            self.hang_up()
        self._turns.clear()

    def _judge(self, family: Family, seconds: float, size: int) -> None:
        dialogues = self._dialogues[family]
        if seconds > _SLOW:
            self._slow.add(family)
            # Not under the feet of another turn, which will have taken as long.
            busy = [turn.dialogue for turn in self._turns if not turn.heard]
            for dialogue in dialogues:
                if dialogue not in busy:
                    dialogue.close()
        elif self._is_new and size > _LARGE and len(dialogues) == 1:
            dialogues.append(Dialogue(self, family))


class _Timed:
    """An answer, and what is done when it has come."""

    def __init__(self, turn: _Turn, done: Callable[[int], None]) -> None:
        self._turn = turn
        self._done = done

    def answer(self) -> Answer:
        answer = self._turn.answer()
        self._done(len(answer.stdout))
        return answer
