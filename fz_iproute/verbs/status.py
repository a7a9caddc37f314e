"""`status`: say which LANs can be reached, and what to do next. It changes nothing."""

import gc
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from functools import partial

from fz_iproute.daemon.signals import redraws
from fz_iproute.diagnosis.status import as_document, status
from fz_iproute.diagnosis.summary import as_document as summary_document
from fz_iproute.diagnosis.summary import summary
from fz_iproute.diagnosis.tree import draw
from fz_iproute.files.config_file import is_lab, load
from fz_iproute.files.lock import watching
from fz_iproute.ip.coprocess import CoprocessIp
from fz_iproute.ip.ip import Source
from fz_iproute.ip.monitor import changes
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.verbs.brief import Daemon, drawn
from fz_iproute.verbs.following import Following
from fz_iproute.verbs.options import add_json, add_snapshot
from fz_iproute.verbs.output import write
from fz_iproute.verbs.screen import screen
from fz_iproute.verbs.seen import seen
from fz_iproute.verbs.source import as_typed, chosen_source

_STDOUT = 1
# Files that show that `install --timer` or `install --cron` is in use.
_EVERY_MINUTE = ("/etc/systemd/system/timers.target.wants/fz-iproute-sync.timer", "/etc/cron.d/fz-iproute")
_CLEAR = "\x1b[H\x1b[2J"  # cursor home, erase all


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument("--routes", action="store_true", help="show every rule and route in lookup order")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if a LAN cannot be reached, or the copies are not in step"
    )
    parser.add_argument("--watch", action="store_true", help="show it again whenever something changes")
    add_json(parser)
    add_snapshot(parser)


def run(arguments: Namespace, log: Log) -> int:
    """Print the status once; with --watch, after each change, until the reader of stdout goes or a signal comes."""
    with chosen_source(arguments, log) as (source, config):
        if arguments.watch and isinstance(source, CoprocessIp):
            is_good = _follow(arguments, source, config)
        else:
            text, is_good = _shown(arguments, source, config)
            write(text)
    return int(arguments.check and not is_good)


def _follow(arguments: Namespace, source: CoprocessIp, config: Config) -> bool:
    """Print the status again whenever it changes. Returns whether the last one was good."""
    gc.enable()
    written = load(arguments.config)
    following = Following(lambda: written, source, Log("ERROR"))
    before, is_good = "", True

    def daemon() -> int | None:
        return _watching(arguments, config)

    with redraws() as bell:
        for rang in changes(source, bell, _STDOUT, daemon):
            config = following.load()
            text, is_good = _shown(arguments, source, config)
            start = "" if arguments.json else _CLEAR if sys.stdout.isatty() else "\n" if before else ""
            if (rang or text != before) and not write(start + text):
                break
            before = text
            source.end_coprocesses()  # a running `ip` keeps the old name of a renamed interface
    return is_good


def _shown(arguments: Namespace, source: Source, config: Config) -> tuple[str, bool]:
    """The status in the form that the options choose, and whether it is good."""
    found = status(config, *seen(source, config))
    said = summary(found)
    process = _watching(arguments, config)
    shown = screen(arguments)
    if arguments.json:
        document = {**as_document(found), "summary": summary_document(said), "watch": process}
        # With --watch, each document is a line.
        text = json.dumps({"schema": 1, **document}, indent=None if arguments.watch else 2)
    elif arguments.routes:
        text = draw(found, width=shown.width, colour=shown.colour)
    else:
        daemon = None if process is None else _daemon(arguments, process, is_used=found.is_used)
        text = "\n".join(drawn(said, daemon, partial(as_typed, arguments, source), shown))
    return text, said.is_good


def _watching(arguments: Namespace, config: Config) -> int | None:
    """The process id of the daemon; 0 if there is none, None if unknown."""
    return None if arguments.snapshot else watching(arguments.netns, config.tables.mirrors)


def _daemon(arguments: Namespace, process: int, *, is_used: bool) -> Daemon:
    if process:
        return Daemon(f"runs (process {process})", is_running=True)
    if not is_used:  # most VPNs need no copies
        return Daemon("does not run")
    if is_lab():  # in a lab, nothing can be installed
        return Daemon("does not run: changes wait for the next sync", "watch")
    is_usual = not (arguments.config or arguments.netns)
    if is_usual and any(map(os.path.exists, _EVERY_MINUTE)):
        return Daemon("does not run: sync runs every minute")
    return Daemon("does not run: changes wait for the next sync", "install --now")
