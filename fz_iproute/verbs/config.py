"""`config`: show the configuration in force, or check a file."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fz_iproute.files.config_file import load
from fz_iproute.log import Log
from fz_iproute.mirror.config import dump
from fz_iproute.verbs.options import common_options
from fz_iproute.verbs.output import write


def add(parser: ArgumentParser) -> None:
    """Add the two verbs below this one."""
    verbs = parser.add_subparsers(metavar="show|check", required=True, parser_class=ArgumentParser)
    text = "print the configuration in force, with defaults, as TOML"
    verbs.add_parser("show", help=text, description=text, parents=[common_options()]).set_defaults(file=None)
    text = "list all problems of a file"
    verbs.add_parser("check", help=text, description=text).add_argument("file", metavar="FILE", type=Path)


def run(arguments: Namespace, log: Log) -> int:
    """UsageError lists every problem of the file."""
    if arguments.file is None:
        write(dump(load(arguments.config)).rstrip())
    else:
        load(arguments.file)
        write(f"{arguments.file}: good")
    return 0
