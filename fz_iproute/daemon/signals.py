"""Signals as bytes in a pipe, so that one `select` waits for everything."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

ENDING = (signal.SIGTERM, signal.SIGINT)
HEARD = (*ENDING, signal.SIGHUP, signal.SIGUSR1)


class GraceOver(BaseException):
    """Time was given to finish, and it is up. No Exception: no library is to catch it as a fault of its own."""


class Pipe(NamedTuple):
    """`reading` gives the number of each signal as a byte; others may write bytes of their own into `writing`."""

    reading: int
    writing: int


def no_more_grace() -> None:
    """Let no GraceOver break off what comes now."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)


@contextmanager
def signal_pipe(grace: float) -> Iterator[Pipe]:
    """Hear the signals of a daemon. `grace` seconds after SIGTERM or SIGINT, GraceOver breaks whatever waits."""

    def begin_to_end(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, grace)

    def break_off(number: int, frame: FrameType | None) -> None:
        raise GraceOver

    pipe = Pipe(*os.pipe())
    for fd in pipe:
        os.set_blocking(fd, False)
    handlers = dict.fromkeys(HEARD, lambda number, frame: None) | dict.fromkeys(ENDING, begin_to_end)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, break_off)
    old_fd = signal.set_wakeup_fd(pipe.writing, warn_on_full_buffer=False)
    try:
        yield pipe
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.set_wakeup_fd(old_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        for fd in pipe:
            os.close(fd)


@contextmanager
def resizes() -> Iterator[int]:
    """A descriptor that there is something to read from whenever the terminal has got another size."""
    reading, writing = os.pipe()
    for fd in (reading, writing):
        os.set_blocking(fd, False)
    before = signal.signal(signal.SIGWINCH, lambda number, frame: None)
    old_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(old_fd)
        signal.signal(signal.SIGWINCH, before)
        for fd in (reading, writing):
            os.close(fd)
