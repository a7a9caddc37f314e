"""What `ip` refuses: nothing that keeps packets in the tunnel goes before what takes its place has come."""

import re

from fz_iproute.app.sync import Pass, Passes
from fz_iproute.core.config import parse
from fz_iproute.kernel.ip import Ip
from fz_iproute.log import Log
from tests.manage.conftest import Watch
from tests.manage.laptop import LAN, MARK, MIRROR, TUNNEL, Laptop, manage
from tests.netns.namespace import wait_until

SINGLE = manage()
ELSEWHERE = manage(rules={"single": 32000})
# `ip` passes over `not` when it looks for duplicates: with this one, ours is refused.
IN_THE_WAY = f"priority 32000 fwmark {MARK:#x} lookup {MIRROR} protocol kernel"


def synced(laptop: Laptop, config: str) -> Pass:
    return Passes(Ip(laptop.name), parse(config, "test"), Log("CRITICAL")).sync()


def lines(done: Pass) -> list[str]:
    return [f"{failure.command.line}: {failure.words}" for failure in done.failures]


def test_a_refused_rule_keeps_the_one_that_it_was_to_replace(laptop: Laptop) -> None:
    laptop.sync(SINGLE)
    laptop.batch([f"rule add {IN_THE_WAY}"])
    done = synced(laptop, ELSEWHERE)
    assert [TUNNEL, TUNNEL, LAN] == [laptop.way(host) for host in ("8.8.8.8", "2001:db8::1", "192.168.188.1")]
    assert [
        f"rule add priority 32000 not fwmark {MARK:#x} lookup {MIRROR} protocol kernel: RTNETLINK answers: File exists",
        f"rule del priority 32765 not fwmark {MARK:#x} lookup {MIRROR} protocol kernel: "
        "not run, since what is to take its place is not there",
    ] == [re.sub(r"Error: .*", "RTNETLINK answers: File exists", line) for line in lines(done)]


def test_when_nothing_is_in_the_way_any_more_the_move_goes_on(laptop: Laptop) -> None:
    laptop.sync(SINGLE)
    laptop.batch([f"rule add {IN_THE_WAY}"])
    synced(laptop, ELSEWHERE)
    laptop.batch([f"rule del {IN_THE_WAY}"])
    laptop.sync(ELSEWHERE)
    for family in ("inet", "inet6"):
        assert [32000] == [rule.priority for rule in laptop.added_rules(family)]
    assert [] == laptop.planned(ELSEWHERE)


def test_watch_keeps_the_rule_too(laptop: Laptop, watch: Watch) -> None:
    daemon = watch(SINGLE)
    laptop.batch([f"rule add {IN_THE_WAY}"])
    daemon.config.write_text(ELSEWHERE)
    daemon.send(1)
    wait_until(lambda: any("File exists" in line for line in daemon.complaints), "it complains")
    assert [TUNNEL, TUNNEL] == [laptop.way(host) for host in ("8.8.8.8", "2001:db8::1")]
    laptop.batch([f"rule del {IN_THE_WAY}"])
    wait_until(
        lambda: all([32000] == [rule.priority for rule in laptop.added_rules(family)] for family in ("inet", "inet6")),
        "the rule has moved",
    )
    assert TUNNEL == laptop.way("8.8.8.8")
