"""`replay`: run the commands of a journal again, in their order, and see what becomes of each today."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from fz_iproute.errors import NotPermitted, UsageError
from fz_iproute.files.journal import read
from fz_iproute.files.lock import locked
from fz_iproute.ip.apply import NO_PERMISSION, Work
from fz_iproute.ip.ip import Ip
from fz_iproute.log import Log
from fz_iproute.mirror import journal
from fz_iproute.mirror.journal import Recorded, RecordedPass
from fz_iproute.mirror.model import WORKED, Outcome


class Step(NamedTuple):
    """A recorded command of the pass `origin`, and the `ip` that is to run it; `now` is what became of it today."""

    origin: RecordedPass
    recorded: Recorded
    ip: Ip
    now: Outcome | None = None

    @property
    def line(self) -> str:
        """What is run: the very line of the journal, unless it is for another network namespace now."""
        same = self.ip.netns == self.recorded.netns
        return self.recorded.line if same else self.ip.line(self.recorded.command)

    @property
    def differs(self) -> bool:
        """Nobody knows what became of a command in doubt, so it cannot be different today."""
        then = self.recorded.outcome
        return then.result != "in doubt" and self.now not in (None, then)

    @property
    def fails(self) -> bool:
        """It had worked, and does not work now."""
        return self.differs and self.recorded.outcome.result == "worked"

    def __str__(self) -> str:
        return f"{self.line}  # then {self.recorded.outcome}; now {self.now}"

    def as_document(self) -> dict[str, Any]:
        """For JSON."""
        time, reason, _ = self.origin
        return {
            "time": journal.stamp(time) if time else None,
            "woken_by": reason,
            "family": self.recorded.command.family,
            "command": self.line,
            "then": self.recorded.outcome._asdict(),
            **({"now": self.now._asdict()} if self.now else {}),
        }


def steps(path: Path, until: datetime | None, ip: Callable[[str | None], Ip]) -> list[Step]:
    """The commands of a journal, up to a time. UsageError if any line of it is not what fz-iproute writes.

    `ip` gives what runs the commands of a network namespace; None is the one that we are in.
    """
    try:
        passes = journal.parse(read(path))
        if until is not None:
            passes = journal.until(passes, until)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    return [Step(origin, recorded, ip(recorded.netns)) for origin in passes for recorded in origin.commands]


def replay(steps: Sequence[Step], log: Log, wait: float) -> Iterator[Step]:
    """Run the commands and log them, each by itself: as in a script, none is lost if `ip` cannot read another.

    `wait` is for how many seconds another fz-iproute may hold the tables. NotPermitted at the first command that
    the kernel does not take from us.
    """
    with ExitStack() as stack:
        for netns, tables in _tables(steps).items():
            stack.enter_context(locked(netns, tables, wait))
        for step in steps:
            log.info(step.line)
            yield step._replace(now=_run(step))


def summary(replayed: Sequence[Step]) -> str:
    """One line for a person."""
    count, differing = len(replayed), sum(step.differs for step in replayed)
    failing = sum(step.fails for step in replayed)
    parts = [f"{count} command{'' if count == 1 else 's'}: {count - differing} as recorded"]
    if failing:
        parts.append(f"{failing} had worked and did not work now")
    if differing > failing:
        parts.append(f"{differing - failing} different in another way")
    return ", ".join(parts)


def _tables(steps: Sequence[Step]) -> dict[str | None, set[int]]:
    """The tables of each network namespace that the commands are about."""
    tables: dict[str | None, set[int]] = defaultdict(set)
    for step in steps:
        words = step.recorded.command.words
        tables[step.ip.netns].add(int(words[words.index("table" if words[0] == "route" else "lookup") + 1]))
    return tables


def _run(step: Step) -> Outcome:
    refusals, _ = Work(step.ip, [step.recorded.command]).finish()
    if not refusals:
        return WORKED
    outcome = refusals[0].outcome
    if NO_PERMISSION in outcome.words:
        raise NotPermitted(f"{step.line}: {outcome.words}; run as root or with CAP_NET_ADMIN")
    return outcome
