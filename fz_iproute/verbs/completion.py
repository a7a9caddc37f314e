"""`completion`: print what a shell needs to complete the command line."""

from argparse import ArgumentParser, Namespace

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
    """Print the completion."""
    write(SHELLS[arguments.shell](verbs(arguments.parser)).removesuffix("\n"))
    return 0
