"""Fixtures that run daemons in namespaces, end them, and check that no child is left."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.netns.conftest import _namespaces_are_possible, machine, namespace, runtime  # noqa: F401
from tests.netns.namespace import Machine
from tests.watch.broken_ip import BrokenIp
from tests.watch.daemon import Daemon, ending

Watch = Callable[..., Daemon]


@pytest.fixture
def daemon(machine: Machine) -> Iterator[Watch]:  # noqa: F811
    """Makes daemons for the machine without starting them. Ends them after the test."""
    with ending(machine) as make:
        yield make


@pytest.fixture
def watch(daemon: Watch) -> Watch:
    """Starts daemons on the machine, and waits for their first pass."""
    return lambda config="", **options: daemon(config, **options).start()


@pytest.fixture
def broken_ip(tmp_path: Path) -> BrokenIp:
    """An `ip` for the front of PATH that fails on demand."""
    return BrokenIp(tmp_path)
