"""A machine that a daemon keeps in step, and a witness that tells where its packets go."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.programs import Program
from tests.netns import conftest as netns
from tests.netns.namespace import Machine, wait_until
from tests.netns.witness import Witness

_namespaces_are_possible = netns._namespaces_are_possible
runtime = netns.runtime
machine = netns.machine


@pytest.fixture
def watched(machine: Machine, tmp_path: Path) -> Iterator[Machine]:
    """A machine in step, with `fz-iproute watch` running; the daemon must survive the test."""
    argv = machine.fz_argv("watch")
    with Program(argv, tmp_path / "watch.log", **machine.fz_options()) as daemon:
        wait_until(lambda: daemon.ended or machine.in_step(), "the daemon has brought the machine in step")
        yield machine
        assert not daemon.ended, daemon.words
    assert "Traceback" not in daemon.words, daemon.words


@pytest.fixture
def witness(machine: Machine) -> Iterator[Witness]:
    """Sees what arrives at the neighbour and in the tunnel."""
    made = Witness(machine, {"neighbour": machine.neighbour})
    yield made
    made.close()
