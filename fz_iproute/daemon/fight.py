"""Notices that somebody keeps undoing our changes, and makes the next attempts rarer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fz_iproute.mirror.model import Command
from fz_iproute.mirror.prefix import Family

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0
# The same command twice within this time is a dispute. A dispute that has rested for twice its pause is over.
_MEMORY = 5.0


@dataclass
class _Dispute:
    command: Command
    last: float
    pause: float = 0.0
    warned: bool = False


class Admission(NamedTuple):
    """Which commands may run now, when the others may, and which have just turned out to be disputed."""

    admitted: list[Command]
    again: float | None
    fresh: list[Command]


class Fight:
    """Remembers which commands were run. Times are seconds on one clock, which the caller reads."""

    def __init__(self) -> None:
        self._disputes: dict[_Key, _Dispute] = {}

    def admit(self, due: Sequence[Command], now: float) -> Admission:
        """Hold back commands that were run a moment ago and are due again."""
        self._disputes = {
            key: dispute
            for key, dispute in self._disputes.items()
            if now - dispute.last < max(_MEMORY, 2 * dispute.pause)
        }
        held: list[float] = []
        admitted: list[Command] = []
        fresh: list[Command] = []
        for command in due:
            dispute = self._disputes.get(_key(command))
            if dispute is None:
                admitted.append(command)
            elif now < dispute.last + dispute.pause:
                held.append(dispute.last + dispute.pause)
            else:
                admitted.append(command)
                if dispute.pause and not dispute.warned:
                    dispute.warned = True
                    fresh.append(command)
        return Admission(admitted, min(held, default=None), fresh)

    def ran(self, commands: Iterable[Command], now: float) -> None:
        """These commands were run. One that reverses an earlier one ends the dispute about that.

        So does one that replaces the same route by another: then main has changed, and nobody undid our copy.
        """
        for command in commands:
            family, deletes, words = key = _key(command)
            self._disputes.pop((family, not deletes, words), None)
            if replaced := _replaced(command):
                self._disputes = {
                    other: dispute
                    for other, dispute in self._disputes.items()
                    if other == key or _replaced(dispute.command) != replaced
                }
            known = self._disputes.setdefault(key, _Dispute(command, now))
            if known.last != now:
                known.pause = min(LONGEST_PAUSE, 2 * known.pause or FIRST_PAUSE)
                known.last = now

    def forgive(self, line: str) -> None:
        """Forget disputes about the interface in this line of `ip monitor`: the kernel removes routes with it."""
        if not self._disputes or not line.startswith(("[LINK", "[ADDR")):
            return
        words = set(line.replace(":", " ").replace("@", " ").split())
        self._disputes = {
            key: dispute for key, dispute in self._disputes.items() if not words & set(dispute.command.words[4:])
        }


# The family belongs to the key, since a rule of IPv4 and its twin of IPv6 have the same words.
_Key = tuple[Family, bool, tuple[str, ...]]


def _key(command: Command) -> _Key:
    _, verb, *rest = command.words
    return command.family, verb == "del", tuple(rest)


def _replaced(command: Command) -> tuple[str, ...]:
    """What a `replace` replaces: the table, the destination, and the metric if there is one; () for other verbs."""
    thing, verb, *rest = command.words
    if (thing, verb) != ("route", "replace"):
        return ()
    place = rest.index("metric") if "metric" in rest else len(rest)
    return (command.family, *rest[:3], *rest[place : place + 2])
