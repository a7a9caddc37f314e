"""Carries out commands in batches, and says which of them `ip` refused, in its own words."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from fz_iproute.ip.ip import Asked, Ip
from fz_iproute.mirror.model import Command, Outcome
from fz_iproute.mirror.prefix import FAMILIES, Family

# `ip -batch` 6.1 leaks about 4 KB a line: 10,000 lines are 40 MB.
MOST_LINES = 10_000

NO_PERMISSION = "Operation not permitted"


class Refusal(NamedTuple):
    """A command that `ip` did not carry out, and `ip`'s words for it."""

    command: Command
    words: str
    lost: bool = False  # the batch ended early: nobody knows whether it was carried out

    @property
    def outcome(self) -> Outcome:
        """How the journal writes it."""
        return Outcome("in doubt" if self.lost else "refused", self.words)


class Work:
    """Commands on their way: those of a family in their order, the two families side by side."""

    def __init__(self, ip: Ip, commands: Sequence[Command]) -> None:
        self._ip = ip
        self._due = {
            family: list(_pieces([command for command in commands if command.family == family])) for family in FAMILIES
        }
        self._working = self._start_next()

    def finish(self) -> list[Refusal]:
        """Wait for the end; the commands that were not carried out."""
        refusals: list[Refusal] = []
        try:
            while self._working:
                for family, piece, asked in self._working:
                    reply = self._ip.reply(asked)
                    refusals += [Refusal(piece[line], words) for line, words in reply.failures.items()]
                    if reply.doubt and not reply.interrupted:
                        refusals += _lost(piece, reply.failures, reply.doubt)
                        # What follows may delete what the lost commands were to replace.
                        for later in self._due[family]:
                            refusals += _lost(later, {}, reply.doubt)
                        self._due[family].clear()
                self._working = self._start_next()
        finally:
            self._ip.abandon()
        return refusals

    def _start_next(self) -> list[tuple[Family, Sequence[Command], Asked]]:
        """Start the next piece of each family."""
        return [
            (family, piece, self._ip.ask(family, first=[command.line for command in piece]))
            for family, due in self._due.items()
            if due and (piece := due.pop(0))
        ]


def _pieces(commands: Sequence[Command]) -> Iterator[Sequence[Command]]:
    """Cut so that each piece suits one `ip`: not too long, and no name in it follows a number.

    `ip -batch` 6.1 remembers the number of the last name, and a number overwrites that: after `proto boot` and
    `proto 5`, it reads `proto boot` as 5.
    """
    piece: list[Command] = []
    numbers: set[str] = set()
    for command in commands:
        spelled = _NAMED_OR_NUMBERED.findall(command.line) if numbers or command.numeric else []
        if len(piece) == MOST_LINES or any(option in numbers and not number for option, number in spelled):
            yield piece
            piece, numbers = [], set()
        piece.append(command)
        numbers |= {option for option, number in spelled if number}
    if piece:
        yield piece


_NAMED_OR_NUMBERED = re.compile(r" (proto|scope|tos|realms)(?:col)? (\d?)")


def _lost(piece: Sequence[Command], failed: Mapping[int, str], doubt: str) -> Iterator[Refusal]:
    """The commands that `ip` did not report as failed: the next reading shows which of them were carried out."""
    for line, command in enumerate(piece):
        if line not in failed:
            yield Refusal(command, f"the batch ended early: {doubt}", lost=True)
