"""`config`: show the configuration in force, or check a file."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fz_iproute.files.config_file import ConfigFile
from fz_iproute.log import Log
from fz_iproute.mirror.config_text import doubts, dump
from fz_iproute.verbs.output import write


def add(parser: ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "what",
        metavar="show|check",
        choices=("show", "check"),
        help="print the configuration with all defaults, as TOML; or list all problems of a file",
    )
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="default: the one in force")


def run(arguments: Namespace, log: Log) -> int:
    """Show the configuration, or check the file. UsageError lists every problem of the file."""
    file = ConfigFile(arguments.file or arguments.config)
    config = file.load()
    no_file = "" if file.place.exists() else f"{file.place}: there is no such file, so the defaults are in force"
    if arguments.what == "show":
        write(dump(config).rstrip())
        log.info(f"# {no_file or f'read from {file.place}'}")
        return 0
    for warning in doubts(config):
        log.warning(f"{file.place}: {warning}")
    write(no_file or f"{file.place}: good")
    return 0
