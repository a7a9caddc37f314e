"""Manage mode: which rules are added, which go, and which configuration is refused while others are in use."""

from contextlib import nullcontext

import pytest

from fz_iproute.errors import UsageError
from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.desired import Desired, desired, own_rules, own_tables
from fz_iproute.mirror.model import Command, Link, Mark, Route, Rule
from fz_iproute.mirror.plan import check_roles, leftovers, plan
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix
from fz_iproute.mirror.tunnel import BACKSTOP_METRIC
from fz_iproute.mirror.words import KERNEL_TABLES
from tests.unit.routes import LINKS, route, snapshot, tunnel

SINGLE = replace(Config(), tunnel={"mode": "manage", "internet": True}, tables={"layout": "single"})
TIERED = replace(SINGLE, tables={"layout": "tiered"})
USER, LAN, INTERNET = Config().tables.user, Config().tables.lan, Config().tables.internet
MARK, OTHER_MARK = Config().tunnel.fwmark, Mark(7)
# The kernel always has this rule. Only IPv4 is here.
OF_KERNEL = Rule("inet", 32766, "lookup", 254, protocol="kernel")


def own(table: int = USER, priority: int = 32765, mark: Mark = MARK, protocol: str = "kernel") -> Rule:
    return Rule("inet", priority, "lookup", table, inverted=True, mark=mark, protocol=protocol)


TIERS = [own(USER, 100), own(LAN, 200), own(INTERNET, 300)]


def goal(config: Config, rules: list[Rule], table: list = [], **fields: object) -> Desired:  # noqa: B006
    there = {"inet": frozenset(["tun-firezone"])}
    return desired(config, snapshot([], table, rules=(*rules, OF_KERNEL), numbered=there, **fields))


def of_rules(commands: list[Command]) -> list[str]:
    """Verb, priority, mark and table; a command that waits is in brackets."""
    found = []
    for command in commands:
        if command.words[0] == "rule":
            _, verb, _, priority, _, _, mark, _, table, *_ = command.words
            text = f"{verb} {priority} {mark} {table}"
            found.append(f"({text})" if command.waits else text)
    return found


ADDED = f"add 32765 0xfd002021 {USER}"
ADDED_TIERS = [f"add {rule.priority} 0xfd002021 {rule.table}" for rule in TIERS]


@pytest.mark.parametrize(
    ("config", "rules", "expected"),
    [
        (SINGLE, [], [ADDED]),
        (SINGLE, [own()], []),
        (SINGLE, [own(), own()], [f"(del 32765 0xfd002021 {USER})"]),
        (SINGLE, [own(), own(priority=99, protocol="static")], [f"(del 99 0xfd002021 {USER})"]),
        (SINGLE, [own(priority=100)], [ADDED, f"(del 100 0xfd002021 {USER})"]),
        (SINGLE, [own(mark=OTHER_MARK)], [ADDED, f"(del 32765 0x7 {USER})"]),
        (SINGLE, [own(mark=OTHER_MARK, protocol="static")], [ADDED]),
        # With a mark that was ours, so was its other rule.
        (SINGLE, [own(), own(999, 5, OTHER_MARK)], []),
        (
            SINGLE,
            [own(mark=OTHER_MARK), own(999, 5, OTHER_MARK)],
            [ADDED, f"(del 32765 0x7 {USER})", "(del 5 0x7 999)"],
        ),
        (SINGLE, [own(mark=OTHER_MARK), own(999, 5, OTHER_MARK, "static")], [ADDED, f"(del 32765 0x7 {USER})"]),
        (
            SINGLE,
            [own(), own(priority=9, mark=OTHER_MARK), own(priority=8, mark=OTHER_MARK, protocol="static")],
            [f"(del 9 0x7 {USER})"],
        ),
        (TIERED, [], ADDED_TIERS),
        (TIERED, TIERS, []),
        (TIERED, TIERS[1:], ADDED_TIERS[:1]),
        (TIERED, [own()], [*ADDED_TIERS, f"(del 32765 0xfd002021 {USER})"]),
    ],
)
def test_which_rules_come_and_go(config: Config, rules: list[Rule], expected: list[str]) -> None:
    assert expected == of_rules(plan(goal(config, rules)))


@pytest.mark.parametrize(
    ("protocol", "words"), [("kernel", " protocol kernel"), ("static", " protocol static"), ("", ""), ("unspec", "")]
)
def test_a_command_names_the_protocol_of_its_rule(protocol: str, words: str) -> None:
    """`del` without a protocol deletes a rule of any protocol."""
    lines = [command.line for command in plan(goal(SINGLE, [own(), own(priority=99, protocol=protocol)]))]
    assert f"rule del priority 99 not fwmark {MARK} lookup {USER}{words}" in lines


@pytest.mark.parametrize("table", [0, *KERNEL_TABLES])
def test_a_rule_that_looks_up_a_table_of_the_kernel_is_never_ours(table: int) -> None:
    rules = [own(), own(table, 5), OF_KERNEL]
    assert (USER,) == own_tables(SINGLE, rules)
    assert [own()] == [*own_rules(SINGLE, rules)]


def test_a_rule_goes_at_once_where_nothing_is_missing() -> None:
    default = tunnel("default")
    for table, rule in (([default], f"del 9 0xfd002021 {USER}"), ([], f"(del 9 0xfd002021 {USER})")):
        assert [rule] == of_rules(plan(goal(SINGLE, [own(), own(priority=9)], table)))


@pytest.mark.parametrize("rules", [[], [own()]], ids=["missing", "there"])
def test_while_a_rule_is_missing_what_keeps_packets_in_the_tunnel_stays(rules: list[Rule]) -> None:
    """A stale copy goes: it leads out of the tunnel."""
    default = tunnel("default")
    due = plan(goal(SINGLE, rules, [default, tunnel("100.64.0.0/11"), route("10.9.0.0/24")]))
    waiting = {command.words[4]: command.waits for command in due if command.line.startswith("route del")}
    assert {"100.64.0.0/11": not rules, "10.9.0.0/24": False} == waiting


@pytest.mark.parametrize(
    ("config", "rules", "is_refused"),
    [
        (SINGLE, [], False),
        (SINGLE, [own()], False),
        (TIERED, [own()], False),
        (TIERED, TIERS, False),
        (TIERED, TIERS[1:], False),
        (SINGLE, TIERS, False),  # the first one gets all parts
        (replace(TIERED, tables={"user": LAN, "lan": USER}), TIERS, True),
        (replace(TIERED, tables={"user": LAN, "lan": USER}), [own(LAN)], False),
        (replace(TIERED, tables={"lan": USER, "user": 999}), [own()], True),
    ],
)
def test_no_table_in_use_gets_another_part(config: Config, rules: list[Rule], is_refused: bool) -> None:
    found = goal(config, rules, tables={table: {"inet": (), "inet6": ()} for table in (*Config().tables.ids, 999)})
    with pytest.raises(UsageError) if is_refused else nullcontext():
        check_roles(found)


@pytest.mark.parametrize(
    ("device", "dst", "is_refused"),
    [
        ("tun-firezone", "100.64.0.0/11", True),
        ("tun-firezone", "default", False),
        ("eth0", "10.0.0.0/24", False),  # a copy
    ],
)
def test_a_table_of_tunnel_routes_does_not_become_that_of_the_copies(device: str, dst: str, is_refused: bool) -> None:
    tables = {table: {"inet": (), "inet6": ()} for table in Config().tables.ids}
    tables[LAN] = {"inet": (route(dst, device, protocol="static", scope=None),), "inet6": ()}
    found = goal(TIERED, TIERS, tables=tables)
    with pytest.raises(UsageError) if is_refused else nullcontext():
        check_roles(found)


@pytest.mark.parametrize(
    ("dst", "device", "rules", "is_refused"),
    [
        ("100.64.0.0/11", "tun-old", TIERS[1:], True),
        ("fd00:64::/48", "tun-old", TIERS[1:], True),
        ("fd00:64::/48", "gone0", TIERS[1:], True),
        ("fd00:64::/48", "eth0", TIERS[1:], False),  # a stale copy
        ("fd00:64::/48", "tun-old", TIERS, False),  # a stale copy, because no rule changes
        ("default", "tun-old", TIERS[1:], False),
    ],
)
def test_a_table_of_a_former_tunnel_does_not_become_that_of_the_copies(
    dst: str, device: str, rules: list[Rule], is_refused: bool
) -> None:
    old = Link("tun-old", 9, up=True, loopback=False, word="tun-old", may_be_tunnel=True)
    found = route(dst, device, protocol="static", scope=None)
    tables: dict[int, dict[Family, tuple[Route, ...]]] = {table: {} for table in Config().tables.ids}
    tables[LAN] = {found.attributes.family: (found,)}
    both = [rule._replace(family=family) for rule in rules for family in FAMILIES]
    with pytest.raises(UsageError) if is_refused else nullcontext():
        check_roles(goal(TIERED, both, tables=tables, links={**LINKS, "tun-old": old}))


CLOSED = replace(SINGLE, tunnel={"on_down": "closed"})
NEW_TABLE = 1000
MOVED = replace(CLOSED, tables={"single": NEW_TABLE})
OPEN = replace(MOVED, tunnel={"on_down": "open"})
DEFAULTS = [Route.make(family, "default", LINKS["tun-firezone"]) for family in FAMILIES]
BACKSTOPS = [Route.make(family, "default", None, metric=BACKSTOP_METRIC) for family in FAMILIES]


@pytest.mark.parametrize(
    ("new", "new_rules", "new_routes", "families"),
    [
        (MOVED, FAMILIES, [*DEFAULTS, *BACKSTOPS], FAMILIES),
        (MOVED, FAMILIES[:1], [*DEFAULTS, *BACKSTOPS], FAMILIES[:1]),
        (MOVED, FAMILIES, [DEFAULTS[0], *BACKSTOPS], FAMILIES),  # packets that the tunnel does not take yet are stopped
        (MOVED, FAMILIES, [*DEFAULTS, BACKSTOPS[0]], FAMILIES[:1]),
        (MOVED, FAMILIES, [BACKSTOPS[0]], FAMILIES[:1]),
        (MOVED, [], [], []),
        (OPEN, FAMILIES, BACKSTOPS, []),  # those of an earlier configuration are about to go
    ],
)
def test_a_former_table_goes_when_the_new_one_stops_all_packets_of_the_family(
    new: Config, new_rules: list[Family], new_routes: list[Route], families: list[Family]
) -> None:
    rules = [own()._replace(family=family) for family in FAMILIES]
    rules += [own(NEW_TABLE)._replace(family=family) for family in new_rules]
    rules += [OF_KERNEL._replace(family=family) for family in FAMILIES]
    tables = {table: {"inet": (), "inet6": ()} for table in Config().tables.ids}
    for table, routes in ((USER, [*DEFAULTS, *BACKSTOPS]), (NEW_TABLE, new_routes)):
        tables[table] = {
            family: tuple(route for route in routes if route.attributes.family == family) for family in FAMILIES
        }
    numbered = dict.fromkeys(FAMILIES, frozenset(["tun-firezone"]))
    seen = snapshot([], rules=tuple(rules), tables=tables, numbered=numbered)
    due = leftovers(desired(CLOSED, seen), desired(new, seen))
    expected = [(family, word) for family in families for word in ("route", "route", "rule")]
    assert (expected or None) == (due and [(command.family, command.words[0]) for command in due])
    assert {"del"} >= {command.words[1] for command in due or []}


def test_the_tunnels_routes_are_those_of_the_family() -> None:
    prefixes = tuple(map(Prefix.parse, ("10.0.0.0/8", "fd00::/8", "10.0.0.0/8")))
    config = replace(SINGLE, tunnel={"routes": prefixes, "internet": False})
    rules = [own(), own()._replace(family="inet6")]
    found = [command for command in plan(goal(config, rules)) if command.words[0] == "route"]
    assert [("inet", "10.0.0.0/8")] == [(command.family, command.words[4]) for command in found]


def test_what_enters_the_tunnel_inside_of_a_lan_comes_before_the_lan() -> None:
    prefixes = tuple(map(Prefix.parse, ("10.0.0.0/25", "10.0.9.0/24")))
    config = replace(CLOSED, tunnel={"routes": prefixes})
    lan = [route("10.0.0.0/24")]
    numbered = {"inet": frozenset(["tun-firezone"])}
    due = plan(desired(config, snapshot(lan, rules=(own(), OF_KERNEL), numbered=numbered)))
    spelled = [command.words[4:] for command in due if command.family == "inet"]
    found = [tuple(words[: 2 if words[0] == "unreachable" else 3]) for words in spelled]
    assert [
        *(("10.0.0.0/25", "dev", "tun-firezone"), ("10.0.9.0/24", "dev", "tun-firezone")),
        *(("unreachable", "10.0.0.0/25"), ("unreachable", "10.0.9.0/24")),
        *(("10.0.0.0/24", "dev", "eth0"),),
        *(("default", "dev", "tun-firezone"), ("unreachable", "default")),
    ] == found
