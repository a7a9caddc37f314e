"""A prefix is split into parts that the kernel treats alike, and no address is lost or counted twice."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fz_iproute.diagnosis import fib
from fz_iproute.diagnosis.lookup import Decision, Packet
from fz_iproute.diagnosis.parts import Bounds
from fz_iproute.diagnosis.reach import Network
from fz_iproute.mirror.model import Attributes, Route, Rule
from fz_iproute.mirror.prefix import Prefix
from tests.unit.routes import LINKS, gatewayed, lookup, route, tunnel

WHOLE = Prefix.parse("192.168.188.0/24")
# Lengths near the end, so that every address can be tried.
PREFIX = st.builds(
    lambda length, number: Prefix("inet", number >> 32 - length << 32 - length, length),
    st.integers(24, 32),
    st.integers(0xC0A8BC00, 0xC0A8BCFF),
)
PREFIXES = st.lists(PREFIX, max_size=12, unique=True)


def longest(prefixes: list[Prefix], address: int) -> Prefix:
    host = Prefix.of_host("inet", address)
    return max((prefix for prefix in prefixes if prefix.covers(host)), key=lambda prefix: prefix.length)


@given(PREFIXES)
def test_every_address_belongs_to_one_part(inside: list[Prefix]) -> None:
    order = sorted({WHOLE, *inside}, key=lambda prefix: prefix[1:])
    found = Bounds((), order).parts(WHOLE)
    owners = [longest(order, address) for address in range(WHOLE.address, WHOLE.address + 256)]
    assert {prefix: owners.count(prefix) for prefix in owners} == {part.prefix: part.size for part in found}
    for part in found:
        assert part.prefix == longest(order, part.address)


# Tables of many routes

# The parser gives routes that differ in nothing but their destination one object.
SHAPES = [
    each.attributes
    for each in (
        *(gatewayed("default", "10.0.0.1"), gatewayed("default", "10.0.0.2"), tunnel("default")),
        route("default", type="blackhole", dev=None, scope=None),
    )
]
SMALL = Prefix.parse("192.168.188.0/27")
INSIDE = st.builds(
    lambda length, number: Prefix("inet", SMALL.address + (number >> 32 - length << 32 - length), length),
    st.integers(27, 32),
    st.integers(0, 31),
)
ROUTES = st.lists(st.builds(lambda prefix, shape: Route(str(prefix), shape), INSIDE, st.sampled_from(SHAPES)))
RULES = st.lists(
    st.builds(
        lambda table, dst, suppressed: lookup(table, dst=dst, options=(("suppress_prefixlen", str(suppressed)),)),
        st.sampled_from([77, 254]),
        st.none() | INSIDE,
        st.integers(26, 31),
    ),
    max_size=3,
)


def fate(decision: Decision) -> object:
    """All of a decision but the destinations of routes."""
    steps = [(step.rule, step.result, step.route and step.route.attributes) for step in decision.steps]
    return decision.outcome, decision.table, decision.devices, str(steps)


@given(ROUTES, ROUTES, RULES)
def test_routes_that_differ_in_their_destination_alone_are_one_part(
    main: list[Route], other: list[Route], rules: list[Rule]
) -> None:
    tables = {254: {"inet": tuple(main)}, 77: {"inet": tuple(other)}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fib, "MANY", 0)
        network = Network(LINKS, (*rules, lookup(77, 200), lookup(254, 32766)), tables)  # type: ignore[arg-type]
        found: Counter[object] = Counter()
        for way in network.ways(SMALL):
            found[fate(way.decision)] += way.part.size
    hosts = range(SMALL.address, SMALL.address + 32)
    assert found == Counter(fate(network.way(Packet("inet", host))) for host in hosts)


@pytest.mark.parametrize(("shape", "is_one_by_one"), [*zip(SHAPES, (False, False, True, False), strict=True)])
def test_of_a_huge_table_what_enters_a_tunnel_is_examined_one_by_one(shape: Attributes, is_one_by_one: bool) -> None:
    routes = [Route(f"10.{number // 256}.{number % 256}.0/24", shape) for number in range(1_001)]
    table = fib.Table([*routes, Route("192.168.0.0/16", SHAPES[2]), Route("10.9.0.0/17", shape)])
    assert (1_003 if is_one_by_one else 1) == len(table.named)
    first, second, *_, longer, _ = map(table.kind, table.places)
    assert first == second != longer


def test_a_huge_table_has_few_parts() -> None:
    """Also if thousands of its routes differ in their router."""
    shapes = SHAPES[:2]
    main = [Route(f"{11 + number // 256}.{number % 256}.0.0/16", shapes[number % 2]) for number in range(4096)]
    # The kernel has its own ideas of multicast.
    main.append(Route("232.1.0.0/16", SHAPES[0]))
    network = Network(LINKS, (lookup(254),), {254: {"inet": tuple(main)}})
    sizes: Counter[str] = Counter()
    ways = network.ways(Prefix.parse("0.0.0.0/0"))
    for way in ways:
        route = way.decision.route
        sizes[f"{way.decision.outcome} {route.attributes.value('via')}" if route else ""] += way.part.size
    assert len(ways) == 4
    assert sizes == {
        "unicast 10.0.0.1": 2048 << 16,
        "unicast 10.0.0.2": 2048 << 16,
        "multicast 10.0.0.1": 1 << 16,
        "": (1 << 32) - (4097 << 16),
    }
