"""The text of the journal: how a pass is written down, and how what was written is read again.

It is a shell script all along, but never given to a shell: a line is either a comment, or exactly such a command as
fz-iproute writes, spelled as it spells it. Anything else is refused.
"""

import re
import shlex
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from fz_iproute.mirror.model import WORKED, Command, Outcome
from fz_iproute.mirror.prefix import FAMILIES, Family


class Recorded(NamedTuple):
    """A command as it stands in the journal, and what became of it."""

    line: str
    netns: str | None
    command: Command
    outcome: Outcome = WORKED


class RecordedPass(NamedTuple):
    """The commands of one pass. Without a time if no heading stands before them, as in the output of a dry-run."""

    time: datetime | None
    reason: str
    commands: list[Recorded]


class Unreadable(ValueError):
    """The line `number`, counted from 1, is none of a journal."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}")
        self.number = number


def summary(seconds: float, count: int, reason: str) -> str:
    """What there is to say of a pass."""
    return f"{seconds * 1e3:.1f} ms, {count} command{'' if count == 1 else 's'}, woken by: {reason}"


def record(time: datetime, summary: str, commands: Iterable[tuple[str, Outcome]]) -> list[str]:
    """The lines for one pass: a heading, then its commands; a comment follows each that did not work."""
    lines = [_comment(f"{stamp(time)} {summary}")]
    for line, outcome in commands:
        lines.append(line)
        if outcome.result != "worked":
            lines.append(_comment(f"  {outcome.result}: {outcome.words}"))
    return lines


def stamp(time: datetime) -> str:
    """The time in UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _comment(text: str) -> str:
    # Whatever is quoted in it must not begin a line of its own.
    return f"# {text}".replace("\n", " ")


# Twice as long as the longest that `ip monitor` gives as a reason.
_LONGEST = 1 << 17

_HEADING = re.compile(
    r"# (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) \d+\.\d ms, \d+ commands?, woken by: (.*)", re.ASCII | re.DOTALL
)
_OUTCOME = re.compile(r"#   (refused|in doubt): (.*)", re.DOTALL)


def parse(lines: Iterable[str]) -> list[RecordedPass]:
    """The passes of a journal, from its lines with their ends; Unreadable names the first that is wrong.

    A line that `sh` takes for a comment is one here, whatever it holds. Only one that looks as `record` writes it
    counts: as a heading, or as the outcome of the command on the line before.
    """
    passes: list[RecordedPass] = []
    behind_command = False
    for number, ended in enumerate(lines, start=1):
        line = ended.removesuffix("\n")
        if len(line) > _LONGEST:
            raise Unreadable(number, f"it is longer than {_LONGEST} characters")
        if line.startswith("#"):
            if (heading := _HEADING.fullmatch(line)) and (time := _time_of_heading(heading[1])):
                passes.append(RecordedPass(time, heading[2], []))
            elif behind_command and (outcome := _OUTCOME.fullmatch(line)):
                commands = passes[-1].commands
                result: Literal["refused", "in doubt"] = "refused" if outcome[1] == "refused" else "in doubt"
                commands[-1] = commands[-1]._replace(outcome=Outcome(result, outcome[2]))
            behind_command = False
        elif line:
            if ended == line:
                raise Unreadable(number, "it has no end: half a command does something else than the whole")
            try:
                found = _recorded(line)
            except ValueError as error:
                raise Unreadable(number, f"{error}: {_shown(line)}") from None
            if not passes:
                passes.append(RecordedPass(None, "", []))
            passes[-1].commands.append(found)
            behind_command = True
    return passes


def until(passes: list[RecordedPass], end: datetime) -> list[RecordedPass]:
    """Up to the last pass that is not later than `end`; ValueError where there are commands without a time.

    What stands before it belongs to it, even if the clock was wrong in between.
    """
    if passes and passes[0].time is None:
        raise ValueError("its first commands stand before any heading, so they have no time")
    count = max((place for place, (time, _, _) in enumerate(passes, start=1) if time and time <= end), default=0)
    return passes[:count]


def time(text: str) -> datetime:
    """A date or a time as ISO 8601 writes it, UTC unless it says otherwise; ValueError if it is none."""
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time such as 2026-01-31T12:00:00Z") from None


def _time_of_heading(text: str) -> datetime | None:
    try:
        return time(text)
    except ValueError:
        return None  # 31 February: somebody else's comment


def _recorded(line: str) -> Recorded:
    # Bytes that are not UTF-8 come as surrogates, and go to `ip` as they came.
    if not (line.isprintable() or _RAW.sub("", line).isprintable()):
        raise ValueError("there is a control character in it")
    try:
        argv = line.split(" ") if _PLAIN.fullmatch(line) else shlex.split(line)
    except ValueError as error:
        raise ValueError(f"a shell could not read it, {str(error).lower()}") from None
    if argv[:1] != ["ip"]:
        raise ValueError("it is not a command of ip")
    # With this, all that means something to a shell stands in quotes, and so means nothing.
    if shlex.join(argv) != line:
        raise ValueError("it is not spelled as fz-iproute spells its commands")
    netns, words = (argv[2], argv[3:]) if argv[1:2] == ["-n"] and len(argv) > 2 else (None, argv[1:])
    family: Family = "inet6" if words[:1] == ["-6"] else "inet"
    if words[:1] in (["-4"], ["-6"]):
        words = words[1:]
    if netns is not None and not (netns.isprintable() and _NETNS.fullmatch(netns)):
        raise ValueError("no network namespace has such a name")
    if any(" " in word for word in words) or not _COMMANDS[family].fullmatch(" ".join(words)):
        raise ValueError("it is not a command that fz-iproute writes")
    return Recorded(line, netns, Command.of(family, words, "recorded"))


def _shown(line: str) -> str:
    return repr(line) if len(line) <= 80 else f"{line[:80]!r} …"


_RAW = re.compile("[\udc80-\udcff]")
_NETNS = re.compile("[^/]+")
_PLAIN = re.compile(r"[\w.:/ -]+", re.ASCII)  # nothing that a shell would read otherwise


def _commands(family: Family) -> re.Pattern[str]:
    """What fz-iproute may write, in the words of a batch line: no other table, no abbreviation, nothing of main.

    Each option takes one word, so that no value can pass for an option; but `via` may name a family, too.
    """
    address = r"[0-9.]+" if family == "inet" else r"[0-9A-Fa-f:.]+"
    table = r"(?!25[345] )[1-9][0-9]{0,9}"
    device = r"""[^\s#'"][^\s#]*"""
    value = r"[A-Za-z0-9_.:/+-]+"
    options = [
        "onlink",
        "nexthop",
        rf"(?:via|src) {address}",
        r"via inet6? [0-9A-Fa-f:.]+",
        rf"dev {device}",
        rf"(?:{'|'.join(_OPTIONS)}) {value}",
    ]
    route = (
        rf"route (?:add|append|replace|del) table {table} "
        rf"(?:unreachable )?(?:default|{address}(?:/[0-9]+)?)(?: (?:{'|'.join(options)}))*"
    )
    mark = "0x[0-9a-f]+(?:/0x[0-9a-f]+)?"
    rule = rf"rule (?:add|del) priority [0-9]+ not fwmark {mark} lookup [1-9][0-9]{{0,9}}(?: protocol {value})?"
    return re.compile(f"{route}|{rule}")


# fmt: off
_OPTIONS = (
    "nhid", "proto", "scope", "metric", "tos", "realms", "pref", "weight",
    "mtu", "window", "rtt", "rttvar", "ssthresh", "cwnd", "advmss", "reordering", "hoplimit", "initcwnd", "features",
    "quickack", "congctl", "rto_min", "initrwnd", "fastopen_no_cookie",
)
# fmt: on
_COMMANDS = {family: _commands(family) for family in FAMILIES}
