"""Namespaces for the tests with the real kernel. Each has a unique name and is removed at the end."""

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.netns import terrain
from tests.netns.laptop import Laptop
from tests.netns.namespace import Machine, Namespace, removing, run
from tests.netns.wiretap import Wiretap


@pytest.fixture(scope="session", autouse=True)
def _namespaces_are_possible() -> None:
    """Skip the tests if namespaces cannot be made; in CI they fail."""
    # SIGTERM must not prevent the removal of namespaces.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    name = f"fz-{os.getpid()}-try-{secrets.token_hex(2)}"
    try:
        done = run("ip", "netns", "add", name, check=False)
        reason = done.stderr.strip().replace(name, "NAME") if done.returncode else ""
    except OSError as error:
        reason = str(error)
    if not reason:
        run("ip", "netns", "del", name)
        return
    words = f"network namespaces cannot be made here: {reason}; run scripts/test, or run as root"
    pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for the program's locks and the tests' configuration files."""
    folder = tmp_path_factory.mktemp("run")
    folder.chmod(0o700)
    return folder


@pytest.fixture
def namespace(runtime: Path) -> Iterator[Namespace]:
    """An empty namespace."""
    with removing(Namespace(runtime)) as made:
        yield made


@pytest.fixture(scope="module")
def long_lived(runtime: Path) -> Iterator[Callable[..., Any]]:
    """Makes namespaces, or machines, that exist until the end of the module."""
    with ExitStack() as stack:
        yield lambda kind=Namespace: stack.enter_context(removing(kind(runtime)))


@pytest.fixture(scope="module")
def land(long_lived: Callable[..., Any]) -> Any:
    """A namespace with all that the routes of `terrain` need, and a tunnel."""
    namespace = long_lived()
    terrain.furnish(namespace)
    namespace.tunnel()
    return namespace


@pytest.fixture
def machine(runtime: Path) -> Iterator[Machine]:
    """A laptop with a LAN, an uplink and a full tunnel."""
    made = Machine(runtime)
    with removing(made):
        yield made


@pytest.fixture
def laptop(runtime: Path) -> Iterator[Laptop]:
    """The laptop of tests/layouts.py."""
    with removing(Laptop(runtime)) as made:
        yield made


@pytest.fixture
def wiretap(tmp_path: Path) -> Wiretap:
    """An `ip` for the front of PATH that logs its arguments."""
    return Wiretap(tmp_path)


@pytest.fixture
def quiet(namespace: Namespace) -> Namespace:
    """A namespace with the device lan0, and no LAN routes but those that the test adds."""
    namespace.sysctl("net.ipv6.conf.default.addr_gen_mode", 1)
    namespace.veth("lan0")
    namespace.address("lan0", "192.168.5.2/32")
    return namespace
