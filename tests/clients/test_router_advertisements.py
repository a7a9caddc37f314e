"""IPv6 prefixes that a real router advertises, withdraws, and lets expire without a word."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.programs import Program, need
from tests.clients.witness import Witness
from tests.netns.namespace import LAN, TUNNEL, Machine, wait_until

# With an address of the machine's own making, and without one.
SLAAC, SLAAC_HOST = "fd00:5::/64", "fd00:5::1"
BARE, BARE_HOST = "fd00:6::/64", "fd00:6::1"
# radvd speaks every 3 to 4 s, and no more often.
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
        self.program = Program.inside(neighbour, argv, folder / "radvd.log")

    def advertise(self, lifetime: int) -> None:
        """From the next advertisement on."""
        self._config.write_text(CONFIG.format(slaac=SLAAC, bare=BARE, lifetime=lifetime))
        self._config.chmod(0o600)


@pytest.fixture
def router(watched: Machine, tmp_path: Path) -> Iterator[Router]:
    made = Router(watched, tmp_path)
    made.advertise(LIFETIME)
    with made.program:
        yield made


def remaining(machine: Machine, prefix: str) -> int | None:
    """How many seconds main gives the route; below zero if it has expired, None if there is none."""
    routes = machine.ip_json("-6", "route", "show", "table", "main", "exact", prefix)
    return routes[0]["expires"] if routes else None


def assert_comes(machine: Machine, prefix: str) -> None:
    """The router advertises it, and it is copied."""
    expected = [f"{prefix} dev {LAN} proto kernel metric 256 pref medium"]
    wait_until(lambda: machine.route(prefix, "main"), f"the router has advertised {prefix}")
    wait_until(lambda: machine.route(prefix) == expected, f"{prefix} is copied, without its lifetime")


def assert_expires(machine: Machine, prefix: str) -> None:
    """Main lists an expired route for up to 30 s more, but does not use it."""
    wait_until(lambda: (remaining(machine, prefix) or -1) < 0, f"{prefix} has expired", 2 * LIFETIME)
    wait_until(lambda: not machine.route(prefix), f"the copy of {prefix} has gone", 5)


@pytest.mark.long
def test_prefixes_are_copied_while_advertised_and_no_longer(watched: Machine, router: Router, witness: Witness) -> None:
    """A copy lives as long as its source: through every refreshment, and not beyond an expiry that no event tells."""
    machine = watched
    assert_comes(machine, SLAAC)
    assert_comes(machine, BARE)
    wait_until(machine.in_step, "all copies are right")
    assert witness.sees("neighbour, from fd00:5::", SLAAC_HOST)
    assert witness.sees("neighbour", BARE_HOST)

    # Two refreshments: by then, copies that had taken over the lifetime would be gone.
    for _ in range(2):
        wait_until(lambda: (remaining(machine, BARE) or 0) < LIFETIME - 2, "the lifetime goes down")
        wait_until(lambda: (remaining(machine, BARE) or 0) >= LIFETIME - 1, "the router has refreshed it")
    assert machine.in_step()
    assert 1 == len(machine.route(SLAAC)) and 1 == len(machine.route(BARE))
    assert witness.sees("neighbour", BARE_HOST)

    router.program.kill()
    for prefix, host in ((BARE, BARE_HOST), (SLAAC, SLAAC_HOST)):
        assert_expires(machine, prefix)
        assert "tunnel" == witness.path(host)
    assert witness.sees("neighbour, from fd00:188::112", "fd00:188::1")
    assert TUNNEL == machine.way("2001:db8::1")


def test_a_prefix_that_the_router_takes_back(watched: Machine, router: Router, witness: Witness) -> None:
    """A lifetime of zero ends the copies at once."""
    machine = watched
    assert_comes(machine, SLAAC)
    assert_comes(machine, BARE)
    assert witness.sees("neighbour", BARE_HOST)
    router.advertise(0)
    router.program.signal(signal.SIGHUP)
    wait_until(lambda: not machine.route(BARE, "main"), "the router has taken it back")
    wait_until(lambda: not machine.route(BARE), "its copy has gone", 5)
    wait_until(machine.in_step, "so has every other that has no source")
    assert "tunnel" == witness.path(BARE_HOST)
    assert TUNNEL == machine.way("2001:db8::1")
