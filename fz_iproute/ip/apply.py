"""Runs commands in batches, and reports which of them `ip` refused, in its own words."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from fz_iproute.ip.ip import Asked, Ip
from fz_iproute.mirror.model import Command, Outcome
from fz_iproute.mirror.prefix import FAMILIES, Family

# The most lines that one `ip` gets. `ip -batch` 6.1 leaks about 4 KB for each line: 40 MB.
MOST_LINES = 10_000

NO_PERMISSION = "Operation not permitted"


class Refusal(NamedTuple):
    """A command that `ip` did not carry out, and its reason in `ip`'s own words.

    If the batch ended early, the command is `lost`: nobody knows whether `ip` carried it out.
    """

    command: Command
    words: str
    lost: bool = False

    @property
    def outcome(self) -> Outcome:
        """The outcome that the journal records."""
        return Outcome("in doubt" if self.lost else "refused", self.words)


class Work:
    """Commands that `ip` is working on. Those of one family run in order; the two families run in parallel."""

    def __init__(self, ip: Ip, commands: Sequence[Command], begun: Asked | None = None) -> None:
        """`begun`: `ip` has all of the commands already. Then they are of one family."""
        self._ip = ip
        due = [] if begun else commands
        self._due = {
            family: list(_pieces([command for command in due if command.family == family])) for family in FAMILIES
        }
        self._working = [(commands[0].family, commands, begun)] if begun else self._start_next()

    def finish(self) -> list[Refusal]:
        """Run all commands, and wait for the end. Returns the commands that were not carried out."""
        refusals: list[Refusal] = []
        try:
            while self._working:
                for family, piece, asked in self._working:
                    reply = self._ip.reply(asked)
                    refusals += [Refusal(piece[line], words) for line, words in reply.failures.items()]
                    if reply.doubt and not reply.interrupted:
                        refusals += _lost(piece, reply.failures, reply.doubt)
                        # The later commands must not run: they may delete routes whose replacements were lost.
                        for later in self._due[family]:
                            refusals += _lost(later, {}, reply.doubt)
                        self._due[family].clear()
                self._working = self._start_next()
        finally:
            self._ip.abandon()
        return refusals

    def _start_next(self) -> list[tuple[Family, Sequence[Command], Asked]]:
        """Let `ip` start with the next piece of each family."""
        return [
            (family, piece, self._ip.ask(family, first=[command.line for command in piece]))
            for family, due in self._due.items()
            if due and (piece := due.pop(0))
        ]


def _pieces(commands: Sequence[Command]) -> Iterator[Sequence[Command]]:
    """Cut the commands into pieces for one `ip` each: not too long, and without a name after a number.

    `ip -batch` 6.1 caches the value of the last name, and a number overwrites the cached value. For example, after
    `proto boot` and `proto 5`, it reads `proto boot` as 5.
    """
    piece: list[Command] = []
    numbers: set[str] = set()
    for command in commands:
        values = _VALUE.findall(command.line) if numbers or command.numeric else []
        name_follows_number = any(option in numbers and not digit for option, digit in values)
        if len(piece) == MOST_LINES or name_follows_number:
            yield piece
            piece, numbers = [], set()
        piece.append(command)
        numbers |= {option for option, digit in values if digit}
    if piece:
        yield piece


# An option that takes a name or a number, and the first digit of a number.
_VALUE = re.compile(r" (proto|scope|tos|realms)(?:col)? (\d?)")


def _lost(piece: Sequence[Command], failed: Mapping[int, str], doubt: str) -> Iterator[Refusal]:
    """All commands of a piece that ended early, except those that `ip` reported as failed.

    The next reading shows which of them were carried out.
    """
    for line, command in enumerate(piece):
        if line not in failed:
            yield Refusal(command, f"the batch ended early: {doubt}", lost=True)
