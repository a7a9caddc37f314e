"""`down`: remove the copies, and in manage mode also the rules and routes of the tunnel."""

from argparse import Namespace

from fz_iproute.ip.passes import Passes
from fz_iproute.log import Log
from fz_iproute.verbs.sync import add, change

__all__ = ["add", "run"]


def run(arguments: Namespace, log: Log) -> int:
    """Remove it. ApplyFailed lists the commands that `ip` refused. Locked if a running `watch` would undo them."""
    return change(arguments, log, Passes.plan_down, Passes.down, is_down=True)
