"""Every test gets a machine of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.world import Program, World
from tests.netns.conftest import _namespaces_are_possible  # noqa: F401
from tests.netns.namespace import removing


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """The program alone."""
    return Program(tmp_path)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A laptop with a LAN and an active full tunnel."""
    made = World(tmp_path)
    with removing(made.land):
        yield made
