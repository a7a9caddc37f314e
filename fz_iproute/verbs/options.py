"""Options that several verbs share, each defined once."""

from argparse import ArgumentParser, ArgumentTypeError, _ArgumentGroup
from pathlib import Path


def add_common(parser: ArgumentParser | _ArgumentGroup) -> None:
    """Add the options of every verb."""
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, help="instead of /etc/fz-iproute/config.toml")
    parser.add_argument("--netns", metavar="NAME", help="work in this network namespace, as `ip -n NAME` does")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument(
        "-v",
        "--verbose",
        dest="level",
        action="store_const",
        const="DEBUG",
        help="also show each `ip` command that only reads; doctor and explain show more findings instead",
    )
    loudness.add_argument(
        "-q", "--quiet", dest="level", action="store_const", const="WARNING", help="only warnings and errors on stderr"
    )
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), help="auto: on a terminal, unless NO_COLOR is set (default)"
    )
    parser.add_argument("--log-format", choices=("text", "json"), help="how to write messages (default: text)")
    parser.add_argument(
        "--wait", metavar="SECONDS", type=seconds, help="how long to wait for another fz-iproute (default: 10)"
    )


def add_json(parser: ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print a JSON document")


def add_dry_run(parser: ArgumentParser) -> None:
    """Add --dry-run."""
    parser.add_argument("-n", "--dry-run", action="store_true", help="print the commands and change nothing")


def add_snapshot(parser: ArgumentParser) -> None:
    """Add --snapshot."""
    parser.add_argument(
        "--snapshot", metavar="FILE", type=Path, help="look at the machine of this snapshot instead of the running one"
    )


def add_choice(parser: ArgumentParser) -> None:
    """Add the options that decide what a unit runs. The common options -c and --netns count, too."""
    parser.add_argument(
        "--instance", metavar="NAME", default="", help="for one of several tunnels; it reads /etc/fz-iproute/NAME.toml"
    )
    parser.add_argument(
        "--program", metavar="FILE", type=Path, help="the fz-iproute to start (default: the one that runs now)"
    )


def add_root(parser: ArgumentParser) -> None:
    """Add --dry-run and the options that decide where files are written."""
    parser.add_argument("-n", "--dry-run", action="store_true", help="print what would be done, and change nothing")
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        default=Path("/"),
        help="for packages: work below DIR, and leave systemd alone",
    )
    parser.add_argument("--prefix", metavar="DIR", help="for packages: /usr (default: /usr/local)")


def seconds(text: str) -> float:
    """A number of seconds on the command line."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:  # this also refuses nan
        raise ArgumentTypeError(f"{text!r} is not a number of seconds between 0 and 86400")
    return value
