"""Real packets show where fz-iproute sends them, in `manage` mode and both layouts."""

from collections.abc import Iterator

import pytest

from tests.netns.namespace import MAIN, MARK, MIRROR, TIER_INTERNET, TIER_LAN, TUNNEL
from tests.netns.witness import Witness
from tests.packets.terrain import TUNNEL_ADDRESSES, Crossroads, manage

LAYOUTS = ["single", "tiered"]
FAMILIES = ["inet", "inet6"]

# As in the README. The VPN client itself sends the marked packets.
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


def cases() -> list[tuple[str, bool, bool, str]]:
    """For each cell of the table: the host, whether the Internet Resource is active, whether marked, and the way."""
    _, _, *rows = WAYS.strip().splitlines()
    found = []
    for row in rows:
        host, *ways = [cell.strip() for cell in row.strip("|").split("|")]
        columns = [(internet, marked) for marked in (False, True) for internet in (True, False)]
        found += [(host, *column, way) for column, way in zip(columns, ways, strict=True)]
    return sorted(found, key=lambda case: case[1])  # so that the configuration changes once


class Driver:
    """Runs `sync`, but only if the configuration or the tunnel has changed."""

    def __init__(self, crossroads: Crossroads) -> None:
        self._crossroads = crossroads
        self._in_force = ""

    def sync(self, config: str) -> None:
        if config != self._in_force:
            self._in_force = ""
            self._crossroads.fz("sync", config=config)
            assert "" == self._crossroads.fz("plan", config=config)
            self._in_force = config

    def renew_tunnel(self, *addresses: str) -> None:
        self._crossroads.renew_tunnel(*addresses)
        self._in_force = ""

    def lose_tunnel(self, how: str) -> None:
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
    """For tests that change the tunnel; the usual one comes back afterwards."""
    yield driver
    driver.renew_tunnel(*TUNNEL_ADDRESSES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case[0]}, internet {case[1]}, marked {case[2]}")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_packet_arrives_where_the_table_says(
    layout: str, case: tuple[str, bool, bool, str], family: str, driver: Driver, witness: Witness
) -> None:
    host, internet, marked, way = case
    driver.sync(manage(layout=layout, internet=internet))
    assert way == witness.way(HOSTS[host][family], mark=MARK if marked else 0)


@pytest.mark.parametrize("missing", FAMILIES)
@pytest.mark.parametrize("leak", ["block", "allow"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_family_that_the_tunnel_does_not_carry_is_blocked_unless_allowed(
    layout: str, leak: str, missing: str, another_tunnel: Driver, witness: Witness
) -> None:
    """The LAN stays reachable in both families."""
    another_tunnel.renew_tunnel(*(address for address in TUNNEL_ADDRESSES if (":" in address) != (missing == "inet6")))
    another_tunnel.sync(manage(layout=layout, more=f'internet_leak = "{leak}"'))
    around = "refused" if leak == "block" else "uplink"
    expected = {LAN: "LAN", RESOURCE: around, INSIDE_LAN: "LAN", SECOND_LAN: "second LAN", INTERNET: around}
    assert expected == {host: witness.way(addresses[missing]) for host, addresses in HOSTS.items()}
    assert "uplink" == witness.way(HOSTS[INTERNET][missing], mark=MARK)

    (carried,) = set(FAMILIES) - {missing}
    expected = {INTERNET: "tunnel", RESOURCE: "tunnel", LAN: "LAN"}
    assert expected == {host: witness.way(HOSTS[host][carried]) for host in expected}


@pytest.mark.parametrize("leak", ["block", "allow"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_the_internet_resource_nothing_is_blocked(
    layout: str, leak: str, another_tunnel: Driver, witness: Witness
) -> None:
    another_tunnel.renew_tunnel(TUNNEL_ADDRESSES[0])
    another_tunnel.sync(manage(layout=layout, internet=False, more=f'internet_leak = "{leak}"'))
    assert ["uplink"] * 2 == [witness.way(HOSTS[INTERNET][family]) for family in FAMILIES]


@pytest.mark.parametrize("how", ["deleted", "down"])
@pytest.mark.parametrize("case", [("open", True), ("closed", True), ("closed", False)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_its_tunnel_the_internet_resource_is_blocked_if_closed(
    layout: str, case: tuple[str, bool], how: str, another_tunnel: Driver, witness: Witness
) -> None:
    """It is blocked before fz-iproute can react, and until the tunnel is back. The VPN's other routes are not."""
    on_down, internet = case
    config = manage(layout=layout, internet=internet, more=f'on_down = "{on_down}"')
    carried = {LAN: "LAN", RESOURCE: "tunnel", INTERNET: "tunnel" if internet else "uplink"}

    def ways(family: str) -> dict[str, str]:
        return {host: witness.way(HOSTS[host][family]) for host in carried}

    another_tunnel.sync(config)
    assert [carried] * 2 == [ways(family) for family in FAMILIES]

    another_tunnel.lose_tunnel(how)
    around = "refused" if case == ("closed", True) else "uplink"
    lost = {LAN: "LAN", RESOURCE: around, INTERNET: around}
    for moment in ("at once", "after a sync"):
        for family in FAMILIES:
            assert lost == ways(family), f"{family}, {moment}"
            assert "uplink" == witness.way(HOSTS[INTERNET][family], mark=MARK), f"{family}, {moment}"
        another_tunnel.sync(config)

    another_tunnel.renew_tunnel(*TUNNEL_ADDRESSES)
    another_tunnel.sync(config)
    assert [carried] * 2 == [ways(family) for family in FAMILIES]


def test_down_leaves_the_machine_as_it_was(driver: Driver, crossroads: Crossroads, witness: Witness) -> None:
    config = manage(layout="tiered", more='on_down = "closed"')
    driver.sync(config)
    crossroads.fz("down", config=config)
    expected = {INTERNET: "uplink", LAN: "LAN", SECOND_LAN: "second LAN"}
    for family in FAMILIES:
        assert expected == {host: witness.way(HOSTS[host][family]) for host in expected}
    driver.sync(manage())


def test_tables_that_would_swap_their_parts_need_down_first(crossroads: Crossroads, witness: Witness) -> None:
    """`sync` refuses them and changes nothing; after `down` it works."""
    old = manage(layout="tiered")
    swapped = manage(layout="tiered", tables=(MIRROR, TIER_INTERNET, TIER_LAN))
    expected = {LAN: "LAN", RESOURCE: "tunnel", INSIDE_LAN: "tunnel", SECOND_LAN: "tunnel", INTERNET: "tunnel"}
    crossroads.fz("sync", config=old)
    try:
        before = crossroads.raw_everything(but=MAIN)
        done = crossroads.fz_done("sync", config=swapped)
        assert (2, 1) == (done.returncode, len(done.stderr.splitlines())), done
        assert "`fz-iproute down` first" in done.stderr
        assert before == crossroads.raw_everything(but=MAIN)
        for config in (old, swapped):
            for family in FAMILIES:
                assert expected == {host: witness.way(addresses[family]) for host, addresses in HOSTS.items()}
            crossroads.fz("down", config=config)
            crossroads.fz("sync", config=swapped)
    finally:
        crossroads.fz("down", config=swapped)
