"""What packets do not reach of the LANs: whole LANs, parts, and packets of a port or a user. Each is named once."""

import dataclasses
from collections.abc import Mapping

import pytest

from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.status import status
from fz_iproute.diagnosis.summary import summary
from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix
from tests.layouts import LAYOUTS
from tests.unit.diagnosis.machines import FIREZONE, MIRROR, SERVED, TIERS, Case, vpn

TO_TUNNEL = "route add default dev tun-firezone table 77"
TO_ROUTER = "route add default via 172.17.0.2 dev docker0 table 78"
PART = "a part of a LAN"
BOTH = "some packets to 172.17.0.0/16, 192.168.1.0/24"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("to 192.168.1.64/26 lookup 77", f"packets to 192.168.1.64/26, {PART}, enter tun-firezone: default of table 7"),
        ("to 192.168.1.66 lookup 78", f"packets to 192.168.1.66/32, {PART}, leave by docker0 through the router"),
        ("to 192.168.1.64/26 prohibit", f"packets to 192.168.1.64/26, {PART}, are refused: rule 5 (from all to"),
        ("to 192.168.1.64/26 goto 32767", f"packets to 192.168.1.64/26, {PART}, have no route"),
        ("ipproto 17 lookup 77", f"{BOTH} enter tun-firezone: default of table 77, by rule 5 (from all ipproto udp "),
        ("dport 9100 lookup 77", BOTH),
        ("sport 1-99 lookup 77", BOTH),
        ("tos 0x10 lookup 77", BOTH),
        ("uidrange 0-999 lookup 77", BOTH),
        ("uidrange 0-999 to 192.168.1.0/24 unreachable", "some packets to 192.168.1.0/24 are refused"),
        ("uidrange 0-999 to 192.168.1.7 blackhole", "some packets to 192.168.1.7/32 are refused"),
        # All human users are not some packets.
        ("uidrange 1000-60000 to 192.168.1.0/24 lookup 77", "packets to 192.168.1.0/24 enter tun-firezone"),
        ("to 192.168.1.0/24 prohibit", "packets to 192.168.1.0/24 are refused: rule 5 (from all to 192.168.1.0/24 pro"),
        ("to 192.168.1.128/25 prohibit", f"packets to 192.168.1.128/25, {PART}, are refused"),  # half of it
        ("to 10.9.0.0/16 lookup 77", ""),
        ("uidrange 0-999 to 10.9.0.0/16 lookup 77", ""),
        ("dport 9100 lookup 539098368", ""),
        ("to 192.168.1.64/26 lookup main", ""),
        ("fwmark 0xfd002021 lookup 77", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_in_front", [True, False])
def test_what_a_rule_takes_of_a_lan_is_named_once(rule: str, said: str, is_in_front: bool) -> None:
    case = Case([*SERVED, TO_TUNNEL, TO_ROUTER, f"rule add {rule} pref {5 if is_in_front else 32766}"])
    found = status(case.config, *case.read())
    assert len(found.losses) == bool(said and is_in_front)
    assert all(str(loss).startswith(said) for loss in found.losses)
    items = [item for item in summary(found).items if item.kind in ("left out", "wrong")]
    assert len(found.losses) == len(items)
    of_doctor = [each.seen for each in case.findings("shadows") if each.level != "ok"]
    assert [str(loss) for loss in found.losses] == of_doctor


@pytest.mark.parametrize(
    ("verb", "dev", "said"),
    [("", " dev tun-firezone", "enter tun-firezone: 192.168.1.64/26"), ("prohibit ", "", "are refused: prohibit 192")],
)
def test_a_part_that_the_table_of_the_vpn_takes_is_named_with_its_route(verb: str, dev: str, said: str) -> None:
    case = Case([*SERVED, *vpn("192.168.1.64/26", verb=verb, dev=dev)])
    (loss,) = Judgement(case.config, *case.read()).losses
    assert str(loss).startswith(f"packets to 192.168.1.64/26, {PART}, {said}") and f"of table {MIRROR}" in str(loss)


@pytest.mark.parametrize("verb", ["prohibit", "unreachable", "blackhole"])
@pytest.mark.parametrize("by", ["route", "rule"])
@pytest.mark.parametrize(
    ("parts", "doctor", "line"),
    [
        (["0/26"], "packets to 192.168.1.0/26, a part of a LAN, are refused", ""),
        (["128/25"], "packets to 192.168.1.128/25, a part of a LAN, are refused", ""),
        (["128/25", "64/26"], "most packets to 192.168.1.0/24 are refused", "most of its packets are refused"),
        (["128/25", "0/25"], "packets to 192.168.1.0/24 are refused", "its packets are refused"),
        (["0/24"], "packets to 192.168.1.0/24 are refused", "its packets are refused"),
    ],
)
def test_a_lan_is_lost_as_a_whole_only_if_all_its_packets_are(
    verb: str, by: str, parts: list[str], doctor: str, line: str
) -> None:
    prefixes = [f"192.168.1.{part}" for part in parts]
    rules = [f"rule add to {prefix} {verb} pref {pref}" for pref, prefix in enumerate(prefixes, 5)]
    routes = [f"route add {verb} {prefix} table {MIRROR}" for prefix in prefixes]
    # In the VPN's table, a route to the same prefix with a lower metric would win, which is the copy.
    case = Case([*SERVED, *(rules if by == "rule" or "0/24" in parts else routes)])
    (found,) = [each.seen for each in case.findings("shadows") if each.level != "ok"]
    assert found.startswith(f"{doctor}: ")
    items = [item for item in summary(status(case.config, *case.read())).items if item.kind == "wrong"]
    assert [item.why for item in items] == ([line] if line else [])


UP = "route add 10.66.0.0/24 dev tun-firezone proto kernel scope link src 10.66.0.2"
PARTIAL = {"mode": "manage", "internet": True, "routes": (Prefix.parse("192.168.1.128/26"),)}
ADDED = "to 192.168.1.128/26, a part of a LAN, enter tun-firezone: 192.168.1.128/26 of table 539098368, by rule "


@pytest.mark.parametrize("is_synced", [False, True])
def test_what_only_a_sync_takes_of_a_lan_is_not_told_as_if_it_were_so_now(is_synced: bool) -> None:
    numbered: Mapping[Family, frozenset[str]] = dict.fromkeys(FAMILIES, frozenset(["tun-firezone"]))
    case = Case([UP], config=replace(Config(), tunnel=PARTIAL), numbered=numbered)
    seen, network = case.read()
    judged = Judgement(case.config, seen, network)
    if is_synced:
        judged = Judgement.reading(case.config, dataclasses.replace(seen, rules=judged.then.rules), judged.then)
    (loss,) = judged.losses
    when = "" if is_synced else "after `sync`, "
    assert str(loss).startswith(f"{when}packets {ADDED}")
    said = summary(status(case.config, judged.snapshot, judged.network))
    (item,) = [each.why for each in said.items if "part of" in each.why]
    assert item.startswith(f"{when}packets to this part of a LAN enter tun-firezone: ")


@pytest.mark.parametrize("device", ["tun-firezone", "wg9"])
def test_the_network_of_a_tunnel_is_no_lan(device: str) -> None:
    case = Case([*SERVED, f"route add 10.9.0.0/24 dev {device} proto kernel scope link src 10.9.0.2"])
    judged = Judgement(case.config, *case.read())
    assert "10.9.0.0/24" not in {dst for dst, _ in judged.lans}
    assert summary(status(case.config, *case.read())).lans == len(judged.lans)


def test_if_two_rules_cut_a_lan_the_remedy_deletes_both() -> None:
    rules = ["rule add to 192.168.1.0/24 prohibit pref 5", "rule add to 192.168.1.0/24 lookup 77 pref 6"]
    (found,) = [each for each in Case([*SERVED, TO_TUNNEL, *rules]).findings("shadows") if each.level != "ok"]
    commands, _, undo = found.remedy.partition("  # undo: ")
    assert ["ip rule del priority 5", "ip rule del priority 6"] == [each[:22] for each in commands.split(" && ")]
    assert ["ip rule add priority 6", "ip rule add priority 5"] == [each[:22] for each in undo.split(" && ")]


@pytest.mark.parametrize("option", ["", "-6 "])
def test_a_tiered_layout_that_has_lost_the_rule_to_the_copies_gets_it_back(option: str) -> None:
    config = replace(Config(), tables={"layout": "tiered"})
    case = Case([*TIERS, f"{option}rule del not fwmark 0xfd002021 lookup 539098369 pref 200"], config=config)
    (found,) = [each for each in case.findings("shadows") if each.level != "ok"]
    assert found.remedy.startswith(f"ip {option}rule add priority 200 not from all fwmark 0xfd002021 lookup 539098369")


def test_a_lan_counts_once_however_many_routes_lead_to_it() -> None:
    case = Case([*SERVED, "route append 192.168.1.0/24 dev wlan0 metric 600"])
    said = summary(status(case.config, *case.read()))
    assert 3 == said.lans == said.reachable


@pytest.mark.parametrize(
    ("name", "verb"),
    [
        ("wg-quick", ""),
        ("NetBird", ""),
        ("NetBird without IPv6", ""),
        ("Mullvad", "detect"),
        ("Outline", "detect"),
    ],
)
def test_nothing_is_to_be_done_if_another_vpn_carries_all_and_keeps_the_lan(name: str, verb: str) -> None:
    case = Case(LAYOUTS[name].lines)
    assert verb == summary(status(case.config, *case.read())).verb


def test_a_lan_that_is_reached_without_a_copy_counts_with_the_reason() -> None:
    case = Case([*FIREZONE, f"route add throw 192.168.1.0/24 table {MIRROR}"])
    said = summary(status(case.config, *case.read()))
    assert (3, 1) == (said.lans, said.reachable)
    assert "the VPN's table has its own route to 192.168.1.0/24" in {item.why for item in said.lan_items}


@pytest.mark.parametrize(
    ("way", "why"), [("via 192.168.1.1 dev eth0", "the router decides"), ("dev tun-firezone", "hosts there cannot be")]
)
def test_a_router_may_send_packets_on_and_a_tunnel_does_not(way: str, why: str) -> None:
    lines = [*SERVED, "rule add pref 5 to 192.168.1.0/24 lookup 79", f"route add default {way} table 79"]
    (found,) = [each for each in Case(lines).findings("shadows") if each.level == "failure"]
    assert found.why.startswith(why)


def test_a_remedy_for_a_part_of_a_lan_leaves_what_cuts_other_parts() -> None:
    rule = "rule add to 192.168.1.128/26 lookup 77 pref 5"
    found = Case([*SERVED, TO_TUNNEL, rule, *vpn("192.168.1.64/28", verb="blackhole ", dev="")]).findings("shadows")
    assert ["info", "warning"] == sorted(each.level for each in found)
    (remedy,) = [each.remedy for each in found if each.level == "warning"]
    assert "blackhole 192.168.1.64/28" in remedy and "rule" not in remedy
