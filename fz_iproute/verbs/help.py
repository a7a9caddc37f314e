"""`help`: show the options of a verb, or a page of the manual."""

import sys
from argparse import ArgumentParser, Namespace
from pydoc import pager

from fz_iproute.files.data import texts
from fz_iproute.log import Log
from fz_iproute.service.manual import page
from fz_iproute.verbs.output import write
from fz_iproute.verbs.screen import MOST_READABLE, screen

_USUAL = 80  # columns, if the width of the screen is unknown


def add(parser: ArgumentParser) -> None:
    """Add the argument of this verb."""
    parser.add_argument("about", metavar="VERB", nargs="?", help="or a page of the manual; default: all verbs")


def run(arguments: Namespace, log: Log) -> int:
    """Print the page of the manual, or what `VERB --help` prints."""
    pages = {name.rpartition(".")[0]: text for name, text in texts("man").items()}
    if source := pages.get(arguments.about):
        text = page(source, min(screen(arguments).width or _USUAL, MOST_READABLE))
        if sys.stdout is not None and sys.stdout.isatty():
            pager(text)
        else:
            write(text)
        return 0
    arguments.parser.parse_args([*([arguments.about] if arguments.about else []), "--help"])
    return 0
