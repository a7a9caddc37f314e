"""Listens to `ip monitor`: a doorbell, whose lines say that something has changed, not what there is now."""

import ctypes
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial

from fz_iproute.errors import IpUnusable
from fz_iproute.ip.ip import Ip
from fz_iproute.ip.process import pipe

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int | None = None) -> None:
    """To be called in a child, before it becomes what it is to be. `parent` is its parent, if it can see that."""
    # It would notice our end only with the next event, and wait for that for ever in a quiet network.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)  # it had ended before we said that we want to follow it


class Monitor:
    """A running `ip monitor`. Numbers, not names, for tables; each event on a line that starts with its kind."""

    def __init__(self, ip: Ip) -> None:
        words = ("-N", "-oneline", "monitor", "label", "link", "address", "route", "rule", "nexthop")
        with ExitStack() as theirs, ExitStack() as ours:
            self._stdout, stdout = pipe(ours, theirs)
            self._stderr, stderr = pipe(ours, theirs)
            nothing = os.open(os.devnull, os.O_RDONLY)
            theirs.callback(os.close, nothing)
            self._process = ip.spawn(words, (nothing, stdout, stderr), partial(die_with_parent, os.getpid()))
            self._descriptors = ours.pop_all()
        for fd in self.fds:
            os.set_blocking(fd, False)
        self._rest = b""
        self.ended = False

    @property
    def fds(self) -> tuple[int, int]:
        """To wait for."""
        return self._stdout, self._stderr

    def lines(self) -> list[str]:
        """The events that have come since."""
        *lines, self._rest = (self._rest + self._read(self._stdout)).split(b"\n")
        return [line.decode("utf-8", "surrogateescape") for line in lines]

    def complaint(self) -> str:
        """What it has said on stderr since. A lost event is "netlink receive error No buffer space available"."""
        return self._read(self._stderr).decode("utf-8", "backslashreplace").strip()

    def _read(self, fd: int) -> bytes:
        parts = []
        while True:
            try:
                part = os.read(fd, 1 << 16)
            except BlockingIOError:
                break
            if not part:
                self.ended = True
                break
            parts.append(part)
        return b"".join(parts)

    def close(self) -> int:
        """End it; the exit code, negative if a signal ended it."""
        self._process.kill()
        with self._descriptors:
            return self._process.wait()


def changes(ip: Ip, bell: int) -> Iterator[None]:
    """Once at the start, then whenever a burst of events has ended, or has lasted for a second.

    What comes from the descriptor `bell`, which does not block, is an event too.
    """
    monitor = Monitor(ip)
    try:
        while not monitor.ended:
            yield
            select.select([*monitor.fds, bell], [], [])
            with suppress(BlockingIOError):
                os.read(bell, 1 << 16)
            end = time.monotonic() + _LONGEST_BURST
            while monitor.lines() and not monitor.ended and time.monotonic() < end:
                select.select(monitor.fds, [], [], _QUIET)
        raise IpUnusable(f"ip monitor has ended: {monitor.complaint() or 'without a word'}")
    finally:
        monitor.close()


_QUIET = 0.1
_LONGEST_BURST = 1.0
