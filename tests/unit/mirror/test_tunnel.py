"""Which families the tunnel carries follows from its link and its addresses, and what is blocked follows from that."""

import pytest

from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.model import Link, Snapshot
from fz_iproute.mirror.prefix import Prefix
from fz_iproute.mirror.tunnel import (
    BACKSTOP_METRIC,
    FamilyState,
    explicit_routes,
    family_state,
    internet_routes,
    is_backstop,
    is_tunnel_route,
)
from tests.unit.routes import gatewayed, tunnel

UP, DOWN = (Link("tun-firezone", 7, up, False, "tun-firezone") for up in (True, False))


@pytest.mark.parametrize(
    ("link", "numbered", "inet", "inet6"),
    [  # usable, carried, certain
        (None, [], (False, False, True), (False, False, True)),
        (DOWN, ["inet"], (False, False, True), (False, False, True)),
        (UP, [], (True, True, True), (True, True, False)),
        (UP, ["inet"], (True, True, True), (True, False, True)),
        (UP, ["inet6"], (True, False, True), (True, True, True)),
        (UP, ["inet", "inet6"], (True, True, True), (True, True, True)),
    ],
)
def test_a_family_is_carried_unless_link_or_addresses_say_otherwise(link, numbered, inet, inet6) -> None:
    here = Snapshot(
        links={link.name: link} if link else {}, numbered={family: frozenset(["tun-firezone"]) for family in numbered}
    )
    for family, expected in (("inet", inet), ("inet6", inet6)):
        state = family_state(Config(), here, family)
        assert expected == state[:3]
        assert (state.usable and state.carried) == (state.obstacle == "")


def test_why_a_family_is_not_carried_is_said() -> None:
    numbered = {"inet": frozenset(["tun-firezone"])}
    seen = [Snapshot(links={}), Snapshot(links={UP.name: DOWN}), Snapshot(links={UP.name: UP}, numbered=numbered)]
    said = [family_state(Config(), here, "inet6").obstacle for here in seen]
    assert [f"tun-firezone {words}" for words in ("is missing", "is down", "has no IPv6 address")] == said


DOWN_STATE, NOT_CARRIED, CERTAIN, PERHAPS = (
    FamilyState(usable, carried, certain, "")
    for usable, carried, certain in ((False, False, True), (True, False, True), (True, True, True), (True, True, False))
)


@pytest.mark.parametrize(
    ("state", "on_down", "leak", "internet", "explicit"),
    [
        (CERTAIN, "open", "block", "tunnel", "tunnel"),
        (CERTAIN, "open", "allow", "tunnel", "tunnel"),
        (CERTAIN, "closed", "allow", "tunnel stop", "tunnel stop"),
        (CERTAIN, "closed", "block", "tunnel stop", "tunnel stop"),
        (PERHAPS, "open", "block", "tunnel stop", "tunnel"),
        (PERHAPS, "open", "allow", "tunnel", "tunnel"),
        (PERHAPS, "closed", "allow", "tunnel stop", "tunnel stop"),
        (NOT_CARRIED, "open", "block", "stop", ""),
        (NOT_CARRIED, "closed", "block", "stop", ""),
        (NOT_CARRIED, "closed", "allow", "", ""),
        (DOWN_STATE, "open", "block", "", ""),
        (DOWN_STATE, "closed", "allow", "stop", "stop"),
    ],
)
def test_what_enters_the_tunnel_and_what_is_stopped(state, on_down, leak, internet, explicit) -> None:
    prefix = Prefix.parse("10.0.0.0/8")
    settings = {"mode": "manage", "internet": True, "on_down": on_down, "internet_leak": leak, "routes": (prefix,)}
    config = replace(Config(), tunnel=settings)
    for make, dst, expected in ((internet_routes, "default", internet), (explicit_routes, str(prefix), explicit)):
        found = make(config, {UP.name: UP}, "inet", state)
        assert {dst} >= {route.dst for route in found}
        words = {"unicast": "tunnel", "unreachable": "stop"}
        assert expected == " ".join(words[route.attributes.type] for route in found)
        assert () == make(replace(config, tunnel={"mode": "observe"}), {UP.name: UP}, "inet", state)
    offline = replace(config, tunnel={"internet": False})
    assert () == internet_routes(offline, {UP.name: UP}, "inet", state)
    assert "unreachable" not in [
        route.attributes.type for route in explicit_routes(offline, {UP.name: UP}, "inet", state)
    ]


@pytest.mark.parametrize(
    ("kind", "metric", "expected"),
    [
        ("unreachable", BACKSTOP_METRIC, True),
        ("unreachable", 7, False),
        ("blackhole", BACKSTOP_METRIC, False),
    ],
)
def test_an_unreachable_route_with_the_last_metric_is_a_backstop(kind: str, metric: int, *, expected: bool) -> None:
    made = tunnel("default", type=kind, metric=metric)
    assert expected is is_backstop(made)
    assert expected is is_tunnel_route(made)


def test_a_copy_of_a_static_route_is_none_of_the_tunnel() -> None:
    """IPv4 tells them apart by their scope."""
    assert [True, False, False] == [
        is_tunnel_route(each)
        for each in (tunnel("10.0.0.0/8"), tunnel("10.0.0.0/8", scope="link"), gatewayed("10.0.0.0/8", "192.0.2.1"))
    ]
