"""Runs `ip monitor`, and reads the events that it prints, one line each."""

import ctypes
import math
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from fz_iproute.errors import IpUnusable
from fz_iproute.ip.ip import Ip
from fz_iproute.ip.process import is_ready, pipe
from fz_iproute.mirror.words import printable

_PR_SET_PDEATHSIG = 1
_MOST_BYTES = 1 << 16
# So many seconds after its start, `ip monitor` listens, also on a busy machine. It does not tell when it begins.
LISTENS_AFTER = 2.0
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to kill this child when its parent ends.

    `parent` is the parent's pid. None: it has no pid in this PID namespace.
    """
    # Otherwise `ip monitor` would live on until the next event, when it fails to print it.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)  # the parent has ended before prctl()


class Monitor:
    """A running `ip monitor`. Each event is a line, and starts with its kind, such as [ROUTE]. Tables are numbers."""

    def __init__(self, ip: Ip) -> None:
        words = ("-N", "-oneline", "monitor", "label", "link", "address", "route", "rule", "nexthop")
        with ExitStack() as theirs, ExitStack() as ours:
            self.fd, output = pipe(ours, theirs)  # it becomes readable when `ip monitor` prints something, or ends
            nothing = os.open(os.devnull, os.O_RDONLY)
            theirs.callback(os.close, nothing)
            # One pipe for stdout and stderr: `ip` prints whole lines, and only events start with a bracket.
            self._process = ip.spawn(words, (nothing, output, output), partial(die_with_parent, os.getpid()))
            self._descriptors = ours.pop_all()
        os.set_blocking(self.fd, False)
        self._rest = b""
        self.ended = False

    def read(self, seconds: float = 0.0) -> str:
        """The lines since the last call. If there is none, wait for one so many seconds."""
        if seconds:
            is_ready(self.fd, select.POLLIN, seconds)
        text = self._rest
        try:
            while part := os.read(self.fd, _MOST_BYTES):
                text += part
                if len(part) < _MOST_BYTES:
                    break
            else:
                self.ended = True
        except BlockingIOError:
            pass
        if text.endswith(b"\n"):
            self._rest = b""
        else:
            text, newline, self._rest = text.rpartition(b"\n")
            text += newline
        return text.decode("utf-8", "surrogateescape")

    def close(self) -> int:
        """Kill the process. Returns its exit code, which is negative if a signal ended it."""
        self._process.kill()
        with self._descriptors:
            return self._process.wait()


def events_and_words(text: str) -> tuple[list[str], str]:
    """The events among these lines of `ip monitor`, and its other words.

    The words are, for example, "netlink receive error: No buffer space available" if events were lost.
    """
    lines = text.split("\n")[:-1]
    events = [line for line in lines if line.startswith("[")]
    if len(events) == len(lines):
        return events, ""
    return events, " / ".join(printable(line) for line in lines if not line.startswith("["))


def changes(ip: Ip, bell: int, output: int, beside: Callable[[], object]) -> Iterator[bool]:
    """Yield at the start, and then after each burst of events. A long burst yields once a second.

    Three other things count as events: input from the non-blocking descriptor `bell`, for which it yields True; a new
    result of `beside`, which is called once a second; and the moment when `ip monitor` surely listens, because it has
    missed what changed before. The iterator ends when the reader of the descriptor `output` has gone. IpUnusable if
    `ip monitor` ends.
    """
    monitor = Monitor(ip)
    second_look = time.monotonic() + LISTENS_AFTER
    poll = select.poll()
    for fd in (monitor.fd, bell):
        poll.register(fd, select.POLLIN)
    poll.register(output, 0)  # with 0, poll() reports only that the other end is closed
    rang = False
    words = ""
    try:
        while not monitor.ended:
            seen = beside()
            yield rang
            while not (ready := poll.poll(_LOOK)) and beside() == seen and time.monotonic() < second_look:
                pass
            if time.monotonic() >= second_look:
                second_look = math.inf
            fds = [fd for fd, _ in ready]
            if output in fds:
                return
            rang = bell in fds
            if rang:
                os.read(bell, 1 << 16)
            end = time.monotonic() + _LONGEST_BURST
            is_burst = True
            while is_burst:
                events, complaint = events_and_words(monitor.read())
                words = complaint or words
                is_burst = bool(events) and not monitor.ended and time.monotonic() < end
                if is_burst:
                    select.select([monitor.fd], [], [], _QUIET)
        raise IpUnusable(f"ip monitor has ended: {words or 'no reason given'}")
    finally:
        monitor.close()


_LOOK = 1000  # how often to call `beside`, in ms
_QUIET = 0.1  # the time without events that ends a burst, in seconds
_LONGEST_BURST = 1.0  # in seconds
