"""Asks `ip`, and judges its answers. Only this module interprets its exit codes and error messages."""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

from fz_iproute.errors import IpUnusable, ReadFailed, UsageError
from fz_iproute.ip.process import Answer, Starter
from fz_iproute.ip.version import OLDEST, is_too_old
from fz_iproute.mirror.ip_json import Document, documents_of, json_fault
from fz_iproute.mirror.prefix import Family
from fz_iproute.mirror.words import FAMILY_OPTION

# The patterns match whole lines, because messages quote names: `Cannot find device "busybox0"`. A name may be nearly
# anything, but has no spaces. BusyBox prints a line about itself before its usage text.
_BUSYBOX = re.compile(r"^BusyBox v\S+ .*multi-call binary", re.MULTILINE)
_UNKNOWN_OPTION = re.compile(r'^Option "-[^" ]*" is unknown, try "ip -help"', re.MULTILINE)
# The answer of a kernel without IPv6. With "RTNETLINK", because `ip` prints something similar if a sandbox forbids
# netlink sockets.
_NO_FAMILY = "RTNETLINK answers: Address family not supported"
_NO_TABLE = "FIB table does not exist"
# Something changed during the dump, so it may lack routes or links that were there all the time.
_INTERRUPTED = "Dump was interrupted"
# How often to ask again. On a machine whose interfaces change all the time, one dump in ten is interrupted.
_MOST_TRIES = 8
_FAILED = re.compile(r"Command failed -:(\d{1,9})")


class Answering(Protocol):
    """A process, or something else, that works on an answer."""

    def answer(self) -> Answer:
        """Wait for the answer."""


class Asked(NamedTuple):
    """Lines that `ip` is working on: first commands, then questions."""

    family: Family | None  # None: both families
    writes: int  # the number of commands
    questions: tuple[str, ...]
    running: Answering


class Reply(NamedTuple):
    """An answer of `ip`, after it was judged."""

    failures: dict[int, str]  # `ip`'s words, by the number of the failed command, counted from 0
    answers: list[bytes]  # the JSON list that `ip` printed for each question
    doubt: str = ""  # why the rest of the reply cannot be trusted
    interrupted: bool = False  # a dump was interrupted; the doubt is only about the answers


class Source(Protocol):
    """Something that answers as `ip` does: the running machine, or the recording of one."""

    def ask(self, family: Family | None, *questions: str) -> Asked:
        """Ask questions such as `link show`, without waiting for the answers."""

    def answers(self, asked: Asked) -> list[bytes]:
        """The JSON list that `ip` printed for each question. ReadFailed if there is any doubt."""

    def text(self, family: Family, question: str) -> list[str]:
        """The lines that `ip` prints as the answer without `-json`. ReadFailed if there is any doubt."""

    def needs_no_process(self, family: Family) -> bool:
        """True if a question about this family is answered without a new process."""

    def abandon(self) -> None:
        """Drop the questions whose answers nobody has waited for."""


class Ip(Starter):
    """The `ip` of this machine. It runs commands and answers questions."""

    def ask(self, family: Family | None, *questions: str, first: Sequence[str] = ()) -> Asked:
        """Start an `ip` that runs the commands `first`, such as `route add …`, then answers questions: `link show`.

        A line that fails does not stop the others. For a single question, the kernel filters the dump. In a batch, it
        does not, so `ip` has to read all routes of the family.
        """
        options = ("-json", FAMILY_OPTION[family]) if family else ("-json",)
        if len(questions) == 1 and not first:
            running = self.start(*options, *questions[0].split())
        else:
            stdin = "".join(f"{line}\n" for line in (*first, *questions)).encode("utf-8", "surrogateescape")
            running = self.start(*options, "-force", "-batch", "-", stdin=stdin)
        return Asked(family, len(first), questions, running)

    def needs_no_process(self, family: Family) -> bool:
        """True if a question about this family is answered without a new process."""
        return False

    def answers(self, asked: Asked) -> list[bytes]:
        """The JSON list that `ip` printed for each question.

        It is empty for a table that does not exist, and for IPv6 if the kernel does not support it. ReadFailed if
        there is any doubt: a failed reading must never look like an empty table.
        """
        reply = self.reply(asked)
        for _ in range(_MOST_TRIES):
            if not reply.interrupted:
                break
            # A new process answers sooner: a coprocess may have other questions to answer first.
            reply = self.reply(Ip.ask(self, asked.family, *asked.questions))
        if reply.doubt:
            raise ReadFailed(reply.doubt)
        return reply.answers

    def reply(self, asked: Asked) -> Reply:
        """Wait for the answer, and judge it."""
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
        # A batch with failed lines exits with 1. Any other code means that it ended early, and so does 1 without one.
        if answer.code != (1 if failures else 0) or any(line >= asked.writes for line in failures):
            return Reply(failures, [], answer.failure(answer.words))
        if asked.questions and _INTERRUPTED in answer.stderr:
            return Reply(failures, [], answer.failure(f"{_INTERRUPTED}, again and again"), interrupted=True)
        *answers, rest = answer.stdout.split(b"\n")
        if rest or len(answers) != len(asked.questions) or not all(map(_is_list, answers)):
            # Before 4.17, `ip -json route` printed text.
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
        """The JSON object that `ip route get` prints, or the kernel's refusal in `ip`'s words."""
        answer = self.start("-json", FAMILY_OPTION[family], "route", "get", *words).answer()
        if answer.code == 2:
            return answer.words
        if answer.code != 0:
            raise ReadFailed(answer.failure(answer.words))
        try:
            (document,) = documents_of(answer.stdout)
        except (ValueError, RecursionError) as error:
            raise ReadFailed(answer.failure(json_fault(error))) from None
        return document

    @cached_property
    def version(self) -> str:
        """What `ip -V` prints."""
        return self.start("-V").answer().stdout.decode("utf-8", "replace").strip()

    def text(self, family: Family, question: str) -> list[str]:
        """The lines that `ip` prints as the answer without `-json`. ReadFailed if there is any doubt."""
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
    """The failed lines of a batch, counted from 0. For each, `ip` prints a reason, and then `Command failed -:LINE`."""
    failures: dict[int, str] = {}
    words: list[str] = []
    for text in stderr.splitlines():
        if match := _FAILED.fullmatch(text):
            failures[int(match[1]) - 1] = " / ".join(words) or "no reason given"
            words = []
        elif text.strip():
            words.append(text.strip())
    return failures
