"""Carries out commands in batches, and says which of them `ip` refused, in its own words."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from fz_iproute.ip.ip import Answers, Asked, Ip
from fz_iproute.mirror.model import Command, Outcome
from fz_iproute.mirror.prefix import FAMILIES, Family

# `ip -batch` 6.1 leaks about 4 KB a line: 10,000 lines are 40 MB.
MOST_LINES = 10_000
# For independent commands, two processes need two thirds of the time of one (10,000: 67 of 108 ms), but a start costs
# what some 2,000 lines do. The kernel changes routes one by one, so more of them would only wait.
_WORTH_TWO = 5_000

NO_PERMISSION = "Operation not permitted"


class Refusal(NamedTuple):
    """A command that had no effect, and `ip`'s words for it."""

    command: Command
    words: str
    lost: bool = False  # it may have had one: the batch ended before or behind it

    @property
    def outcome(self) -> Outcome:
        """As the journal says it."""
        return Outcome("in doubt" if self.lost else "refused", self.words)


class _Chunk(NamedTuple):
    """What one `ip` gets to do."""

    family: Family
    commands: Sequence[Command]
    questions: Sequence[str] = ()


class Work:
    """Commands on their way: those of one family in their order, as far as it matters, the families side by side.

    `questions` are answered behind the last command of their family, where there is one.
    """

    def __init__(
        self, ip: Ip, commands: Sequence[Command], questions: Mapping[Family, Sequence[str]] = MappingProxyType({})
    ) -> None:
        self._ip = ip
        self._waves = {
            family: list(
                _waves(family, [command for command in commands if command.family == family], questions.get(family, ()))
            )
            for family in FAMILIES
        }
        self._working = self._start_next()

    def finish(self, meanwhile: Callable[[], None] = lambda: None) -> tuple[list[Refusal], Answers | None]:
        """Wait for the end of it all; no answers where there is any doubt about them.

        `meanwhile` is called when the last `ip` is at work: two that write leave no processor to anybody else.
        """
        refusals: list[Refusal] = []
        answers: Answers | None = {}
        try:
            while self._working:
                if not any(self._waves.values()):
                    meanwhile()
                for chunk, asked in self._working:
                    outcome = self._ip.outcome(asked)
                    refusals += [Refusal(chunk.commands[line], words) for line, words in outcome.failures.items()]
                    if outcome.interrupted:
                        answers = None
                    elif outcome.doubt:
                        answers = None
                        refusals += _lost(chunk, set(outcome.failures), outcome.doubt)
                        # What comes later may delete what the lost ones were to replace.
                        for later in chain.from_iterable(self._waves[chunk.family]):
                            refusals += _lost(later, set(), outcome.doubt)
                        self._waves[chunk.family].clear()
                    elif answers is not None and chunk.questions:
                        answers[chunk.family] = outcome.answers
                self._working = self._start_next()
        finally:
            self._ip.abandon()
        return refusals, answers

    def _start_next(self) -> list[tuple[_Chunk, Asked]]:
        waves = [waves.pop(0) for waves in self._waves.values() if waves]
        return [(chunk, self._start(chunk)) for wave in waves for chunk in wave]

    def _start(self, chunk: _Chunk) -> Asked:
        return self._ip.ask(chunk.family, *chunk.questions, first=[command.line for command in chunk.commands])


def _waves(family: Family, commands: Sequence[Command], questions: Sequence[str]) -> Iterator[Sequence[_Chunk]]:
    """The commands in pieces for one `ip` each. Those of one wave run side by side, and the next when all are done."""
    free = next((place for place, command in enumerate(commands) if not command.independent), len(commands))
    if any(command.numeric for command in commands):
        pieces = _unconfused([*sorted(commands[:free], key=lambda command: command.numeric), *commands[free:]])
        waves = [[_Chunk(family, piece)] for piece in pieces]
    else:
        free = free if free >= _WORTH_TWO else 0
        half = max(1, min(-(-free // 2), MOST_LINES))
        halves = [_Chunk(family, piece) for piece in _pieces(commands[:free], half)]
        waves = [halves[place : place + 2] for place in range(0, len(halves), 2)]
        waves += [[_Chunk(family, piece)] for piece in _pieces(commands[free:], MOST_LINES)]
    if waves and questions:
        # Who answers must see what all have done.
        last = waves.pop() if len(waves[-1]) == 1 else [_Chunk(family, ())]
        waves.append([last[0]._replace(questions=questions)])
    yield from waves


def _pieces(commands: Sequence[Command], most: int) -> Iterator[Sequence[Command]]:
    for first in range(0, len(commands), most):
        yield commands[first : first + most]


def _unconfused(commands: Sequence[Command]) -> Iterator[Sequence[Command]]:
    """Cut so that in no piece a name follows a number: after `proto boot` and `proto 5`, `ip` takes boot for 5."""
    piece: list[Command] = []
    numbers: set[str] = set()
    for command in commands:
        spelled = _SPELLED.findall(command.line)
        if len(piece) == MOST_LINES or any(option in numbers and not number for option, number in spelled):
            yield piece
            piece, numbers = [], set()
        piece.append(command)
        numbers |= {option for option, number in spelled if number}
    if piece:
        yield piece


_SPELLED = re.compile(r" (proto|scope|tos|realms)(?:col)? (\d?)")


def _lost(chunk: _Chunk, failed: set[int], doubt: str) -> Iterator[Refusal]:
    """The batch ended early, and nothing tells where: the next reading shows what was done before."""
    for line, command in enumerate(chunk.commands):
        if line not in failed:
            yield Refusal(command, f"the batch ended early: {doubt}", lost=True)
