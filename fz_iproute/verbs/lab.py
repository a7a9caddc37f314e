"""`lab`: run a command or a shell in a disposable network: an example, or a recorded machine."""

from argparse import REMAINDER, ArgumentParser, Namespace
from pathlib import Path

from fz_iproute.errors import UsageError
from fz_iproute.files.config_file import load
from fz_iproute.lab.lab import lab
from fz_iproute.log import Log
from fz_iproute.verbs.source import trace


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument(
        "--snapshot", metavar="FILE", type=Path,
        help="the machine to rebuild (default: a laptop with a LAN, an uplink and Firezone's tunnel)",
    )  # fmt: skip
    parser.add_argument(
        "command", metavar="COMMAND", nargs=REMAINDER, help="with all its options; default: $SHELL, or /bin/sh"
    )


def run(arguments: Namespace, log: Log) -> int:
    """Build the lab and run the command in it. Returns the exit code of the command."""
    if arguments.netns is not None:
        raise UsageError("--netns: a lab always makes a network namespace of its own; leave the option out")
    config = load(arguments.config) if arguments.config else None
    command = arguments.command[arguments.command[:1] == ["--"] :]
    return lab(arguments.snapshot, config, command, log, trace(arguments, log))
