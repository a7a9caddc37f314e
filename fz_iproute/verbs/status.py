"""`status`: say which LANs can be reached, and what to do next. It changes nothing."""

import gc
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from functools import partial

from fz_iproute.daemon.signals import redraws
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.status import Status, as_document, status
from fz_iproute.diagnosis.summary import Summary, summary
from fz_iproute.diagnosis.summary import as_document as summary_document
from fz_iproute.diagnosis.tree import draw
from fz_iproute.files.config_file import is_lab, load
from fz_iproute.files.lock import watching
from fz_iproute.ip.coprocess import CoprocessIp
from fz_iproute.ip.decisive import decisive_routes
from fz_iproute.ip.ip import Source
from fz_iproute.ip.monitor import changes
from fz_iproute.ip.reader import Reader
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.verbs.brief import Daemon, drawn
from fz_iproute.verbs.following import Following
from fz_iproute.verbs.options import add_json, add_snapshot
from fz_iproute.verbs.output import write, write_json
from fz_iproute.verbs.screen import screen
from fz_iproute.verbs.source import as_typed, chosen_source

EXAMPLES = ("fz-iproute status", "fz-iproute status --check > /dev/null || notify-send 'LAN cut off'")

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
        view = _View(arguments, source, config)
        if arguments.watch and isinstance(source, CoprocessIp):
            gc.enable()
            written = load(arguments.config)
            following = Following(lambda: written, source, Log("ERROR"))
            with redraws() as bell:
                for rang in changes(source, bell, _STDOUT, view.watching):
                    if not view.show_again(following.load(), always=rang):
                        break
                    source.end_coprocesses()  # a running `ip` keeps the old name of a renamed interface
        else:
            view.show()
    return int(arguments.check and not view.is_good)


class _View:
    """The status of one machine, in the form that the options choose."""

    def __init__(self, arguments: Namespace, source: Source, config: Config) -> None:
        self.is_good = True
        self._arguments = arguments
        self._source = source
        self._shown = ""
        self._follow(config)

    def _follow(self, config: Config) -> None:
        self._config = config
        self._reader = Reader(self._source, config)

    def show(self) -> None:
        """Print the status once."""
        found, said = self._status()
        if self._arguments.json:
            write_json(self._document(found, said))
        else:
            write(self._picture(found, said))

    def show_again(self, config: Config, *, always: bool) -> bool:
        """Print the status in place of the last one, or as JSON on one line. False if nobody reads it any more.

        `always`: also if it says the same as the last one.
        """
        if config != self._config:
            self._follow(config)
        found, said = self._status()
        if self._arguments.json:
            text = json.dumps({"schema": 1, **self._document(found, said)})
        else:
            text = self._picture(found, said)
        if text == self._shown and not always:
            return True
        start = _CLEAR if sys.stdout.isatty() else "\n" if self._shown else ""
        self._shown = text
        return write(text if self._arguments.json else start + text)

    def _status(self) -> tuple[Status, Summary]:
        snapshot = self._reader.read()
        found = status(self._config, snapshot, Network.of(snapshot, decisive_routes(self._source, snapshot)))
        said = summary(found)
        self.is_good = said.is_good
        return found, said

    def _document(self, found: Status, said: Summary) -> dict[str, object]:
        return {**as_document(found), "summary": summary_document(said), "watch": self.watching()}

    def _picture(self, found: Status, said: Summary) -> str:
        shown = screen(self._arguments)
        if self._arguments.routes:
            return draw(found, width=shown.width, colour=shown.colour)
        advised = partial(as_typed, self._arguments, self._source)
        return "\n".join(drawn(said, self._daemon(is_used=found.is_used), advised, shown))

    def watching(self) -> int | None:
        """The process id of the daemon; 0 if there is none, None if unknown."""
        if self._arguments.snapshot:
            return None
        return watching(self._arguments.netns, self._config.tables.mirrors)

    def _daemon(self, *, is_used: bool) -> Daemon | None:
        process = self.watching()
        if process is None:
            return None
        if process:
            return Daemon(f"runs (process {process})", is_running=True)
        if not is_used:  # most VPNs need no copies
            return Daemon("does not run")
        if is_lab():  # in a lab, nothing can be installed
            return Daemon("does not run: changes wait for the next sync", "watch")
        is_usual = not (self._arguments.config or self._arguments.netns)
        if is_usual and any(map(os.path.exists, _EVERY_MINUTE)):
            return Daemon("does not run: sync runs every minute")
        return Daemon("does not run: changes wait for the next sync", "install")
