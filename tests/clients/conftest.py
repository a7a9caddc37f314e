"""A machine that a daemon keeps in step, and a witness that tells where its packets go."""

from collections.abc import Iterator

import pytest

from tests.netns import conftest as netns
from tests.netns.namespace import Machine
from tests.netns.witness import Witness
from tests.watch import conftest as watch
from tests.watch import oracle
from tests.watch.conftest import Watch

_namespaces_are_possible = netns._namespaces_are_possible
runtime = netns.runtime
machine = netns.machine
daemon = watch.daemon


@pytest.fixture
def watched(machine: Machine, daemon: Watch) -> Iterator[Machine]:
    """A machine in step, with `fz-iproute watch` running; the daemon must survive the test."""
    made = daemon().start()
    assert oracle.in_step(machine)
    yield machine
    assert made.alive, made.log


@pytest.fixture
def witness(machine: Machine) -> Iterator[Witness]:
    """Sees what arrives at the neighbour and in the tunnel."""
    made = Witness(machine, {"neighbour": machine.neighbour})
    yield made
    made.close()
