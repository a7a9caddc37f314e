"""A laptop for each module, with the servers of the VPNs that its tests ask for."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.netns import conftest as netns
from tests.netns.namespace import removing
from tests.peers.terrain import Laptop
from tests.peers.vpns import Vpn
from tests.watch.daemon import Daemon, ending

_namespaces_are_possible = netns._namespaces_are_possible
runtime = netns.runtime


@pytest.fixture(scope="module")
def laptop(runtime: Path) -> Iterator[Laptop]:
    with removing(Laptop(runtime)) as made:
        yield made


@pytest.fixture(scope="module")
def served(laptop: Laptop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[type[Vpn]], Vpn]]:
    """Gives the VPN of a kind. Its server runs until the end of the module."""
    made: dict[type[Vpn], Vpn] = {}
    with ExitStack() as stack:

        def vpn(kind: type[Vpn]) -> Vpn:
            if kind not in made:
                new = kind(laptop, tmp_path_factory.mktemp(kind.__name__))
                stack.enter_context(new.serve())
                made[kind] = new
            return made[kind]

        yield vpn


@pytest.fixture
def watch(laptop: Laptop) -> Iterator[Callable[[str], Daemon]]:
    """Starts a daemon on the laptop, with this configuration."""
    with ending(laptop) as make:
        yield lambda config: make(config).start()
