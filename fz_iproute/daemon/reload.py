"""Reads new configurations, decides whether they take effect, and removes what earlier ones have left behind."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress

from fz_iproute.errors import IpUnusable, Locked, ReadFailed, UsageError, words_for
from fz_iproute.files.lock import Locks
from fz_iproute.ip.passes import Passes
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.plan import leftovers
from fz_iproute.mirror.prefix import FAMILIES
from fz_iproute.mirror.tunnel import Layout


class Reloader:
    """The configuration in force, with the Passes and the locks that belong to it, and earlier configurations.

    `load` reads the configuration, and `plan_with` makes the Passes for one. The constructor raises UsageError if the
    configuration is wrong, and Locked if another daemon still keeps one of its tables after `wait` seconds.
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
        self.trouble = ""  # why the file has not taken effect; this may end without an edit of the file
        self._load = load
        self._plan_with = plan_with
        self._log = log
        self._former: list[tuple[Config, Passes]] = []  # earlier ones, whose routes or rules may still be there
        self._locks = Locks(netns)
        self._locks.watch(
            self.config.tables.mirrors, wait, waiting=lambda words: log.warning(f"{words}; waiting {wait:g} s for it")
        )
        self.passes = plan_with(self.config)

    def reload(self) -> bool:
        """Read the configuration again. True if a new one is in force now."""
        try:
            config = self._load()
            admitted = self._admit(config) if config != self.config else None
        except (UsageError, Locked, OSError) as error:  # an OSError means that there are too few descriptors
            self._give_back_locks()
            if (words := words_for(error)) != self.trouble:
                self.trouble = words
                self._log.error(self.trouble)
                self._log.warning("the last good configuration stays in force")
            return False
        self.trouble = ""
        if admitted is None:
            return False
        self._former.append((self.config, self.passes))
        self.config, self.passes = config, admitted
        return True

    def locked(self, wait: float) -> AbstractContextManager[None]:
        """Hold the locks for a pass. Locked if another process still holds one after `wait` seconds."""
        return self._locks.held(self.config.tables.mirrors, wait)

    def _admit(self, config: Config) -> Passes:
        """The Passes for this configuration. UsageError or Locked if it cannot take effect now."""
        self._locks.watch(config.tables.mirrors)
        passes = self._plan_with(config)
        # A trial: it raises UsageError if this configuration cannot follow the one in force. A failure of `ip` is
        # ignored here, because the first real pass reports it.
        with suppress(ReadFailed, IpUnusable, OSError):
            passes.plan_sync()
        return passes

    def keep(self, layout: Layout) -> None:
        """Remember the layout that was in use before the rules changed, because its tables may still have copies."""
        config = replace(self.config, tables={"layout": layout.name})
        self._former.append((config, self._plan_with(config)))

    def leftovers(self) -> Iterator[list[Command]]:
        """For each earlier configuration, the commands that may now remove what it has left behind.

        An empty list means that it has to wait. Configurations with nothing left are forgotten.
        """
        for config, passes in self._former.copy():
            prune = config.lan.prune and self.config.lan.prune
            old = passes.look()
            if passes.first and config.manages and not self.config.manages:
                # fz-iproute no longer owns the tunnel routes. Those that it found at its start may be the client's.
                old = old.disowning(passes.first)
            new = self.passes.look()
            stale = leftovers(old, new, prune=prune)
            if stale != []:
                yield stale or []
            elif not any(new.spared_of(family, old.contents[family]) for family in FAMILIES):
                self._former.remove((config, passes))
        self._give_back_locks()

    def _give_back_locks(self) -> None:
        kept = (self.config, *(config for config, _ in self._former))
        self._locks.watch_only({table for config in kept for table in config.tables.mirrors})

    def close(self) -> None:
        """Give up all locks."""
        self._locks.close()
