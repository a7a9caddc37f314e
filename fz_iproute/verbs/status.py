"""`status`: show the tunnel, the rules and every route; changes nothing."""

import gc
import os
import sys
from argparse import ArgumentParser, Namespace

from fz_iproute.daemon.signals import resizes
from fz_iproute.diagnosis.status import Status, as_document, status
from fz_iproute.diagnosis.tree import draw
from fz_iproute.ip.dialogue import TalkingIp
from fz_iproute.ip.monitor import changes
from fz_iproute.ip.reader import Reader
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.verbs.options import add_json, add_snapshot
from fz_iproute.verbs.output import write, write_json
from fz_iproute.verbs.source import chosen_source

_STDOUT = 1
_CLEAR = "\x1b[H\x1b[2J"  # cursor home, erase all


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    add_json(parser)
    parser.add_argument("--watch", action="store_true", help="draw it again whenever something changes")
    add_snapshot(parser)


def run(arguments: Namespace, log: Log) -> int:
    """Print the status once, or with --watch until the reader has gone or a signal ends it."""
    with chosen_source(arguments, log) as (source, config):
        reader = Reader(source, config)
        if arguments.json:
            write_json(as_document(_status(reader, config)))
        elif arguments.watch and isinstance(source, TalkingIp):
            _watch(source, reader, config)
        else:
            write(_picture(reader, config))
    return 0


def _status(reader: Reader, config: Config) -> Status:
    snapshot = reader.read()
    return status(config, snapshot, reader.looked_up(snapshot))


def _watch(ip: TalkingIp, reader: Reader, config: Config) -> None:
    gc.enable()
    with resizes() as resized:
        for _ in changes(ip, resized, _STDOUT):
            if not write(f"{_CLEAR}{_picture(reader, config)}"):
                return
            ip.hang_up()  # a running `ip` keeps the old name of a renamed interface


def _picture(reader: Reader, config: Config) -> str:
    size = os.get_terminal_size(sys.stdout.fileno()) if sys.stdout and sys.stdout.isatty() else None
    colour = size is not None and not os.environ.get("NO_COLOR")
    return draw(_status(reader, config), width=size.columns if size else None, colour=colour)
