"""Keeps `ip monitor` running, reads its events, and asks for passes."""

import select
from collections import Counter
from collections.abc import Callable

from fz_iproute.daemon.ahead import Ahead
from fz_iproute.daemon.events import Interest, matters
from fz_iproute.daemon.news import changed_by
from fz_iproute.daemon.schedule import Schedule
from fz_iproute.errors import IpUnusable, words_for
from fz_iproute.ip.monitor import LISTENS_AFTER, Monitor, events_and_words
from fz_iproute.log import Log
from fz_iproute.mirror.prefix import Family

# Pauses before a monitor that has ended is restarted, in seconds. If it had run for longer than `_LASTED`, the first
# pause is used again. Without a monitor, changes go unnoticed. The full pass after each start finds them, so a change
# waits no longer than the last of these pauses.
RESTART_PAUSES = (0.1, 0.5, 2.0, 5.0)
_LASTED = 60.0
# How long a monitor may take to report a change, in seconds. Normally it needs milliseconds.
PATIENCE = 1.0
# While many events come that do not matter, they are read together after this pause, in seconds. To wake up for each of
# them would cost several times as much.
STORM_PAUSE = 0.03
# How long to wait for the route of a new address, in seconds. It comes within a tenth of this.
_MORE_FOLLOWS = 0.001


class Listener:
    """Owns the monitor, and asks the schedule for passes when events matter.

    `start` starts a monitor. `copy` runs the batch lines of `ahead`, if it has some for what was heard, which is the
    last argument. Times are seconds on one clock, which the caller reads.
    """

    def __init__(
        self,
        start: Callable[[], Monitor],
        copy: Callable[[Family, list[str], str], None],
        schedule: Schedule,
        counters: Counter[str],
        log: Log,
    ) -> None:
        self.interest = Interest()
        self.ahead: Ahead | None = None  # None if a pass has to look first
        self.poll = select.poll()  # has the monitor's descriptor; the caller may add others
        self._start = start
        self._copy = copy
        self._schedule = schedule
        self._counters = counters
        self._log = log
        self._monitor: Monitor | None = None
        self._complaint = ""  # the monitor's last words, unless it printed an event after them
        self._started = 0.0
        self._restarts = 0
        self._restart_due: float | None = None
        self._quiet = True  # the monitor has printed nothing since the last resync
        self._ignored = float("-inf")  # when events were last read of which none mattered
        self.pause = 0.0  # how long not to listen, in seconds
        self._deaf_due: float | None = None  # when to replace the monitor, unless it prints something before

    @property
    def due(self) -> float | None:
        """When to call `restart_if_due` next; None if there is no need."""
        return self._restart_due if self._monitor is None else self._deaf_due

    @property
    def has_ended(self) -> bool:
        """True if the monitor has ended by itself. `restart_if_due` sees to that."""
        return self._monitor is not None and self._monitor.ended

    def start(self, now: float) -> None:
        """Start the monitor. If that fails, `restart_if_due` tries again later."""
        self._restart_due = None
        self._complaint = ""
        self._started = now
        try:
            self._monitor = self._start()
        except (IpUnusable, OSError) as error:
            self._postpone(words_for(error), now)
            return
        self._counters["monitors"] += 1
        self._schedule.monitor_listens(now + LISTENS_AFTER)
        self.poll.register(self._monitor.fd, select.POLLIN)

    def hear(self) -> str:
        """Read the lines that the monitor has printed, without waiting for more. New routes are copied at once."""
        if self._monitor is None:
            return ""
        text = self._monitor.read()
        while text and self.ahead and (found := self.ahead.lines(text)):
            family, lines = found
            if lines:
                self._copy(family, lines, text)
                break
            # These are new addresses. The kernel announces the routes to their networks within a moment.
            more = self._monitor.read(_MORE_FOLLOWS)
            if not more:
                break
            text += more
        return text

    def judge(self, text: str, now: float) -> list[str]:
        """Ask for passes because of these lines. Returns the events that matter."""
        lines, complaint = events_and_words(text)
        self._counters["events"] += len(lines)
        if lines:
            self._quiet = False
            self._deaf_due = None
        waking = [line for line in lines if matters(line, self.interest)]
        is_ignored = bool(lines) and not waking
        self.pause = STORM_PAUSE if is_ignored and now - self._ignored < 2 * STORM_PAUSE else 0.0
        if is_ignored:
            self._ignored = now
        if waking:
            self.ahead = None
        if waking and self._schedule.wake(waking[0], frozenset().union(*map(changed_by, waking)), now):
            self._counters["wakes"] += 1
        if lines or complaint:
            self._complaint = complaint
        if "receive error" in complaint:
            self._counters["lost"] += 1
            self._schedule.want_full("events were lost", now)
        return waking

    def resynced(self, now: float, *, missed: bool) -> None:
        """Note that a resync has ended. `missed`: it found a change that no event had announced.

        If the monitor has printed nothing at all since the last resync, it may be deaf. But the change may be so new
        that its event is still on the way. So the monitor has `PATIENCE` seconds before it is replaced. In this time, a
        working monitor also reports the commands of the resync itself.
        """
        if missed and self._quiet and self._monitor:
            self._deaf_due = now + PATIENCE
        self._quiet = True

    def restart_if_due(self, now: float) -> None:
        """Note that the monitor has ended; end a deaf one; start the next one after its pause.

        A full pass then finds what was missed.
        """
        if self.has_ended:
            code = self.stop()
            self._postpone(self._complaint or (f"killed by signal {-code}" if code < 0 else f"exit code {code}"), now)
        elif self.due is None or now < self.due:
            return
        elif self._monitor:
            self.stop()
            self._postpone("it did not report a change", now)
        else:
            self.start(now)
            self._schedule.want_full("ip monitor was started again", now)

    def stop(self) -> int:
        """End the monitor. Returns its exit code, or 0 if there is no monitor."""
        monitor, self._monitor, self._deaf_due = self._monitor, None, None
        if monitor is None:
            return 0
        self.poll.unregister(monitor.fd)
        return monitor.close()

    def _postpone(self, words: str, now: float) -> None:
        if now - self._started > _LASTED:
            self._restarts = 0
        if not self._restarts:
            self._log.warning(f"ip monitor has ended ({words}); it is restarted, less often if it keeps ending")
        self._restart_due = now + RESTART_PAUSES[min(self._restarts, len(RESTART_PAUSES) - 1)]
        self._restarts += 1
