"""Reads new configurations, decides whether they take effect, and remembers what former ones may have left."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from fz_iproute.errors import IpUnusable, Locked, ReadFailed, UsageError
from fz_iproute.files.lock import Lock, WatchLocks
from fz_iproute.ip.passes import Passes
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.plan import leftovers
from fz_iproute.mirror.tunnel import Layout


class Reloader:
    """The configuration in force, with its passes and the lock that they need; and its predecessors.

    `load` reads the configuration, `plan_with` makes the passes of one. At the start, UsageError if there is no good
    configuration, Locked if another daemon still has one of its tables after `wait` seconds.
    """

    def __init__(
        self,
        load: Callable[[], Config],
        plan_with: Callable[[Config], Passes],
        netns: str | None,
        wait: float,
        log: Log,
    ) -> None:
        self.config = load()
        self.trouble = ""  # why the file does not take effect; it may do so later, without an edit
        self._load = load
        self._plan_with = plan_with
        self._netns = netns
        self._log = log
        self._former: list[tuple[Config, Passes]] = []  # something of these may still be in the kernel
        self._locks = WatchLocks(netns)
        self._locks.extend(
            self.config.tables.mirrors, wait, waiting=lambda words: log.warning(f"{words}; waiting {wait:g} s for it")
        )
        self.lock = Lock(netns, self.config.tables.mirrors)
        self.passes = plan_with(self.config)

    def reload(self) -> bool:
        """Read the configuration again. True if another one is in force now."""
        try:
            config = self._load()
            admitted = self._admit(config) if config != self.config else None
        except (UsageError, Locked) as error:
            self._give_back_locks()
            if str(error) != self.trouble:
                self.trouble = str(error)
                self._log.error(self.trouble)
                self._log.warning("the last good configuration stays in force")
            return False
        self.trouble = ""
        if admitted is None:
            return False
        self._former.append((self.config, self.passes))
        self.lock.close()
        self.config, (self.passes, self.lock) = config, admitted
        return True

    def _admit(self, config: Config) -> tuple[Passes, Lock]:
        """What passes of this configuration need. UsageError or Locked if it cannot take effect here and now."""
        self._locks.extend(config.tables.mirrors)
        passes = self._plan_with(config)
        # A trial: some configurations cannot follow the one in force. If `ip` fails, the first real pass tells.
        with suppress(ReadFailed, IpUnusable, OSError):
            passes.plan_sync()
        return passes, Lock(self._netns, config.tables.mirrors)

    def keep(self, layout: Layout) -> None:
        """Remember a layout that rules have just replaced: its tables may still hold copies."""
        config = replace(self.config, tables={"layout": layout.name})
        self._former.append((config, self._plan_with(config)))

    def leftovers(self) -> Iterator[list[Command]]:
        """For each former configuration that is not gone yet, the commands that may remove its rest now."""
        for config, passes in self._former.copy():
            prune = config.lan.prune and self.config.lan.prune
            old = passes.look()
            if passes.first and config.manages and not self.config.manages:
                old = old.sparing(passes.first)  # the VPN's client may have made that
            stale = leftovers(old, self.passes.look(), prune=prune)
            if stale == []:
                self._former.remove((config, passes))
            else:
                yield stale or []
        self._give_back_locks()

    def _give_back_locks(self) -> None:
        kept = (self.config, *(config for config, _ in self._former))
        self._locks.restrict({table for config in kept for table in config.tables.mirrors})

    def close(self) -> None:
        """Give up all locks."""
        self.lock.close()
        self._locks.restrict()
