"""The plan turns any table into any other, without a gap. Then nothing is left to do."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.desired import desired
from fz_iproute.mirror.model import Command, Route
from fz_iproute.mirror.plan import leftovers, plan, remove_all
from fz_iproute.mirror.prefix import Prefix
from tests.unit.fake_table import FakeTable
from tests.unit.routes import gatewayed, route, snapshot, tunnel

COPY = route("10.0.0.0/24")
MOVED = route("10.0.0.0/24", metric=600)
FORMER, LATTER = (route("10.0.0.0/24", prefsrc=src) for src in ("10.0.0.1", "10.0.0.2"))
CHANGED6 = route("fd00::/64", protocol="static")
LINK_LOCAL = [route("fe80::/64"), route("fe80::/64", "eth1")]
TWINS = [COPY, route("10.0.0.0/24", "eth1")]
ADD, REPLACE, DEL = (
    f"route {verb} table 539098368 10.0.0.0/24 dev eth0 proto kernel scope link" for verb in ("add", "replace", "del")
)


@pytest.mark.parametrize(
    ("main", "table", "planned"),
    [
        ([route("10.0.0.0/24", prefsrc="10.0.0.1", metric=600)], [], [f"{ADD} src 10.0.0.1 metric 600"]),
        ([COPY, *LINK_LOCAL], [COPY, *LINK_LOCAL, tunnel("default")], []),
        (LINK_LOCAL, LINK_LOCAL[::-1], []),  # the order of IPv6 twins is the kernel's own
        ([LATTER], [FORMER], [f"{REPLACE} src 10.0.0.2"]),
        ([MOVED], [COPY], [f"{ADD} metric 600", DEL]),
        ([CHANGED6], [route("fd00::/64")], [f"route replace table 539098368 {CHANGED6}"]),
        (TWINS, TWINS[::-1], [f"route {verb} table 539098368 {TWINS[1]}" for verb in ("del", "append")]),
    ],
    ids=["missing", "in step", "another order", "another source", "another metric", "IPv6", "twins in another order"],
)
def test_what_is_planned(main: list[Route], table: list[Route], planned: list[str]) -> None:
    assert planned == [command.line for command in plan(desired(Config(), snapshot(main, table)))]


def test_a_copy_goes_behind_another_programs_route_in_its_place() -> None:
    """The kernel refuses `add` there."""
    config = replace(Config(), tables={"layout": "tiered"})
    there = {config.tables.lan: {"inet": (tunnel("10.0.0.0/24"),), "inet6": ()}}
    seen = snapshot([COPY])
    commands = plan(desired(config, snapshot([COPY], tables={**seen.tables, **there})))
    assert [f"route append table {config.tables.lan} {COPY}"] == [command.line for command in commands]


def test_a_stale_route_goes_and_says_why() -> None:
    (command,) = plan(desired(Config(), snapshot([], [COPY])))
    assert (command.words[1], command.reason) == ("del", "stale: main has no such route")


def via_both(*devices: str, **keys: Any) -> Route:
    """A route with a next hop for each device."""
    return route("10.0.0.0/24", None, nexthops=[{"dev": device, "weight": 1} for device in devices], **keys)


STALE_COPY = route("10.0.0.0/24", metric=600)
STALE_COPY6 = route("fd00::/64")


@pytest.mark.parametrize(
    ("stale", "beside", "goes"),
    [
        # `del` matches any route that has all its words.
        (STALE_COPY, route("10.0.0.0/24", metric=600, encap="x"), False),
        (STALE_COPY, route("10.0.0.0/24", metric=7, encap="x"), False),  # what else it has is not known
        (STALE_COPY, route("10.0.0.0/24", "eth1", metric=600, encap="x"), True),
        (STALE_COPY, route("10.0.0.0/24", metric=600, tos="0x10", encap="x"), True),
        (STALE_COPY, route("10.9.0.0/24", metric=600, encap="x"), True),
        (STALE_COPY, via_both("eth0", "tun-firezone", metric=600), False),  # it names the first next hop
        (STALE_COPY, via_both("eth1", "tun-firezone", metric=600), True),
        (STALE_COPY, via_both("eth0", "tun-firezone", metric=600, protocol="static"), True),
        (via_both("eth0", "eth1"), route("10.0.0.0/24", encap="x"), False),
        (via_both("eth0", "eth1"), route("10.0.0.0/24", "eth1", encap="x"), True),
        (via_both("eth0", "eth1"), via_both("eth0", "tun-firezone"), False),
        (via_both("eth0", "eth1"), via_both("eth0", "tun-firezone", protocol="static"), True),
        (STALE_COPY6, route("fd00::/64", encap="x"), True),
        # IPv6: without nhid, it matches a route by a nexthop object, whatever its path.
        (STALE_COPY6, gatewayed("fd00::/64", "fe80::1", nhid=7), False),
        (STALE_COPY6, gatewayed("fd00::/64", "fe80::1", nhid=7, metric=9), True),
    ],
)
def test_no_deletion_could_hit_the_route_of_somebody_else(stale: Route, beside: Route, goes: bool) -> None:
    found = [command.words[1] for command in plan(desired(Config(), snapshot([], [stale, beside])))]
    assert (["del"] if goes else []) == found


MANAGE = replace(Config(), tunnel={"mode": "manage"})
TEN = (Prefix.parse("10.0.0.0/8"),)
ALLOWING = replace(Config(), lan={"allow": TEN})
UNPRUNED = replace(Config(), lan={"prune": False})
STALE = [route("10.9.0.0/24"), route("fd00:9::/64", protocol="static")]
VPN = [tunnel("default"), tunnel("100.64.0.0/11"), tunnel("fd00:8::/64")]
# It would block packets that the next table takes, if it outlived the default that it stands behind.
BACKSTOP, OF_RESOURCE = (
    route(dst, None, type="unreachable", protocol="static", scope=None, metric=2**32 - 1)
    for dst in ("default", "100.64.0.0/11")
)


@pytest.mark.parametrize(
    ("config", "main", "table", "planned"),
    [
        (UNPRUNED, [MOVED], [COPY, *STALE], ["add 10.0.0.0/24", "del 10.0.0.0/24"]),
        (replace(MANAGE, lan={"prune": False}), [], [*VPN, *STALE], [f"del {each.dst}" for each in VPN]),
        (replace(MANAGE, lan={"prune": False}), [], [OF_RESOURCE], ["del unreachable"]),
        (MANAGE, [], [tunnel("default"), BACKSTOP], ["del unreachable", "del default"]),
        (ALLOWING, [gatewayed("10.8.0.0/16", "10.0.0.9"), COPY], [], ["add 10.0.0.0/24", "add 10.8.0.0/16"]),
    ],
    ids=[
        "unpruned copies",
        "unpruned tunnel routes",
        "unpruned backstop",
        "backstop and default",
        "a router after its network",
    ],
)
def test_which_routes_are_planned_in_which_order(config, main, table, planned) -> None:
    due = plan(desired(config, snapshot(main, table)), prune=config.lan.prune)
    found = [command.words for command in due if command.words[0] == "route"]
    assert planned == [f"{words[1]} {words[4]}" for words in found]


def test_without_pruning_no_copy_stays_in_a_table_of_another_layout() -> None:
    tiered = replace(Config(), tables={"layout": "tiered"})
    due = plan(desired(tiered, snapshot([COPY], [COPY])), prune=False)
    assert [(command.words[1], command.words[3]) for command in due] == [("add", "539098369"), ("del", "539098368")]


DENIED = replace(Config(), lan={"prune": False, "deny": TEN})
ELSEWHERE = replace(UNPRUNED, tables={"single": 1000})


@pytest.mark.parametrize(
    ("new", "gone"),
    [(UNPRUNED, []), (DENIED, ["10.0.0.0/24"]), (ELSEWHERE, ["10.0.0.0/24", "fd00::/64"])],
    ids=["the same", "denied", "elsewhere"],
)
def test_without_pruning_only_copies_of_the_old_configuration_are_left_over(new: Config, gone: list[str]) -> None:
    copies, strays = [route("10.0.0.0/24"), route("fd00::/64")], [route("10.9.0.0/24"), route("fd00:9::/64")]
    seen = snapshot(copies, [*copies, *strays])
    due = leftovers(desired(UNPRUNED, seen), desired(new, seen), prune=False)
    assert gone == [command.words[4] for command in due or []]


def test_without_pruning_only_copies_stay() -> None:
    """In manage mode, routes into the tunnel go that the configuration does not have any more."""
    config = replace(Config(), tunnel={"mode": "manage"}, tables={"layout": "single"})
    table = [COPY, tunnel("default"), tunnel("10.9.0.0/16")]
    gone = [command.words[4] for command in plan(desired(config, snapshot([], table)), prune=False)]
    assert ["10.9.0.0/16", "default"] == sorted(gone)


def test_down_removes_the_copies_and_nothing_else() -> None:
    others = [tunnel("default"), tunnel("100.64.0.0/11"), gatewayed("10.9.0.0/24", "10.0.0.1")]
    (command,) = remove_all(desired(Config(), snapshot([COPY], [*others, COPY])))
    assert DEL == command.line


INET = [
    route("10.0.0.0/24", dev, protocol=proto, prefsrc=src, metric=metric)
    for dev, proto, src, metric in product(["eth0", "eth1"], ["kernel", "static"], [None, "10.0.0.1"], [None, 600])
]
INET6 = [
    route("fd00::/64", dev, protocol=proto, metric=metric)
    for dev, proto, metric in product(["eth0", "eth1", "wlan0"], ["kernel", "static"], [256, 257])
]


def test_a_stand_in_has_a_metric_that_no_other_route_to_the_destination_has() -> None:
    rest = [route("fd00::/64", "eth1", metric=256), route("fd00::/64", metric=2**32 - 1)]
    new, old = (route("fd00::/64", metric=256, protocol=protocol) for protocol in ("kernel", "static"))
    planned = plan(desired(Config(), snapshot([new, *rest], [old, *rest])))
    assert ["4294967294", "256", "256", "4294967294"] == [
        command.words[command.words.index("metric") + 1] for command in planned
    ]


def one_of_each_path(routes: list[Route]) -> list[Route]:
    """IPv6 has no two routes of one metric and path."""
    return list({(route.attributes.metric, route.attributes.path): route for route in routes}.values())


TABLES = {
    "inet": st.lists(st.sampled_from(INET), unique=True, max_size=5),
    "inet6": st.lists(st.sampled_from(INET6), unique=True, max_size=5).map(one_of_each_path),
}
STATES = st.sampled_from(["inet", "inet6"]).flatmap(lambda family: st.tuples(TABLES[family], TABLES[family]))


def spelled(planned: list[Command], known: list[Route]) -> dict[tuple[str, ...], Route]:
    """The route that each command means: one of `known`, or a stand-in for one with another metric."""
    found = {(route.dst, *route.attributes.words): route for route in known}
    for command in planned:
        words = command.words[4:]
        if words not in found:
            position = words.index("metric") + 1
            original = next(
                route
                for spelling, route in found.items()
                if spelling[:position] == words[:position] and spelling[position + 1 :] == words[position + 1 :]
            )
            attributes = original.attributes._replace(words=words[1:], metric=int(words[position]))
            found[words] = Route(words[0], attributes)
    return found


def grouped(routes: list[Route]) -> dict[int, list[Route]]:
    """By metric. In IPv6 the order of equal metrics is the kernel's own."""
    groups: dict[int, list[Route]] = {}
    for each in routes:
        groups.setdefault(each.attributes.metric, []).append(each)
    if routes and routes[0].attributes.family == "inet6":
        return {metric: sorted(group) for metric, group in groups.items()}
    return groups


@given(STATES)
def test_any_table_becomes_any_other_without_a_gap(state: tuple[list[Route], list[Route]]) -> None:
    have, want = state
    table = FakeTable(have)
    for attempt in range(4):
        planned = plan(desired(Config(), snapshot(want, table.routes)))
        meanings = spelled(planned, [*want, *table.routes])
        for command in planned:
            note(f"{attempt}: {' '.join(command.words)}  # {command.reason}")
            table.run(command, meanings)
            if have and want:
                assert table.routes, "at no moment is the destination without a route"
        if grouped(table.routes) == grouped(want):
            break
    # `del` without src may delete a twin that has one. The next round adds it again.
    assert grouped(want) == grouped(table.routes)
    assert [] == plan(desired(Config(), snapshot(want, table.routes)))


@pytest.mark.parametrize("dev", ["eth0", "eth1"])
def test_one_of_several_ipv6_twins_changes_without_a_gap_on_its_own_device(dev: str) -> None:
    names = ["eth0", "eth1", "wlan0"]
    have = [route("fe80::/64", name) for name in names]
    want = [route("fe80::/64", name, protocol="static" if name == dev else "kernel") for name in names]
    table = FakeTable(have)
    planned = plan(desired(Config(), snapshot(want, have)))
    meanings = spelled(planned, [*want, *have])
    for command in planned:
        assert "" == table.run(command, meanings)
        assert dev in [device for each in table.routes for device in each.attributes.devices]
    assert sorted(want) == sorted(table.routes)
