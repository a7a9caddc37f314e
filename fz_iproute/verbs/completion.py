"""`completion`: print the script with which a shell completes the command line."""

from argparse import ArgumentParser, Namespace

from fz_iproute.files.data import texts
from fz_iproute.log import Log
from fz_iproute.service.completion import SHELLS, verbs
from fz_iproute.verbs.output import write

EXAMPLES = (
    "fz-iproute completion bash",
    "fz-iproute completion fish > ~/.config/fish/completions/fz-iproute.fish",
)


def add(parser: ArgumentParser) -> None:
    """Add the argument of this verb."""
    parser.add_argument("shell", metavar="SHELL", choices=tuple(SHELLS), help="bash, zsh or fish")


def run(arguments: Namespace, log: Log) -> int:
    """Print the script for the chosen shell."""
    text = SHELLS[arguments.shell](verbs(arguments.parser), texts("completion"))
    write(text.removesuffix("\n"))
    return 0
