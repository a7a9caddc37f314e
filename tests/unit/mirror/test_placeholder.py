"""A refused copy that a VPN's client adds gets a placeholder, if that sends packets where they would go without it."""

import pytest

from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.desired import desired
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.placeholder import HELD
from fz_iproute.mirror.plan import plan
from fz_iproute.mirror.prefix import Prefix
from tests.unit.routes import LINKS, gatewayed, route, snapshot, tunnel

REFUSED = "10.0.0.0/24"
DENYING = replace(Config(), lan={"deny": (Prefix.parse(REFUSED),)})
ELSEWHERE = replace(Config(), lan={"interfaces": ("eth1",)})
COPY = route(REFUSED)
VPN = tunnel("default")


def held(dev: str | None = "tun-firezone", **keys: object) -> Route:
    """A placeholder, or what looks like one."""
    return route(REFUSED, dev, **{"protocol": "245", "scope": None, **keys})


def reject(kind: str) -> Route:
    return route("default", None, type=kind, scope=None, protocol="static")


def planned(main: list[Route], table: list[Route], config: Config = DENYING) -> list[str]:
    """The commands, without what all have in common."""
    commands = plan(desired(config, snapshot(main, table)))
    return [command.line.replace("route ", "").replace(" table 539098368", "") for command in commands]


INTO_TUNNEL = f"replace {REFUSED} dev tun-firezone proto 245 scope global"
NEXT_TABLE = f"replace throw {REFUSED} proto 245 scope global"
REMOVED = f"del {REFUSED} dev eth0 proto kernel scope link"
PATHS = [{"dev": dev, "weight": 1, "flags": []} for dev in ("tun-firezone", "eth1")]


@pytest.mark.parametrize(
    ("around", "expected"),
    [
        ([VPN], INTO_TUNNEL),
        ([tunnel("10.0.0.0/16"), reject("blackhole")], INTO_TUNNEL),
        ([], NEXT_TABLE),
        ([tunnel("10.9.0.0/16")], NEXT_TABLE),
        ([reject("throw")], NEXT_TABLE),
        ([tunnel("default", metric=9), reject("throw")], NEXT_TABLE),  # of two, the one with the lower metric
        ([reject("blackhole")], REMOVED),
        ([gatewayed("default", "100.64.0.1", "tun-firezone")], REMOVED),
        ([route("default", None, scope=None, protocol="static", nexthops=PATHS)], REMOVED),
        ([VPN, route("10.0.0.0/16", "eth1", scope=None, protocol="static")], REMOVED),
        ([VPN, tunnel(REFUSED)], REMOVED),  # the place is the VPN's
    ],
)
def test_it_leads_where_packets_would_go_without_it(around: list[Route], expected: str) -> None:
    assert [expected] == planned([COPY], [*around, COPY])


@pytest.mark.parametrize(("keys", "words"), [({"metric": 600}, "metric 600"), ({"tos": "0x10"}, "tos 0x10")])
def test_it_has_the_place_of_the_copy(keys: dict[str, object], words: str) -> None:
    refused = route(REFUSED, **keys)
    assert [f"{INTO_TUNNEL} {words}"] == planned([refused], [VPN, refused])
    assert [f"{REMOVED} {words}"] == planned([refused], [VPN, tunnel(REFUSED, **keys), refused])
    assert [] == planned([refused], [VPN, held(**keys)])


def test_while_no_tunnel_is_up_the_client_adds_nothing_so_there_is_none() -> None:
    links = {**LINKS, "tun-firezone": LINKS["tun-firezone"]._replace(up=False)}
    (command,) = plan(desired(DENYING, snapshot([COPY], [COPY], links=links)))
    assert command.words[:2] == ("route", "del")


def test_it_stays_as_long_as_the_route_is_there_and_refused() -> None:
    assert [] == planned([COPY], [VPN, held()])
    assert [f"del {REFUSED} dev tun-firezone proto 245 scope global"] == planned([], [VPN, held()])
    assert [f"replace {REFUSED} dev eth0 proto kernel scope link"] == planned([COPY], [VPN, held()], Config())
    assert [INTO_TUNNEL] == planned([COPY], [VPN, held(None, type="throw")])


@pytest.mark.parametrize("keys", [{"gateway": "10.0.0.9"}, {"scope": "link"}, {"encap": "x"}, {"protocol": "246"}])
def test_what_only_looks_like_one_is_somebody_elses(keys: dict[str, object]) -> None:
    assert [] == planned([], [VPN, held(**keys)])


def test_no_copy_no_placeholder() -> None:
    assert [] == planned([COPY], [VPN])
    router = gatewayed(REFUSED, "192.168.1.1")
    assert [] == planned([router], [VPN, router])


@pytest.mark.parametrize(("metric", "expected"), [(50, f"{INTO_TUNNEL} metric 600"), (700, f"{REMOVED} metric 600")])
def test_it_never_comes_before_a_copy(metric: int, expected: str) -> None:
    refused, wanted = route(REFUSED, metric=600), route(REFUSED, "eth1", metric=metric)
    added, other = planned([refused, wanted], [VPN, refused], ELSEWHERE)
    assert (f"add {REFUSED} dev eth1 proto kernel scope link metric {metric}", expected) == (added, other)


def test_ipv6_has_none() -> None:
    copy = route("fd00:1::/64")
    config = replace(Config(), lan={"deny": (Prefix.parse(copy.dst),)})
    assert [f"del {copy}"] == planned([copy], [tunnel("::/0"), copy], config)


def test_its_command_says_why() -> None:
    (command,) = plan(desired(DENYING, snapshot([COPY], [VPN, COPY])))
    assert f"lan.deny has {REFUSED}; {HELD}" == command.reason


def test_a_tunnel_that_no_command_can_name_has_none() -> None:
    links = {**LINKS, "tun-firezone": LINKS["tun-firezone"]._replace(word=None)}
    (command,) = plan(desired(DENYING, snapshot([COPY], [VPN, COPY], links=links)))
    assert command.words[:2] == ("route", "del")
