"""`wait`: return when the VPN's tables are in step, or, if no rule leads to them, when no other VPN cuts the LAN."""

import time
from argparse import ArgumentParser, Namespace

from fz_iproute.diagnosis.status import status
from fz_iproute.diagnosis.summary import summary
from fz_iproute.errors import ReadFailed
from fz_iproute.log import Log
from fz_iproute.mirror.words import count
from fz_iproute.verbs.options import seconds
from fz_iproute.verbs.seen import seen
from fz_iproute.verbs.source import running_machine

# The pause between two looks, in seconds. A look takes some milliseconds.
_PAUSE = 0.2


def add(parser: ArgumentParser) -> None:
    """Add the option of this verb."""
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, default=60.0, help="give up after this time (default: 60)"
    )


def run(arguments: Namespace, log: Log) -> int:
    """Returns 0 as soon as `sync` would have nothing to do that makes a difference; 1 if the time is over before."""
    end = time.monotonic() + arguments.timeout
    telling = log
    while words := _why_not(arguments, telling):
        if time.monotonic() >= end:
            log.error(f"not in step after {arguments.timeout:g} s: {words}")
            return 1
        if telling is log:
            log.info(f"# not in step, waiting at most {arguments.timeout:g} s: {words}")
            telling = Log("ERROR")  # the next look would log the same again
        time.sleep(_PAUSE)
    return 0


def _why_not(arguments: Namespace, log: Log) -> str:
    """Why the wait must go on; "" if it is over."""
    try:
        with running_machine(arguments, log) as (ip, config):
            found = status(config, *seen(ip, config))
    except ReadFailed as error:
        return str(error)
    said = summary(found)
    if said.is_due:
        return f"{count(found.commands, 'command is', 'commands are')} due: `fz-iproute plan`"
    if found.absent and not said.is_good:
        return f"{found.absent}; the LAN is cut: `fz-iproute detect`"
    return ""
