"""`help`: show the options of a verb, with examples."""

from argparse import ArgumentParser, Namespace

from fz_iproute.log import Log

EXAMPLES = ("fz-iproute help", "fz-iproute help explain")


def add(parser: ArgumentParser) -> None:
    """Add the argument of this verb."""
    parser.add_argument("about", metavar="VERB", nargs="?", help="default: all verbs")


def run(arguments: Namespace, log: Log) -> int:
    """Print the help, as --help does after the verb."""
    arguments.parser.parse_args([*([arguments.about] if arguments.about else []), "--help"])
    return 0
