"""Whatever lets packets to the internet around the tunnel, `doctor` and `status` tell, for both families alike."""

from collections.abc import Sequence

import pytest

from fz_iproute.diagnosis.checks.leaks import leak
from fz_iproute.diagnosis.detect import detect
from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.lookup import usual
from fz_iproute.diagnosis.remedy import Sync, tried
from fz_iproute.diagnosis.sentence import Case as Explained
from fz_iproute.diagnosis.sentence import sentence
from fz_iproute.diagnosis.simulated import RuleStep
from fz_iproute.diagnosis.status import status
from fz_iproute.diagnosis.summary import summary
from fz_iproute.diagnosis.trial import harm
from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.model import Mark
from fz_iproute.mirror.plan import plan
from fz_iproute.mirror.prefix import FAMILIES, FAMILY_NAMES, Family, Prefix
from fz_iproute.verbs.brief import Daemon, drawn
from fz_iproute.verbs.screen import Screen
from tests.layouts import both
from tests.unit.diagnosis.machines import BACKSTOP, MIRROR, SERVED, SPLIT, TIERS, WIREGUARD, Case, told, without

OPTION = {"inet": "", "inet6": "-6 "}
ROUTER = {"inet": "192.168.1.1", "inet6": "fd00:1::1"}
ADDRESS = {"inet": "100.64.0.7", "inet6": "fd00:2021:1111::7"}

NO_RULE = "rule del not fwmark 0xfd002021 lookup 539098368 pref 32765"
# What each does to one family. `{router}` is that of the LAN.
LEAKS = {
    "no default route": ["route del default table 539098368"],
    "no rule": [NO_RULE],
    "no rule and no default route": [NO_RULE, "route del default table 539098368"],
    "main in front": ["rule add lookup main pref 5"],
    "a jump": ["rule add goto 32766 pref 5"],
    "main in front for all ports but one": ["rule add not dport 9100 lookup main pref 5"],
    "another default route": [
        "route del default table 539098368",
        "route add default via {router} dev eth0 table 539098368",
    ],
    "a rule for some packets only": [NO_RULE, "rule add fwmark 0x7 lookup 539098368 pref 32765"],
}


def broken(kind: str, *families: Family) -> list[str]:
    lines = [OPTION[family] + line.format(router=ROUTER[family]) for family in families for line in LEAKS[kind]]
    return [*SERVED, *lines]


def shown(case: Case) -> tuple[str, str]:
    """What `status` says of the VPN, and the verb that it advises."""
    said = summary(status(case.config, *case.read()))
    return said.vpn.removesuffix(f"; copies in table {MIRROR}"), said.verb


def failures(case: Case, name: str = "") -> list[str]:
    return [each.seen for each in case.findings(name) if each.level == "failure"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", LEAKS)
def test_a_family_that_leaves_outside_while_the_tunnel_takes_the_other_is_a_failure(kind: str, family: Family) -> None:
    left, taken = FAMILY_NAMES[family], next(FAMILY_NAMES[other] for other in FAMILIES if other != family)
    case = Case(broken(kind, family))
    (found,) = failures(case, "leak")
    assert found.startswith(f"{left} to the internet leaves by eth0, outside the tunnel: default of table ")
    assert (f"tun-firezone is up; {taken} enters it, {left} leaves by eth0", "doctor") == shown(case)


# If a rule leads to the VPN's table, the VPN may be meant for some packets only, or have no default route.
MISSED_BY_RULES = ["no rule", "main in front", "a jump"]


@pytest.mark.parametrize("kind", MISSED_BY_RULES)
def test_if_both_families_leave_a_remedy_for_one_is_not_blamed_for_the_other(kind: str) -> None:
    """Each family gets the same remedy as if only that one left."""
    case, name = Case(broken(kind, *FAMILIES)), "rules" if kind == "no rule" else "leak"
    assert "doctor" == shown(case)[1]
    remedies = {each.remedy for each in case.findings(name) if each.level == "failure"}
    alone = [Case(broken(kind, family)).findings(name) for family in FAMILIES]
    assert {each.remedy for found in alone for each in found if each.level == "failure"} == remedies


def test_a_vpn_that_takes_no_traffic_to_the_internet_leaks_nothing() -> None:
    """Firezone without its Internet Resource."""
    case = Case(broken("no default route", *FAMILIES))
    assert "" == told(case.findings())
    said = "packets to the internet do not enter it: IPv4 and IPv6 leave by eth0"
    assert (f"tun-firezone is up; {said}", "") == shown(case)
    offline = Case([*case.lines, "-6 route del default"])
    said = "packets to the internet do not enter it: IPv4 leaves by eth0, IPv6 has no route"
    assert (f"tun-firezone is up; {said}", "") == shown(offline)


# A VPN without Firezone's mark.
OTHER = [line.replace("wg0", "tun-firezone") for line in both(*WIREGUARD)]
OF_OTHER = replace(Config(), tunnel={"fwmark": Mark(51820)}, tables={"layout": "single", "single": 51820})
MANAGED = replace(Config(), tunnel={"mode": "manage", "internet": True})
BOTH = "IPv4 and IPv6 to the internet leave by eth0, outside the tunnel"


@pytest.mark.parametrize(
    ("lines", "config", "level", "why"),
    [
        (SERVED, Config(), "failure", f"the VPN carries nothing; {BOTH}"),
        ([*SERVED, *both("route del default")], Config(), "failure", "the VPN carries nothing"),
        (TIERS, Config(), "failure", f"the VPN carries nothing; {BOTH}"),
        (OTHER, OF_OTHER, "warning", f"the VPN carries nothing; {BOTH}"),
        (SERVED, MANAGED, "ok", ""),  # `sync` is due
    ],
)
def test_routes_into_the_tunnel_that_the_kernel_has_removed_are_missed(
    lines: list[str], config: Config, level: str, why: str
) -> None:
    """It removes all of them when the tunnel goes down."""
    for state in ("up", "down"):
        case = Case([*without("dev tun-firezone", lines), f"link set dev tun-firezone {state}"], config=config)
        (found,) = case.findings("tunnel")
        if state == "up":
            assert (level, why) == (found.level, found.why)
        elif "IPv4" in why:
            assert f"the kernel has removed its routes; {BOTH}" == found.why
        if level != "ok":
            assert "reconnect the VPN's client" in found.remedy
            assert "doctor" == shown(case)[1]


def test_if_the_rules_are_gone_too_that_is_told() -> None:
    case = Case([*without("rule add not fwmark", without("dev tun-firezone", SERVED)), "link set dev tun-firezone up"])
    (found,) = case.findings("rules")
    assert ("warning", "no rule leads to the VPN's table", BOTH) == (found.level, found.seen, found.why)
    assert "reconnect its client" in found.remedy


def test_a_network_card_to_which_the_table_of_the_vpn_leads_is_no_tunnel() -> None:
    case = Case(broken("another default route", "inet"))
    assert ["ok"] == [each.level for each in case.findings("mark")]


@pytest.mark.parametrize("is_numbered", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_remedy_says_whether_it_uses_the_tunnel_or_blocks(family: Family, is_numbered: bool) -> None:
    address = f"{OPTION[family]}route add local {ADDRESS[family]} dev tun-firezone table 255"
    of_name_server = f"route add 100.100.111.0/24 dev tun-firezone table {MIRROR}"
    lines = [*broken("no default route", family), of_name_server, *([address] if is_numbered else [])]
    (found,) = Case(lines).findings("leak")
    name = FAMILY_NAMES[family]
    effect = f"sends {name} into the tunnel" if is_numbered else f"blocks {name} to the internet"
    assert f"  # {effect}; undo: ip {OPTION[family]}route del" in found.remedy
    assert is_numbered == ("default dev tun-firezone" in found.remedy)
    assert is_numbered != ("unreachable default" in found.remedy)


@pytest.mark.parametrize("family", FAMILIES)
def test_traffic_of_one_family_that_gets_around_the_tunnel_in_part_is_told(family: Family) -> None:
    part = {"inet": "99.0.0.0/8", "inet6": "2600::/12"}[family]
    route = f"{OPTION[family]}route add {part} via {ROUTER[family]} dev eth0 table {MIRROR}"
    (found,) = Case([*SERVED, route]).findings("leak")
    assert "info" == found.level and found.seen.startswith(f"{FAMILY_NAMES[family]} to {part} leaves by eth0, outside")


@pytest.mark.parametrize("way", ["via {router} dev eth0", "dev eth0 scope link"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_large_part_of_the_internet_outside_is_a_warning_that_names_the_route(family: Family, way: str) -> None:
    part = {"inet": "128.0.0.0/1", "inet6": "2800::/5"}[family]
    words = f"{part} {way.format(router=ROUTER[family])} table {MIRROR}"
    (found,) = Case([*SERVED, f"{OPTION[family]}route add {words}"]).findings("leak")
    said = f"{FAMILY_NAMES[family]} to {part} leaves by eth0, outside the tunnel: {part} of table {MIRROR}"
    assert "warning" == found.level and found.seen.startswith(said)
    assert found.remedy.startswith(f"ip {OPTION[family]}route del table {MIRROR} {part} ")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("selector", ["uidrange 1000-1999", "ipproto 6 dport 443", "dport 53", "sport 5000-6000"])
def test_rules_that_send_some_packets_around_the_tunnel_are_told(selector: str, family: Family) -> None:
    rule = f"{OPTION[family]}rule add {selector} lookup main pref 77"
    found = [each for each in Case([*SERVED, rule]).findings("leak") if "rule 77 (from all" in each.seen]
    assert found and all(each.level != "ok" for each in found)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("selector", "level"),
    [(None, "failure"), ("", "ok"), ("fwmark 0xfd002021 ", "warning"), ("from {router} ", "warning")],
)
def test_main_is_looked_up_for_all_packets_or_that_is_a_problem(
    selector: str | None, level: str, family: Family
) -> None:
    again = [] if selector is None else [f"rule add {selector.format(router=ROUTER[family])}lookup main pref 32766"]
    lines = [OPTION[family] + line for line in ("rule del lookup main pref 32766", *again)]
    found = Case([*SERVED, *lines]).findings("rules")
    assert [level] == [each.level for each in found]
    assert level == "ok" or "rule add priority 32766 from all lookup main protocol kernel  # undo" in found[0].remedy


@pytest.mark.parametrize("mode", ["observe", "manage"])
def test_a_foreign_half_of_the_internet_in_the_vpns_table_is_named(mode: str) -> None:
    config = replace(Config(), tunnel={"mode": mode, "internet": mode == "manage"})
    case = Case([*SERVED, f"route add 0.0.0.0/1 via 192.168.1.1 dev eth0 table {MIRROR}"], config=config)
    (found,) = [each for each in case.findings("leak") if each.level != "ok"]
    assert found.seen.startswith("IPv4 to 0.0.0.0/1 leaves by eth0, outside the tunnel: 0.0.0.0/1 of table")


@pytest.mark.parametrize(
    ("lines", "verb"),
    [
        ([], ""),
        (["route del default", "-6 route del default"], "doctor"),
        (both("rule add fwmark 0xfd002021 unreachable pref 5"), "doctor"),
        (["-6 route del default"], ""),  # the other family is enough
    ],
)
def test_if_the_vpns_own_packets_do_not_get_out_status_says_who_knows_more(lines: list[str], verb: str) -> None:
    assert verb == shown(Case([*SERVED, *lines]))[1]


def test_a_vpn_whose_routes_are_in_another_table_now_is_told_with_that_table() -> None:
    moved = both("rule add not fwmark 0xfd002021 lookup 77 pref 32764", "route add default dev tun-firezone table 77")
    (found,) = Case([*without("dev tun-firezone", SERVED), *moved]).findings("tunnel")
    assert "failure" == found.level and "table 77" in found.seen
    assert "single = 77" in found.remedy and "reconnect" not in found.remedy


@pytest.mark.parametrize(
    ("settings", "is_out", "again"),
    [
        ({"internet": True}, True, True),
        ({"routes": [Prefix.parse("100.64.0.0/11")]}, False, False),
        ({"routes": [Prefix.parse("fd00:2021::/48")]}, False, True),
    ],
)
def test_a_managed_tunnel_that_is_down_may_need_its_addresses_again(
    settings: dict[str, object], is_out: bool, again: bool
) -> None:
    """The internet is only missed if the tunnel should carry it, and an IPv6 address if it should carry IPv6."""
    config = replace(Config(), tunnel={"mode": "manage", **settings})
    case = Case([*without("dev tun-firezone", SERVED), "link set dev tun-firezone down"], config=config)
    (found,) = case.findings("tunnel")
    assert (is_out, again) == (BOTH in found.why, "add its IPv6 address again if it had one" in found.remedy)
    assert found.remedy.strip("`").startswith("ip link set tun-firezone up")
    assert found.remedy.endswith("fz-iproute sync")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "IPv4 enters it, IPv6 is blocked (tun-firezone has no IPv6 address)"),
        ("-6 rule add lookup 800 pref 80", "IPv6 is refused by rule 80, table 800"),
        ("-6 rule add unreachable pref 80", "IPv6 is refused by rule 80"),
        ("rule add lookup 800 pref 80", "IPv4 is refused by rule 80, table 800"),
    ],
)
def test_what_another_program_refuses_is_not_said_to_be_our_doing(line: str, said: str) -> None:
    """The tunnel has no IPv6 address, so `sync` blocks IPv6 in its own table."""
    refused = [
        f"{option}route add unreachable default proto static metric 4294967295 table 800" for option in ("", "-6 ")
    ]
    case = Case([*without("-6 route add default dev tun", SERVED), "-6 " + BACKSTOP, *refused, *filter(None, [line])])
    case = case._replace(config=MANAGED, numbered={"inet": frozenset({"tun-firezone"})})
    assert said in shown(case)[0]
    family: Family = "inet" if "IPv4 is" in said else "inet6"
    judged = Judgement(case.config, *case.read())
    packet = usual(family, {"inet": (203 << 24) + 9, "inet6": (0x3FFE << 112) + 9}[family])
    text = sentence(Explained(judged, packet, judged.network.way(packet), "fz-iproute sync"))
    assert ("tunnel.internet_leak" in text) == (not line)


@pytest.mark.parametrize("taken", FAMILIES)
def test_the_leak_of_a_vpn_that_is_not_configured_is_told(taken: Family) -> None:
    left = FAMILY_NAMES[next(family for family in FAMILIES if family != taken)]
    for lines, levels in (([OPTION[taken] + line for line in WIREGUARD], ["warning"]), (both(*WIREGUARD), ["ok"])):
        found = Case(lines).findings("leak")
        assert levels == [each.level for each in found]
        assert levels == ["ok"] or f"wg0: {left} leaves by eth0, outside the VPN" == found[0].seen


@pytest.mark.parametrize("families", [FAMILIES, FAMILIES[:1], FAMILIES[1:]], ids=" and ".join)
def test_in_manage_mode_a_sync_that_would_open_the_tunnel_is_told_everywhere(families: Sequence[Family]) -> None:
    """The routes of the VPN's client are treated as ours. So `tunnel.internet` decides, which is false by default."""
    config, outside = replace(Config(), tunnel={"mode": "manage"}), set(FAMILIES) - {*families}
    case = Case(broken("no default route", *outside) if outside else SERVED, config=config)
    names = " and ".join(FAMILY_NAMES[family] for family in families)
    danger = f"sync would send {names} to the internet outside the tunnel: tunnel.internet is false"
    said = summary(status(config, *case.read()))
    assert danger in said.vpn and said.verb == "doctor" and said.is_due and said.is_lost_then
    assert "watch  does not run" == drawn(said, Daemon("does not run", "watch"), str, Screen(80))[-1]
    assert [danger] == [vpn.released for vpn in case.machine.vpns]
    remedy = "set in /etc/fz-iproute/config.toml, section [tunnel]: internet = true, then fz-iproute sync"
    (due,) = case.findings("mirror")
    assert f"{remedy}  # without it, {danger}" == due.remedy
    reasons = {each.reason for each in plan(case.machine.goal) if "default" in each.words}
    assert {"stale: the configuration has no such route here"} == reasons
    synced = tried(case.machine, [Sync()])
    (left,) = leak(synced)
    assert ("info", "tunnel.internet is false") == (left.level, left.why)
    assert not synced.released
    asked = tried(synced, left.remedies[0].steps)
    assert all(map(asked.has_internet, FAMILIES))


@pytest.mark.parametrize("on_down", ["open", "closed"])
@pytest.mark.parametrize("link", ["link del tun-firezone", "link set dev tun-firezone down"])
def test_in_manage_mode_a_sync_that_would_block_the_internet_says_so(link: str, on_down: str) -> None:
    config = replace(Config(), tunnel={"mode": "manage", "internet": True, "on_down": on_down})
    lines = [*without("lookup 539098368", without("dev tun-firezone", SERVED)), link]
    case = Case(lines, config=config, facts={"/etc/resolv.conf": None})
    blocks = "blocks IPv4 and IPv6 to the internet until tun-firezone is up (tunnel.on_down)"
    said = summary(status(config, *case.read()))
    (due,) = case.findings("mirror")
    if on_down == "open":
        assert (False, "fz-iproute sync") == (said.is_worse_then, due.remedy) and "blocks" not in said.vpn
    else:
        assert said.is_worse_then and said.is_lost_then and f"sync {blocks}" in said.vpn
        assert f"fz-iproute sync  # {blocks}" == due.remedy
        assert not tried(case.machine, [Sync()]).blocked


def test_a_sync_that_opens_nothing_is_not_said_to() -> None:
    for lines, tunnel in ((SERVED, {}), (SERVED, {"mode": "manage", "internet": True}), (SPLIT, {"mode": "manage"})):
        assert "" == Case(lines, config=replace(Config(), tunnel=tunnel)).machine.released


def test_in_manage_mode_the_missing_rules_are_added_by_a_sync() -> None:
    lines = without("rule add not fwmark", without("dev tun-firezone", SERVED))
    case = Case([*lines, "link set dev tun-firezone up"], config=MANAGED)
    (found,) = case.findings("rules")
    assert ("warning", "fz-iproute sync") == (found.level, found.remedy)
    (due,) = case.findings("mirror")
    assert due.why.startswith("rules and routes are not as configured")


def test_a_wrong_mark_in_the_configuration_is_named_as_the_cause() -> None:
    found = Case(SERVED, config=replace(Config(), tunnel={"fwmark": Mark(0x33)})).findings("mark")
    assert {"this rule keeps packets out that are marked 0xfd002021: tunnel.fwmark is probably wrong"} == {
        each.why for each in found if each.level == "failure"
    }


def test_internet_that_the_table_of_the_vpn_refuses_is_told() -> None:
    refusal = f"route add unreachable default table {MIRROR}"
    (found,) = Case([*SERVED, f"route del default table {MIRROR}", refusal]).findings("leak")
    assert found.level == "info" and found.seen.startswith("IPv4 to the internet is refused: unreachable default")


def test_a_rule_that_leads_to_no_device_is_not_called_that_of_a_vpn() -> None:
    case = Case([*SERVED, "rule add fwmark 0/0xff lookup 99 pref 90", "route add unreachable default table 99"])
    found = [each for each in case.findings() if "rule 90" in each.seen]
    assert found and all("ip rule del priority 90 " in each.remedy for each in found), found


def test_for_a_missing_tunnel_that_no_other_vpn_replaces_status_sends_to_doctor() -> None:
    """`detect` would find nothing."""
    case = Case([*without("dev tun-firezone", SERVED), "link del tun-firezone"])
    assert ("doctor", []) == (shown(case)[1], case.machine.vpns)


@pytest.mark.parametrize(
    ("rule", "fwmark", "is_known"),
    [
        ("uidrange 1000-1000 lookup 300", 0xFD002021, False),
        ("uidrange 1000-1000 lookup 300", 0x1234, False),
        ("lookup 300", 0xFD002021, False),
        ("not fwmark 0x1234 lookup 300", 0xFD002021, False),
        ("not fwmark 0x1234 lookup 300", 0x1234, True),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_rule_is_only_added_if_the_client_is_known_to_make_such_rules(
    rule: str, fwmark: int, *, is_known: bool, family: Family
) -> None:
    """Else it could take packets of other users, or the VPN's own."""
    lines = [f"{OPTION[family]}rule add pref 100 {rule}", f"{OPTION[family]}route add default dev wg0 table 300"]
    tables = {"layout": "single", "single": 300}
    config = replace(Config(), tunnel={"interface": "wg0", "fwmark": Mark(fwmark)}, tables=tables)
    case = Case(lines, config=config, facts={"/etc/resolv.conf": None})
    (found,) = [each for each in case.findings("leak") if each.level == "failure"]
    assert is_known is ("rule add" in found.remedy)
    assert is_known is not ("in the settings of this VPN" in found.remedy)
    assert f"{fwmark:#x}" in found.remedy or not is_known


HALF, REST = {"inet": "0.0.0.0/1", "inet6": "2000::/4"}, {"inet": "128.0.0.0/1", "inet6": "3000::/4"}
NO_DEFAULT = "route del default table 539098368"
# Most packets enter the tunnel, and a large part of the internet is reached outside of it.
PARTLY = {
    "two nexthops": [
        NO_DEFAULT,
        "route add default nexthop dev tun-firezone nexthop via {router} dev eth0 table 539098368",
    ],
    "two nexthops, the tunnel the last one": [
        NO_DEFAULT,
        "route add default nexthop via {router} dev eth0 nexthop dev tun-firezone table 539098368",
    ],
    "one half only": [NO_DEFAULT, "route add {half} dev tun-firezone table 539098368"],
    "the other half left to main": ["route add throw {rest} table 539098368"],
    "the other half by the LAN": ["route add {rest} via {router} dev eth0 table 539098368"],
    "a rule for one half": ["rule add to {rest} lookup main pref 5"],
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", PARTLY)
def test_a_large_part_that_leaves_is_told_by_each_verb(kind: str, family: Family) -> None:
    words = {"router": ROUTER[family], "half": HALF[family], "rest": REST[family]}
    case, name = (
        Case([*SERVED, *(OPTION[family] + line.format(**words) for line in PARTLY[kind])]),
        FAMILY_NAMES[family],
    )
    said = f"some {name} leaves by eth0"
    assert (f"tun-firezone is up; IPv4 and IPv6 enter it; {said}", "doctor") == shown(case)
    found = next(each for each in case.findings("leak") if each.level in ("failure", "warning"))
    assert f"{name} to " in found.seen and "leaves by eth0, outside the tunnel" in found.seen
    assert found.remedy
    (vpn,) = detect(case.config, *case.read())
    assert (f"IPv4 and IPv6 go into tun-firezone ({said})", f"{said}, outside the VPN") == (vpn.headline, vpn.leak)
    address = {"inet": (203 << 24) + 9, "inet6": (0x3FFE << 112) + 9}[family]
    packet = usual(family, address)
    judged = Judgement(case.config, *case.read())
    text = sentence(Explained(judged, packet, judged.network.way(packet), "fz-iproute sync"))
    assert "leaves by eth0" in text and "all traffic" not in text


WHOLE = {
    "halves": [
        NO_DEFAULT,
        "route add {half} dev tun-firezone table 539098368",
        "route add {rest} dev tun-firezone table 539098368",
    ],
    "a host by the LAN": ["route add {host} via {router} dev eth0 table 539098368"],
    "two nexthops into the tunnel": [
        NO_DEFAULT,
        "route add default nexthop dev tun-firezone nexthop dev tun-firezone table 539098368",
    ],
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", WHOLE)
def test_a_small_hole_is_not_a_part_that_leaves(kind: str, family: Family) -> None:
    """A VPN reaches its own server by such a route."""
    host = {"inet": "203.0.113.9", "inet6": "2600::9"}[family]
    words = {"router": ROUTER[family], "half": HALF[family], "rest": REST[family], "host": host}
    case = Case([*SERVED, *(OPTION[family] + line.format(**words) for line in WHOLE[kind])])
    assert ("tun-firezone is up; IPv4 and IPv6 enter it", "") == shown(case)
    assert not [each for each in case.findings("leak") if each.level in ("failure", "warning")]
    (vpn,) = detect(case.config, *case.read())
    assert ("all traffic goes into tun-firezone (IPv4 and IPv6)", "") == (vpn.headline, vpn.leak)


UNMARKED = "not fwmark 0xfd002021 "
# What becomes of the mark, per family, and whether packets of the VPN's client are lost then.
MARKS = {
    "as it should be": ((), True),
    "IPv4 without it": (("inet",), False),
    "IPv6 without it": (("inet6",), False),
    "both without it": (FAMILIES, False),
}


@pytest.mark.parametrize("interface", ["tun-firezone", "tun0"])
@pytest.mark.parametrize("mark", ["0xfd002021", "0x7"])
@pytest.mark.parametrize("kind", MARKS)
def test_status_leads_to_doctor_exactly_if_doctor_finds_the_mark_lost(kind: str, mark: str, interface: str) -> None:
    """If neither the configuration nor a rule has a mark, the VPN keeps its own packets out in another way."""
    families, is_well = MARKS[kind]
    lines = [
        line.replace(UNMARKED, "" if ("inet6" if line.startswith("-6") else "inet") in families else UNMARKED)
        .replace("tun-firezone", interface)
        .replace("0xfd002021", mark)
        for line in SERVED
    ]
    tunnel = {"interface": interface, "fwmark": Mark(int(mark, 0), 2**32 - 1)}
    case = Case(lines, config=replace(Config(), tunnel=tunnel, tables={"layout": "single"}))
    is_unknown = families == FAMILIES and (mark, interface) == ("0xfd002021", "tun0")
    levels = {each.level for each in case.findings("mark")}
    assert ({"ok"} if is_well or is_unknown else {"failure"}) == levels
    assert ("" if is_well or is_unknown else "doctor") == shown(case)[1]


@pytest.mark.parametrize("refusal", ["unreachable", "prohibit", "blackhole"])
def test_if_the_packets_of_the_client_are_refused_status_leads_to_doctor(refusal: str) -> None:
    case = Case([*SERVED, f"rule add fwmark 0xfd002021 {refusal} pref 5"])
    assert ["failure"] == [each.level for each in case.findings("mark")]
    assert "doctor" == shown(case)[1]


# A rule in front of the VPN's, and routes of its table: to the network of a card's own address, or to another one.
ASIDE = {
    "inet": {"192.168.1.0/24": True, "192.168.0.0/16": True, "192.168.7.0/24": False, "128.0.0.0/1": False},
    "inet6": {"fd00:1::/64": True, "fd00:1::/48": True, "2600:7::/64": False, "2000::/3": False},
}


@pytest.mark.parametrize(
    ("family", "prefix", "is_lan"), [(family, *each) for family in FAMILIES for each in ASIDE[family].items()]
)
def test_a_cards_own_network_by_another_table_is_no_leak(family: Family, prefix: str, is_lan: bool) -> None:
    lan = next(iter(ASIDE[family]))
    lines = [f"route del {lan}", f"route add {prefix} dev eth0 table 100", "rule add lookup 100 pref 150"]
    case = Case([*without(lan, SERVED), *(OPTION[family] + line for line in lines)])
    told_of = [each.seen for each in case.findings("leak") if each.level != "ok"]
    assert is_lan != any("by rule 150" in seen for seen in told_of)
    rule = next(rule for rule in case.machine.snapshot.rules if rule.priority == 150)
    harmful = harm(case.machine, tried(case.machine, [RuleStep("del", rule)]))
    assert is_lan == harmful.endswith("of the LAN would be out of reach")
