"""Every test gets a machine of its own."""

from pathlib import Path

import pytest

from tests.cli.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A laptop with a LAN and an active full tunnel, and a fake `ip`."""
    return World(tmp_path)
