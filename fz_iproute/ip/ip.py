"""Asks `ip`, and judges its answers: the only place that reads its exit codes and its words for a failure."""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

from fz_iproute.errors import IpUnusable, ReadFailed, UsageError
from fz_iproute.ip.process import Answer, Starter
from fz_iproute.ip.version import OLDEST, is_too_old
from fz_iproute.mirror.parse import Document, documents_of
from fz_iproute.mirror.prefix import Family
from fz_iproute.mirror.words import FAMILY_OPTION

# Only whole lines count: a message such as `Cannot find device "busybox0"` quotes names, which can be nearly anything,
# but have no spaces in them. BusyBox starts its usage text, which goes to stderr, with a line about itself.
_BUSYBOX = re.compile(r"^BusyBox v\S+ .*multi-call binary", re.MULTILINE)
_UNKNOWN_OPTION = re.compile(r'^Option "-[^" ]*" is unknown, try "ip -help"', re.MULTILINE)
# The kernel says this of IPv6. `ip` says something similar if a sandbox allows no netlink socket.
_NO_FAMILY = "RTNETLINK answers: Address family not supported"
_NO_TABLE = "FIB table does not exist"
# Something changed while the kernel listed it, so the dump may lack what was there all the time.
_INTERRUPTED = "Dump was interrupted"
# Where interfaces come and go all the time, one dump in ten is interrupted.
_MOST_TRIES = 8
_FAILED = re.compile(r"Command failed -:(\d{1,9})")


class Answering(Protocol):
    """Whoever works on an answer."""

    def answer(self) -> Answer:
        """Wait for it."""


class Asked(NamedTuple):
    """Lines that `ip` works on: first those that write, then questions. `family` is None if they are about both."""

    family: Family | None
    writes: int
    questions: tuple[str, ...]
    running: Answering


class Reply(NamedTuple):
    """The judged answer of an `ip`."""

    failures: dict[int, str]  # by the number of the writing line, counted from 0: `ip`'s words
    answers: list[bytes]  # to each question a JSON list, as it was printed
    doubt: str = ""  # why nothing else here is to be trusted
    interrupted: bool = False  # the kernel broke a dump off: the doubt is about the answers alone


class Source(Protocol):
    """Whoever can be asked what `ip` prints: a running machine, or the recording of one."""

    def ask(self, family: Family | None, *questions: str) -> Asked:
        """Ask questions such as `link show`, without waiting for the answers."""

    def answers(self, asked: Asked) -> list[bytes]:
        """The JSON list that `ip` printed for each question. ReadFailed if there is any doubt."""

    def text(self, family: Family, question: str) -> list[str]:
        """The lines that answer the question in the form for people."""

    def needs_no_process(self, family: Family) -> bool:
        """True if a question costs no process."""

    def abandon(self) -> None:
        """Drop the questions that nobody has waited for."""


class Ip(Starter):
    """The `ip` of this machine as something to ask."""

    def ask(self, family: Family | None, *questions: str, first: Sequence[str] = ()) -> Asked:
        """Start to carry out the lines `first`, such as `route add …`, then to answer questions, such as `link show`.

        A single question gets a process of its own, for which the kernel filters the dump. In a batch, `ip` has to
        filter all routes of the family itself. A line that fails does not stop the others.
        """
        options = ("-json", FAMILY_OPTION[family]) if family else ("-json",)
        if len(questions) == 1 and not first:
            running = self.start(*options, *questions[0].split())
        else:
            stdin = "".join(f"{line}\n" for line in (*first, *questions)).encode("utf-8", "surrogateescape")
            running = self.start(*options, "-force", "-batch", "-", stdin=stdin)
        return Asked(family, len(first), questions, running)

    def needs_no_process(self, family: Family) -> bool:
        """True if a question costs no process."""
        return False

    def answers(self, asked: Asked) -> list[bytes]:
        """The JSON list that `ip` printed for each question.

        It is empty for a table that does not exist, and for a family that the kernel was built without. ReadFailed if
        there is any doubt: a failed read is never an empty one.
        """
        reply = self.reply(asked)
        for _ in range(_MOST_TRIES):
            if not reply.interrupted:
                break
            # A process of its own: a coprocess may have other questions to answer first.
            reply = self.reply(Ip.ask(self, asked.family, *asked.questions))
        if reply.doubt:
            raise ReadFailed(reply.doubt)
        return reply.answers

    def reply(self, asked: Asked) -> Reply:
        """Wait for what was asked, and judge it."""
        answer = asked.running.answer()
        if answer.stderr:
            self._check_program(answer)
        if answer.code == 255 and "Cannot open network namespace" in answer.stderr:
            raise UsageError(answer.words)
        if answer.code == 2 and asked.questions and _NO_TABLE in answer.stderr:
            return Reply({}, [b"[]"])
        if asked.family == "inet6" and _NO_FAMILY in answer.stderr:
            return Reply({}, [b"[]"] * len(asked.questions))
        failures = _failures(answer.stderr)
        # A batch in which lines failed exits with 1. Any other code, or 1 without a failed line, means it ended early.
        if answer.code != (1 if failures else 0) or any(line >= asked.writes for line in failures):
            return Reply(failures, [], answer.failure(answer.words))
        if asked.questions and _INTERRUPTED in answer.stderr:
            return Reply(failures, [], answer.failure(f"{_INTERRUPTED}, again and again"), interrupted=True)
        *answers, rest = answer.stdout.split(b"\n")
        if rest or len(answers) != len(asked.questions) or not all(map(_is_list, answers)):
            # Before 4.17, `ip` accepted -json for a route and printed text.
            if is_too_old(self.version):
                raise _too_old(answer)
            count = f"{len(answers)} of {len(asked.questions)}"
            return Reply(failures, [], answer.failure(f"it did not print a JSON list for each question ({count})"))
        return Reply(failures, answers)

    def _check_program(self, answer: Answer) -> None:
        if _BUSYBOX.search(answer.stderr):
            why = f"this ip is BusyBox's, which cannot do this; install iproute2 {OLDEST} or newer"
            raise IpUnusable(answer.failure(why))
        if _UNKNOWN_OPTION.search(answer.stderr):
            raise _too_old(answer)

    def route_get(self, words: Sequence[str], family: Family) -> Document | str:
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

    @cached_property
    def version(self) -> str:
        """What `ip -V` prints."""
        return self.start("-V").answer().stdout.decode("utf-8", "replace").strip()

    def text(self, family: Family, question: str) -> list[str]:
        """The lines that answer the question in the form for people. ReadFailed if there is any doubt."""
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


def _is_list(text: bytes) -> bool:
    return text.startswith(b"[") and text.rstrip().endswith(b"]")


def _too_old(answer: Answer) -> IpUnusable:
    return IpUnusable(answer.failure(f"{answer.words}; iproute2 {OLDEST} or newer is needed"))


def _failures(stderr: str) -> dict[int, str]:
    """The failed lines of a batch: for each, `ip` prints its words, and then `Command failed -:LINE`."""
    failures: dict[int, str] = {}
    words: list[str] = []
    for text in stderr.splitlines():
        if match := _FAILED.fullmatch(text):
            failures[int(match[1]) - 1] = " / ".join(words) or "no reason given"
            words = []
        elif text.strip():
            words.append(text.strip())
    return failures
