"""The tunnel comes, goes, is renamed, goes down, or carries only one family: packets still go where they should."""

import pytest

from tests.manage.laptop import MIRROR, TIER_INTERNET, TIER_LAN, TUNNEL, UPLINK, Laptop, manage
from tests.netns.namespace import LAN

INTERNET = ["8.8.8.8", "2001:db8::1"]
INTERNET_TABLE = {"single": MIRROR, "tiered": TIER_INTERNET}
LAYOUTS = pytest.mark.parametrize("layout", ["single", "tiered"])


def backstops(laptop: Laptop, layout: str = "single") -> list[str]:
    return [line for line in laptop.contents(INTERNET_TABLE[layout]) if line.startswith("unreachable default")]


def by_tunnel(laptop: Laptop) -> list[str]:
    return [line for line in laptop.contents() if f"dev {TUNNEL}" in line]


def gone(laptop: Laptop) -> None:
    laptop.vpn.close()


def down(laptop: Laptop) -> None:
    laptop.ip("link", "set", "dev", TUNNEL, "down")


def renamed(laptop: Laptop) -> None:
    laptop.ip("link", "set", "dev", TUNNEL, "down")
    laptop.ip("link", "set", "dev", TUNNEL, "name", "tun-new")
    laptop.ip("link", "set", "dev", "tun-new", "up")


LOSSES = pytest.mark.parametrize("loss", [gone, down, renamed], ids=lambda loss: loss.__name__)


@LOSSES
@pytest.mark.parametrize(
    ("layout", "prefixes"),  # of a whole LAN, and of a host of one
    [("single", ["192.168.188.0/24", "fd00:188::7/128"]), ("tiered", ["192.168.188.7/32", "fd00:188::/64"])],
)
def test_closed_packets_of_the_vpn_are_stopped_at_once_and_never_reach_a_lan(  # type: ignore[no-untyped-def]
    layout, prefixes, loss, laptop: Laptop
) -> None:
    """A hostile access point may choose the prefix of a VPN resource, and wait for the tunnel to go."""
    text = manage(layout=layout, on_down="closed", routes=prefixes)
    hosts = ["192.168.188.7", "fd00:188::7"]
    laptop.sync(text)
    assert dict.fromkeys([*hosts, *INTERNET], TUNNEL) == laptop.leads([*hosts, *INTERNET])
    assert [] == laptop.sync(text)
    loss(laptop)
    # Nothing has run since.
    assert dict.fromkeys([*hosts, *INTERNET], "unreachable") == laptop.leads([*hosts, *INTERNET])
    assert UPLINK == laptop.way("10.77.0.1")
    laptop.sync(text)
    assert dict.fromkeys([*hosts, *INTERNET], "unreachable") == laptop.leads([*hosts, *INTERNET])
    assert [] == laptop.sync(text)
    laptop.sync(manage(layout=layout, routes=prefixes))
    assert dict.fromkeys(hosts, LAN) == laptop.leads(hosts)
    assert [] == backstops(laptop)
    laptop.down(text)
    assert [] == [line for table in (MIRROR, TIER_LAN, TIER_INTERNET) for line in laptop.contents(table)]


# A tunnel without one family


@LAYOUTS
def test_the_routes_of_a_family_wait_until_the_tunnel_has_an_address_of_it(layout: str, laptop: Laptop) -> None:
    text = manage(layout=layout)
    laptop.ip("-6", "addr", "flush", "dev", TUNNEL)
    laptop.sync(text)
    assert [] == [line for line in by_tunnel(laptop) if line.startswith("fd00")]
    assert {"8.8.8.8": TUNNEL, "2001:db8::1": "unreachable"} == laptop.leads(INTERNET)
    status = laptop.fz("status", "--routes", config=text)
    reason = f"{TUNNEL} has no IPv6 address"
    assert f"waits   inet6: fd00:2021:1111::/48, default  # {reason}" in status
    first_line = status.splitlines()[0]
    assert f"{TUNNEL} is up; IPv4 enters it, IPv6 is blocked ({reason})" == first_line
    laptop.address(TUNNEL, "fd00:2021:1111::5/128")
    laptop.sync(text)
    assert dict.fromkeys(INTERNET, TUNNEL) == laptop.leads(INTERNET)
    assert [] == backstops(laptop, layout)


@pytest.mark.parametrize("leak", ["block", "allow"])
def test_a_machine_without_ipv6_is_served_all_the_same(leak: str, laptop: Laptop) -> None:
    laptop.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    text = manage(internet_leak=leak)
    laptop.fz("sync", config=text)
    assert [TUNNEL, LAN] == [laptop.way("8.8.8.8"), laptop.way("192.168.188.1")]
    assert [] == laptop.sync(text)
