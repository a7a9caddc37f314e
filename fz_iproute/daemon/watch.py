"""`watch`: stay in step. Events only wake it; every pass reads the kernel anew."""

import os
import selectors
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from fz_iproute.daemon.events import is_about_links, is_about_rules, matters
from fz_iproute.daemon.fight import Fight
from fz_iproute.daemon.file_watch import CHANGED, FileWatch
from fz_iproute.daemon.notify import notify, watchdog_interval
from fz_iproute.daemon.pace import Pace
from fz_iproute.daemon.signals import ENDING, GraceOver, no_more_grace, signal_pipe
from fz_iproute.errors import IpUnusable, Locked, NotPermitted, ReadFailed, UsageError
from fz_iproute.files.journal import Journal
from fz_iproute.files.lock import Claim, Lock
from fz_iproute.ip.apply import Refusal
from fz_iproute.ip.dialogue import TalkingIp
from fz_iproute.ip.monitor import Monitor
from fz_iproute.ip.passes import Passes
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.config import replace as config_with
from fz_iproute.mirror.journal import record, summary
from fz_iproute.mirror.model import WORKED, Command
from fz_iproute.mirror.plan import leftovers

# Lost events are followed by a full pass, at most one in this many seconds.
_FULL_PAUSE = 5.0
# A monitor that has ended is started again after these pauses; one that has lasted starts over with them.
_RESTART_PAUSES = (0.1, 0.5, 2.0, 10.0, 30.0)
_LASTED = 60.0
# A pass that could not read tries again after these.
_RETRY_PAUSES = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# The wall clock and the monotonic one differ by more than this after a suspend, or when somebody has set it.
_JUMP = 2.0
_EXPIRED = "a route has expired"
_MOST_OVERDUE = 2
# How long after SIGTERM an `ip` that is at work may go on.
_GRACE = 0.6


@dataclass
class Counters:
    """What SIGUSR1 logs, since the start."""

    events: int = 0
    wakes: int = 0
    passes: int = 0
    changes: int = 0
    commands: int = 0
    refused: int = 0
    lost: int = 0
    monitors: int = 0
    reloads: int = 0

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in vars(self).items())


class _Former(NamedTuple):
    """A configuration, or a layout, of which something may still be there."""

    config: Config
    passes: Passes


class Watch:
    """The daemon. `load` reads the configuration, which is in the file `place`; times are on the monotonic clock.

    Locked if another is at work on the same table.
    """

    def __init__(self, load: Callable[[], Config], place: Path, ip: TalkingIp, netns: str | None, log: Log) -> None:
        self._load = load
        self._place = place
        self._ip = ip
        self._netns = netns
        self._log = log
        self._counters = Counters()
        self._selector = selectors.DefaultSelector()
        self._claim = Claim(netns)
        config = load()
        self._adopt(config, self._admission(config))

        self._monitor: Monitor | None = None
        self._monitor_due: float | None = None  # the next start of one that has ended
        self._monitor_started = 0.0
        self._restarts = 0

        self._reason = ""  # the event that woke the pass which is due
        self._full_due = 0.0
        self._full_reason = "start"
        self._last_full = float("-inf")
        self._events_at_last_full = 0
        self._offset = _clock_offset()

        self._fight = Fight()
        self._again: float | None = None  # when to try what was held back, or could not be read
        self._expiry_due: float | None = None  # when a route of main times out
        self._former: list[_Former] = []
        self._overdue = 0  # passes in a row after an expiry that found no lifetime
        self._known: frozenset[str] = frozenset()  # the destinations that are mirrored
        self._wrote = False  # the last pass has changed something, and is about to hear of it
        self._unfinished = False  # the last pass has left something to do, of which no event need tell
        self._failures = 0
        self._trouble = ""  # the last failure, so that it is logged once
        self._refused: dict[Command, Refusal] = {}  # of what is still due
        self._told: set[str] = set()  # the complaints about them, so that each is logged once
        self._status = ""
        self._watchdog = watchdog_interval() or 0.0
        self._watchdog_due = 0.0 if self._watchdog else None

    def run(self) -> None:
        """Stay in step until SIGTERM or SIGINT."""
        with signal_pipe(_GRACE) as signals:
            files = FileWatch(self._place, signals.writing)
            self._selector.register(signals.reading, selectors.EVENT_READ)
            try:
                try:
                    self._work(signals.reading)
                finally:
                    no_more_grace()
            except GraceOver:
                self._log.warning("an ip was still at work, and did not end in time")
            finally:
                self._end_monitor()
                self._ip.abandon()
                self._ip.hang_up()
                self._selector.close()
                files.close()

    def _work(self, signals: int) -> None:
        self._start_monitor()  # before the first reading: what changes after it is heard
        self._full_pass()
        notify("READY=1")
        while self._obey(signals):
            self._wait()
        notify("STOPPING=1")
        if self._config.watch.cleanup_on_exit:
            started = time.monotonic()
            with self._lock.held(_GRACE):
                run, failures = self._passes.down()
            self._write_down("its end", time.monotonic() - started, run, failures)

    def _wait(self) -> None:
        """Until something happens or is due, and do it."""
        now = time.monotonic()
        if self._watchdog_due is not None and now >= self._watchdog_due:
            notify("WATCHDOG=1")
            self._watchdog_due = now + self._watchdog
        dues = [self._full_due, self._pace.due, self._again, self._expiry_due, self._monitor_due, self._watchdog_due]
        self._selector.select(max(0.0, min(due for due in dues if due is not None) - now))
        if self._monitor:
            self._listen(self._monitor)

        now = time.monotonic()
        if self._monitor_due is not None and now >= self._monitor_due:
            self._start_monitor()
            self._want_full("ip monitor was started again")
        if abs(_clock_offset() - self._offset) > _JUMP:
            self._want_full("the clock jumped")
        if now >= self._full_due:
            self._full_pass()
        elif self._pace.due is not None and now >= self._pace.due:
            self._pass(self._reason)
        elif self._again is not None and now >= self._again:
            self._pass("trying again")
        elif self._expiry_due is not None and now >= self._expiry_due:
            self._pass(_EXPIRED)

    # What wakes a pass

    def _listen(self, monitor: Monitor) -> None:
        lines, complaint = monitor.lines(), monitor.complaint()
        self._counters.events += len(lines)
        routers = bool(self._config.lan.allow)
        for line in lines:
            if is_about_links(line):
                self._ip.hang_up()
            elif is_about_rules(line):
                for passes in (self._passes, *(former.passes for former in self._former)):
                    passes.forget_rules()
            if self._pace.due is None and matters(line, self._table_names, routers=routers, known=self._known):
                self._counters.wakes += 1
                self._reason = line
                self._pace.wake(time.monotonic())
            self._fight.forgive(line)
        if "receive error" in complaint:
            self._counters.lost += 1
            self._want_full("events were lost")
        if monitor.ended:
            code = self._end_monitor()
            self._postpone_monitor(complaint or (f"killed by signal {-code}" if code < 0 else f"exit code {code}"))

    def _want_full(self, reason: str) -> None:
        self._full_reason = reason
        self._full_due = min(self._full_due, max(time.monotonic(), self._last_full + _FULL_PAUSE))

    def _start_monitor(self) -> None:
        self._monitor_due = None
        try:
            self._monitor = Monitor(self._ip)
        except (IpUnusable, OSError) as error:
            self._postpone_monitor(_words(error))
            return
        self._monitor_started = time.monotonic()
        self._counters.monitors += 1
        for fd in self._monitor.fds:
            self._selector.register(fd, selectors.EVENT_READ)

    def _end_monitor(self) -> int:
        monitor, self._monitor = self._monitor, None
        if monitor is None:
            return 0
        for fd in monitor.fds:
            self._selector.unregister(fd)
        return monitor.close()

    def _postpone_monitor(self, words: str) -> None:
        now = time.monotonic()
        if now - self._monitor_started > _LASTED:
            self._restarts = 0
        if not self._restarts:
            self._log.warning(f"ip monitor has ended ({words}); it is started again, ever more rarely if it ends again")
        self._monitor_due = now + _RESTART_PAUSES[min(self._restarts, len(_RESTART_PAUSES) - 1)]
        self._restarts += 1

    # Passes

    def _full_pass(self) -> None:
        """A pass with fresh processes: nothing that a long-lived one may have got wrong plays a part in it."""
        reason, self._full_reason = self._full_reason, "resync"
        if reason != "resync":
            self._ip.hang_up()  # an event that told of an interface may be among the lost ones
        self._ip.reconsider()
        self._offset = _clock_offset()
        self._last_full = time.monotonic()
        self._full_due = self._last_full + self._config.watch.resync
        pending = self._again is not None or self._failures > 0  # a change that is already known
        with self._ip.fresh():
            changed = self._pass(reason)
        if changed and not pending and reason == "resync" and self._counters.events == self._events_at_last_full:
            self._end_monitor()
            self._postpone_monitor("it said nothing of a change")
        self._events_at_last_full = self._counters.events

    def _pass(self, reason: str) -> bool:
        """Read, plan, apply. True if something was changed."""
        self._again = None
        self._unfinished = False
        changed = False
        try:
            with self._lock.held(_GRACE):
                changed = self._step(reason)
        except (ReadFailed, IpUnusable, Locked, NotPermitted, UsageError, OSError) as error:
            if not self._counters.passes and isinstance(error, IpUnusable | NotPermitted | UsageError):
                raise  # at the start, it is the user who can mend it
            self._ip.hang_up()
            self._again = time.monotonic() + _RETRY_PAUSES[min(self._failures, len(_RETRY_PAUSES) - 1)]
            self._failures += 1
            # What a long-lived `ip` could not answer, a fresh one mostly can: that is no news.
            if (words := _words(error)) != self._trouble and self._failures > 1:
                self._trouble = words
                self._log.error(f"{words}; trying again")
        else:
            self._failures = 0
            self._trouble = ""
            with suppress(IpUnusable, OSError):  # without dialogues, the next pass takes longer, and tries it again
                self._ip.warm()
        self._counters.passes += 1
        self._pace.ran(time.monotonic(), echo=self._wrote and not changed)
        if self._unfinished:
            self._pace.wake(time.monotonic())
        self._wrote = changed
        return changed

    def _step(self, reason: str) -> bool:
        started = time.monotonic()
        before = self._passes.layout
        due = [command for command in self._passes.plan_sync() if not command.waits]
        if before and before != self._passes.layout:
            config = config_with(self._config, tables={"layout": before.name})
            self._former.append(_Former(config, Passes(self._ip, config, self._log)))
        # Printed in whole seconds, and over only when it has become negative.
        expiry = self._passes.expiry
        # At the very moment, no lifetime is printed at all: a second later, it has passed.
        self._overdue = self._overdue + 1 if expiry is None and reason == _EXPIRED else 0
        if expiry is not None or 0 < self._overdue <= _MOST_OVERDUE:
            self._expiry_due = started + (expiry or 0) + 1
        else:
            self._expiry_due = None
        changed = self._carry_out(due, reason, started)
        all_due = set(due)
        for former in self._former.copy():
            # The new one first, so that nothing is missing in between.
            prune = former.config.lan.prune and self._config.lan.prune
            stale = leftovers(former.passes.look(), self._passes.look(), prune=prune)
            if stale:
                changed |= self._carry_out(stale, reason, time.monotonic())
                all_due |= set(stale)
            if stale == []:
                self._former.remove(former)
            elif self._again is None:
                self._unfinished = True
        kept = (self._config, *(former.config for former in self._former))
        self._claim.restrict({table for config in kept for table in config.tables.mirrors})
        self._refused = {command: refusal for command, refusal in self._refused.items() if command in all_due}
        if not self._refused:
            self._told.clear()
        self._known = self._passes.destinations
        if self._config.lan.multicast:
            self._known |= {"default"}  # multicast follows it
        self._tell(
            f"{self._passes.copies} copies, {len(due)} to be changed" if due else f"{self._passes.copies} copies"
        )
        return changed

    def _carry_out(self, due: list[Command], reason: str, started: float) -> bool:
        """Run what is not held back. True if something was changed."""
        verdict = self._fight.admit(due, started)
        if verdict.again is not None:
            self._again = min(verdict.again, self._again or verdict.again)
        self._complain(due)
        for command in set(verdict.fresh) - self._refused.keys():
            self._log.warning(
                f"{self._ip.line(command)}: somebody undoes this again and again; "
                f"it is done ever more rarely until that ends (the last event: {reason})"
            )
        if not verdict.admitted:
            return False
        refusals = self._passes.apply(verdict.admitted)
        self._fight.ran(verdict.admitted, started)
        self._record(reason, time.monotonic() - started, verdict.admitted, refusals)
        return len(verdict.admitted) > len(refusals)

    def _record(self, reason: str, seconds: float, commands: list[Command], refusals: list[Refusal]) -> None:
        self._counters.changes += 1
        self._counters.commands += len(commands)
        self._counters.refused += len(refusals)
        for command in commands:
            self._refused.pop(command, None)
        self._refused |= {refusal.command: refusal for refusal in refusals}
        self._unfinished |= bool(refusals)
        self._write_down(reason, seconds, commands, refusals)

    def _complain(self, due: list[Command]) -> None:
        """Say what was refused and is due again. Where the kernel has been faster than we, nothing is due any more."""
        for refusal in (self._refused[command] for command in due if command in self._refused):
            words = refusal.words if refusal.lost else f"{self._ip.line(refusal.command)}: {refusal.words}"
            if words not in self._told:
                self._told.add(words)
                self._log.warning(f"{words}; trying again")

    def _write_down(self, reason: str, seconds: float, commands: list[Command], refusals: list[Refusal]) -> None:
        if not commands:
            return
        text = summary(seconds, len(commands), reason)
        self._log.info(f"# {text}")
        outcomes = {refusal.command: refusal.outcome for refusal in refusals}
        lines = [(self._ip.line(command), outcomes.get(command, WORKED)) for command in commands]
        self._journal.append(record(datetime.now(UTC), text, lines))

    def _tell(self, status: str) -> None:
        if status != self._status:
            self._status = status
            notify(f"STATUS={status}")

    # Configuration and signals

    def _admission(self, config: Config) -> Lock:
        """The lock for passes of this configuration. Locked or UsageError if there is none to be had."""
        self._claim.extend(config.tables.mirrors)
        return Lock(self._netns, config.tables.mirrors)

    def _adopt(self, config: Config, lock: Lock) -> None:
        self._config = config
        self._lock = lock
        self._passes = Passes(self._ip, config, self._log)
        self._pace = Pace(config.watch.settle, config.watch.max_wait)
        self._journal = Journal(config.watch.journal, self._log.warning)
        self._table_names = {str(table) for table in (254, *config.tables.ids)}

    def _reload(self) -> None:
        try:
            config = self._load()
            lock = self._admission(config) if config != self._config else None
            if lock:
                # UsageError if tables would swap their parts. If `ip` fails, the first real pass tells.
                with suppress(ReadFailed, IpUnusable, OSError):
                    Passes(self._ip, config, self._log).plan_sync()
        except (UsageError, Locked) as error:
            if str(error) != self._trouble:
                self._log.error(str(error))
                self._log.warning("the last good configuration stays in force")
            self._trouble = str(error)
            return
        self._trouble = ""
        if lock is None:
            return
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._counters.reloads += 1
        self._log.info(f"# {self._place}: there is a new configuration")
        self._former.append(_Former(self._config, self._passes))
        self._lock.close()
        self._journal.reopen()
        self._adopt(config, lock)
        self._full_reason = "new configuration"
        self._full_pass()
        notify("READY=1")

    def _obey(self, fd: int) -> bool:
        """What signals and the file's guardian have asked for; False if it is to end."""
        try:
            signs = os.read(fd, 4096)
        except BlockingIOError:
            return True
        if signal.SIGUSR1 in signs:
            self._log.info(f"# {self._counters}")
        if signal.SIGHUP in signs:
            self._journal.reopen()
        if not any(sign in signs for sign in ENDING):
            if signal.SIGHUP in signs or CHANGED in signs:
                self._reload()
            return True
        return False


def _words(error: Exception) -> str:
    # What is no FzError is the machine's: no memory, no descriptors, no processes.
    return f"the machine refuses: {error}" if isinstance(error, OSError) else str(error)


def _clock_offset() -> float:
    return time.time() - time.monotonic()
