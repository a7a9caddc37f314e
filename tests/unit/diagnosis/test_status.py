"""The status lists every route of the tables, each once."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from fz_iproute.diagnosis.checks.vpn import tunnel as tunnel_check
from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.status import status
from fz_iproute.diagnosis.summary import summary
from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.desired import desired
from fz_iproute.mirror.model import Route, Snapshot
from fz_iproute.mirror.parse_links import links
from fz_iproute.mirror.plan import plan
from fz_iproute.mirror.prefix import FAMILIES, Prefix
from fz_iproute.verbs.brief import drawn, mends
from fz_iproute.verbs.screen import Screen
from tests.layouts import LAYOUTS, copied, machine, read
from tests.unit.diagnosis.machines import FIREZONE, MIRROR, SERVED, WIREGUARD, Case
from tests.unit.diagnosis.machines import HELD as HELD_ROUTE
from tests.unit.routes import lookup, route, snapshot, tunnel

TABLES = Config().tables.ids
SINGLE = Config().tables.single
COPY, STALE, DENIED = route("10.1.0.0/16"), route("10.2.0.0/16"), route("10.3.0.0/16")
HELD = route("10.3.0.0/16", "tun-firezone", protocol="245", scope="global")  # in place of a copy by the VPN's client
VPN = [tunnel("default"), tunnel("100.64.0.0/11"), tunnel("fd00:2021::/48")]


def whole(seen: Snapshot) -> Network:
    """With the tables of the snapshot, and main."""
    return Network.of(seen, {254: seen.main, **seen.tables})


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
    lines = status(Config(), seen, whole(seen)).lan
    assert states == [line.state for line in lines]
    assert len({line.route for line in lines}) == 2


@pytest.mark.parametrize(
    ("mode", "refused", "placeholder"),
    [
        ("observe", DENIED, ["changed"]),
        ("observe", HELD, ["in step"]),
        ("manage", DENIED, []),
        ("manage", HELD, ["stale"]),
    ],
)
def test_every_route_of_the_table_is_listed_once(mode: str, refused: Route, placeholder: list[str]) -> None:
    config = replace(Config(), tunnel={"mode": mode}, lan={"deny": (Prefix.parse(DENIED.dst),)})
    mirror = [*VPN, COPY, STALE, refused]
    seen = snapshot([COPY, DENIED], mirror)
    found = status(config, seen, whole(seen))
    listed = [line for line in (*found.lan, *found.vpn) if line.state not in ("missing", "skipped")]
    assert Counter(route.dst for route in mirror) == Counter(line.route.dst for line in listed)
    assert [COPY] == [line.route for line in listed if line.state == "in step" and line.route not in (*VPN, refused)]
    assert placeholder == [line.state for line in (*found.lan, *found.vpn) if line.route == HELD]


TWINS = [route("10.4.0.0/16", "eth0"), route("10.4.0.0/16", "eth1")]


@pytest.mark.parametrize("prune", [True, False])
@pytest.mark.parametrize("is_used", [True, False])
@pytest.mark.parametrize(
    ("main", "copies"),
    [
        ([COPY], [COPY]),
        ([COPY], []),
        ([COPY], [COPY, STALE]),
        ([COPY], [route("10.1.0.0/16", prefsrc="10.1.0.9")]),
        ([COPY, DENIED], [COPY, DENIED]),
        ([COPY, DENIED], [COPY, HELD]),
        (TWINS, TWINS[::-1]),
        (TWINS[:1], TWINS),
    ],
    ids=["in step", "missing", "stale", "changed", "denied", "held", "out of order", "a twin too many"],
)
def test_something_is_due_exactly_where_sync_would_do_it_and_a_rule_leads_there(
    main: list[Route], copies: list[Route], is_used: bool, prune: bool
) -> None:
    config = replace(Config(), lan={"deny": (Prefix.parse(DENIED.dst),), "prune": prune})
    rules = (*(lookup(SINGLE, 100) for _ in range(is_used)), lookup(254, 32766))
    seen = snapshot(main, [*VPN, *copies], rules=rules)
    said = summary(status(config, seen, whole(seen)))
    has_commands = bool(plan(desired(config, seen), prune=prune))
    assert (is_used and has_commands) == said.is_due
    assert said.is_due == (not said.is_good)
    assert said.is_due or not [item for item in said.items if item.kind == "due"]


@pytest.mark.parametrize("copies", [[], [COPY]], ids=["it stays cut", "it would be cut"])
def test_a_lan_that_the_vpn_routes_is_lost_after_a_sync(copies: list[Route]) -> None:
    rules = (lookup(SINGLE, 100), lookup(254, 32766))
    vpn = [*VPN, tunnel("10.1.0.0/16")]
    for main, is_due in (([COPY, DENIED], True), ([COPY], bool(copies))):
        seen = snapshot(main, [*vpn, *copies], rules=rules)
        said = summary(status(Config(), seen, whole(seen)))
        assert said.is_lost_then and is_due is said.is_due


@pytest.mark.parametrize(
    ("route", "why"),
    [
        ("blackhole 192.168.1.0/24", "its packets are refused"),
        ("192.168.0.0/16 dev tun-firezone", "the VPN's table has its own route to 192.168.0.0/16"),
    ],
)
def test_a_lan_that_is_refused_is_not_said_to_be_routed(route: str, why: str) -> None:
    lines = [*LAYOUTS["Firezone up to 1.5.3"].lines, f"route add {route} table {SINGLE}"]
    seen, tables = read(lines, Config())
    items = summary(status(Config(), seen, Network.of(seen, tables))).lan_items
    assert [why] == [item.why for item in items if item.what == "192.168.1.0/24"]


OF_VPN = "10.64.0.0/24"


@pytest.mark.parametrize("name", ["OpenVPN def1", "OpenConnect", "WireGuard with a table of its own"])
@pytest.mark.parametrize("is_configured", [True, False])
def test_the_network_of_the_vpn_itself_is_no_lan(name: str, is_configured: bool) -> None:
    interface = LAYOUTS[name].interface
    config = replace(Config(), tunnel={"interface": interface}) if is_configured else Config()
    counts = []
    for own in ([], [f"route add {OF_VPN} dev {interface} proto kernel scope link src 10.64.0.2"]):
        seen, tables = machine([*LAYOUTS[name].lines, *own])
        found = {table: {family: tables.get(table, {}).get(family, ()) for family in FAMILIES} for table in TABLES}
        said = summary(status(config, dataclasses.replace(seen, tables=found), Network.of(seen, tables)))
        counts.append((said.lans, said.reachable))
        assert OF_VPN not in {item.what for item in said.items} | {line.route.dst for line in said.others}
    assert counts[0] == counts[1] and counts[0][0] > 0


@pytest.mark.parametrize("is_copied", [True, False])
@pytest.mark.parametrize("network", ["fe80::/64", "10.4.0.0/16"])
def test_the_network_of_a_port_of_a_bridge_is_no_lan(network: str, is_copied: bool) -> None:
    copies = [COPY, route(network, "eth1")]
    rules = tuple(lookup(SINGLE, family=family) for family in FAMILIES)
    seen = snapshot(copies, [*VPN, *(copies if is_copied else [])], rules=rules)
    links = seen.links | {"eth1": seen.links["eth1"]._replace(is_port=True)}
    for present, lans in ((seen, 2), (dataclasses.replace(seen, links=links), 1)):
        said = summary(status(Config(), present, whole(present)))
        assert (lans, lans * is_copied) == (said.lans, said.reachable)
        assert said.is_due is not is_copied, "the copies do not change"


@pytest.mark.parametrize("dst", ["fe80::/64", "fe80::7", "ff02::fb", "ff00::/8"])
def test_a_lan_is_not_lost_because_the_address_asked_about_is_of_no_other_host(dst: str) -> None:
    """It is the own address of the machine, as fe80::1 on many bridges, or multicast."""
    own = ["local fe80::1 dev eth0", "multicast ff00::/8 dev eth0"]
    lines = [f"-6 route add {dst} dev eth0 proto kernel", *(f"-6 route add {each} table 255" for each in own)]
    seen, tables = read([*LAYOUTS["Firezone up to 1.5.3"].lines, *lines], Config())
    found = [line for line in status(Config(), seen, Network.of(seen, tables)).lan if line.route.dst == dst]
    assert [("", False)] == [(line.lost, line.is_lost_then) for line in found]


@pytest.mark.parametrize(("there", "due"), [(DENIED, [("changed", DENIED.dst)]), (HELD, [])])
def test_a_copy_that_becomes_a_placeholder_is_named_once(there: Route, due: list[tuple[str, str]]) -> None:
    config = replace(Config(), lan={"deny": (Prefix.parse(DENIED.dst),)})
    seen = snapshot([COPY, DENIED], [*VPN, COPY, there], rules=(lookup(SINGLE, 100), lookup(254, 32766)))
    said = summary(status(config, seen, whole(seen)))
    assert due == [(item.state, item.what) for item in said.items if item.kind == "due"]


@pytest.mark.parametrize(
    ("lines", "how"),
    [
        (WIREGUARD, "1 of 3 reachable"),
        ([*WIREGUARD, *copied(51820)], "3 of 3 reachable by table 51820 and table main"),
        (LAYOUTS["wg-quick"].lines, "3 of 3 reachable without copies"),
    ],
)
def test_a_lan_that_copies_of_another_configuration_keep_is_not_called_reachable_without(
    lines: list[str], how: str
) -> None:
    case = Case(lines)
    said = summary(status(case.config, *case.read()))
    (lan,) = [line for line in drawn(said, None, str, Screen(80)) if line.startswith("LAN")]
    assert how == lan.removeprefix("LAN    ").partition("   →")[0]


@pytest.mark.parametrize(
    "words", ["proto static scope link", "scope link src 192.168.1.9 metric 7", "proto dhcp scope link metric 600"]
)
@pytest.mark.parametrize(
    ("lan", "why"),
    [
        ({"deny": (Prefix.parse("192.168.1.0/24"),)}, "lan.deny has 192.168.1.0/24"),
        ({"exclude_interfaces": ("eth0",)}, "lan.exclude_interfaces has eth0"),
        ({"interfaces": ("docker0",)}, "lan.interfaces does not have eth0"),
    ],
    ids=str,
)
def test_a_copy_goes_for_one_reason_in_status_plan_and_doctor(words: str, lan: dict[str, Any], why: str) -> None:
    """Whoever made the copy, and however it differs from main's route."""
    config = replace(Config(), lan=lan)
    case = Case([*FIREZONE, f"route add 192.168.1.0/24 dev eth0 {words} table {MIRROR}"], config=config)
    snapshot, network = case.read()
    judged = Judgement(config, snapshot, network)
    lines = [each for each in status(config, snapshot, network).lan if each.state == "stale"]
    deleted = [each for each in plan(judged.goal) if each.words[:2] == ("route", "del")]
    assert [why] == [each.reason for each in lines] == [*judged.left_out.values()]
    assert [f"stale: {why}"] == [each.reason for each in deleted]
    assert f"removes the copy of 192.168.1.0/24: {why}" in str(case.findings("mirror"))


NO_DEFAULTS = [f"{option}route del default table {MIRROR}" for option in ("", "-6 ")]
WG0 = "route add 10.9.0.0/24 dev wg0"  # so that there is such an interface


@pytest.mark.parametrize(
    "lines", [FIREZONE, SERVED, [*FIREZONE, *NO_DEFAULTS]], ids=["cut", "copied", "resources only"]
)
@pytest.mark.parametrize("interface", ["eth0", "docker0", "wg0", "wg1"])
def test_an_interface_that_the_vpns_table_does_not_use_is_no_vpn(interface: str, lines: list[str]) -> None:
    """A network card, another tunnel, or none: a user has written the wrong name."""
    right = Case([*lines, WG0])
    case = right._replace(config=replace(Config(), tunnel={"interface": interface}))
    found = status(case.config, *case.read())
    said = summary(found)
    state = "missing" if interface == "wg1" else "up"
    assert said.vpn.startswith(f"{interface} is {state}, but table {MIRROR} leads into tun-firezone; ")
    assert "doctor" == said.verb
    (tunnel,) = case.findings("tunnel")
    assert "failure" == tunnel.level and 'interface = "tun-firezone"' in tunnel.remedy
    if "default" in str(found.vpn):  # else a card that is configured may yet become the tunnel: a tap looks like one
        usual = status(right.config, *right.read())
        lans, usual_lans = ([line for line in each.lan if line.route.dst != "10.9.0.0/24"] for each in (found, usual))
        assert (usual_lans, usual.vpn) == (lans, found.vpn)
        assert ["ok"] == [each.level for each in case.findings("mark")]


@pytest.mark.parametrize(
    "lines", [FIREZONE, SERVED, [*FIREZONE, *NO_DEFAULTS]], ids=["cut", "copied", "resources only"]
)
def test_a_network_card_that_the_vpns_table_uses_is_the_vpn(lines: list[str]) -> None:
    """A tap looks like an Ethernet."""
    case = Case([line.replace("dev tun-firezone", "dev br9") for line in lines])
    case = case._replace(config=replace(Config(), tunnel={"interface": "br9"}))
    found = status(case.config, *case.read())
    assert {} == found.others
    assert ["ok"] == [each.level for each in case.findings("tunnel")]


TWO = [*FIREZONE, "rule add pref 1000 lookup 300", "route add default dev tun0 table 300"]
LAN_FIRST = "lookup main suppress_prefixlength 0"
DENY_ALL = {"deny": (Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0"))}


@pytest.mark.parametrize(
    ("lines", "lan", "is_fault", "level"),
    [
        (TWO, {}, True, "failure"),
        (TWO, DENY_ALL, False, "info"),
        ([*TWO, *(f"{family}rule add pref 5 {LAN_FIRST}" for family in ("", "-6 "))], {}, False, "info"),
        ([], {}, False, "info"),
        ([], DENY_ALL, False, "info"),
        (LAYOUTS["NetBird"].lines, {}, False, "info"),
    ],
)
def test_a_lan_that_auto_cannot_serve_is_lost_unless_a_setting_leaves_it_out(
    lines: Sequence[str], lan: dict[str, Any], is_fault: bool, level: str
) -> None:
    """`auto` has chosen no VPN."""
    case = Case([*lines], config=replace(Config(), tunnel={"interface": "auto"}, lan=lan))
    said = summary(status(case.config, *case.read()))
    assert is_fault is not said.is_good
    assert is_fault is any(item.kind == "wrong" for item in said.lan_items)
    (found,) = case.findings("tunnel")
    assert level == found.level


@pytest.mark.parametrize(
    ("kind", "flags", "is_dead"),
    [
        ("none", "POINTOPOINT MULTICAST NOARP UP LOWER_UP", False),  # a tun, or IPsec, whose program is there
        ("none", "NO-CARRIER POINTOPOINT MULTICAST NOARP UP", True),  # a persistent tun without a program
        ("ether", "NO-CARRIER BROADCAST MULTICAST UP", True),  # a persistent tap
        ("none", "POINTOPOINT MULTICAST NOARP", False),  # it is down, which is said in other words
        ("none", "POINTOPOINT NOARP UP LOWER_UP", False),  # WireGuard: its operstate is UNKNOWN
        ("none", "POINTOPOINT NOARP UP", False),
    ],
)
def test_a_tunnel_without_a_program_is_not_only_up(kind: str, flags: str, is_dead: bool) -> None:
    found = links([{"ifname": "tun0", "ifindex": 9, "link_type": kind, "flags": flags.split()}])
    case = Case(["rule add pref 99 lookup 300", "route add default dev tun0 table 300"], config=OF_TUN0)
    machine = case.machine
    snapshot = dataclasses.replace(machine.snapshot, links={**machine.snapshot.links, **found})
    said = summary(status(OF_TUN0, snapshot, dataclasses.replace(machine.network, links=snapshot.links)))
    checked = [*tunnel_check(dataclasses.replace(machine, snapshot=snapshot))]
    words = "tun0 is up, but has no carrier"
    assert is_dead is said.vpn.startswith(f"{words}: no program reads it, and its packets are lost")
    assert is_dead is any((each.level, each.seen) == ("failure", words) for each in checked)
    assert is_dead <= (said.verb == "doctor")


OF_TUN0 = replace(Config(), tunnel={"interface": "tun0"}, tables={"layout": "single", "single": 300})


@pytest.mark.parametrize("device", ["ppp0", "tailscale0"])
def test_a_route_that_sync_copies_but_that_leads_to_no_lan_is_told_as_such(device: str) -> None:
    lines = [*FIREZONE, f"-6 route add fe80::/64 dev {device} proto kernel metric 256"]
    said = summary(status(Config(), *Case(lines).read()))
    (item,) = [each for each in said.items if each.what == "fe80::/64"]
    assert ("due", device, f"not copied yet; no LAN: {device} may be a tunnel") == (item.kind, item.where, item.why)
    assert ["not copied yet"] * said.lans == [each.why for each in said.items if each != item]


def test_a_copy_that_comes_where_a_placeholder_is_does_not_quote_it() -> None:
    lines = [*FIREZONE, "route add 203.0.113.0/24 dev eth0", HELD_ROUTE]
    (item,) = [each for each in summary(status(Config(), *Case(lines).read())).items if each.what == "203.0.113.0/24"]
    assert ("changed", "a placeholder is in its place") == (item.state, item.why)


OF_ETH0 = ["-6 route add fe80::/64 dev eth0 proto kernel"]


@pytest.mark.parametrize(
    "lan", [{}, DENY_ALL, {"deny": (Prefix.parse("192.168.0.0/16"),)}, {"interfaces": ("nosuch",)}]
)
@pytest.mark.parametrize("lines", [FIREZONE, SERVED, LAYOUTS["wg-quick"].lines], ids=["cut", "copied", "kept"])
def test_the_same_lans_are_counted_before_and_after_a_sync(lines: Sequence[str], lan: dict[str, Any]) -> None:
    """Each is also in a row, or among the others; a `sync` that cuts one is not advised."""
    case = Case([*lines, *OF_ETH0], config=replace(Config(), lan=lan))
    judged = Judgement(case.config, *case.read())
    then = Judgement.reading(case.config, judged.snapshot, judged.then)
    before, after = (summary(status(each.config, each.snapshot, each.network)) for each in (judged, then))
    assert before.lans == after.lans > 0
    for said in (before, after):
        rows = {item.what for item in said.lan_items} | {line.route.dst for line in said.others}
        assert {place for place, _ in judged.lans} == rows
        assert sum(item.why == "not copied yet" for item in said.lan_items) <= said.lans - said.reachable
    assert before.is_left_out is ("leave out every LAN" in str(case.findings("shadows")))
    assert "sync" != mends(before, None) or before.reachable <= after.reachable


@pytest.mark.parametrize("is_copied", [True, False])
def test_only_a_lan_with_a_copy_has_the_mark_of_one(is_copied: bool) -> None:
    of_ipv4 = TWO[len(FIREZONE) :]  # another VPN cuts IPv4; IPv6 is reachable
    case = Case([*of_ipv4, *(copied(SINGLE) if is_copied else [])])
    lines = drawn(summary(status(case.config, *case.read())), None, str, Screen(80))
    assert ("=" if is_copied else "·") == lines[-1].split()[0]
