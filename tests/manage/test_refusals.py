"""When `ip` refuses a command, nothing that keeps packets in the tunnel is removed before its replacement is there."""

import re
from itertools import count

import pytest

from fz_iproute.ip.passes import Pass
from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.model import EVERYTHING, Part
from tests.manage.laptop import MARK, MIRROR, TIER_INTERNET, TUNNEL, Laptop, manage
from tests.netns.namespace import LAN

SINGLE = manage()
ELSEWHERE = manage(rules={"single": 32000})
# `ip` ignores `not` when it looks for duplicates, so it refuses our rule because of this one.
IN_THE_WAY = f"priority 32000 fwmark {MARK:#x} lookup {MIRROR} protocol kernel"


def lines(done: Pass) -> list[str]:
    return [f"{failure.command.line}: {failure.words}" for failure in done.failures]


def test_a_refused_rule_keeps_the_one_that_it_was_to_replace_until_nothing_is_in_its_way(laptop: Laptop) -> None:
    laptop.sync(SINGLE)
    laptop.batch([f"rule add {IN_THE_WAY}"])
    done = laptop.passes(ELSEWHERE).sync()
    assert [TUNNEL, TUNNEL, LAN] == [laptop.way(host) for host in ("8.8.8.8", "2001:db8::1", "192.168.188.1")]
    assert [
        f"rule add priority 32000 not fwmark {MARK:#x} lookup {MIRROR} protocol kernel: RTNETLINK answers: File exists",
        f"rule del priority 32765 not fwmark {MARK:#x} lookup {MIRROR} protocol kernel: "
        "not run, because its replacement is not there yet",
    ] == [re.sub(r"Error: .*", "RTNETLINK answers: File exists", line) for line in lines(done)]
    laptop.batch([f"rule del {IN_THE_WAY}"])
    laptop.sync(ELSEWHERE)
    for family in ("inet", "inet6"):
        assert [32000] == [rule.priority for rule in laptop.added_rules(family)]
    assert [] == laptop.planned(ELSEWHERE)


# Others' routes by the same path


@pytest.mark.parametrize("layout", ["single", "tiered"])
def test_nothing_is_due_if_somebody_elses_ipv6_route_does_the_same(layout: str, laptop: Laptop) -> None:
    """IPv6 accepts no second route of the same metric by the same path."""
    config = manage(layout=layout, on_down="closed")
    internet = MIRROR if layout == "single" else TIER_INTERNET
    laptop.batch(
        [
            f"-6 route add default dev {TUNNEL} table {internet}",
            f"-6 route add fd00:2021:1111::/48 dev {TUNNEL} proto bird mtu 1300 table {MIRROR}",
            f"-6 route add unreachable default metric 4294967295 table {internet}",
        ]
    )
    before = laptop.state()
    laptop.sync(config)
    assert [] == laptop.planned(config)
    assert [TUNNEL, TUNNEL] == [laptop.way(host) for host in ("2001:db8::1", "fd00:2021:1111::77")]
    laptop.down(config)
    assert before == laptop.state()


def test_a_tunnel_of_which_ipv6_is_off_is_no_failure(laptop: Laptop) -> None:
    laptop.exec("sysctl", "-q", "-w", f"net.ipv6.conf.{TUNNEL}.disable_ipv6=1")
    laptop.batch([f"addr del 100.64.0.5/32 dev {TUNNEL}"])
    for config in (SINGLE, manage(layout="tiered"), manage(layout="tiered", rules={"tiered": [5, 6, 7]})):
        assert [] == lines(laptop.passes(config).sync())
        expected = {"8.8.8.8": TUNNEL, "2001:db8::1": "unreachable", "192.168.188.1": LAN}
        assert expected == laptop.leads(expected)
    assert [[5, 6, 7]] * 2 == [[rule.priority for rule in laptop.added_rules(family)] for family in ("inet", "inet6")]


def test_what_main_gets_between_two_readings_is_no_failure(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    laptop.sync(SINGLE)
    passes = laptop.passes(SINGLE)
    look = passes.look
    protocols = count(20)

    def look_at_another_main(changed: frozenset[Part] = EVERYTHING) -> Desired:
        laptop.ip("route", "replace", "10.5.0.0/24", "dev", LAN, "proto", str(next(protocols)))
        return look(changed)

    monkeypatch.setattr(passes, "look", look_at_another_main)
    due = passes.plan_sync()
    assert ["10.5.0.0/24"] == [command.words[4] for command in due]
    assert [] == lines(passes.sync())
    assert next(protocols) > 23  # each round found another route
    monkeypatch.undo()
    laptop.sync(SINGLE)
    assert [] == laptop.planned(SINGLE)
