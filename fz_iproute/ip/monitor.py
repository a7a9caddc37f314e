"""Listens to `ip monitor`: a doorbell, whose lines say that something has changed, not what there is now."""

import ctypes
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from fz_iproute.errors import IpUnusable
from fz_iproute.ip.ip import Ip

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
        fds: list[int] = []
        try:
            fds += os.pipe()
            fds += os.pipe()
            fds.append(os.open(os.devnull, os.O_RDONLY))
            self._stdout, stdout, self._stderr, stderr, nothing = fds
            self._process = ip.spawn(words, (nothing, stdout, stderr), partial(die_with_parent, os.getpid()))
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        for fd in (nothing, stdout, stderr):
            os.close(fd)
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
        code = self._process.wait()
        for fd in self.fds:
            os.close(fd)
        return code


def changes(ip: Ip, bell: int, output: int) -> Iterator[None]:
    """Yield once at the start, then after each burst of events, or after a second of one.

    Whatever can be read from the descriptor `bell`, which does not block, counts as an event. The iterator ends when
    nobody reads what is written to the descriptor `output`. IpUnusable if `ip monitor` ends.
    """
    monitor = Monitor(ip)
    poll = select.poll()
    for fd in (*monitor.fds, bell):
        poll.register(fd, select.POLLIN)
    poll.register(output, 0)  # reports only errors: the other end is closed
    words = ""
    try:
        while not monitor.ended:
            yield
            if output in (fd for fd, _ in poll.poll()):
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
        raise IpUnusable(f"ip monitor has ended: {words or 'without a word'}")
    finally:
        monitor.close()


_QUIET = 0.1
_LONGEST_BURST = 1.0
