"""Real packets show where fz-iproute sends them, in `manage` mode and both layouts."""

from collections.abc import Iterator, Sequence

import pytest

from tests.manage.laptop import manage
from tests.netns.namespace import MARK, TUNNEL
from tests.netns.rtnetlink import FAMILIES
from tests.netns.witness import Witness
from tests.packets.terrain import TUNNEL_ADDRESSES, Crossroads

# Resources of the VPN: some networks, one host of the LAN, and a network that contains the second LAN.
ROUTES = (
    "100.64.0.0/11", "100.96.0.0/11", "100.100.111.0/24", "192.168.188.77/32", "10.200.0.0/16",
    "fd00:2021:1111::/48", "fd00:188::77/128", "fd00:200::/48",
)  # fmt: skip
HOSTS = {
    "a host of the LAN": {"inet": "192.168.188.1", "inet6": "fd00:188::1"},
    "a resource of the VPN": {"inet": "100.100.111.9", "inet6": "fd00:2021:1111::9"},
    "a resource of the VPN that is in the LAN": {"inet": "192.168.188.77", "inet6": "fd00:188::77"},
    "a host of a LAN that is in a VPN's route": {"inet": "10.200.5.1", "inet6": "fd00:200:0:5::1"},
    "a host of the internet": {"inet": "198.51.100.7", "inet6": "2001:db8:7::7"},
}
LAN, RESOURCE, INSIDE_LAN, SECOND_LAN, INTERNET = HOSTS

# As in the manual. The VPN client itself sends the marked packets.
WAYS = {LAN: "LAN", RESOURCE: "tunnel", INSIDE_LAN: "tunnel", SECOND_LAN: "tunnel", INTERNET: "tunnel"}
WITHOUT_INTERNET = {**WAYS, INTERNET: "uplink"}
MARKED = {LAN: "LAN", RESOURCE: "uplink", INSIDE_LAN: "LAN", SECOND_LAN: "second LAN", INTERNET: "uplink"}

LAYOUTS = pytest.mark.parametrize("layout", ["single", "tiered"])
LEAKS = pytest.mark.parametrize("leak", ["block", "allow"])


def config(**options: object) -> str:
    return manage(routes=ROUTES, **options)


def sync(crossroads: Crossroads, text: str) -> None:
    crossroads.fz("sync", config=text)
    assert "" == crossroads.fz("plan", config=text)


def assert_ways(
    expected: dict[str, str], witness: Witness, *, mark: int = 0, families: Sequence[str] = tuple(FAMILIES)
) -> None:
    """Packets to these hosts arrive at these places."""
    for family in families:
        assert expected == {host: witness.way(HOSTS[host][family], mark=mark) for host in expected}, family


@pytest.fixture
def another_tunnel(crossroads: Crossroads) -> Iterator[Crossroads]:
    """For tests that change the tunnel; the usual one comes back afterwards."""
    yield crossroads
    crossroads.renew_tunnel(*TUNNEL_ADDRESSES)


@pytest.mark.parametrize("internet", [True, False])
@LAYOUTS
def test_packets_arrive_where_the_table_says(
    layout: str, internet: bool, crossroads: Crossroads, witness: Witness
) -> None:
    sync(crossroads, config(layout=layout, internet=internet))
    assert_ways(WAYS if internet else WITHOUT_INTERNET, witness)
    assert_ways(MARKED, witness, mark=MARK)


@pytest.mark.parametrize("missing", FAMILIES)
@LEAKS
@LAYOUTS
def test_a_family_that_the_tunnel_does_not_carry_is_blocked_unless_allowed(
    layout: str, leak: str, missing: str, another_tunnel: Crossroads, witness: Witness
) -> None:
    """The LAN stays reachable in both families."""
    another_tunnel.renew_tunnel(*(address for address in TUNNEL_ADDRESSES if (":" in address) != (missing == "inet6")))
    sync(another_tunnel, config(layout=layout, internet_leak=leak))
    around = "refused" if leak == "block" else "uplink"
    expected = {LAN: "LAN", RESOURCE: around, INSIDE_LAN: "LAN", SECOND_LAN: "second LAN", INTERNET: around}
    assert_ways(expected, witness, families=[missing])
    assert_ways({INTERNET: "uplink"}, witness, mark=MARK, families=[missing])
    carried = [family for family in FAMILIES if family != missing]
    assert_ways({INTERNET: "tunnel", RESOURCE: "tunnel", LAN: "LAN"}, witness, families=carried)


@LEAKS
@LAYOUTS
def test_without_the_internet_resource_nothing_is_blocked(
    layout: str, leak: str, another_tunnel: Crossroads, witness: Witness
) -> None:
    another_tunnel.renew_tunnel(TUNNEL_ADDRESSES[0])
    sync(another_tunnel, config(layout=layout, internet=False, internet_leak=leak))
    assert_ways({INTERNET: "uplink"}, witness)


@pytest.mark.parametrize("how", ["deleted", "down"])
@pytest.mark.parametrize("case", [("open", True), ("closed", True), ("closed", False)])
@LAYOUTS
def test_without_its_tunnel_the_internet_resource_is_blocked_if_closed(
    layout: str, case: tuple[str, bool], how: str, another_tunnel: Crossroads, witness: Witness
) -> None:
    """It is blocked before fz-iproute can react, and until the tunnel is back. The VPN's other routes are not."""
    on_down, internet = case
    text = config(layout=layout, internet=internet, on_down=on_down)
    carried = {LAN: "LAN", RESOURCE: "tunnel", INTERNET: "tunnel" if internet else "uplink"}
    sync(another_tunnel, text)
    assert_ways(carried, witness)

    if how == "deleted":
        another_tunnel.vpn.close()
    else:
        another_tunnel.ip("link", "set", "dev", TUNNEL, "down")
    around = "refused" if case == ("closed", True) else "uplink"
    for _ in ("at once", "after a sync"):
        assert_ways({LAN: "LAN", RESOURCE: around, INTERNET: around}, witness)
        assert_ways({INTERNET: "uplink"}, witness, mark=MARK)
        sync(another_tunnel, text)

    another_tunnel.renew_tunnel(*TUNNEL_ADDRESSES)
    sync(another_tunnel, text)
    assert_ways(carried, witness)
