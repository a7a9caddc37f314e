"""Turns signals into bytes in a pipe, so that one `select` can wait for them and for everything else."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

ENDING = (signal.SIGTERM, signal.SIGINT)

_Handler = Callable[[int, FrameType | None], None]


class GraceOver(BaseException):
    """The time to finish is over. It is no Exception, because a library might catch that as a failure of its own."""


class Pipe(NamedTuple):
    """The two descriptors of the pipe.

    Each signal that is caught puts its number into the pipe, as a byte. Others may write further bytes to `writing`.
    """

    reading: int
    writing: int


def no_more_grace() -> None:
    """Raise no GraceOver from now on."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: the byte in the pipe is enough."""


@contextmanager
def signal_pipe(grace: float) -> Iterator[Pipe]:
    """Catch the signals of a daemon. `grace` seconds after SIGTERM or SIGINT, GraceOver is raised."""

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
def redraws() -> Iterator[int]:
    """A descriptor that becomes readable when the terminal's size changes, or when a stopped program goes on."""
    with _pipe(dict.fromkeys((signal.SIGWINCH, signal.SIGCONT), _ignore)) as pipe:
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
