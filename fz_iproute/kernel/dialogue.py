"""A long-lived `ip` for each family, that answers without a fork: the daily bread of `watch`.

It is not trusted for long: it keeps the names of interfaces it has once seen, and its batch mode leaks.
"""

import os
import re
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from fz_iproute.core.prefix import FAMILIES, Family
from fz_iproute.kernel.apply import has_numbers
from fz_iproute.kernel.ip import OPTION, TIMEOUT, Answer, Asked, Ip, Process
from fz_iproute.kernel.monitor import die_with_parent

# `ip -batch` leaks about 4 KB a line: 8 MB.
_MOST_LINES = 2_000
# More than this is for a process of its own, which has no pipe to fill.
_MOST_WRITES = 100
# In a batch the kernel does not filter a dump. Where answers take longer than this, in seconds, a fork costs less.
_SLOW = 0.1

# Asked behind the lines that write: its answer says that they are done.
_MARKER = "rule show table 253"
_LINE_NUMBER = re.compile(r"(?<=Command failed -:)\d+")


class Dialogue:
    """One `ip -json -force -batch -`. Each question is answered with one line of JSON; failures go to stderr."""

    def __init__(self, ip: Ip, family: Family) -> None:
        self.lines = 0
        self.open = True
        self.code: int | None = None  # how it ended; None if it did not, and was silent
        self._heard = bytearray()
        self._argv = ("ip", "-json", OPTION[family], "-force", "-batch", "-")
        (stdin, self._stdin), (self._stdout, stdout), (self._stderr, stderr) = os.pipe(), os.pipe(), os.pipe()
        self._process = ip.spawn(self._argv[1:], (stdin, stdout, stderr))
        for fd in (stdin, stdout, stderr):
            os.close(fd)
        for fd in (self._stdin, self._stderr):
            os.set_blocking(fd, False)

    def say(self, lines: Sequence[str], answers: int) -> "_Turn":
        """Send the lines, of which `answers` are questions."""
        first, self.lines = self.lines, self.lines + len(lines)
        try:
            text = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
            if os.write(self._stdin, text) < len(text):
                self.close()
        except OSError:  # it has gone, or does not read
            self.close()
        return _Turn(self, self._argv, first, answers)

    def hear(self, answers: int) -> tuple[bytes, str, bool]:
        """The next so many lines of stdout, what stderr holds by then, and whether that is all of it."""
        deadline = time.monotonic() + TIMEOUT
        while (missing := answers - self._heard.count(b"\n")) > 0:
            if not self.open or not select.select([self._stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                break
            if not (part := os.read(self._stdout, 1 << 20)):
                self.code = self._process.wait()  # it has ended by itself
                break
            self._heard += part
        if missing > 0:
            self.close()
            return bytes(self._heard), "", False
        # The rest answers the turns that follow.
        end = 0
        for _ in range(answers):
            end = self._heard.index(b"\n", end) + 1
        stdout, self._heard = bytes(self._heard[:end]), self._heard[end:]
        # What failed before an answer was written before it.
        try:
            return stdout, os.read(self._stderr, 1 << 16).decode("utf-8", "backslashreplace"), True
        except BlockingIOError:
            return stdout, "", True

    def close(self) -> None:
        """End it. It is not asked to finish: what it says is not wanted any more."""
        if self.open:
            self.open = False
            self._process.kill()
            self._process.wait()
            for fd in (self._stdin, self._stdout, self._stderr):
                os.close(fd)


class _Turn:
    """Lines that a dialogue works on."""

    def __init__(self, dialogue: Dialogue, argv: tuple[str, ...], first: int, answers: int) -> None:
        self.heard = False
        self.dialogue = dialogue
        self._argv = argv
        self._first = first
        self._answers = answers

    def answer(self) -> Answer:
        """As if an `ip` of its own had worked on these lines."""
        self.heard = True
        stdout, stderr, whole = self.dialogue.hear(self._answers)
        # It counts the lines of all turns.
        stderr = _LINE_NUMBER.sub(lambda number: str(int(number[0]) - self._first), stderr)
        code = self.dialogue.code if not whole else 1 if stderr else 0
        return Answer(self._argv, code, stdout, stderr)


class TalkingIp(Ip):
    """An `ip` that keeps a dialogue with each family, from `warm` until `hang_up`; without one, it is a plain Ip."""

    def __init__(self, netns: str | None = None, trace: Callable[[str], None] | None = None) -> None:
        super().__init__(netns, trace)
        self._dialogues: dict[Family, Dialogue] = {}
        self._turns: list[_Turn] = []
        self._slow: set[Family] = set()
        self._silent = False

    def spawn(
        self, words: tuple[str, ...], fds: tuple[int, int, int], in_child: Callable[[], None] | None = None
    ) -> Process:
        """Start `ip`; whatever it is doing, it does not outlive the daemon."""
        return super().spawn(words, fds, in_child or partial(die_with_parent, os.getpid()))

    def warm(self) -> None:
        """Start what is missing, so that the next questions find it ready."""
        for family in FAMILIES:
            dialogue = self._dialogues.get(family)
            if dialogue and (not dialogue.open or dialogue.lines > _MOST_LINES):
                dialogue.close()
                dialogue = None
            if dialogue is None and family not in self._slow:
                self._dialogues[family] = Dialogue(self, family)

    def hang_up(self) -> None:
        """End the dialogues: they may know too much."""
        for dialogue in self._dialogues.values():
            dialogue.close()
        self._dialogues.clear()
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
        dialogue = self._dialogues.get(family)
        return not self._silent and dialogue is not None and dialogue.open

    def reconsider(self) -> None:
        """Give families another try whose tables were too large for a dialogue."""
        self._slow.clear()

    def ask(self, family: Family | None, *questions: str, first: Sequence[str] = ()) -> Asked:
        """In the dialogue, if there is one, and the lines are few and not such that confuse it for later."""
        has_options = any(question.startswith("-") for question in questions)
        if family is None or not self.talks(family) or has_options or len(first) > _MOST_WRITES or has_numbers(first):
            return super().ask(family, *questions, first=first)
        dialogue = self._dialogues[family]
        for line in (*first, *questions):
            self.trace(f"ip {OPTION[family]} {line}")
        asked = questions or (_MARKER,)
        started = time.monotonic()
        turn = dialogue.say([*first, *asked], len(asked))
        self._turns.append(turn)
        return Asked(family, len(first), asked, _Timed(turn, lambda: self._judge(family, time.monotonic() - started)))

    def abandon(self) -> None:
        """A question that nobody heard the answer to would answer the next."""
        super().abandon()
        if not all(turn.heard for turn in self._turns):
            self.hang_up()
        self._turns.clear()

    def _judge(self, family: Family, seconds: float) -> None:
        if seconds > _SLOW:
            self._slow.add(family)
            dialogue = self._dialogues.get(family)
            # Not under the feet of another turn, which will have taken as long.
            if dialogue and all(turn.heard for turn in self._turns if turn.dialogue is dialogue):
                self._dialogues.pop(family).close()


class _Timed:
    """An answer, and what is done when it has come."""

    def __init__(self, turn: _Turn, done: Callable[[], None]) -> None:
        self._turn = turn
        self._done = done

    def answer(self) -> Answer:
        answer = self._turn.answer()
        self._done()
        return answer
