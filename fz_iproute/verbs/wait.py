"""`wait`: return when the VPN's tables are in step, or, if no rule leads to them, when no other VPN cuts the LAN."""

import time
from argparse import ArgumentParser, Namespace

from fz_iproute.errors import ReadFailed
from fz_iproute.ip.ip import Ip
from fz_iproute.ip.passes import Plans
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.verbs.options import seconds
from fz_iproute.verbs.source import running_machine

# The pause between two looks, in seconds. A look takes some milliseconds.
_PAUSE = 0.2

EXAMPLES = (
    "fz-iproute wait",
    "fz-iproute wait --timeout 30 && mount /mnt/nas",
)


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
            plans = Plans(ip, config, Log("ERROR"))  # logs nothing, because `sync` gives the same warnings
            due = plans.plan_sync()
            if plans.is_absent or config.is_auto:
                return _another_vpn(ip, config)
            if not due:
                return ""
            said = "1 command is due" if len(due) == 1 else f"{len(due)} commands are due, the first"
            return f"{said}: {ip.line(due[0])}"
    except ReadFailed as error:
        return str(error)


def _another_vpn(ip: Ip, config: Config) -> str:
    """Which VPN cuts the LAN, if no rule leads to the tables of the configured one; "" if none does."""
    from fz_iproute.diagnosis.detect import absent, detect  # noqa: PLC0415  # usually the VPN is there
    from fz_iproute.verbs.seen import seen  # noqa: PLC0415

    snapshot, network = seen(ip, config)
    vpns = detect(config, snapshot, network)
    if not any(vpn.cut for vpn in vpns):
        return ""
    return f"{absent(config, snapshot.links, vpns)}; the LAN is cut: `fz-iproute detect`"
