"""Notices when another program keeps undoing our changes. Then a change is repeated less and less often."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from fz_iproute.mirror.model import Command
from fz_iproute.mirror.prefix import Family

# The pauses between repetitions of a command, in seconds. Each is twice as long as the one before.
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0
# A command is remembered for so many seconds after it ran, or for twice its pause if that is longer.
_REMEMBERED = 5.0


@dataclass
class _Memory:
    """A command that was run lately. If it is due again, another program has undone it."""

    command: Command
    last: float  # when it ran
    pause: float = 0.0  # how long after `last` it may run again
    warned: bool = False


class Admission(NamedTuple):
    """Which of the due commands may run."""

    admitted: list[Command]  # those that may run now
    again: float | None  # when the first of the others may run; None if there are no others
    to_report: list[Command]  # commands that another program keeps undoing; each is reported only once


class Fight:
    """Remembers which commands ran lately. Times are seconds on one clock, which the caller reads."""

    def __init__(self) -> None:
        self._memories: dict[_Key, _Memory] = {}

    @property
    def destinations(self) -> set[str]:
        """The destinations of the routes that were changed lately."""
        return {memory.command.words[4] for memory in self._memories.values() if memory.command.words[0] == "route"}

    def admit(self, due: Sequence[Command], now: float) -> Admission:
        """Hold back commands that ran lately and are due again before their pause is over."""
        self._memories = {
            key: memory
            for key, memory in self._memories.items()
            if now - memory.last < max(_REMEMBERED, 2 * memory.pause)
        }
        self._forget_old_goals(due)
        held: list[float] = []
        admitted: list[Command] = []
        to_report: list[Command] = []
        for command in due:
            memory = self._memories.get(_key(command))
            if memory is None:
                admitted.append(command)
            elif now < memory.last + memory.pause:
                held.append(memory.last + memory.pause)
            else:
                admitted.append(command)
                # Two repetitions are not yet a fight: `ip route flush` deletes in rounds, so one command may undo a
                # change twice.
                if memory.pause > FIRST_PAUSE and not memory.warned:
                    memory.warned = True
                    to_report.append(command)
        return Admission(admitted, min(held, default=None), to_report)

    def ran(self, commands: Iterable[Command], now: float) -> None:
        """Note that these commands ran."""
        for command in commands:
            key = _key(command)
            known = self._memories.setdefault(key, _Memory(command, now))
            if known.last != now:
                known.pause = min(LONGEST_PAUSE, 2 * known.pause or FIRST_PAUSE)
                known.last = now

    def _forget_old_goals(self, due: Sequence[Command]) -> None:
        """Forget an earlier command if one that is due reverses it, or replaces the same route by another.

        Then the goal has changed, and no other program has undone anything.
        """
        if not self._memories:
            return
        keys = {_key(command) for command in due}
        reversed_ = {(family, not deletes, rest) for family, deletes, rest in keys}
        replaced = {_route(command) for command in due if command.words[:2] == ("route", "replace")}
        self._memories = {
            key: memory
            for key, memory in self._memories.items()
            if key in keys or (key not in reversed_ and _route(memory.command) not in replaced)
        }

    def forgive(self, line: str) -> None:
        """Forget commands about the interface in this event: the kernel itself may have removed their routes."""
        if self._memories and (event := _INTERFACE.match(line)):
            # The name may be followed by `@`, and the name of another interface.
            names = {event[1], event[1].rpartition("@")[0]}
            self._memories = {
                key: memory for key, memory in self._memories.items() if names.isdisjoint(_devices(memory.command))
            }


_INTERFACE = re.compile(r"\[(?:LINK|ADDR)\](?:Deleted )?\d+: ([^\s:]+)")


def _devices(command: Command) -> set[str]:
    return {word for option, word in pairwise(command.words) if option == "dev"}


# The family, whether the command deletes, and what follows the verb. The family is needed because an IPv4 rule and an
# IPv6 rule may have the same words.
_Key = tuple[Family, bool, str]


def _key(command: Command) -> _Key:
    _, verb, rest = command.line.split(" ", 2)
    return command.family, verb == "del", rest


def _route(command: Command) -> tuple[str, ...]:
    """What identifies the route of a command: family, table, destination, and the metric if it has one."""
    words = command.words
    place = words.index("metric") if "metric" in words else len(words)
    return (command.family, *words[2:5], *words[place : place + 2])
