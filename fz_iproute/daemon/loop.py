"""The main loop of `watch`, which keeps the VPN's tables in step with main.

Simple new routes, which events describe completely, are copied as soon as the events are read. Then each event that
matters wakes a pass, which reads the tables, plans, and applies the difference.
"""

import os
import select
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from math import ceil
from pathlib import Path
from typing import NamedTuple

from fz_iproute.daemon.ahead import Ahead
from fz_iproute.daemon.announcer import Announcer
from fz_iproute.daemon.events import Interest, is_about_links
from fz_iproute.daemon.failures import PAUSES, Failures
from fz_iproute.daemon.fight import Fight
from fz_iproute.daemon.file_watch import CHANGED, FileWatch
from fz_iproute.daemon.listener import Listener
from fz_iproute.daemon.notify import Watchdog, notify
from fz_iproute.daemon.refused import Refused
from fz_iproute.daemon.reload import Reloader
from fz_iproute.daemon.schedule import Schedule
from fz_iproute.daemon.signals import ENDING, GraceOver, no_more_grace, signal_pipe
from fz_iproute.errors import IpUnusable, Locked, NotPermitted, ReadFailed, UsageError
from fz_iproute.files.journal import Journal
from fz_iproute.files.report import Report
from fz_iproute.ip.apply import Refusal
from fz_iproute.ip.coprocess import CoprocessIp
from fz_iproute.ip.ip import Asked
from fz_iproute.ip.monitor import Monitor
from fz_iproute.ip.passes import Passes
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.journal import record, summary
from fz_iproute.mirror.model import EVERYTHING, WORKED, Command, Part
from fz_iproute.mirror.plan import MISSING
from fz_iproute.mirror.prefix import Family
from fz_iproute.mirror.words import MAIN

# The time between SIGTERM and the end, in seconds. To remove the copies, `watch` has to run `ip` several times, on a
# machine that may be busy with its shutdown.
_GRACE = 2.0
# How long a pass waits for its lock, in seconds.
_LOCK_PATIENCE = 0.6
# The counters, since the start. SIGUSR1 logs them, and `metrics` prints them. `changes` counts batches of commands,
# and `lost` counts overflows of the monitor's socket.
_COUNTED = ("events", "wakes", "passes", "changes", "commands", "refused", "fights", "lost", "monitors", "reloads")
# Why a pass fails without an end of the daemon.
_FAILURES = (ReadFailed, IpUnusable, Locked, NotPermitted, UsageError, OSError)


class Origin(NamedTuple):
    """Where the configuration comes from.

    `load` reads it, from the file `place`. `plan_with` makes the Passes for a configuration. If `follows()` is true,
    it depends on the VPN that takes all traffic, so it may change whenever rules or routes change.
    """

    load: Callable[[], Config]
    place: Path
    plan_with: Callable[[Config], Passes]
    follows: Callable[[], bool]


class Loop:
    """The daemon. The constructor raises Locked if another daemon serves the same table, even after `wait` seconds."""

    def __init__(self, origin: Origin, ip: CoprocessIp, wait: float, log: Log) -> None:
        self._origin = origin
        self._ip = ip
        self._log = log
        self._counters = Counter(dict.fromkeys(_COUNTED, 0))
        self._reloader = Reloader(origin.load, origin.plan_with, ip.netns, wait, log)
        self._schedule = Schedule(self._reloader.config.watch)
        self._listener = Listener(partial(Monitor, ip), self._copy_ahead, self._schedule, self._counters, log)
        self._watchdog = Watchdog()
        self._announcer = Announcer(origin.place, log)
        self._copied = False  # new routes were copied since the last pass
        self._wrote = False  # the last pass changed something, so the monitor is about to report our own commands
        self._unfinished = False  # this pass leaves something to do, so another one must follow even without an event
        self._failures = Failures(log)
        self._refused = Refused(ip.line, log.warning)
        self._report = Report(ip.netns)
        self._adopt()

    def _adopt(self) -> None:
        """Use the configuration in force, after it has changed."""
        config = self._reloader.config
        self._schedule.adopt(config.watch)
        self._report.follow(config.tables.mirrors)
        self._journal = Journal(config.watch.journal, self._log.warning)
        self._listener.ahead = None
        self._fight = Fight()  # earlier commands do not matter any more, because they had another goal
        self._listen_for(frozenset())

    def run(self) -> None:
        """Stay in step until SIGTERM or SIGINT."""
        with signal_pipe(_GRACE) as signals:
            files = FileWatch(self._origin.place, signals.writing, self._log.warning)
            self._listener.poll.register(signals.reading, select.POLLIN)
            try:
                try:
                    self._work(signals.reading)
                finally:
                    no_more_grace()
            except GraceOver:
                self._log.warning(f"`ip` did not end within {_GRACE:g} s, and was killed")
            finally:
                self._listener.stop()
                self._ip.abandon()
                self._ip.end_coprocesses()
                self._report.close()
                self._reloader.close()
                files.close()

    def _work(self, signals: int) -> None:
        self._announcer.start()
        self._listener.start(_now())  # before the first reading, so that no later change goes unnoticed
        self._full_pass("start")
        notify("READY=1")
        while self._turn(signals):
            pass
        notify("STOPPING=1")
        self._announcer.end(with_copies=self._reloader.config.watch.cleanup_on_exit)
        if self._reloader.config.watch.cleanup_on_exit:
            started = _now()
            self._ip.end_coprocesses()  # the signal may have ended the long-lived `ip` processes, too
            with self._reloader.locked(_GRACE):
                run, failures = self._reloader.passes.down()
            self._write_down("its end", _now() - started, run, failures)

    def _turn(self, signals: int) -> bool:
        """Wait until something happens or is due, then do it. False if the daemon should end."""
        now = _now()
        self._watchdog.feed(now)
        dues = (self._schedule.next, self._listener.due, self._watchdog.due)
        wait = max(0.0, min(due for due in dues if due is not None) - now)
        if pause := min(self._listener.pause, wait):
            time.sleep(pause)
        ready = self._listener.poll.poll(ceil((wait - pause) * 1000))
        text = self._listener.hear()  # before anything else, because it copies new routes
        now = _now()
        self._judge(text, now)
        # Ctrl-C and systemd also send the signal to `ip monitor`, whose end would look like a failure.
        if (signals in dict(ready) or self._listener.has_ended) and not self._obey(signals):
            return False
        self._listener.restart_if_due(now)
        if due := self._schedule.due(now):
            # Perhaps the file can take effect now, or another VPN takes all traffic.
            if due.full and self._reloader.trouble:
                self._reload()
            elif self._origin.follows():
                self._reload("a VPN came or went")
            if due.full:
                self._full_pass(due.reason)
            else:
                self._pass(due.reason, due.changed)
        return True

    # What wakes a pass

    def _judge(self, text: str, now: float) -> None:
        for line in self._listener.judge(text, now):
            if is_about_links(line):
                self._ip.end_coprocesses()
            self._fight.forgive(line)

    def _listen_for(self, destinations: frozenset[str]) -> None:
        """Set which events matter from now on. `destinations` are those of the routes that should be copied."""
        config = self._reloader.config
        tables = frozenset(map(str, (MAIN, *config.tables.ids)))
        if config.lan.multicast:
            destinations |= {"default"}  # the multicast routes use the same device as main's default route
        self._listener.interest = Interest(
            tables, bool(config.lan.allow), destinations, every_table=self._origin.follows()
        )

    def _obey(self, fd: int) -> bool:
        """Do what signals and changes of the configuration file ask for. False if the daemon should end."""
        try:
            asked = os.read(fd, 4096)
        except BlockingIOError:
            return True
        if signal.SIGUSR1 in asked:
            self._log.info("# " + " ".join(f"{name}={count}" for name, count in self._counters.items()))
        if signal.SIGHUP in asked:
            self._journal.reopen()
        if any(number in asked for number in ENDING):
            return False
        if signal.SIGHUP in asked or CHANGED in asked:
            self._reload(is_asked=signal.SIGHUP in asked)
        return True

    def _reload(self, reason: str = "new configuration", *, is_asked: bool = False) -> None:
        """Load the configuration again; the reason is for the log, if it is another one then.

        `is_asked`: by SIGHUP, so systemd waits for READY=1 even if nothing changes.
        """
        started = time.monotonic_ns() // 1000
        is_new = self._reloader.reload()
        if is_new or is_asked:
            notify("RELOADING=1", f"MONOTONIC_USEC={started}")
        if is_new:
            self._counters["reloads"] += 1
            if not self._origin.follows():  # if it follows a VPN, the file need not have changed
                self._log.info(f"# {self._origin.place}: there is a new configuration")
            self._journal.reopen()
            self._adopt()
            self._full_pass(reason)
        if is_new or is_asked:
            notify("READY=1")

    # Passes

    def _full_pass(self, reason: str) -> None:
        """A pass that reads everything from new `ip` processes, in case a long-lived one remembers something wrong."""
        is_resync = reason == "resync"
        if not is_resync:
            self._ip.end_coprocesses()  # a lost event may have been about the name of an interface
        expected = self._schedule.again is not None or self._failures.count > 0
        self._schedule.full_begins(_now())
        with self._ip.without_coprocesses():
            changed = self._pass(reason)
        self._ip.allow_slow_families()
        self._listener.resynced(_now(), missed=changed and is_resync and not expected)

    def _pass(self, reason: str, parts: frozenset[Part] = EVERYTHING) -> bool:
        """Read what may have changed, plan, apply. True if a command has changed something since the last pass."""
        self._listener.ahead = None
        self._schedule.again = None
        self._unfinished = False
        changed, self._copied = self._copied, False
        try:
            with self._reloader.locked(_LOCK_PATIENCE):
                changed |= self._step(reason, parts)
        except _FAILURES as error:
            if not self._counters["passes"] and isinstance(error, IpUnusable | NotPermitted | UsageError):
                raise  # at the start, end with the message: someone is there to correct the cause
            self._failed(error)
        else:
            self._failures.clear()
            with suppress(IpUnusable, OSError):  # if this fails, the next pass uses new processes, and tries again
                self._ip.start_coprocesses()
        self._counters["passes"] += 1
        self._schedule.ran(_now(), echo=self._wrote and not changed, unfinished=self._unfinished)
        self._wrote = changed
        self._report.publish(self._counters, good=not self._failures.count)
        return changed

    def _failed(self, error: Exception) -> None:
        """Try again later, with new processes."""
        self._ip.end_coprocesses()
        self._schedule.retry(_now() + self._failures.add(error))

    def _copy_ahead(self, family: Family, lines: list[str], text: str) -> None:
        """Copy the new routes in this text of the monitor. The pass that follows corrects what goes wrong.

        No lock is needed, because `ip` adds no route that is there already.
        """
        asked = self._ip.ask_coprocess(lines, family)
        if asked is None:
            return
        started = _now()
        commands = [Command(family, line, MISSING) for line in lines]
        try:
            refusals = self._run(commands, text.partition("\n")[0], started, asked)
        except _FAILURES as error:
            self._failed(error)
            return
        if any(refusal.lost for refusal in refusals):
            self._ip.end_coprocesses()
        self._copied = len(refusals) < len(commands)

    def _step(self, reason: str, parts: frozenset[Part]) -> bool:
        started = _now()
        passes = self._reloader.passes
        before = passes.layout
        due = [command for command in passes.plan_sync(parts) if not command.waits]
        if before and before != passes.layout:
            self._reloader.keep(before)
        self._announcer.tunnel(self._reloader.config, passes.layout, passes.tunnel)
        if "inet6" in parts:
            self._schedule.expires(passes.expiry, started)
        changed = self._carry_out(due, reason, started)
        all_due = set(due)
        # Remove what earlier configurations added, after the additions of the new one: so nothing is missing meanwhile.
        for stale in self._reloader.leftovers():
            changed |= self._carry_out(stale, reason, _now())
            all_due |= set(stale)
            self._unfinished |= self._schedule.again is None
        self._refused.forget_all_but(all_due)
        self._listen_for(passes.destinations)
        self._announcer.status(passes.copies, len(due))
        if goal := passes.in_step:
            self._listener.ahead = Ahead(goal, self._fight.destinations)
        return changed

    def _carry_out(self, due: list[Command], reason: str, started: float) -> bool:
        """Run the commands that are not held back because of a fight. True if a command changed something."""
        admission = self._fight.admit(due, started)
        if admission.again is not None:
            self._schedule.retry(admission.again)
        self._refused.complain(due)
        self._counters["fights"] += len(admission.to_report)
        for command in (command for command in admission.to_report if command not in self._refused):
            self._log.warning(
                f"{self._ip.line(command)}: another program undoes this again and again, so "
                f"it is repeated less and less often (the last event: {reason})"
            )
        if not admission.admitted:
            return False
        refusals = self._run(admission.admitted, reason, started)
        lost = sum(refusal.lost for refusal in refusals)
        if lost:
            self._schedule.retry(_now() + PAUSES[0])
        self._refused.ran(admission.admitted, refusals)
        self._unfinished |= len(refusals) > lost
        return len(admission.admitted) > len(refusals)

    def _run(self, commands: list[Command], reason: str, started: float, begun: Asked | None = None) -> list[Refusal]:
        """Run the commands, and record their outcomes. Returns the commands that `ip` refused."""
        refusals = self._reloader.passes.apply(commands, begun)
        # A lost command may never have run. So if it is due again, that is no fight.
        lost = {refusal.command for refusal in refusals if refusal.lost}
        self._fight.ran([command for command in commands if command not in lost], started)
        self._counters.update(changes=1, commands=len(commands), refused=len(refusals))
        self._write_down(reason, _now() - started, commands, refusals)
        return refusals

    def _write_down(self, reason: str, seconds: float, commands: list[Command], refusals: list[Refusal]) -> None:
        if not commands:
            return
        text = summary(seconds, len(commands), reason)
        is_event = reason.startswith("[")  # a line of `ip monitor`, which few people want to see in their log
        self._log.info(f"# {text.partition(', woken by')[0] if is_event else text}")
        if is_event:
            self._log.debug(f"# woken by: {reason}")
        outcomes = {refusal.command: refusal.outcome for refusal in refusals}
        lines = [(self._ip.line(command), outcomes.get(command, WORKED)) for command in commands]
        self._journal.append(record(datetime.now(UTC), text, lines))


def _now() -> float:
    """Seconds on a clock that also counts suspended time, so that a resync is due soon after a suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
