"""`replay`: run the commands of a journal again, in order, and compare each outcome with the recorded one."""

import gc
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fz_iproute.errors import ApplyFailed, NotPermitted, UsageError
from fz_iproute.files.journal import read
from fz_iproute.files.lock import locked
from fz_iproute.ip.apply import NO_PERMISSION, Work
from fz_iproute.ip.ip import Ip
from fz_iproute.log import Log
from fz_iproute.mirror import journal
from fz_iproute.mirror.journal import JournalCommand
from fz_iproute.mirror.model import WORKED, Outcome
from fz_iproute.mirror.words import count
from fz_iproute.verbs.options import add_dry_run
from fz_iproute.verbs.output import write, write_lines
from fz_iproute.verbs.source import trace

EXAMPLES = (
    "sudo fz-iproute replay /var/log/fz-iproute/journal",
    "fz-iproute replay --dry-run --until 2026-11-26T12:00:00Z journal",
)


class Replayed(NamedTuple):
    """A command of a journal, to be run again."""

    recorded: JournalCommand
    ip: Ip  # runs it again
    now: Outcome | None = None  # the new outcome; None before it has run

    @property
    def line(self) -> str:
        """The command as a line for a shell: that of the journal, or changed for another network namespace."""
        same = self.ip.netns == self.recorded.netns
        return self.recorded.line if same else self.ip.line(self.recorded.command)

    @property
    def differs(self) -> bool:
        """True if the new outcome differs. If the recorded outcome was in doubt, there is nothing to compare."""
        then = self.recorded.outcome
        return then.result != "in doubt" and self.now not in (None, then)

    @property
    def fails(self) -> bool:
        """True if the command worked then, and does not work now."""
        return self.differs and self.recorded.outcome.result == "worked"

    def __str__(self) -> str:
        return f"{self.line}  # then {self.recorded.outcome}; now {self.now}"


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    add_dry_run(parser)
    parser.add_argument(
        "--until", metavar="TIME", type=_time, help="stop after the last pass that is not later than this (UTC)"
    )
    parser.add_argument("journal", metavar="JOURNAL", type=Path, help="a file that watch.journal has recorded")


def run(arguments: Namespace, log: Log) -> int:
    """Replay and report. ApplyFailed if a command that worked then does not work now."""
    gc.enable()

    @cache
    def ip(netns: str | None) -> Ip:
        return Ip(netns if arguments.netns is None else arguments.netns, trace(arguments, log))

    recorded = _commands(arguments.journal, arguments.until, ip)
    if arguments.dry_run:
        write_lines(command.line for command in recorded)
        return 0
    replayed = []
    for command in _replay(recorded, log, arguments.wait):
        replayed.append(command)
        if command.differs:
            write(str(command))
    write(f"# {_summary(replayed)}")
    if failing := sum(command.fails for command in replayed):
        raise ApplyFailed(f"{failing} of {len(replayed)} commands worked then, and did not work now")
    return 0


def _time(text: str) -> datetime:
    try:
        return journal.time(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _commands(path: Path, until: datetime | None, ip: Callable[[str | None], Ip]) -> list[Replayed]:
    """The commands of a journal, up to a time. UsageError if fz-iproute does not write such lines.

    `ip` returns an Ip for a network namespace; None means the current namespace.
    """
    try:
        passes = journal.parse(read(path))
        if until is not None:
            passes = journal.until(passes, until)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    return [Replayed(recorded, ip(recorded.netns)) for each in passes for recorded in each.commands]


def _replay(commands: Sequence[Replayed], log: Log, wait: float) -> Iterator[Replayed]:
    """Log and run each command, in a process of its own: a batch would end at a line that `ip` cannot parse.

    `wait`: how many seconds to wait for another fz-iproute that uses the same tables. NotPermitted if the user may not
    run such commands.
    """
    with ExitStack() as stack:
        for netns, tables in _tables(commands).items():
            stack.enter_context(locked(netns, tables, wait))
        for command in commands:
            log.info(command.line)
            yield command._replace(now=_outcome(command))


def _tables(commands: Sequence[Replayed]) -> dict[str | None, set[int]]:
    """The tables that the commands change, by network namespace."""
    tables: dict[str | None, set[int]] = defaultdict(set)
    for command in commands:
        words = command.recorded.command.words
        tables[command.ip.netns].add(int(words[words.index("table" if words[0] == "route" else "lookup") + 1]))
    return tables


def _outcome(command: Replayed) -> Outcome:
    refusals = Work(command.ip, [command.recorded.command]).finish()
    if not refusals:
        return WORKED
    outcome = refusals[0].outcome
    if NO_PERMISSION in outcome.words:
        raise NotPermitted(f"{command.line}: {outcome.words}; run as root or with CAP_NET_ADMIN")
    return outcome


def _summary(replayed: Sequence[Replayed]) -> str:
    differing, failing = sum(command.differs for command in replayed), sum(command.fails for command in replayed)
    parts = [f"{count(len(replayed), 'command', 'commands')}: {len(replayed) - differing} as recorded"]
    if failing:
        parts.append(f"{failing} worked then and did not work now")
    if differing > failing:
        parts.append(f"{differing - failing} different in another way")
    return ", ".join(parts)
