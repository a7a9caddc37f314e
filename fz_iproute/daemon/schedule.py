"""Which pass is due when, and why."""

from functools import reduce
from typing import NamedTuple

from fz_iproute.daemon.news import ANYTHING, NO_NEWS, News, both
from fz_iproute.daemon.pace import Pace
from fz_iproute.mirror.config import Watch

# Lost events and restarts of the monitor ask for a full pass, but there is at most one in this many seconds.
_FULL_PAUSE = 5.0
# `ip` prints the rest of a lifetime in whole seconds. During the last second before the end and the first one after it,
# that is 0, and `ip` prints no lifetime. So many seconds after the printed time, it shows that the route has expired.
_EXPIRY_DELAY = 2.5
# The route of a new address comes within a tenth of this.
_MORE_FOLLOWS = 0.001


class Due(NamedTuple):
    """A pass that is due. It reads again what may have changed by the `news`; a full one asks fresh processes only."""

    reason: str
    news: News = ANYTHING
    full: bool = False


class Schedule:
    """Times are seconds on one clock, which the caller reads."""

    def __init__(self, settings: Watch) -> None:
        self.again: float | None = None  # when to try again what was held back or could not be read
        self._full_due = 0.0
        self._full_reason = "start"
        self._last_full = float("-inf")
        self._event = ""
        self._news = NO_NEWS
        self._expiry_due: float | None = None
        self.adopt(settings)

    def adopt(self, settings: Watch) -> None:
        """Follow the pace of a new configuration."""
        self._pace = Pace(settings.settle, settings.max_wait)
        self._resync = settings.resync

    @property
    def next(self) -> float:
        """When the next pass is due."""
        dues = (self._full_due, self._pace.due, self.again, self._expiry_due)
        return min(due for due in dues if due is not None)

    def due(self, now: float) -> Due | None:
        """The pass that is due now. One pass serves all reasons; the first of these is named."""
        if now >= self._full_due:
            return Due(self._full_reason, full=True)
        reasons = (
            (self._pace.due, self._event, self._news),
            (self.again, "trying again", ANYTHING),
            (self._expiry_due, "a route has expired", ANYTHING),
        )
        serves = [(reason, news) for due, reason, news in reasons if due is not None and now >= due]
        return Due(serves[0][0], reduce(both, (news for _, news in serves))) if serves else None

    def wake(self, event: str, news: News, now: float) -> bool:
        """An event asks for a pass. False if it joins others that have asked for the same one."""
        self._news = both(self._news, news)
        is_first = self._pace.due is None
        if is_first:
            self._event = event
        self._pace.wake(now, _MORE_FOLLOWS if self._news.more_follows else 0.0)
        return is_first

    def want_full(self, reason: str, now: float) -> None:
        """Something asks for a full pass."""
        self._full_reason = reason
        self._full_due = min(self._full_due, max(now, self._last_full + _FULL_PAUSE))

    def full_begins(self, now: float) -> None:
        """A full pass begins; the next one is a resync."""
        self._full_reason = "resync"
        self._last_full = now
        self._full_due = now + self._resync

    def retry(self, when: float) -> None:
        """Some of what is due is tried again then, if nothing is tried earlier."""
        self.again = when if self.again is None else min(when, self.again)

    def expires(self, seconds: int | None, now: float) -> None:
        """The next route of main times out in so many seconds, as `ip` says; None if none does."""
        self._expiry_due = None if seconds is None else now + seconds + _EXPIRY_DELAY

    def ran(self, now: float, *, echo: bool, unfinished: bool) -> None:
        """A pass has ended. `echo`: only our own commands had woken it. `unfinished`: it has left something to do."""
        self._pace.ran(now, echo=echo)
        self._news = NO_NEWS
        if unfinished:
            self.wake("the last pass left something to do", ANYTHING, now)
