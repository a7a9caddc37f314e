"""The status lists every route of the tables, each once."""

from collections import Counter

import pytest

from fz_iproute.diagnosis.status import status
from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.prefix import Prefix
from tests.unit.routes import gatewayed, lookup, route, snapshot, tunnel

SINGLE = Config().tables.single
COPY, STALE, DENIED = route("10.1.0.0/16"), route("10.2.0.0/16"), route("10.3.0.0/16")
HELD = route("10.3.0.0/16", "tun-firezone", protocol="245", scope="global")  # in place of a copy by the VPN's client
VPN = [tunnel("default"), tunnel("100.64.0.0/11"), tunnel("fd00:2021::/48")]


@pytest.mark.parametrize(
    ("main", "states"),
    [
        ([], ["stale", "stale"]),
        ([route("10.1.0.0/16", "wlan0")], ["changed", "stale"]),
        ([route("10.1.0.0/16", "wlan0"), route("10.1.0.0/16", "wlan0", metric=7)], ["changed", "changed"]),
    ],
    ids=["none is left", "one is left", "both have changed"],
)
def test_each_of_two_stale_copies_of_one_prefix_is_shown(main: list[Route], states: list[str]) -> None:
    copies = [route("10.1.0.0/16", "eth0"), route("10.1.0.0/16", "eth1", metric=5)]
    seen = snapshot(main, copies)
    lines = status(Config(), seen, {254: seen.main, **seen.tables}).lan
    assert states == [line.state for line in lines]
    assert len({line.route for line in lines}) == 2


@pytest.mark.parametrize(
    ("mode", "refused", "placeholder"),
    [
        ("observe", DENIED, ["missing"]),
        ("observe", HELD, ["in step"]),
        ("manage", DENIED, []),
        ("manage", HELD, ["stale"]),
    ],
)
def test_every_route_of_the_table_is_listed_once(mode: str, refused: Route, placeholder: list[str]) -> None:
    config = replace(Config(), tunnel={"mode": mode}, lan={"deny": (Prefix.parse(DENIED.dst),)})
    mirror = [*VPN, COPY, STALE, refused]
    seen = snapshot([COPY, DENIED], mirror)
    found = status(config, seen, {254: seen.main, **seen.tables})
    listed = [line for line in (*found.lan, *found.vpn) if line.state not in ("missing", "skipped")]
    assert Counter(mirror) == Counter(line.route for line in listed)
    assert [COPY] == [line.route for line in listed if line.state == "in step" and line.route not in (*VPN, refused)]
    assert placeholder == [line.state for line in (*found.lan, *found.vpn) if line.route == HELD]


@pytest.mark.parametrize(("is_active", "listed"), [(False, []), (True, ["10.9.0.7"])])
def test_a_host_behind_a_router_is_listed_if_its_packets_go_elsewhere(is_active: bool, listed: list[str]) -> None:
    rules = (*(lookup(SINGLE, 100) for _ in range(is_active)), lookup(254, 32766))
    main = [COPY, gatewayed("10.9.0.7", "10.1.0.1"), gatewayed("default", "10.1.0.1")]
    seen = snapshot(main, VPN, rules=rules)
    assert listed == [line.route.dst for line in status(Config(), seen, {254: seen.main, **seen.tables}).uncopied]


def test_a_route_of_the_vpn_that_should_be_there_is_listed_as_missing() -> None:
    routes = tuple(map(Prefix.parse, ("100.64.0.0/11", "10.9.0.0/16")))
    seen = snapshot([], [tunnel("100.64.0.0/11"), tunnel("10.8.0.0/16")], rules=(lookup(254, 32766),))
    found = status(
        replace(Config(), tunnel={"mode": "manage", "routes": routes}), seen, {254: seen.main, **seen.tables}
    )
    expected = {"100.64.0.0/11": "in step", "10.9.0.0/16": "missing", "10.8.0.0/16": "stale"}
    assert expected == {line.route.dst: line.state for line in found.vpn}
