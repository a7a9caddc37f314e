"""Keeps an `ip monitor` running and reads its lines."""

import selectors
from collections import Counter
from collections.abc import Callable
from functools import reduce

from fz_iproute.daemon.events import Interest, matters
from fz_iproute.daemon.news import both, told_by
from fz_iproute.daemon.schedule import Schedule
from fz_iproute.errors import IpUnusable, words_for
from fz_iproute.ip.monitor import Monitor
from fz_iproute.log import Log

# Pauses before an ended monitor is started again. One that has run for `_LASTED` seconds begins with the first pause.
# Without a monitor, the LAN waits. Each start brings a full pass, so that it does not wait longer than the last pause.
RESTART_PAUSES = (0.1, 0.5, 2.0, 5.0)
_LASTED = 60.0
# A working monitor reports a change within milliseconds. On a busy machine it may take longer.
PATIENCE = 1.0


class Listener:
    """Owns the monitor, which `start` starts, and asks the schedule for passes.

    Times are seconds on one clock, which the caller reads.
    """

    def __init__(self, start: Callable[[], Monitor], schedule: Schedule, counters: Counter[str], log: Log) -> None:
        self.interest = Interest()
        self.selector = selectors.DefaultSelector()  # waits for the monitor; others may join
        self._start = start
        self._schedule = schedule
        self._counters = counters
        self._log = log
        self._monitor: Monitor | None = None
        self._started = 0.0
        self._restarts = 0
        self._restart_due: float | None = None
        self._quiet = True  # no line has come since the last `judge`
        self._deaf_due: float | None = None  # when a monitor that still says nothing is replaced

    @property
    def due(self) -> float | None:
        """When `tend` has something to do."""
        return self._restart_due if self._monitor is None else self._deaf_due

    def start(self, now: float) -> None:
        """Start the monitor. If that fails, `tend` tries again."""
        self._restart_due = None
        self._started = now
        try:
            self._monitor = self._start()
        except (IpUnusable, OSError) as error:
            self._postpone(words_for(error), now)
            return
        self._counters["monitors"] += 1
        for fd in self._monitor.fds:
            self.selector.register(fd, selectors.EVENT_READ)

    def listen(self, now: float) -> list[str]:
        """Read the lines that have come. Never waits."""
        if self._monitor is None:
            return []
        lines, complaint = self._monitor.lines(), self._monitor.complaint()
        self._counters["events"] += len(lines)
        if lines:
            self._quiet = False
            self._deaf_due = None
        waking = [line for line in lines if matters(line, self.interest)]
        if waking and self._schedule.wake(waking[0], reduce(both, map(told_by, waking)), now):
            self._counters["wakes"] += 1
        if "receive error" in complaint:
            self._counters["lost"] += 1
            self._schedule.want_full("events were lost", now)
        if self._monitor.ended:
            code = self.stop()
            self._postpone(complaint or (f"killed by signal {-code}" if code < 0 else f"exit code {code}"), now)
        return lines

    def judge(self, now: float, *, missed: bool) -> None:
        """To be called after each resync. `missed` if it has found a change that it did not expect.

        The change may have come in the middle of the resync, and the line about it may still be on its way. So the
        monitor gets a moment before it is replaced. If it works, it also reports the commands of the pass.
        """
        if missed and self._quiet and self._monitor:
            self._deaf_due = now + PATIENCE
        self._quiet = True

    def tend(self, now: float) -> None:
        """Replace a deaf monitor, start an ended one again. What it has missed is for a full pass to find."""
        if self.due is None or now < self.due:
            return
        if self._monitor:
            self.stop()
            self._postpone("it said nothing of a change", now)
        else:
            self.start(now)
            self._schedule.want_full("ip monitor was started again", now)

    def stop(self) -> int:
        """End the monitor. Its exit code, or 0 if there is none."""
        monitor, self._monitor, self._deaf_due = self._monitor, None, None
        if monitor is None:
            return 0
        for fd in monitor.fds:
            self.selector.unregister(fd)
        return monitor.close()

    def _postpone(self, words: str, now: float) -> None:
        if now - self._started > _LASTED:
            self._restarts = 0
        if not self._restarts:
            self._log.warning(f"ip monitor has ended ({words}); it is started again, ever more rarely if it ends again")
        self._restart_due = now + RESTART_PAUSES[min(self._restarts, len(RESTART_PAUSES) - 1)]
        self._restarts += 1
