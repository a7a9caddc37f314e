"""A default route that is split into wide prefixes is the internet, and no list of a VPN's resources."""

import pytest

from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.desired import desired
from fz_iproute.mirror.prefix import Prefix
from fz_iproute.mirror.split_default import split_default
from tests.unit.routes import gatewayed, lookup, route, snapshot, tunnel

# The complement of the private networks, as some VPNs route it, down to /8.
COMPLEMENT = ["0.0.0.0/5", "8.0.0.0/7", "11.0.0.0/8", "12.0.0.0/6", "16.0.0.0/4", "32.0.0.0/3", "64.0.0.0/3"]
COMPLEMENT += ["96.0.0.0/6", "101.0.0.0/8", "128.0.0.0/3", "160.0.0.0/5", "176.0.0.0/4"]
RESOURCES = ["100.64.0.0/11", "10.0.0.0/8", "8.8.8.8/32", "203.0.113.0/24"]


@pytest.mark.parametrize(
    ("prefixes", "parts"),
    [
        (["0.0.0.0/1", "128.0.0.0/1"], ["0.0.0.0/1", "128.0.0.0/1"]),
        (["0.0.0.0/1", "128.0.0.0/1", *RESOURCES], ["0.0.0.0/1", "128.0.0.0/1"]),
        ([*COMPLEMENT, "172.0.0.0/12", *RESOURCES], COMPLEMENT),
        (["::/1", "8000::/1"], ["::/1", "8000::/1"]),
        (["2000::/3", "fd00::/8"], ["2000::/3"]),
        (RESOURCES, []),
        (["0.0.0.0/2", "128.0.0.0/2"], ["0.0.0.0/2", "128.0.0.0/2"]),
        (["0.0.0.0/2"], []),
        (["0.0.0.0/2", "0.0.0.0/3", "32.0.0.0/3"], []),  # one quarter, twice
        (["8.0.0.0/7", "16.0.0.0/4"], []),  # wide, but not half of the internet
        (["fd00::/8", "fc00::/7"], []),
        ([], []),
    ],
)
def test_the_parts_of_a_split_default(prefixes: list[str], parts: list[str]) -> None:
    family = "inet6" if ":" in "".join(prefixes) else "inet"
    assert set(map(Prefix.parse, parts)) == split_default(map(Prefix.parse, prefixes), family)


LAN = route("192.168.1.0/24")
TABLES = Config().tables


@pytest.mark.parametrize(
    ("setting", "refusal"), [("auto", ""), ("explicit", "the VPN's table has its own route to 128.0.0.0/1")]
)
def test_a_lan_inside_of_a_split_default_is_copied_by_default(setting: str, refusal: str) -> None:
    config = replace(Config(), tunnel={"split_default": setting})
    goal = desired(config, snapshot([LAN], [tunnel("0.0.0.0/1"), tunnel("128.0.0.0/1")]))
    assert [(LAN, refusal)] == [(verdict.route, verdict.refusal) for verdict in goal.verdicts]


def test_a_device_of_a_split_default_is_a_tunnel() -> None:
    goal = desired(Config(), snapshot([LAN], [route("0.0.0.0/1", "wg7"), route("128.0.0.0/1", "wg7")]))
    assert "wg7" in goal.tunnels


def test_discovery_in_the_lan_beside_a_split_default_makes_no_tunnel_of_the_lan() -> None:
    config = replace(Config(), lan={"multicast": True})
    halves = [tunnel("0.0.0.0/1"), tunnel("128.0.0.0/1")]
    main = [LAN, gatewayed("default", "192.168.1.1")]
    first = desired(config, snapshot(main, halves))
    copies = first.contents["inet"][TABLES.single].wanted
    assert ["192.168.1.0/24", "224.0.0.0/4", "255.255.255.255"] == sorted(copy.dst for copy in copies)
    then = desired(config, snapshot(main, [*halves, *copies]))
    assert {"tun-firezone"} == then.tunnels
    assert copies == then.contents["inet"][TABLES.single].wanted


TIERS = tuple(
    lookup(table, priority, inverted=True)
    for table, priority in ((TABLES.user, 100), (TABLES.lan, 200), (TABLES.internet, 300))
)


@pytest.mark.parametrize(
    ("user", "internet", "layout"),
    [
        (["default"], [], "single"),  # the rules have outlived a newer client
        (["0.0.0.0/1", "128.0.0.0/1"], [], "single"),
        (["100.64.0.0/11"], ["default"], "tiered"),
        (["default"], ["default"], "tiered"),
        (["100.64.0.0/11"], [], "tiered"),  # no Internet Resource: nothing tells
    ],
)
def test_the_default_route_tells_the_layout(user: list[str], internet: list[str], layout: str) -> None:
    tables = {
        TABLES.user: {"inet": tuple(map(tunnel, user))},
        TABLES.lan: {"inet": ()},
        TABLES.internet: {"inet": tuple(map(tunnel, internet))},
    }
    goal = desired(Config(), snapshot([LAN], [], rules=TIERS, tables=tables))
    assert layout == goal.layout.name
    assert (LAN,) == goal.contents["inet"][goal.layout.mirror].wanted
