"""`replay`: run the commands of a journal again, in their order, and see what becomes of each today."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from fz_iproute.core import journal
from fz_iproute.core.journal import Recorded, RecordedPass
from fz_iproute.core.model import WORKED, Command, Outcome
from fz_iproute.errors import NotPermitted, UsageError
from fz_iproute.kernel.apply import NO_PERMISSION, Work
from fz_iproute.kernel.ip import Ip
from fz_iproute.kernel.journal import read
from fz_iproute.kernel.lock import Lock
from fz_iproute.log import Log

# What runs the commands of a network namespace; None is the one that we are in.
Driver = Callable[[str | None], Ip]


class Replayed(NamedTuple):
    """A command that was run again: `line` is what was run, `then` and `now` are what became of it."""

    line: str
    then: Outcome
    now: Outcome

    @property
    def agrees(self) -> bool:
        """Nobody knows what became of a command in doubt, so it cannot be different today."""
        return self.then.result == "in doubt" or self.then == self.now

    @property
    def fails(self) -> bool:
        """It had worked, and does not work now."""
        return self.then.result == "worked" != self.now.result


def load(path: Path, until: datetime | None) -> list[RecordedPass]:
    """The passes of a journal, up to a time. UsageError if any line of it is not what fz-iproute writes."""
    try:
        passes = journal.parse(read(path))
        return passes if until is None else journal.until(passes, until)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None


def replay(passes: Sequence[RecordedPass], ip: Driver, log: Log, wait: float) -> Iterator[Replayed]:
    """Run the commands and log them, each by itself: as in a script, none is lost if `ip` cannot read another.

    `wait` is for how many seconds another fz-iproute may hold the tables. NotPermitted at the first command that
    the kernel does not take from us.
    """
    commands = [recorded for found in passes for recorded in found.commands]
    with ExitStack() as stack:
        for netns, tables in _tables(commands, ip).items():
            stack.enter_context(Lock(netns, tables).held(wait))
        for recorded in commands:
            used = ip(recorded.netns)
            line = spelled(recorded, used)
            log.info(line)
            yield Replayed(line, recorded.outcome, _run(used, recorded.command))


def spelled(recorded: Recorded, ip: Ip) -> str:
    """What is run: the very line of the journal, unless it is for another network namespace now."""
    return recorded.line if ip.netns == recorded.netns else ip.line(recorded.command)


def as_document(recorded: Recorded, found: RecordedPass, ip: Ip) -> dict[str, Any]:
    """A command of the pass `found`, for JSON."""
    return {
        "time": journal.stamp(found.time) if found.time else None,
        "woken_by": found.reason,
        "family": recorded.command.family,
        "command": spelled(recorded, ip),
        "then": recorded.outcome._asdict(),
    }


def summed_up(replayed: Sequence[Replayed], passes: int) -> str:
    """One line for a person."""
    count = len(replayed)
    agreeing, failing = (sum(map(of, replayed)) for of in (lambda one: one.agrees, lambda one: one.fails))
    parts = [f"{agreeing} as recorded"]
    if failing:
        parts.append(f"{failing} had worked and did not work now")
    if other := count - agreeing - failing:
        parts.append(f"{other} different in another way")
    return f"{_counted(count, 'command')} of {_counted(passes, 'pass', 'es')}: {', '.join(parts)}"


def _counted(count: int, noun: str, ending: str = "s") -> str:
    return f"{count} {noun}{'' if count == 1 else ending}"


def _tables(commands: Sequence[Recorded], ip: Driver) -> dict[str | None, set[int]]:
    """The tables of each network namespace that the commands are about."""
    tables: dict[str | None, set[int]] = defaultdict(set)
    for recorded in commands:
        words = recorded.command.words
        tables[ip(recorded.netns).netns].add(int(words[words.index("table" if words[0] == "route" else "lookup") + 1]))
    return tables


def _run(ip: Ip, command: Command) -> Outcome:
    refusals, _ = Work(ip, [command]).finish()
    if not refusals:
        return WORKED
    outcome = refusals[0].outcome
    if NO_PERMISSION in outcome.words:
        raise NotPermitted(f"{ip.line(command)}: {outcome.words}; run as root or with CAP_NET_ADMIN")
    return outcome
