"""`replay`: run the commands of a journal again, in order, and compare each outcome with the recorded one."""

import gc
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path

from fz_iproute.errors import ApplyFailed, NotPermitted, UsageError
from fz_iproute.files.journal import read
from fz_iproute.files.lock import locked
from fz_iproute.ip.apply import NO_PERMISSION, Work
from fz_iproute.ip.ip import Ip
from fz_iproute.log import Log
from fz_iproute.mirror import journal
from fz_iproute.mirror.journal import JournalCommand
from fz_iproute.mirror.model import WORKED, Command, Outcome
from fz_iproute.mirror.words import count
from fz_iproute.verbs.options import add_dry_run
from fz_iproute.verbs.output import write, write_lines
from fz_iproute.verbs.source import trace


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

    def line(recorded: JournalCommand) -> str:
        """The command as a line for a shell: that of the journal, or changed for another network namespace."""
        runner = ip(recorded.netns)
        return recorded.line if runner.netns == recorded.netns else runner.line(recorded.command)

    commands = _commands(arguments.journal, arguments.until)
    if arguments.dry_run:
        write_lines(map(line, commands))
        return 0
    differing = failing = 0
    with _locked(commands, ip, arguments.wait):
        for recorded in commands:
            log.info(line(recorded))
            then, now = recorded.outcome, _outcome(ip(recorded.netns), recorded.command)
            # If the recorded outcome was in doubt, there is nothing to compare.
            if now != then and then.result != "in doubt":
                differing += 1
                failing += then.result == "worked"
                write(f"{line(recorded)}  # then {then}; now {now}")
    parts = [f"{count(len(commands), 'command', 'commands')}: {len(commands) - differing} as recorded"]
    parts += [f"{failing} worked then and did not work now"] if failing else []
    parts += [f"{differing - failing} different in another way"] if differing > failing else []
    write(f"# {', '.join(parts)}")
    if failing:
        raise ApplyFailed(f"{failing} of {len(commands)} commands worked then, and did not work now")
    return 0


def _time(text: str) -> datetime:
    try:
        return journal.time(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _commands(path: Path, until: datetime | None) -> list[JournalCommand]:
    """The commands of a journal, up to a time. UsageError if fz-iproute does not write such lines."""
    try:
        passes = journal.parse(read(path))
        if until is not None:
            passes = journal.until(passes, until)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    return [recorded for each in passes for recorded in each.commands]


@contextmanager
def _locked(commands: Sequence[JournalCommand], ip: Callable[[str | None], Ip], wait: float) -> Iterator[None]:
    """Hold the locks of the tables that the commands change. Locked if that takes longer than `wait` seconds."""
    tables: dict[str | None, set[int]] = defaultdict(set)
    for recorded in commands:
        words = recorded.command.words
        tables[ip(recorded.netns).netns].add(int(words[words.index("table" if words[0] == "route" else "lookup") + 1]))
    with ExitStack() as stack:
        for netns, changed in tables.items():
            stack.enter_context(locked(netns, changed, wait))
        yield


def _outcome(ip: Ip, command: Command) -> Outcome:
    """Run the command in a process of its own: a batch would end at a line that `ip` cannot parse.

    NotPermitted if the user may not run such commands.
    """
    refusals = Work(ip, [command]).finish()
    if not refusals:
        return WORKED
    outcome = refusals[0].outcome
    if NO_PERMISSION in outcome.words:
        raise NotPermitted(f"{ip.line(command)}: {outcome.words}; run as root or with CAP_NET_ADMIN")
    return outcome
