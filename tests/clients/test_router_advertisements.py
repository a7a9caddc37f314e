"""A real router advertises IPv6 prefixes, withdraws them, or disappears so that they expire."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.programs import Program, need
from tests.netns.namespace import LAN, TUNNEL, Machine, wait_until
from tests.netns.witness import Witness
from tests.watch import oracle

# The machine makes itself an address in SLAAC, and none in BARE.
SLAAC, SLAAC_HOST = "fd00:5::/64", "fd00:5::1"
BARE, BARE_HOST = "fd00:6::/64", "fd00:6::1"
# Seconds. radvd advertises every 3 to 4 s.
LIFETIME = 6

CONFIG = """\
interface lan0 {{
    AdvSendAdvert on;
    MinRtrAdvInterval 3;
    MaxRtrAdvInterval 4;
    AdvDefaultLifetime 9;
    prefix {slaac} {{ AdvOnLink on; AdvAutonomous on; AdvValidLifetime {lifetime}; AdvPreferredLifetime {lifetime}; }};
    prefix {bare} {{ AdvOnLink on; AdvAutonomous off; AdvValidLifetime {lifetime}; AdvPreferredLifetime {lifetime}; }};
}};
"""


class Router:
    """radvd at the machine's neighbour."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        neighbour = machine.neighbour
        neighbour.sysctl("net.ipv6.conf.all.forwarding", 1)
        for host in (SLAAC_HOST, BARE_HOST):
            neighbour.address("lan0", f"{host}/64")
        self._config = folder / "radvd.conf"
        argv = [need("radvd", "radvd"), "--nodaemon", "--logmethod=stderr", "--debug=1"]
        argv += [f"--config={self._config}", f"--pidfile={folder / 'radvd.pid'}"]
        self.program = Program(neighbour, argv, folder / "radvd.log")

    def advertise(self, lifetime: int) -> None:
        """Write a configuration with this lifetime."""
        self._config.write_text(CONFIG.format(slaac=SLAAC, bare=BARE, lifetime=lifetime))
        self._config.chmod(0o600)


@pytest.fixture
def router(watched: Machine, tmp_path: Path) -> Iterator[Router]:
    made = Router(watched, tmp_path)
    made.advertise(LIFETIME)
    with made.program:
        yield made


def remaining(machine: Machine, prefix: str) -> int | None:
    """The seconds until main's route expires, negative if it has expired; None if there is no route."""
    routes = machine.ip_json("-6", "route", "show", "table", "main", "exact", prefix)
    return routes[0]["expires"] if routes else None


def assert_comes(machine: Machine, prefix: str) -> None:
    """Wait until the router has advertised the prefix and it is copied."""
    expected = [f"{prefix} dev {LAN} proto kernel metric 256 pref medium"]
    wait_until(lambda: machine.route(prefix, "main"), f"the router has advertised {prefix}")
    wait_until(lambda: machine.route(prefix) == expected, f"{prefix} is copied, without its lifetime")


@pytest.mark.long
def test_prefixes_are_copied_while_advertised_and_no_longer(watched: Machine, router: Router, witness: Witness) -> None:
    """Each advertisement renews the source. A source expires without an event, and then its copy is deleted."""
    machine = watched
    assert_comes(machine, SLAAC)
    assert_comes(machine, BARE)
    wait_until(lambda: oracle.in_step(machine), "all copies are right")
    assert witness.sees("neighbour, from fd00:5::", SLAAC_HOST)
    assert witness.sees("neighbour", BARE_HOST)

    # After two more advertisements, a copy with the first lifetime would have expired.
    for _ in range(2):
        wait_until(lambda: (remaining(machine, BARE) or 0) < LIFETIME - 2, "part of the lifetime has passed")
        wait_until(lambda: (remaining(machine, BARE) or 0) >= LIFETIME - 1, "the router has renewed the prefix")
    assert oracle.in_step(machine)
    assert 1 == len(machine.route(SLAAC)) and 1 == len(machine.route(BARE))
    assert witness.sees("neighbour", BARE_HOST)

    router.program.kill()
    for prefix, host in ((BARE, BARE_HOST), (SLAAC, SLAAC_HOST)):
        # Main may list an expired route for 30 s.
        wait_until(lambda: (remaining(machine, prefix) or -1) < 0, f"{prefix} has expired", 2 * LIFETIME)  # noqa: B023
        wait_until(lambda: not machine.route(prefix), f"the copy of {prefix} is deleted", 15)  # noqa: B023
        assert "tunnel" == witness.path(host)
    assert witness.sees("neighbour, from fd00:188::112", "fd00:188::1")
    assert TUNNEL == machine.way("2001:db8::1")


def test_a_withdrawn_prefix_is_no_longer_copied(watched: Machine, router: Router, witness: Witness) -> None:
    """A router withdraws a prefix by advertising a lifetime of zero."""
    machine = watched
    assert_comes(machine, SLAAC)
    assert_comes(machine, BARE)
    assert witness.sees("neighbour", BARE_HOST)
    router.advertise(0)
    router.program.signal(signal.SIGHUP)
    wait_until(lambda: not machine.route(BARE, "main"), "the router has withdrawn the prefix")
    wait_until(lambda: not machine.route(BARE), "its copy is deleted")
    wait_until(lambda: oracle.in_step(machine), "all copies are right")
    assert "tunnel" == witness.path(BARE_HOST)
    assert TUNNEL == machine.way("2001:db8::1")
