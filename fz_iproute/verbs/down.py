"""`down`: remove everything that fz-iproute added."""

from argparse import Namespace
from contextlib import closing

from fz_iproute.files.config_file import load
from fz_iproute.files.lock import WatchLocks
from fz_iproute.ip.passes import Passes
from fz_iproute.log import Log
from fz_iproute.verbs.sync import add, change

__all__ = ["add", "run"]


def run(arguments: Namespace, log: Log) -> int:
    """Plan and apply. ApplyFailed lists what `ip` refused; Locked if a `watch` would put everything back."""
    with closing(WatchLocks(arguments.netns)) as locks:
        if not arguments.dry_run:
            tables = load(arguments.config).tables.mirrors
            locks.extend(tables, advice="it would put back what `down` removes; stop it first")
        return change(arguments, log, Passes.plan_down, Passes.down)
