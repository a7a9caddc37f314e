"""Two VPNs on one machine, each with its own tables, mark and interface. Neither changes what the other has."""

import pytest

from tests.manage.conftest import Watch
from tests.manage.laptop import MARK, TUNNEL, Laptop, State, manage
from tests.netns.namespace import wait_until

OTHER = "tun-other"
# Otherwise the link-local network of the other tunnel is a LAN.
LAN = {"exclude_interfaces": ["tun-*"]}
TABLES_A = {"single": 1000, "user": 1001, "lan": 1002, "internet": 1003}
TABLES_B = {"single": 2000, "user": 2001, "lan": 2002, "internet": 2003}
LAYOUTS = pytest.mark.parametrize(("layout_a", "layout_b"), [("single", "tiered"), ("auto", "auto")])


def first(layout: str, *, internet: bool = True) -> str:
    rules = {"single": 32764, "tiered": [100, 200, 300]}
    return manage(layout=layout, internet=internet, tables=dict(TABLES_A), rules=rules, lan=dict(LAN))


def second(layout: str) -> str:
    return manage(
        layout=layout, interface=OTHER, fwmark="0x77/0xff", routes=["10.99.0.0/16", "fd00:99::/48"], internet=False,
        tables=dict(TABLES_B), rules={"single": 32765, "tiered": [110, 210, 310]}, lan=dict(LAN),
    )  # fmt: skip


@pytest.fixture
def both(laptop: Laptop) -> Laptop:
    laptop.tunnel(OTHER, "10.99.0.5/32", "fd00:99::5/128")
    laptop.wait_for_carrier(4)
    return laptop


def part(state: State, tables: dict[str, int]) -> State:
    """What of the state is one VPN's."""
    numbers = set(tables.values())
    return State(
        {family: [rule for rule in rules if rule.table in numbers] for family, rules in state.rules.items()},
        {key: routes for key, routes in state.tables.items() if key[1] in numbers},
    )


@LAYOUTS
def test_sync_and_down_of_one_leave_the_other_alone(layout_a: str, layout_b: str, both: Laptop) -> None:
    before = both.state()
    a, b = first(layout_a), second(layout_b)
    both.sync(a)
    alone = both.state()
    both.sync(b)
    assert part(alone, TABLES_A) == part(both.state(), TABLES_A)
    together = both.state()
    assert [] == both.sync(a) + both.sync(b)
    for other in (first("tiered"), first("single", internet=False), a):
        both.sync(other)
        assert part(together, TABLES_B) == part(both.state(), TABLES_B)
    both.sync(first(layout_a, internet=False))
    ways = {"100.64.0.9": TUNNEL, "10.99.0.9": OTHER, "fd00:99::9": OTHER}
    assert ways == both.leads(ways)
    both.sync(a)
    assert together == both.state()
    both.down(b)
    assert alone == both.state()
    both.down(a)
    # The kernel may still be busy with routes of new devices.
    wait_until(lambda: before == both.state(), "all is as it was")


def test_one_may_use_the_default_tables_beside_another_that_only_configures_a_single_one(both: Laptop) -> None:
    """The tables of the tiers are in its configuration by default, but it does not use them."""
    tiers = manage(layout="tiered", lan=dict(LAN))
    both.sync(tiers)
    before = both.state()
    lone = manage(
        interface=OTHER, fwmark=5, routes=["10.99.0.0/16"], internet=False, tables={"single": 4000}, lan=dict(LAN),
        rules={"single": 32000},
    )  # fmt: skip
    both.sync(lone)
    assert [] == both.sync(tiers)
    both.down(lone)
    assert before == both.state()


def test_two_daemons_do_not_wake_each_other_for_ever(both: Laptop, watch: Watch) -> None:
    a, b = watch(first("tiered")), watch(second("single"))
    whole = both.state()
    both.batch(["rule del pref 200", "rule del pref 32765", "route del 100.64.0.0/11 table 1001"])
    wait_until(lambda: whole == both.state(), "both are whole again")
    assert [] == a.complaints + b.complaints
    assert 0 == a.stop()
    assert whole == both.state()
    both.down(first("tiered"))
    assert part(whole, TABLES_B) == part(both.state(), TABLES_B)
    assert MARK not in [rule.mark for rule in both.rules("inet")]
