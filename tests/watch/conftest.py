"""Daemons at work in namespaces: each ended, each without a child left behind."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.netns.conftest import _namespaces_are_possible, machine, namespace, runtime  # noqa: F401
from tests.netns.namespace import Machine
from tests.watch.broken_ip import BrokenIp
from tests.watch.daemon import Daemon

Watch = Callable[..., Daemon]


@pytest.fixture
def daemon(machine: Machine) -> Iterator[Watch]:  # noqa: F811
    """Makes daemons on the machine, not yet started; in the end they are ended."""
    with ExitStack() as stack:

        def make(config: str = "", **options: object) -> Daemon:
            made = Daemon(machine, config, **options)
            stack.callback(made.end)
            return made

        yield make


@pytest.fixture
def watch(daemon: Watch) -> Watch:
    """Starts daemons on the machine, and waits for their first pass."""
    return lambda config="", **options: daemon(config, **options).start()


@pytest.fixture
def broken_ip(tmp_path: Path) -> BrokenIp:
    """An `ip` for the front of PATH that fails on demand."""
    return BrokenIp(tmp_path)
