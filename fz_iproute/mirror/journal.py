"""Writes and parses the text of the journal, which records each command that `watch` ran.

A journal is a shell script, so that people can run it. fz-iproute itself never gives it to a shell. The parser accepts
comments, and commands exactly as fz-iproute writes them, and refuses everything else.
"""

import re
import shlex
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from fz_iproute.mirror.model import WORKED, Command, Outcome
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import FAMILY_OPTION, KERNEL_TABLES, METRICS, WORD


class JournalCommand(NamedTuple):
    """A command of the journal, and its outcome."""

    line: str  # as in the journal
    netns: str | None  # the network namespace, if the command names one
    command: Command
    outcome: Outcome = WORKED


class JournalPass(NamedTuple):
    """The commands of one pass.

    Commands before the first heading are a pass without a time and a reason. The output of a dry run has no heading.
    """

    time: datetime | None
    reason: str  # what woke the pass
    commands: list[JournalCommand]


class Unreadable(ValueError):
    """A line that fz-iproute does not write to a journal. The message begins with its number, counted from 1."""


def summary(seconds: float, count: int, reason: str) -> str:
    """The summary of a pass: its duration, the number of commands, and what woke it."""
    return f"{seconds * 1e3:.1f} ms, {count} command{'' if count == 1 else 's'}, woken by: {reason}"


def record(time: datetime, summary: str, commands: Iterable[tuple[str, Outcome]]) -> list[str]:
    """The journal's lines for one pass: a heading, then the commands. A comment follows each command that failed."""
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
    # The text may quote line breaks. They must not start a new line of the script.
    return f"# {text}".replace("\n", " ")


# The longest line that is accepted, in characters. A heading may quote an event of `ip monitor`. The longest event has
# half as many.
_LONGEST = 1 << 17

_HEADING = re.compile(
    r"# (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) \d+\.\d ms, \d+ commands?, woken by: (.*)", re.ASCII | re.DOTALL
)
_OUTCOME = re.compile(r"#   (refused|in doubt): (.*)", re.DOTALL)


def parse(lines: Iterable[str]) -> list[JournalPass]:
    """The passes of a journal, given its lines with their line breaks. Unreadable names the first line that is wrong.

    Comments may contain anything. Those in the form that `record` writes are headings and outcomes; an outcome is that
    of the command in the line before. All others are ignored.
    """
    passes: list[JournalPass] = []
    follows_command = False
    for number, ended in enumerate(lines, start=1):
        line = ended.removesuffix("\n")
        if len(line) > _LONGEST:
            raise Unreadable(f"line {number}: it is longer than {_LONGEST} characters")
        if line.startswith("#"):
            if (heading := _HEADING.fullmatch(line)) and (time := _time_of_heading(heading[1])):
                passes.append(JournalPass(time, heading[2], []))
            elif follows_command and (outcome := _OUTCOME.fullmatch(line)):
                commands = passes[-1].commands
                result: Literal["refused", "in doubt"] = "refused" if outcome[1] == "refused" else "in doubt"
                commands[-1] = commands[-1]._replace(outcome=Outcome(result, outcome[2]))
            follows_command = False
        elif line:
            try:
                found = _command(line)
                if ended == line:
                    raise ValueError("it does not end with a line break, so it may have been cut off")
            except ValueError as error:
                # What `watch` prints looks similar, but has no heading. Its user may have taken it for a journal.
                advice = "" if passes else "; replay reads the file that watch.journal names, not what a verb prints"
                raise Unreadable(f"line {number}: {error}: {_shown(line)}{advice}") from None
            if not passes:
                passes.append(JournalPass(None, "", []))
            passes[-1].commands.append(found)
            follows_command = True
    return passes


def until(passes: list[JournalPass], end: datetime) -> list[JournalPass]:
    """All passes up to the last one whose time is not later than `end`.

    Passes before that one are included whatever their time, since the clock may have been set back. ValueError if there
    are commands without a time.
    """
    if passes and passes[0].time is None:
        raise ValueError("its first commands are above any heading, so they have no time")
    count = max((place for place, (time, _, _) in enumerate(passes, start=1) if time and time <= end), default=0)
    return passes[:count]


def time(text: str) -> datetime:
    """Parse a date or a time in ISO 8601, in UTC unless it has an offset. ValueError if the text is neither."""
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time such as 2026-01-31T12:00:00Z") from None


def _time_of_heading(text: str) -> datetime | None:
    try:
        return time(text)
    except ValueError:
        return None  # such as 31 February: fz-iproute did not write this comment


def _command(line: str) -> JournalCommand:
    # A byte that is not UTF-8 was decoded to a surrogate. That is no control character, and `ip` gets the same byte.
    if not (line.isprintable() or _NOT_UTF8.sub("", line).isprintable()):
        raise ValueError("it contains a control character")
    try:
        argv = line.split(" ") if _SAFE_IN_A_SHELL.fullmatch(line) else shlex.split(line)
    except ValueError as error:
        raise ValueError(f"a shell could not read it: {str(error).lower()}") from None
    if argv[:1] != ["ip"]:
        raise ValueError("it is not a command of ip")
    # This ensures that all characters with a meaning to a shell are quoted.
    if shlex.join(argv) != line:
        raise ValueError("its quotes or spaces are not those that fz-iproute writes")
    netns, words = (argv[2], argv[3:]) if argv[1:2] == ["-n"] and len(argv) > 2 else (None, argv[1:])
    family: Family = "inet6" if words[:1] == [FAMILY_OPTION["inet6"]] else "inet"
    if words[:1] == [FAMILY_OPTION[family]]:
        words = words[1:]
    if netns is not None and not (netns.isprintable() and "/" not in netns and netns):
        raise ValueError("no network namespace has such a name")
    if any(" " in word for word in words) or not _COMMANDS[family].fullmatch(" ".join(words)):
        raise ValueError("it is not a command that fz-iproute writes")
    return JournalCommand(line, netns, Command.of(family, words, "recorded"))


def _shown(line: str) -> str:
    return repr(line) if len(line) <= 80 else f"{line[:80]!r} …"


_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_SAFE_IN_A_SHELL = re.compile(r"[\w.:/ -]+", re.ASCII)


def _commands(family: Family) -> re.Pattern[str]:
    """A pattern for the commands that fz-iproute may write, as batch lines.

    It excludes abbreviations and the kernel's tables. Each option takes exactly one word, so that no value can be taken
    for an option. Only `via` may have a family before its address.
    """
    address = r"[0-9.]+" if family == "inet" else r"[0-9A-Fa-f:.]+"
    table = rf"(?!(?:{'|'.join(map(str, KERNEL_TABLES))}) )[1-9][0-9]{{0,9}}"
    value = r"[A-Za-z0-9_.:/+-]+"
    options = [
        "onlink",
        "nexthop",
        rf"(?:via|src) {address}",
        r"via inet6? [0-9A-Fa-f:.]+",
        rf"dev {WORD}",
        rf"(?:{'|'.join((*_OPTIONS, *METRICS))}) {value}",
    ]
    route = (
        rf"route (?:add|append|replace|del) table {table} "
        rf"(?:(?:unreachable|throw) )?(?:default|{address}(?:/[0-9]+)?)(?: (?:{'|'.join(options)}))*"
    )
    mark = "0x[0-9a-f]+(?:/0x[0-9a-f]+)?"
    rule = rf"rule (?:add|del) priority [0-9]+ not fwmark {mark} lookup [1-9][0-9]{{0,9}}(?: protocol {value})?"
    return re.compile(f"{route}|{rule}")


_OPTIONS = ("nhid", "proto", "scope", "metric", "tos", "realms", "pref", "weight", "features")
_COMMANDS = {family: _commands(family) for family in FAMILIES}
