"""Listens to `ip monitor`, whose events say that something has changed. The reader finds out what."""

import ctypes
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial

from fz_iproute.errors import IpUnusable
from fz_iproute.ip.ip import Ip
from fz_iproute.ip.process import pipe

_PR_SET_PDEATHSIG = 1
_MOST_BYTES = 1 << 16
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to kill this child when its parent ends. `parent` is its pid, if this namespace has one."""
    # Otherwise `ip monitor` would notice our end only at the next event, which may never come.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)  # the parent ended before prctl()


class Monitor:
    """A running `ip monitor`. It prints each event on a line that starts with its kind, and tables by number."""

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
        """The descriptors to wait for."""
        return self._stdout, self._stderr

    def lines(self) -> list[str]:
        """The events since the last call."""
        *lines, self._rest = (self._rest + self._read(self._stdout)).split(b"\n")
        return [line.decode("utf-8", "surrogateescape") for line in lines]

    def complaint(self) -> str:
        """What it printed on stderr since the last call, for example "netlink receive error" if it lost events."""
        return self._read(self._stderr).decode("utf-8", "backslashreplace").strip()

    def _read(self, fd: int) -> bytes:
        parts = []
        while True:
            try:
                part = os.read(fd, _MOST_BYTES)
            except BlockingIOError:
                break
            if not part:
                self.ended = True
                break
            parts.append(part)
            if len(part) < _MOST_BYTES:
                break
        return b"".join(parts)

    def close(self) -> int:
        """Kill it; the exit code, negative if a signal ended it."""
        self._process.kill()
        with self._descriptors:
            return self._process.wait()


def changes(ip: Ip, bell: int, output: int, beside: Callable[[], object]) -> Iterator[None]:
    """Yield once at the start, then after each burst of events, or after a second of one.

    Input from the non-blocking descriptor `bell` is an event too, and so is another result of `beside`, which is called
    once a second. The iterator ends when nobody reads what is written to the descriptor `output`. IpUnusable if
    `ip monitor` ends.
    """
    monitor = Monitor(ip)
    poll = select.poll()
    for fd in (*monitor.fds, bell):
        poll.register(fd, select.POLLIN)
    poll.register(output, 0)  # reports only errors: the other end is closed
    words = ""
    try:
        while not monitor.ended:
            seen = beside()
            yield
            while not (ready := poll.poll(_LOOK)) and beside() == seen:
                pass
            if output in (fd for fd, _ in ready):
                return
            with suppress(BlockingIOError):
                os.read(bell, 1 << 16)
            end = time.monotonic() + _LONGEST_BURST
            is_burst = True
            while is_burst:
                is_burst = bool(monitor.lines()) and not monitor.ended and time.monotonic() < end
                words = monitor.complaint() or words  # unread, it would wake us again and again
                if is_burst:
                    select.select(monitor.fds, [], [], _QUIET)
        raise IpUnusable(f"ip monitor has ended: {words or 'no reason given'}")
    finally:
        monitor.close()


_LOOK = 1000  # ms
_QUIET = 0.1
_LONGEST_BURST = 1.0
