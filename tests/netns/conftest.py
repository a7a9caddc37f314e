"""Namespaces for the tests against the real kernel: each unique, each removed."""

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.netns.namespace import Machine, Namespace, removing, run
from tests.netns.wiretap import Wiretap


@pytest.fixture(scope="session", autouse=True)
def _namespaces_are_possible() -> None:
    """Skip loudly where no namespace can be made; in CI that is a failure."""
    # A run that is told to stop still removes its namespaces.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    name = f"fz-{os.getpid()}-try-{secrets.token_hex(2)}"
    try:
        done = run("ip", "netns", "add", name, check=False)
        reason = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        reason = str(error)
    if not reason:
        run("ip", "netns", "del", name)
    elif os.environ.get("CI"):
        pytest.fail(f"the kernel tests need network namespaces: {reason}")
    else:
        pytest.skip(f"NO KERNEL TESTS: network namespaces cannot be made here: {reason}; run as root")


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the program keeps its locks, and the tests their configuration files."""
    folder = tmp_path_factory.mktemp("run")
    folder.chmod(0o700)
    return folder


@pytest.fixture
def namespace(runtime: Path) -> Iterator[Namespace]:
    """An empty namespace."""
    with removing(Namespace(runtime)) as made:
        yield made


@pytest.fixture(scope="module")
def long_lived(runtime: Path) -> Iterator[Callable[[], Namespace]]:
    """Makes namespaces that serve a whole module, for tests of many examples."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(removing(Namespace(runtime)))


@pytest.fixture
def machine(runtime: Path) -> Iterator[Machine]:
    """A laptop with a LAN, an uplink, and a full tunnel."""
    made = Machine(runtime)
    with removing(made):
        yield made


@pytest.fixture
def wiretap(tmp_path: Path) -> Wiretap:
    """An `ip` for the front of PATH that notes what it is told."""
    return Wiretap(tmp_path)


@pytest.fixture
def quiet(namespace: Namespace) -> Namespace:
    """A namespace with the device lan0, whose only LAN routes are those that the test adds."""
    namespace.sysctl("net.ipv6.conf.default.addr_gen_mode", 1)
    namespace.veth("lan0")
    namespace.address("lan0", "192.168.5.2/32")
    return namespace
