"""Real packets decide: where a datagram comes out, whoever sends it and wherever it wants to go."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.netns.namespace import MARK, TUNNEL
from tests.packets.terrain import TUNNEL_ADDRESSES, Crossroads, Witness, manage

LAYOUTS = ["single", "tiered"]
FAMILIES = ["inet", "inet6"]

# As in the README. Marked packets are those of the VPN client itself.
WAYS = """
| a packet to                              | internet | no internet | marked, internet | marked, no internet |
| ---------------------------------------- | -------- | ----------- | ---------------- | ------------------- |
| a host of the LAN                        | LAN      | LAN         | LAN              | LAN                 |
| a resource of the VPN                    | tunnel   | tunnel      | uplink           | uplink              |
| a resource of the VPN that is in the LAN | tunnel   | tunnel      | LAN              | LAN                 |
| a host of a LAN that is in a VPN's route | tunnel   | tunnel      | second LAN       | second LAN          |
| a host of the internet                   | tunnel   | uplink      | uplink           | uplink              |
"""
HOSTS = {
    "a host of the LAN": {"inet": "192.168.188.1", "inet6": "fd00:188::1"},
    "a resource of the VPN": {"inet": "100.100.111.9", "inet6": "fd00:2021:1111::9"},
    "a resource of the VPN that is in the LAN": {"inet": "192.168.188.77", "inet6": "fd00:188::77"},
    "a host of a LAN that is in a VPN's route": {"inet": "10.200.5.1", "inet6": "fd00:200:0:5::1"},
    "a host of the internet": {"inet": "198.51.100.7", "inet6": "2001:db8:7::7"},
}
LAN, RESOURCE, INSIDE_LAN, SECOND_LAN, INTERNET = HOSTS


class Case(NamedTuple):
    """A cell of the table."""

    host: str
    internet: bool
    marked: bool
    way: str

    def __str__(self) -> str:
        return f"{'on' if self.internet else 'off'}-{'marked' if self.marked else 'unmarked'}-{self.host}"


def cases() -> list[Case]:
    """All cells of the table."""
    _, _, *rows = WAYS.strip().splitlines()
    found = []
    for row in rows:
        host, *ways = [cell.strip() for cell in row.strip("|").split("|")]
        columns = [(internet, marked) for marked in (False, True) for internet in (True, False)]
        found += [Case(host, *column, way) for column, way in zip(columns, ways, strict=True)]
    # So that the configuration seldom changes.
    return sorted(found, key=lambda case: case.internet)


class Driver:
    """Brings the crossroads in step, but only where something has changed."""

    def __init__(self, crossroads: Crossroads) -> None:
        self._crossroads = crossroads
        self._in_force = ""

    def sync(self, config: str) -> None:
        if config != self._in_force:
            self._in_force = ""
            self._crossroads.fz("sync", config=config)
            assert "" == self._crossroads.fz("plan", config=config)
            self._in_force = config

    def tunnel(self, *addresses: str) -> None:
        """A new one, and nobody has told fz-iproute."""
        self._crossroads.renew_tunnel(*addresses)
        self._in_force = ""

    def loses_tunnel(self, how: str) -> None:
        if how == "deleted":
            self._crossroads.vpn.close()
        else:
            self._crossroads.ip("link", "set", "dev", TUNNEL, "down")
        self._in_force = ""


@pytest.fixture(scope="module")
def driver(crossroads: Crossroads) -> Driver:
    return Driver(crossroads)


@pytest.fixture
def another_tunnel(driver: Driver) -> Iterator[Driver]:
    """For tests that take the tunnel away."""
    yield driver
    driver.tunnel(*TUNNEL_ADDRESSES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", cases(), ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_packet_comes_out_where_the_table_says(
    layout: str, case: Case, family: str, driver: Driver, witness: Witness
) -> None:
    driver.sync(manage(layout=layout, internet=case.internet))
    assert case.way == witness.way(HOSTS[case.host][family], mark=MARK if case.marked else 0)


@pytest.mark.parametrize("missing", FAMILIES)
@pytest.mark.parametrize("leak", ["block", "allow"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_family_that_the_tunnel_does_not_carry(
    layout: str, leak: str, missing: str, another_tunnel: Driver, witness: Witness
) -> None:
    """It is refused rather than sent around the tunnel, unless that is what its owner wants; the LAN stays."""
    another_tunnel.tunnel(*(address for address in TUNNEL_ADDRESSES if (":" in address) != (missing == "inet6")))
    another_tunnel.sync(manage(layout=layout, more=f'internet_leak = "{leak}"'))
    around = "refused" if leak == "block" else "uplink"
    expected = {
        LAN: "LAN",
        RESOURCE: around,
        INSIDE_LAN: "LAN",
        SECOND_LAN: "second LAN",
        INTERNET: around,
    }
    assert expected == {host: witness.way(addresses[missing]) for host, addresses in HOSTS.items()}
    assert "uplink" == witness.way(HOSTS[INTERNET][missing], mark=MARK)

    (carried,) = set(FAMILIES) - {missing}
    assert "tunnel" == witness.way(HOSTS[INTERNET][carried])
    assert "tunnel" == witness.way(HOSTS[RESOURCE][carried])
    assert "LAN" == witness.way(HOSTS[LAN][carried])


@pytest.mark.parametrize("leak", ["block", "allow"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_the_internet_resource_nothing_is_blocked(
    layout: str, leak: str, another_tunnel: Driver, witness: Witness
) -> None:
    another_tunnel.tunnel(TUNNEL_ADDRESSES[0])
    another_tunnel.sync(manage(layout=layout, internet=False, more=f'internet_leak = "{leak}"'))
    assert "uplink" == witness.way(HOSTS[INTERNET]["inet"])
    assert "uplink" == witness.way(HOSTS[INTERNET]["inet6"])


@pytest.mark.parametrize("how", ["deleted", "down"])
@pytest.mark.parametrize("on_down", ["open", "closed"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_tunnel_goes(layout: str, on_down: str, how: str, another_tunnel: Driver, witness: Witness) -> None:
    """Closed is closed in the moment in which it goes, before anybody can react, and stays so until it is back."""
    config = manage(layout=layout, more=f'on_down = "{on_down}"')
    another_tunnel.sync(config)
    for family in FAMILIES:
        assert "tunnel" == witness.way(HOSTS[INTERNET][family])
        assert "tunnel" == witness.way(HOSTS[RESOURCE][family])

    another_tunnel.loses_tunnel(how)
    around = "refused" if on_down == "closed" else "uplink"
    for moment in ("at once", "after a sync"):
        for family in FAMILIES:
            came_out = {host: witness.way(HOSTS[host][family]) for host in (LAN, RESOURCE, INTERNET)}
            assert {LAN: "LAN", RESOURCE: around, INTERNET: around} == came_out, f"{family}, {moment}"
            assert "uplink" == witness.way(HOSTS[INTERNET][family], mark=MARK), f"{family}, {moment}"
        another_tunnel.sync(config)

    another_tunnel.tunnel(*TUNNEL_ADDRESSES)
    another_tunnel.sync(config)
    for family in FAMILIES:
        assert "tunnel" == witness.way(HOSTS[INTERNET][family])
        assert "LAN" == witness.way(HOSTS[LAN][family])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_tunnel_goes_while_it_carries_only_the_vpn(layout: str, another_tunnel: Driver, witness: Witness) -> None:
    """Without the Internet Resource there is nothing to close."""
    another_tunnel.sync(manage(layout=layout, internet=False, more='on_down = "closed"'))
    another_tunnel.loses_tunnel("deleted")
    for family in FAMILIES:
        assert "uplink" == witness.way(HOSTS[INTERNET][family])
        assert "LAN" == witness.way(HOSTS[LAN][family])


def test_down_leaves_the_machine_as_it_was(driver: Driver, crossroads: Crossroads, witness: Witness) -> None:
    config = manage(layout="tiered", more='on_down = "closed"')
    driver.sync(config)
    crossroads.fz("down", config=config)
    for family in FAMILIES:
        assert "uplink" == witness.way(HOSTS[INTERNET][family])
        assert "LAN" == witness.way(HOSTS[LAN][family])
        assert "second LAN" == witness.way(HOSTS[SECOND_LAN][family])
    driver.sync(manage())
