"""Remembers which commands `ip` refused, and logs a refusal once, when its command is due again."""

from collections.abc import Callable, Collection, Iterable

from fz_iproute.ip.apply import Refusal
from fz_iproute.mirror.model import Command


class Refused:
    """The refusals that may need a log message. `line` formats a command for a shell; `warn` logs a message."""

    def __init__(self, line: Callable[[Command], str], warn: Callable[[str], None]) -> None:
        self._line = line
        self._warn = warn
        self._refusals: dict[Command, Refusal] = {}
        self._told: set[str] = set()

    def __contains__(self, command: Command) -> bool:
        return command in self._refusals

    def complain(self, due: Iterable[Command]) -> None:
        """Log the refusals of commands that are due again, each only once.

        Most refused commands are not due again, because the kernel had already made the change itself.
        """
        for refusal in (self._refusals[command] for command in due if command in self._refusals):
            words = refusal.words if refusal.lost else f"{self._line(refusal.command)}: {refusal.words}"
            if words not in self._told:
                self._told.add(words)
                self._warn(f"{words}; trying again")

    def ran(self, commands: Iterable[Command], refusals: Iterable[Refusal]) -> None:
        """Note that these commands ran, and which of them `ip` refused."""
        for command in commands:
            self._refusals.pop(command, None)
        self._refusals |= {refusal.command: refusal for refusal in refusals}

    def forget_all_but(self, due: Collection[Command]) -> None:
        """Forget refusals of commands that are not due any more."""
        self._refusals = {command: refusal for command, refusal in self._refusals.items() if command in due}
        if not self._refusals:
            self._told.clear()
