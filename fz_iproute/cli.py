"""The command line: parse the arguments, run one verb, return its exit code."""

import gc
import os
import signal
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable, Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NoReturn

from fz_iproute import __version__
from fz_iproute.errors import ApplyFailed, FzError, IpUnusable, Locked, NotPermitted, ReadFailed, UsageError, words_for
from fz_iproute.log import Log
from fz_iproute.mirror.words import printable
from fz_iproute.verbs.options import add_common

# The exit code for each failure. A verb that does not fail returns 0 or 1. For example, 1 means that commands are due
# (plan --exit-code), that a check has failed (doctor), or that no VPN takes all traffic (detect).
EXIT_CODES: dict[type[FzError], int] = {
    UsageError: 2,
    ReadFailed: 3,
    ApplyFailed: 3,
    NotPermitted: 4,
    Locked: 5,
    IpUnusable: 6,
}
INTERRUPTED = 130  # as shells report the end by SIGINT: 128 + its number

# Each verb has a module of the same name in fz_iproute/verbs, with add(parser) and run(arguments, log).
VERBS = {
    "sync": "bring the copies in step with table main once, then exit",
    "down": "remove the copies, and in manage mode also the rules and routes of the tunnel",
    "plan": "print the commands that sync would run, each with its reason",
    "status": "show which LANs can be reached, and what to do next",
    "explain": "tell which rule, table and device a packet takes, and why",
    "doctor": "run independent checks and print a remedy for each problem; changes nothing",
    "detect": "tell which VPN takes all traffic, who keeps or cuts the LAN, and what to configure",
    "watch": "sync, then stay in step until SIGTERM or SIGINT",
    "wait": "return when the copies are in step",
    "metrics": "print figures for a monitoring system",
    "snapshot": "print all that fz-iproute reads of this machine as one JSON document, for bug reports",
    "replay": "run the commands of a journal again and compare their outcomes",
    "lab": "run a command or a shell in a disposable network: an example, or a recorded machine",
    "install": "set up the service that runs fz-iproute on this machine",
    "uninstall": "stop it, and remove what install has written",
    "unit": "print a file that install writes, or a script for NetworkManager",
    "completion": "print what a shell needs to complete the command line",
    "config": "show the configuration in force, or check a file",
    "help": "show the options of a verb with examples, or a page of the manual",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb named in `argv` and return the exit code. No FzError leaves this function."""
    # Switch off the garbage collector: it would take a tenth of the time of a large pass, and find nothing, because a
    # pass makes no reference cycles. Verbs that run for long switch it on again.
    gc.disable()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # Print UTF-8, whatever the locale: a shell must get the exact name of an interface.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    arguments = parser().parse_args(argv)
    log = Log(arguments.level, _log_style(arguments))
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code: int = _module(arguments.verb).run(arguments, log)
        return code
    except FzError as error:
        log.error(str(error))
        return EXIT_CODES[type(error)]
    except (OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "thread" not in str(error):
            raise  # a bug; a RuntimeError about a thread means that the machine allows no more threads
        log.error(words_for(error))
        return EXIT_CODES[ReadFailed]
    except KeyboardInterrupt:
        return INTERRUPTED


def _log_style(arguments: Namespace) -> str:
    style: str = arguments.log_format
    if style == "text" and arguments.verb == "watch":
        return "journal" if "JOURNAL_STREAM" in os.environ else "stamped"
    return style


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(128 + number)  # so that every `finally` runs and ends its child processes


def parser() -> ArgumentParser:
    """The parser of the whole command line."""
    whole = _Parser(
        prog="fz-iproute",
        description="Keeps the local network reachable under a full-tunnel VPN.",
        formatter_class=RawDescriptionHelpFormatter,  # the default one would break a line at the hyphen of a command
        epilog="`fz-iproute help VERB` shows the options of a verb.\n"
        "`fz-iproute help fz-iproute` shows the manual, with all exit codes.\n"
        "Data goes to stdout, messages to stderr.",
    )
    whole.add_argument("--version", action="version", version=f"fz-iproute {__version__}")
    whole.set_defaults(config=None, netns=None, level="INFO", log_format="text", color="auto", wait=10.0, parser=whole)
    add_common(whole)
    whole._positionals.title = "verbs"
    verbs: Any = whole.add_subparsers(metavar="VERB", dest="verb", required=True, parser_class=_VerbParser)
    # Set the usage after add_subparsers, which would begin the usage of each verb with it.
    whole.usage = "%(prog)s [OPTION ...] VERB ..."
    for name, text in VERBS.items():
        verbs.add_parser(name, help=text, description=text).set_defaults(module=name)
    return whole


class _Parser(ArgumentParser):
    """A parser that prints an error as one line."""

    def error(self, message: str, near: str = "") -> NoReturn:
        """Print the error and exit with 2. For an unknown verb, suggest the most similar one."""
        start, _, rest = message.partition("invalid choice: '")
        if start == "argument VERB: ":
            name = rest.partition("'")[0]
            message, near = f"there is no verb {name}", _MEANT.get(name) or _nearest(name, VERBS)
        if not isinstance(self, _VerbParser):
            message = message.replace("unrecognized arguments:", "unknown before a verb:")
        advice = f"did you mean {near}?" if near else f"see `{self.prog} --help`"
        self.exit(EXIT_CODES[UsageError], f"error: {printable(message)}; {advice}\n")


# Words that other programs use for such verbs, and what to suggest for them.
_MEANT = {
    "start": "watch or install",
    "run": "watch or sync",
    "up": "sync or watch",
    "apply": "sync",
    "enable": "install",
    "stop": "down or uninstall",
    "disable": "uninstall",
    "check": "doctor",
}


def _nearest(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # only to word a mistake

    return "".join(get_close_matches(name, names, n=1))


# How the usage shows an argument, by the `nargs` of argparse.
_SHAPES = {"?": "[{}]", "+": "{} ...", "...": "[{} ...]"}


class _VerbParser(_Parser):
    """The parser of one verb. It imports the module of the verb only when needed, because imports take long."""

    def fill(self) -> None:
        """Add the options of this verb, then those of all verbs. A second call does nothing."""
        if name := self._defaults.pop("module", None):
            verb = _module(name)
            self._positionals.title = "arguments"
            verb.add(self)
            # The common options are also allowed before the verb. Without defaults here, one that was given there is
            # overridden only if it is given here, too.
            self.argument_default = SUPPRESS
            add_common(self.add_argument_group("options of every verb"))
            arguments = (action for action in self._actions if not action.option_strings)
            words = (_SHAPES.get(str(action.nargs), "{}").format(action.metavar) for action in arguments)
            self.usage = " ".join(("%(prog)s [OPTION ...]", *words))
            self.formatter_class = RawDescriptionHelpFormatter

    def format_help(self) -> str:
        import tomllib  # noqa: PLC0415  # needed only here

        from fz_iproute.files.data import texts  # noqa: PLC0415

        if examples := tomllib.loads(texts("help")["examples.toml"]).get(self.prog.split()[-1]):
            self.epilog = "\n  ".join(["examples:", *examples])
        return super().format_help()

    def parse_known_args(self, *args: Any, **options: Any) -> Any:
        self.fill()
        found, unknown = super().parse_known_args(*args, **options)
        if unknown:
            near = _nearest(unknown[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}", near)
        return found, unknown


def _module(verb: str) -> Any:
    return import_module(f"fz_iproute.verbs.{verb}")
