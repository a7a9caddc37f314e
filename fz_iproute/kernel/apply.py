"""Carries out commands through `ip -batch`, and says which of them `ip` refused, in its own words."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fz_iproute.core.model import Command
from fz_iproute.core.prefix import FAMILIES
from fz_iproute.kernel.ip import Answer, Answering, Ip

# `ip -batch` 6.1 leaks about 4 KB a line: 10,000 lines are 40 MB.
MOST_LINES = 10_000

_FAILED = re.compile(r"Command failed -:(\d+)")
NO_PERMISSION = "Operation not permitted"


class Refusal(NamedTuple):
    """A command that had no effect, and `ip`'s words for it."""

    command: Command
    words: str


def start(ip: Ip, commands: Sequence[Command]) -> "Work":
    """Start to run the commands: those of one family in their order, the families side by side."""
    return Work(ip, [_chunks([command for command in commands if command.family == family]) for family in FAMILIES])


class Work:
    """Commands on their way; a chunk of each family at a time."""

    def __init__(self, ip: Ip, chunks: Sequence[Iterator[Sequence[Command]]]) -> None:
        self._ip = ip
        self._chunks = chunks
        self._running = self._start_next()

    def refusals(self) -> list[Refusal]:
        """Wait for the end of it all."""
        found: list[Refusal] = []
        try:
            while self._running:
                for running, chunk in self._running:
                    found += _refusals(running.answer(), chunk)
                self._running = self._start_next()
        finally:
            self._ip.abandon()
        return found

    def _start_next(self) -> list[tuple[Answering, Sequence[Command]]]:
        return [self._start(chunk) for chunks in self._chunks if (chunk := next(chunks, None))]

    def _start(self, chunk: Sequence[Command]) -> tuple[Answering, Sequence[Command]]:
        return self._ip.write(chunk[0].family, [" ".join(command.words) for command in chunk]), chunk


def _chunks(commands: Sequence[Command]) -> Iterator[Sequence[Command]]:
    for first in range(0, len(commands), MOST_LINES):
        yield commands[first : first + MOST_LINES]


def _refusals(answer: Answer, chunk: Sequence[Command]) -> Iterator[Refusal]:
    """Each failure prints its words and then `Command failed -:LINE`.

    What an end before the last line has left undone, the next reading shows; it is reported for every
    line that did not fail by itself, since nothing tells where the end came.
    """
    if answer.code == 0:
        return
    failed: set[int] = set()
    words: list[str] = []
    for text in answer.stderr.splitlines():
        if match := _FAILED.fullmatch(text):
            number = int(match[1])
            failed.add(number)
            yield Refusal(chunk[number - 1], " / ".join(words) or "no reason given")
            words = []
        elif text.strip():
            words.append(text.strip())
    if answer.code != 1 or not failed:
        reason = " / ".join(words) or answer.words
        yield from (
            Refusal(command, f"the batch ended early: {reason}")
            for number, command in enumerate(chunk, start=1)
            if number not in failed
        )
