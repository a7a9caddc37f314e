"""`down`: remove everything that fz-iproute added."""

from argparse import Namespace

from fz_iproute.ip.passes import Passes
from fz_iproute.log import Log
from fz_iproute.verbs.sync import add, change

__all__ = ["add", "run"]

EXAMPLES = (
    "sudo fz-iproute down",
    "fz-iproute down --dry-run",
)


def run(arguments: Namespace, log: Log) -> int:
    """Plan and apply. ApplyFailed lists what `ip` refused; Locked if a `watch` would put everything back."""
    return change(arguments, log, Passes.plan_down, Passes.down, without_watch=True)
