"""A start that fails leaves nothing behind."""

import errno
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fz_iproute.errors import IpUnusable
from fz_iproute.ip.coprocess import Coprocess
from fz_iproute.ip.ip import Ip
from fz_iproute.ip.monitor import Monitor
from tests.netns.namespace import wait_until

MOST = 30  # no start needs so many


@contextmanager
def free_descriptors(count: int) -> Iterator[None]:
    """Leave this process so many unused descriptors while the block runs."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = [os.dup(0) for _ in range(max(descriptors()) + 1)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 1 + count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in fillers:
            os.close(fd)


def descriptors() -> dict[int, str]:
    found = {}
    for link in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):  # the one that lists them
            found[int(link.name)] = str(link.readlink())
    return found


@pytest.mark.parametrize(
    "start",
    [lambda ip: ip.start("-V").answer(), lambda ip: Coprocess(ip, "inet").close(), lambda ip: Monitor(ip).close()],
    ids=["command", "coprocess", "monitor"],
)
def test_wherever_descriptors_run_out_none_is_left_open(start: Callable[[Ip], object]) -> None:
    ip = Ip()
    start(ip)
    before = descriptors()
    worked = []
    for count in range(MOST + 1):
        with free_descriptors(count):
            try:
                start(ip)
                worked.append(count)
            except (OSError, IpUnusable):
                pass
        ip.abandon()
        assert before == descriptors(), f"with {count} free descriptors"
    assert 0 not in worked
    assert list(range(worked[0], MOST + 1)) == worked


def fails_and_leaves_nothing(words: str, start: Callable[[Ip], object] = lambda ip: ip.start("-V")) -> None:
    """Starting `ip` fails with these words each time, and leaves no descriptor and no child."""
    ip = Ip()
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = descriptors(), children.read_text()
    for _ in range(3):
        with pytest.raises(IpUnusable, match=words):
            start(ip)
    # A thread of sh may hold one for a moment.
    wait_until(lambda: before == (descriptors(), children.read_text()), f"there is only {before}")


def test_a_program_that_cannot_be_started_leaves_no_descriptor_and_no_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while a package manager replaces `ip`, and `watch` tries again and again."""
    program = tmp_path / "ip"
    program.write_text("#!/nowhere/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    fails_and_leaves_nothing("cannot be started")


def test_a_child_that_is_killed_before_it_becomes_ip_leaves_no_descriptor_and_no_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As by the kernel when memory is short. Only the child asks for its session."""
    monkeypatch.setattr("os.getsid", lambda pid: os.kill(os.getpid(), signal.SIGKILL))
    fails_and_leaves_nothing("cannot be started: it was killed")


def test_if_the_last_descriptor_cannot_be_had_no_child_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the limit is lowered at that moment."""

    def pidfd_open(pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("os.pidfd_open", pidfd_open)
    fails_and_leaves_nothing("cannot be started: Too many open files", Monitor)


def test_a_program_that_is_gone_is_told_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while `ip` is upgraded."""
    program = tmp_path / "ip"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    ip = Ip()
    program.unlink()
    with pytest.raises(IpUnusable, match=r"^ip: cannot be started: No such file or directory\b"):
        ip.start("-V")


def test_no_thread_wakes_up_for_a_process_that_runs_for_long() -> None:
    """A thread of sh would do so once a second, for each of the three `ip` processes of `watch`."""
    before = set(threading.enumerate())
    monitor = Monitor(Ip())
    try:
        (thread,) = set(threading.enumerate()) - before
        wait_until(lambda: waits_for_ever(thread), "it still wakes up at times", 20.0)
    finally:
        monitor.close()


def waits_for_ever(thread: threading.Thread) -> bool:
    """Whether it waits for an event without a timeout."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame and frame.f_code is not threading.Condition.wait.__code__:
        frame = frame.f_back
    return frame is not None and frame.f_locals["timeout"] is None
