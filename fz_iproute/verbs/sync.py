"""`sync`: bring the VPN's tables in step once."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from fz_iproute.errors import ApplyFailed
from fz_iproute.files.lock import locked
from fz_iproute.ip.passes import Pass, Passes
from fz_iproute.ip.process import Spelling
from fz_iproute.log import Log
from fz_iproute.mirror.model import Command
from fz_iproute.verbs.options import add_dry_run, add_json
from fz_iproute.verbs.output import write_json
from fz_iproute.verbs.plan import command_document, print_plan
from fz_iproute.verbs.source import passes_of, running_machine


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    add_dry_run(parser)
    add_json(parser)


def run(arguments: Namespace, log: Log) -> int:
    """Plan and apply. ApplyFailed lists the commands that `ip` refused."""
    return change(arguments, log, Passes.plan_sync, Passes.sync)


def change(
    arguments: Namespace,
    log: Log,
    plan: Callable[[Passes], list[Command]],
    act: Callable[[Passes], Pass],
    *,
    is_down: bool = False,
) -> int:
    """Hold the locks of the tables and run `act`; with --dry-run, only print `plan`.

    Locked if another fz-iproute holds a lock. With `is_down`, also if a `watch` keeps the tables in step.
    """
    with running_machine(arguments, log) as (ip, config):
        if is_down and config.is_auto:
            log.warning(_UNKNOWN_TABLE)
        passes = passes_of(log, ip, config)
        if arguments.dry_run:
            print_plan(arguments, plan(passes))
            return 0
        with locked(arguments.netns, config.tables.mirrors, arguments.wait, is_down):
            done = act(passes)
    line = Spelling(arguments.netns).line
    if arguments.json:
        failures = [{**command_document(line, failure.command), "words": failure.words} for failure in done.failures]
        write_json({"commands": [command_document(line, command) for command in done.commands], "failures": failures})
    if done.failures:
        raise ApplyFailed("\n".join(f"{line(failure.command)}: {failure.words}" for failure in done.failures))
    return 0


# Nothing remembers which VPN `auto` stood for.
_UNKNOWN_TABLE = (
    'tunnel.interface = "auto" serves no VPN now, so copies in the table of a former VPN are not found; without a '
    "rule, they have no effect; to remove them, connect that VPN and repeat this, or `ip route flush table NUMBER`"
)
