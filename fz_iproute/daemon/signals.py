"""Signals as bytes in a pipe, so that one `select` waits for everything."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

ENDING = (signal.SIGTERM, signal.SIGINT)

_Handler = Callable[[int, FrameType | None], None]


class GraceOver(BaseException):
    """The time to finish is over. It is no Exception, so that no library catches it as a fault of its own."""


class Pipe(NamedTuple):
    """The number of each signal can be read as a byte from `reading`. Others may write their own into `writing`."""

    reading: int
    writing: int


def no_more_grace() -> None:
    """From now on, let no GraceOver interrupt anything."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)


def _ignore(number: int, frame: FrameType | None) -> None:
    """The byte in the pipe says all."""


@contextmanager
def signal_pipe(grace: float) -> Iterator[Pipe]:
    """Catch the signals of a daemon. `grace` seconds after SIGTERM or SIGINT, GraceOver interrupts whatever waits."""

    def begin_to_end(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, grace)

    def break_off(number: int, frame: FrameType | None) -> None:
        raise GraceOver

    heard = dict.fromkeys((signal.SIGHUP, signal.SIGUSR1), _ignore) | dict.fromkeys(ENDING, begin_to_end)
    with _pipe({**heard, signal.SIGALRM: break_off}) as pipe:
        try:
            yield pipe
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def resizes() -> Iterator[int]:
    """A descriptor with something to read whenever the size of the terminal has changed."""
    with _pipe({signal.SIGWINCH: _ignore}) as pipe:
        yield pipe.reading


@contextmanager
def _pipe(handlers: Mapping[signal.Signals, _Handler]) -> Iterator[Pipe]:
    pipe = Pipe(*os.pipe())
    for fd in pipe:
        os.set_blocking(fd, False)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    old_fd = signal.set_wakeup_fd(pipe.writing, warn_on_full_buffer=False)
    try:
        yield pipe
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        for fd in pipe:
            os.close(fd)
