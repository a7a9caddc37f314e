"""Carries out commands through `ip -batch`, and says which of them `ip` refused, in its own words."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fz_iproute.core.model import Command
from fz_iproute.core.prefix import FAMILIES
from fz_iproute.kernel.ip import OPTION, Answer, Ip, Running

# `ip -batch` 6.1 leaks about 4 KB a line: 10,000 lines are 40 MB.
MOST_LINES = 10_000

_FAILED = re.compile(r"Command failed -:(\d+)")
NO_PERMISSION = "Operation not permitted"


class Refusal(NamedTuple):
    """A command that had no effect, and `ip`'s words for it."""

    command: Command
    words: str


def apply(ip: Ip, commands: Sequence[Command]) -> list[Refusal]:
    """Run the commands, those of one family in their order, the families side by side."""
    refusals: list[Refusal] = []
    chunks = {family: _chunks([c for c in commands if c.family == family]) for family in FAMILIES}
    try:
        while started := [_start(ip, chunk) for family in FAMILIES if (chunk := next(chunks[family], None))]:
            for running, chunk in started:
                refusals += _refusals(running.answer(), chunk)
    finally:
        ip.abandon()
    return refusals


def _chunks(commands: Sequence[Command]) -> Iterator[Sequence[Command]]:
    for first in range(0, len(commands), MOST_LINES):
        yield commands[first : first + MOST_LINES]


def _start(ip: Ip, chunk: Sequence[Command]) -> tuple[Running, Sequence[Command]]:
    lines = "".join(f"{' '.join(command.words)}\n" for command in chunk)
    stdin = lines.encode("utf-8", "surrogateescape")
    return ip.start(OPTION[chunk[0].family], "-force", "-batch", "-", stdin=stdin), chunk


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
