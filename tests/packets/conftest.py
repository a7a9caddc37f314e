"""One machine for each module, and a witness that tells where its packets go."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import conftest as netns
from tests.netns.namespace import removing
from tests.netns.witness import Witness
from tests.packets.terrain import Crossroads

_namespaces_are_possible = netns._namespaces_are_possible
runtime = netns.runtime


@pytest.fixture(scope="module")
def crossroads(runtime: Path) -> Iterator[Crossroads]:
    """A machine for all tests of a module."""
    with removing(Crossroads(runtime)) as made:
        yield made


@pytest.fixture(scope="module")
def witness(crossroads: Crossroads) -> Iterator[Witness]:
    """Tells where packets arrive."""
    made = crossroads.witness()
    yield made
    made.close()
