"""Remembers which commands `ip` has refused, and complains of each once if it is due again."""

from collections.abc import Callable, Collection, Iterable

from fz_iproute.ip.apply import Refusal
from fz_iproute.mirror.model import Command


class Refused:
    """`line` shows a command as it can be pasted; `warn` logs."""

    def __init__(self, line: Callable[[Command], str], warn: Callable[[str], None]) -> None:
        self._line = line
        self._warn = warn
        self._refusals: dict[Command, Refusal] = {}
        self._told: set[str] = set()

    def __contains__(self, command: Command) -> bool:
        return command in self._refusals

    def complain(self, due: Iterable[Command]) -> None:
        """Log the refusals of commands that are due again. Mostly none is: the kernel had been faster than we."""
        for refusal in (self._refusals[command] for command in due if command in self._refusals):
            words = refusal.words if refusal.lost else f"{self._line(refusal.command)}: {refusal.words}"
            if words not in self._told:
                self._told.add(words)
                self._warn(f"{words}; trying again")

    def ran(self, commands: Iterable[Command], refusals: Iterable[Refusal]) -> None:
        """These commands were run, and some of them refused."""
        for command in commands:
            self._refusals.pop(command, None)
        self._refusals |= {refusal.command: refusal for refusal in refusals}

    def forget_all_but(self, due: Collection[Command]) -> None:
        """What is due no more is no trouble any more."""
        self._refusals = {command: refusal for command, refusal in self._refusals.items() if command in due}
        if not self._refusals:
            self._told.clear()
