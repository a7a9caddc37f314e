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

    def __contains__(self, command: Command) -> bool:
        """True if it was run a moment ago."""
        return _key(command) in self._disputes

    def admit(self, due: Sequence[Command], now: float) -> Admission:
        """Hold back commands that were run a moment ago and are due again."""
        self._disputes = {
            key: dispute
            for key, dispute in self._disputes.items()
            if now - dispute.last < max(_MEMORY, 2 * dispute.pause)
        }
        self._settle(due)
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
                # `ip route flush` deletes in rounds, so it may undo a change twice. A fight outlasts a pause.
                if dispute.pause > FIRST_PAUSE and not dispute.warned:
                    dispute.warned = True
                    fresh.append(command)
        return Admission(admitted, min(held, default=None), fresh)

    def ran(self, commands: Iterable[Command], now: float) -> None:
        """These commands were run."""
        for command in commands:
            key = _key(command)
            known = self._disputes.setdefault(key, _Dispute(command, now))
            if known.last != now:
                known.pause = min(LONGEST_PAUSE, 2 * known.pause or FIRST_PAUSE)
                known.last = now

    def _settle(self, due: Sequence[Command]) -> None:
        """What reverses an earlier command, or replaces the same route by another, ends the dispute about that.

        The goal has changed, so nobody undid what we did.
        """
        if not self._disputes:
            return
        keys = {_key(command) for command in due}
        reversed_ = {(family, not deletes, words) for family, deletes, words in keys}
        replaced = {_route(command) for command in due if command.words[:2] == ("route", "replace")}
        self._disputes = {
            key: dispute
            for key, dispute in self._disputes.items()
            if key in keys or (key not in reversed_ and _route(dispute.command) not in replaced)
        }

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


def _route(command: Command) -> tuple[str, ...]:
    """The family, the table and the destination of a route, and its metric if it has one."""
    words = command.words
    place = words.index("metric") if "metric" in words else len(words)
    return (command.family, *words[2:5], *words[place : place + 2])
