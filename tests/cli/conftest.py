"""Every test gets a machine of its own."""

from pathlib import Path

import pytest

from tests.cli.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A laptop with a LAN and an active full tunnel, and a fake `ip`."""
    return World(tmp_path)


@pytest.fixture
def lock(world: World) -> Path:
    """The file that a sync of the default tables locks; in the automatic layout, that of `tables.lan` as well."""
    path = world.locks / f"{Path('/proc/self/ns/net').stat().st_ino}-539098368.pass.lock"
    path.touch()
    return path
