"""`plan`: print the commands that `sync` would run, each with its reason."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fz_iproute.ip.passes import Plans, Remarks
from fz_iproute.ip.process import Spelling
from fz_iproute.log import Log
from fz_iproute.mirror.model import Command
from fz_iproute.verbs.options import add_json, add_snapshot
from fz_iproute.verbs.output import write, write_json
from fz_iproute.verbs.source import chosen_source, say_absent, say_lost


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument("--exit-code", action="store_true", help="exit with 1 if there are commands to run")
    add_json(parser)
    add_snapshot(parser)


def run(arguments: Namespace, log: Log) -> int:
    """Print the plan. Returns 1 if there are commands to run and --exit-code is given."""
    with chosen_source(arguments, log) as (source, config):
        lost = partial(say_lost, source, config, log, Spelling(arguments.netns))
        due = Plans(source, config, log, Remarks(partial(say_absent, source, config, log), lost)).plan_sync()
    print_plan(arguments, due, reasons=True)
    return int(bool(due) and arguments.exit_code)


def print_plan(arguments: Namespace, due: Sequence[Command], *, reasons: bool = False) -> None:
    """Print commands as lines for a shell, with `reasons` as comments, or as JSON."""
    spelling = Spelling(arguments.netns)
    if arguments.json:
        write_json({"commands": [command_document(spelling.line, command) for command in due]})
    elif due:
        write(spelling.script(due, reasons=reasons))


def command_document(line: Callable[[Command], str], command: Command) -> dict[str, Any]:
    """The command for a JSON document. `line` returns it as a line for a shell."""
    return {"family": command.family, "command": line(command), "reason": command.reason}
