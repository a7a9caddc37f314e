"""Peculiarities of `ip` and of the kernel that can make a copy wrong."""

import pytest

from fz_iproute.ip.coprocess import CoprocessIp
from fz_iproute.ip.reader import Reader
from fz_iproute.mirror.config import Config
from tests.netns.namespace import Machine, Namespace


def test_protocol_names_and_numbers_in_one_batch_are_not_confused(quiet: Namespace) -> None:
    """`ip -batch` 6.1: after `proto boot`, `proto 5`, the next `proto boot` is taken for 5."""
    for number, proto in ((1, "boot"), (2, "5"), (3, "boot")):
        quiet.batch([f"route add 10.{number}.0.0/16 dev lan0 scope link proto {proto} table 539098368"])
    quiet.fz("sync")
    assert [] == quiet.routes("inet")


def test_a_route_of_the_largest_metric_does_not_stop_other_changes(quiet: Namespace) -> None:
    quiet.veth("lan1")
    quiet.batch(f"-6 route append fd00:1::/64 dev {dev} metric 1024" for dev in ("lan0", "lan1"))
    quiet.batch(["-6 route add fd00:1::/64 dev lan0 metric 4294967295"])
    quiet.fz("sync")
    quiet.batch(["-6 route del fd00:1::/64 dev lan1 metric 1024", "-6 route append fd00:1::/64 dev lan1 mtu 1400"])
    quiet.fz("sync")
    assert "" == quiet.fz("plan")


def test_a_slow_coprocess_is_closed_when_all_its_questions_are_answered(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two questions to one family may be asked at once. Here every answer counts as slow."""
    monkeypatch.setattr("fz_iproute.ip.coprocess.SLOW", 0.0)
    ip = CoprocessIp(machine.name)
    ip.start_coprocesses()
    asked = [ip.ask("inet", f"route show table {table}") for table in ("main", "local")]
    assert all(ip.answers(part)[0] for part in asked)
    assert (False, True) == (ip.needs_no_process("inet"), ip.needs_no_process("inet6"))
    ip.abandon()
    ip.end_coprocesses()


def test_a_full_pass_of_watch_starts_one_process_for_each_family(machine: Machine) -> None:
    """There is one a minute, so its cost is most of what an idle `watch` costs."""
    started: list[str] = []
    ip = CoprocessIp(machine.name, trace=started.append)
    reader = Reader(ip, Config())
    reader.read()
    ip.allow_slow_families()  # on a busy machine, an answer may have been slow
    ip.start_coprocesses()
    started.clear()
    with ip.without_coprocesses():
        reader.read()
    ip.end_coprocesses()
    assert 2 == len(started), started
