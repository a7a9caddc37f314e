"""Why a VPN does not carry all traffic although a rule leads to its default route."""

import pytest

from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.short_rules import not_carried
from fz_iproute.mirror.config import Config
from tests.unit.diagnosis.machines import MIRROR, Case

TUNNEL = f"route add default dev tun-firezone table {MIRROR}"


def said(*lines: str) -> str:
    return not_carried(Judgement(Config(), *Case([TUNNEL, *lines]).read()))


@pytest.mark.parametrize(
    ("selector", "which"),
    [
        ("uidrange 0-999", "takes only packets of uid 0-999"),
        ("iif enp1s0", "takes only packets received by enp1s0"),
        ("from 10.77.0.0/16", "takes only packets from 10.77.0.0/16"),
        ("to 8.0.0.0/8", "takes only packets to 8.0.0.0/8"),
        ("ipproto udp", "takes only packets of ipproto udp"),
        ("dport 53", "takes only packets of dport 53"),
        ("oif tun-firezone", "takes only packets bound to tun-firezone"),
        ("from 10.77.0.0/16 uidrange 0-999", "takes only packets from 10.77.0.0/16"),
        ("not uidrange 1000-1999", "leaves out packets of uid 1000-1999"),
        ("not from all", "matches no packet"),
    ],
)
def test_the_rule_and_what_limits_it_are_named(selector: str, which: str) -> None:
    expected = f"tun-firezone does not carry all traffic: rule 100 {which}"
    assert expected == said(f"rule add pref 100 {selector} lookup {MIRROR}")


def test_each_limited_rule_is_named() -> None:
    rules = [f"rule add pref {pref} uidrange {pref}-{pref} lookup {MIRROR}" for pref in (7, 8)]
    which = "rule 7 takes only packets of uid 7-7, rule 8 takes only packets of uid 8-8"
    assert f"tun-firezone does not carry all traffic: {which}" == said(*rules)


def test_a_rule_that_comes_first_or_skips_the_vpns_is_named() -> None:
    rule = f"rule add pref 100 lookup {MIRROR}"
    start = "tun-firezone does not carry all traffic: rule 10"
    assert f"{start} (from all lookup main) comes before rule 100" == said(rule, "rule add pref 10 lookup main")
    assert f"{start} (from all goto 32766) skips rule 100" == said(rule, "rule add pref 10 goto 32766")


def test_a_rule_that_ignores_its_default_route_is_named() -> None:
    expected = f"tun-firezone does not carry all traffic: rule 100 ignores the default route of table {MIRROR}"
    assert expected == said(f"rule add pref 100 lookup {MIRROR} suppress_prefixlength 0")


def test_a_rule_whose_table_sends_most_packets_on_is_named() -> None:
    throws = [f"route add throw {half} table {MIRROR}" for half in ("0.0.0.0/1", "128.0.0.0/1")]
    expected = f"rule 100 finds no way into the tunnel for most IPv4 in table {MIRROR}"
    assert f"tun-firezone does not carry all traffic: {expected}" == said(*throws, f"rule add pref 100 lookup {MIRROR}")


def test_of_a_vpn_that_carries_all_or_leads_nowhere_nothing_is_said() -> None:
    both = [f"rule add pref 100 lookup {MIRROR}", f"-6 rule add pref 100 lookup {MIRROR}", f"-6 {TUNNEL}"]
    assert "" == said(*both)
    assert "" == said("rule add pref 100 lookup 300")


def test_the_family_that_the_vpn_carries_is_told_first() -> None:
    lines = [f"rule add pref 100 lookup {MIRROR}", f"-6 {TUNNEL}", f"-6 rule add pref 100 uidrange 0-9 lookup {MIRROR}"]
    expected = "IPv4 goes into tun-firezone (IPv6 leaves by eth0): rule 100 takes only packets of uid 0-9"
    assert expected == said(*lines)


def test_the_check_of_leaks_tells_it_too() -> None:
    lines = [TUNNEL, f"rule add pref 100 uidrange 0-999 lookup {MIRROR}"]
    (found,) = Case(lines).findings("leak")
    assert found.why.startswith("rule 100 takes only packets of uid 0-999; ")
    assert "let tun-firezone carry all traffic, or block the rest, in the settings of this VPN" == found.remedy
