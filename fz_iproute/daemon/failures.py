"""Decides when a failed pass is repeated, and when its failure is logged."""

from fz_iproute.errors import Locked, words_for
from fz_iproute.log import Log

# Pauses before a failed pass is repeated, in seconds.
PAUSES = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# The longest pause before a pass tries again to take its lock, in seconds.
_LONGEST_LOCKED = 1.0
# So many failures in a row are not logged. Mostly a long-lived `ip` has failed, and a new process succeeds. A `sync` on
# a busy machine may hold the lock for seconds.
_QUIET, _QUIET_LOCKED = 1, 4


class Failures:
    """The failures since the last pass that succeeded."""

    def __init__(self, log: Log) -> None:
        self.count = 0
        self._log = log
        self._logged = ""  # to log each failure only once

    def add(self, error: Exception) -> float:
        """Note a failure. Returns the pause before the next pass, in seconds."""
        pause = PAUSES[min(self.count, len(PAUSES) - 1)]
        self.count += 1
        is_locked = isinstance(error, Locked)
        words = words_for(error)
        if self.count > (_QUIET_LOCKED if is_locked else _QUIET) and words != self._logged:
            self._logged = words
            self._log.error(f"{words}; trying again")
        return min(pause, _LONGEST_LOCKED) if is_locked else pause

    def clear(self) -> None:
        """Note that a pass has succeeded."""
        self.count = 0
        self._logged = ""
