"""`config`: show the configuration in force, or check a file."""

from argparse import SUPPRESS, ArgumentParser, Namespace
from pathlib import Path

from fz_iproute.files.config_file import ConfigFile
from fz_iproute.log import Log
from fz_iproute.mirror.config_text import doubts, dump
from fz_iproute.verbs.options import add_common
from fz_iproute.verbs.output import write


def add(parser: ArgumentParser) -> None:
    """Add the subcommands `show` and `check`."""
    verbs = parser.add_subparsers(metavar="show|check", required=True)
    text = "print the configuration in force, with defaults, as TOML"
    show = verbs.add_parser("show", help=text, description=text, argument_default=SUPPRESS)
    show.set_defaults(checks=False, file=None)
    add_common(show)
    text = "list all problems of a file"
    check = verbs.add_parser("check", help=text, description=text, argument_default=SUPPRESS)
    check.set_defaults(checks=True)
    check.add_argument("file", metavar="FILE", type=Path, nargs="?", default=None, help="default: the one in force")
    add_common(check)


def run(arguments: Namespace, log: Log) -> int:
    """Show the configuration, or check the file. UsageError lists every problem of the file."""
    file = ConfigFile(arguments.file or arguments.config)
    config = file.load()
    no_file = "" if file.place.exists() else f"{file.place}: there is no such file, so the defaults are in force"
    if not arguments.checks:
        write(dump(config).rstrip())
        log.info(f"# {no_file or f'read from {file.place}'}")
        return 0
    for warning in doubts(config):
        log.warning(f"{file.place}: {warning}")
    write(no_file or f"{file.place}: good")
    return 0
