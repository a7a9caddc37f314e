"""`metrics`: print the state of the mirror and of the daemon in Prometheus' text format."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fz_iproute import __version__
from fz_iproute.diagnosis.status import status
from fz_iproute.files.lock import watching
from fz_iproute.files.report import reported
from fz_iproute.log import Log
from fz_iproute.service.figures import as_text, figures
from fz_iproute.verbs.output import write_to
from fz_iproute.verbs.seen import seen
from fz_iproute.verbs.source import running_machine


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="replace this file at once")


def run(arguments: Namespace, log: Log) -> int:
    """Print the figures, or write them to the file."""
    with running_machine(arguments, log) as (ip, config):
        found = status(config, *seen(ip, config))
    tables = config.tables.mirrors
    report = reported(arguments.netns, tables)
    text = as_text(figures(__version__, found, bool(watching(arguments.netns, tables)), report))
    write_to(arguments.output, text)
    return 0
