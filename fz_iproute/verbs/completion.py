"""`completion`: print the script with which a shell completes the command line, or what completes given words."""

from argparse import REMAINDER, Action, ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fz_iproute.files.data import texts
from fz_iproute.log import Log
from fz_iproute.verbs.output import write

# Where the values of an option are listed, by its `dest`.
_FOLDERS = {"netns": "/run/netns", **dict.fromkeys(("iif", "oif", "interface"), "/sys/class/net")}
# What a shell itself has to complete, by the metavar.
_BY_SHELL = {"FILE": ":file", "JOURNAL": ":file", "DIR": ":folder"}


def add(parser: ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")
    parser.add_argument(
        "words", metavar="WORD", nargs=REMAINDER, help="of a command line: the script asks what completes the last one"
    )


def run(arguments: Namespace, log: Log) -> int:
    """Print the script for the chosen shell, or the offers for the words: one a line, then a tab and its meaning."""
    if not arguments.words:
        write(texts("completion")[arguments.shell].removesuffix("\n"))
    elif found := "\n".join(_offers(arguments.parser, arguments.words)):
        write(found)
    return 0


def _offers(whole: Any, words: Sequence[str]) -> Iterator[str]:
    *before, current = words
    verbs = next(action for action in whole._actions if action.dest == "verb")
    parser, option = whole, None
    for word in before:
        if option:  # this is its value
            option = None
        elif parser is whole and word in verbs.choices:
            parser = verbs.choices[word]
            parser.fill()
        else:
            found = parser._option_string_actions.get(word)
            option = found if found and found.nargs != 0 else None
    arguments = (action for action in parser._actions if not action.option_strings)
    if option or not current.startswith("-"):
        action = option or next(arguments, None)
        offers = _values(verbs if action and action.metavar == "VERB" else action)
    else:
        offers = (f"{name}\t{action.help}" for action in parser._actions for name in action.option_strings)
    return (offer for offer in offers if offer.startswith((current, ":")))


def _values(action: Action | None) -> Iterator[str]:
    if action is None:
        return
    if isinstance(action.choices, dict):
        yield from (f"{each.dest}\t{each.help}" for each in vars(action)["_choices_actions"])
    elif action.choices:
        yield from action.choices
    elif action.metavar in _BY_SHELL:
        yield _BY_SHELL[str(action.metavar)]
    elif action.dest in _FOLDERS:
        with suppress(OSError):
            yield from sorted(path.name for path in Path(_FOLDERS[action.dest]).iterdir())
