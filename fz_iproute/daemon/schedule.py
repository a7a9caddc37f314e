"""Decides when the next pass runs, what it reads again, and for which reason."""

from typing import NamedTuple

from fz_iproute.daemon.pace import Pace
from fz_iproute.mirror.config import Watch
from fz_iproute.mirror.model import EVERYTHING, Part

# The shortest time between two full passes that lost events or restarts of the monitor ask for, in seconds.
_FULL_PAUSE = 5.0
# The delay after the end of a route's lifetime, in seconds. `ip` prints lifetimes in whole seconds, and prints nothing
# for 0, which means from one second before the end to one second after it. After this delay, it surely prints that the
# route has expired.
_EXPIRY_DELAY = 2.5


class Due(NamedTuple):
    """A pass that is due. It reads again what may have `changed`. `full`: it uses no long-lived `ip`."""

    reason: str
    changed: frozenset[Part] = EVERYTHING
    full: bool = False


class Schedule:
    """When each kind of pass is due. Times are seconds on one clock, which the caller reads."""

    def __init__(self, settings: Watch) -> None:
        self.again: float | None = None  # when to repeat a pass that failed, or that held commands back
        self._full_due = 0.0
        self._full_reason = "start"
        self._last_full = float("-inf")
        self._event = ""
        self._changed: frozenset[Part] = frozenset()
        self._expiry_due: float | None = None
        self._second_look_due: float | None = None
        self.adopt(settings)

    def adopt(self, settings: Watch) -> None:
        """Use the settings of a new configuration."""
        self._pace = Pace(settings.settle, settings.max_wait)
        self._resync = settings.resync

    @property
    def next(self) -> float:
        """When the next pass is due."""
        dues = (self._full_due, self._pace.due, self.again, self._expiry_due, self._second_look_due)
        return min(due for due in dues if due is not None)

    def due(self, now: float) -> Due | None:
        """The pass that is due now, if any. One pass serves all reasons that are due, and names the first of them."""
        if now >= self._full_due:
            return Due(self._full_reason, full=True)
        if self._second_look_due is not None and now >= self._second_look_due:
            # It may have missed that a link got another name, which a long-lived `ip` would go on using.
            return Due("ip monitor has just been started", full=True)
        reasons = ((self.again, "a retry"), (self._expiry_due, "a route has expired"))
        others = [reason for due, reason in reasons if due is not None and now >= due]
        if self._pace.due is not None and now >= self._pace.due:
            return Due(self._event, EVERYTHING if others else self._changed)
        return Due(others[0]) if others else None

    def wake(self, event: str, changed: frozenset[Part], now: float) -> bool:
        """Note that an event asks for a pass. False if an earlier event has asked for the same pass."""
        self._changed |= changed
        is_first = self._pace.due is None
        if is_first:
            self._event = event
        self._pace.wake(now)
        return is_first

    def monitor_listens(self, when: float) -> None:
        """Ask for a second look when the new monitor surely listens: it has missed what changed before."""
        self._second_look_due = when

    def want_full(self, reason: str, now: float) -> None:
        """Ask for a full pass."""
        self._full_reason = reason
        self._full_due = min(self._full_due, max(now, self._last_full + _FULL_PAUSE))

    def full_begins(self, now: float) -> None:
        """Note that a full pass begins. The next one is a resync."""
        self._full_reason = "resync"
        self._last_full = now
        self._full_due = now + self._resync

    def retry(self, when: float) -> None:
        """Ask for a pass at this time, because something has failed or was held back. The earliest time counts."""
        self.again = when if self.again is None else min(when, self.again)

    def expires(self, seconds: int | None, now: float) -> None:
        """Note that the next route of main times out in so many seconds, as `ip` says. None: no route does."""
        self._expiry_due = None if seconds is None else now + seconds + _EXPIRY_DELAY

    def ran(self, now: float, *, echo: bool, unfinished: bool) -> None:
        """Note that a pass has ended.

        `echo`: only events about our own commands had woken it. `unfinished`: it has left something to do.
        """
        self._pace.ran(now, echo=echo)
        self._changed = frozenset()
        if self._second_look_due is not None and now >= self._second_look_due:
            self._second_look_due = None
        if unfinished:
            self.wake("the last pass left something to do", EVERYTHING, now)
