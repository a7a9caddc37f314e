"""A long-lived `ip` for each family that answers question after question without a fork.

No dialogue is kept for long: it remembers the names of interfaces, also outdated ones, and its batch mode leaks.
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

# `ip -batch` leaks about 4 KB a line. `watch` renews a dialogue after 2,000 lines, which are 8 MB.
WORN_OUT = 2_000
# In a batch the kernel does not filter dumps. Where an answer takes longer than this, in seconds, a fork costs less.
SLOW = 0.1
# A question that failed gets no answer on stdout. How often to look at stderr meanwhile, in seconds.
_GLANCE = 0.05

# A cheap question behind lines that write: its answer says that they are done.
_MARKER = "rule show table 253"
_FAILED = re.compile(r"(?<=Command failed -:)\d{1,9}\b")


class Dialogue:
    """One `ip -json -force -batch -`. It answers each question with one line of JSON; failures go to stderr."""

    def __init__(self, ip: Ip, family: Family) -> None:
        self.lines = 0
        self.open = True
        self.code: int | None = None  # how it ended; None if it did not, and was silent
        self._heard = b""
        words = ("-json", FAMILY_OPTION[family], "-force", "-batch", "-")
        self.argv = ("ip", *words)
        self._complaints = 0  # how many bytes of stderr were read
        with ExitStack() as theirs, ExitStack() as ours:
            stdin, self._stdin = pipe(theirs, ours)
            self._stdout, stdout = pipe(ours, theirs)
            # A file instead of a pipe: writing to it never blocks `ip` while we wait for it to read on.
            self._stderr = os.memfd_create("stderr")
            ours.callback(os.close, self._stderr)
            self._process: Process = ip.spawn(words, (stdin, stdout, self._stderr))
            self._descriptors = ours.pop_all()
        os.set_blocking(self._stdin, False)

    def say(self, lines: Sequence[str], answers: int) -> "_Turn":
        """Send the lines, of which the last `answers` are questions."""
        first, self.lines = self.lines, self.lines + len(lines)
        text = memoryview("\n".join([*lines, ""]).encode("utf-8", "surrogateescape"))
        while text and self.open:
            try:
                text = text[os.write(self._stdin, text) :]
            except BlockingIOError:
                if not is_ready(self._stdin, select.POLLOUT, process.TIMEOUT):
                    self.close()
            except OSError:
                break  # it has ended, which hear() will notice
        return _Turn(self, first, range(self.lines - answers, self.lines))

    def hear(self, questions: range) -> tuple[bytes, str, bool]:
        """The answers to these lines, counted from 0; what stderr holds by then; and whether the answers are whole."""
        deadline = time.monotonic() + process.TIMEOUT
        parts, stderr = [self._heard], ""
        missing = len(questions) - self._heard.count(b"\n")
        while missing > 0 and self.open and time.monotonic() < deadline:
            if not is_ready(self._stdout, select.POLLIN, _GLANCE):
                stderr += self._new_complaints()
                if any(int(line) - 1 in questions for line in _FAILED.findall(stderr)):
                    self.code = 1
                    break
            elif part := os.read(self._stdout, 1 << 20):
                parts.append(part)
                missing -= part.count(b"\n")
            else:
                self.code = self._process.wait()  # it has ended by itself
                break
        heard = b"".join(parts)
        # `ip` wrote the failures that precede an answer before that answer.
        stderr += self._new_complaints()
        if missing > 0:
            self.close()
            return heard, stderr, False
        *answers, self._heard = heard.split(b"\n", len(questions))  # the rest answers later questions
        return b"\n".join([*answers, b""]), stderr, True

    def _new_complaints(self) -> str:
        if not self.open:
            return ""
        size = os.fstat(self._stderr).st_size
        if size == self._complaints:
            return ""
        found = os.pread(self._stderr, size - self._complaints, self._complaints)
        self._complaints = size
        return found.decode("utf-8", "backslashreplace")

    def kill(self) -> None:
        """Kill it without waiting: nobody wants its answers any more."""
        if self.open:
            self._process.kill()

    def close(self) -> None:
        """Kill it, wait for its end, and close its descriptors."""
        if self.open:
            self.kill()
            self.open = False
            with self._descriptors:
                self._process.wait()


class _Turn:
    """Lines that a dialogue works on."""

    def __init__(self, dialogue: Dialogue, first: int, questions: range) -> None:
        self.heard = False
        self.seconds = 0.0
        self._started = time.monotonic()
        self._dialogue = dialogue
        self._first = first
        self._questions = questions

    def answer(self) -> Answer:
        """As if an `ip` of its own had worked on these lines."""
        self.heard = True
        stdout, stderr, whole = self._dialogue.hear(self._questions)
        # `ip` counts the lines of all turns.
        stderr, failures = _FAILED.subn(lambda number: str(int(number[0]) - self._first), stderr)
        self.seconds = time.monotonic() - self._started
        return Answer(self._dialogue.argv, self._dialogue.code if not whole else 1 if failures else 0, stdout, stderr)


class TalkingIp(Ip):
    """An `ip` that keeps one dialogue with each family, from the first question or `warm` on, until `hang_up`.

    Lines that suit no dialogue get a process of their own.
    """

    def __init__(
        self,
        netns: str | None = None,
        trace: Callable[[str], None] | None = None,
        in_child: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(netns, trace, in_child)
        self._dialogues: dict[Family, Dialogue] = {}
        self._turns: list[_Turn] = []
        self._slow: set[Family] = set()
        self._silent = False
        self._is_new = True  # hang_up was not called yet

    def warm(self) -> None:
        """Start the dialogues that are missing, so that the next questions find them ready."""
        for family in FAMILIES:
            dialogue = self._dialogues.get(family)
            if dialogue and dialogue.lines > WORN_OUT:
                dialogue.close()
            if family not in self._slow and not (dialogue and dialogue.open):
                self._dialogues[family] = Dialogue(self, family)

    def hang_up(self) -> None:
        """End the dialogues, because what they remember may be outdated. Only `warm` starts others."""
        self._is_new = False
        for dialogue in self._dialogues.values():
            dialogue.kill()  # all before the first close(), which waits
        for dialogue in self._dialogues.values():
            dialogue.close()
        self._dialogues.clear()
        self._turns.clear()

    @contextmanager
    def fresh(self) -> Iterator[None]:
        """Use no dialogue while the block runs."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    def talks(self, family: Family) -> bool:
        """True if a question costs no process."""
        dialogue = self._dialogues.get(family)
        return dialogue is not None and dialogue.open and not self._silent and family not in self._slow

    def reconsider(self) -> None:
        """Allow dialogues again for families whose answers were slow."""
        self._slow.clear()

    def ask(self, family: Family | None, *questions: str, first: Sequence[str] = ()) -> Asked:
        """Use the dialogue if it suits these lines."""
        dialogue = self._partner(family, questions, first)
        if family is None or dialogue is None:
            return super().ask(family, *questions, first=first)
        if self.trace:
            for line in (*first, *questions):
                self.trace(f"ip {FAMILY_OPTION[family]} {line}")
        asked = questions or (_MARKER,)
        turn = dialogue.say([*first, *asked], len(asked))
        self._turns.append(turn)
        return Asked(family, len(first), asked, turn)

    def reply(self, asked: Asked) -> Reply:
        """Wait for what was asked, and judge it."""
        reply = super().reply(asked)
        turn = asked.running
        if isinstance(turn, _Turn) and asked.family and not asked.writes and turn.seconds > SLOW:
            self._slow.add(asked.family)
        return reply

    def _partner(self, family: Family | None, questions: Sequence[str], first: Sequence[str]) -> Dialogue | None:
        """The dialogue for these lines, unless its answers are slow, or the lines would spoil it for later ones."""
        if family is None or family in self._slow or self._silent:
            return None
        if has_numbers("\n".join(first)) or any(question.startswith("-") for question in questions):
            return None
        if self._is_new and family not in self._dialogues:
            self._dialogues[family] = Dialogue(self, family)
        dialogue = self._dialogues.get(family)
        if dialogue is None or not dialogue.open or (first and dialogue.lines + len(first) > MOST_LINES):
            return None
        return dialogue

    def abandon(self) -> None:
        """Drop what nobody has waited for. A dialogue would give the answer to the next question."""
        super().abandon()
        if not all(turn.heard for turn in self._turns):
            self.hang_up()
        self._turns.clear()
        for family in self._slow & self._dialogues.keys():
            self._dialogues.pop(family).close()
