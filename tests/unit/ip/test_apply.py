"""Work is cut into chunks that an `ip` can bear, in an order that the commands can bear."""

from typing import Any

import pytest

from fz_iproute.ip.apply import MOST_LINES, Work
from fz_iproute.ip.ip import Outcome
from fz_iproute.mirror.model import Command


class RecordingIp:
    """Takes everything, remembers what was started, and when something was waited for."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []

    def ask(self, family: str, *questions: str, first: list[str]) -> tuple[int, int]:
        self.log.append(("start", (family, first, questions)))
        return len(first), len(questions)

    def outcome(self, asked: tuple[int, int]) -> Outcome:
        self.log.append(("wait", asked))
        return Outcome({}, [[]] * asked[1], "")

    def abandon(self) -> None:
        pass


def commands(count: int, family: Any = "inet", *, independent: bool = False) -> list[Command]:
    return [Command(family, f"route {number}", "", independent) for number in range(count)]


@pytest.mark.parametrize("count", [1, 9_999, 10_000, 10_001, 30_001])
def test_every_command_is_run_once_in_order_and_the_last_ip_answers(count) -> None:
    ip = RecordingIp()
    refusals, answers = Work(ip, commands(count), {"inet": ["link show"]}).finish()  # type: ignore[arg-type]
    starts = [what for kind, what in ip.log if kind == "start"]
    lines = [int(line.split()[1]) for _, first, _ in starts for line in first]
    assert (list(range(count)), []) == (lines, refusals)
    assert all(len(first) <= MOST_LINES for _, first, _ in starts)
    assert [()] * (len(starts) - 1) + [("link show",)] == [questions for _, _, questions in starts]
    assert {"inet": [[]]} == answers


def test_a_family_without_commands_is_not_asked() -> None:
    ip = RecordingIp()
    _, answers = Work(ip, commands(1), {"inet": ["link show"], "inet6": ["link show"]}).finish()  # type: ignore[arg-type]
    assert {"inet": [[]]} == answers


def test_the_families_run_side_by_side() -> None:
    ip = RecordingIp()
    Work(ip, [*commands(2), *commands(2, "inet6")]).finish()  # type: ignore[arg-type]
    assert ["start", "start", "wait", "wait"] == [kind for kind, _ in ip.log]


@pytest.mark.parametrize("count", [5_000, 9_999, 20_000, 40_000])
def test_many_independent_commands_are_run_by_two_and_a_third_answers(count: int) -> None:
    ip = RecordingIp()
    due = commands(count, independent=True)
    refusals, answers = Work(ip, due, {"inet": ["link show"]}).finish()  # type: ignore[arg-type]
    *halves, (_, first, questions) = [what for kind, what in ip.log if kind == "start"]
    lines = [int(line.split()[1]) for _, half, _ in halves for line in half]
    assert (list(range(count)), [], ("link show",)) == (lines, first, questions)
    assert all(len(half) <= MOST_LINES for _, half, _ in halves)
    assert ["start", "start", "wait", "wait"] == [kind for kind, _ in ip.log[:4]]
    assert ["wait", "start", "wait"] == [kind for kind, _ in ip.log[-3:]]
    assert ([], {"inet": [[]]}) == (refusals, answers)


def test_what_depends_on_others_waits_for_both_and_the_last_answers() -> None:
    ip = RecordingIp()
    due = [*commands(6_000, independent=True), *commands(3)]
    _, answers = Work(ip, due, {"inet": ["link show"]}).finish()  # type: ignore[arg-type]
    assert ["start", "start", "wait", "wait", "start", "wait"] == [kind for kind, _ in ip.log]
    assert ["route 0", "route 1", "route 2"] == ip.log[-2][1][1]
    assert {"inet": [[]]} == answers


def test_no_ip_reads_a_name_behind_a_number() -> None:
    """`ip -batch` 6.1 remembers the number of the last name, and a number in between overwrites it."""
    protos = ["boot", "5", "boot", "99", "static", "5", "boot"]
    due = [Command.of("inet", f"route del proto {proto} dst {place}".split()) for place, proto in enumerate(protos)]
    ip = RecordingIp()
    Work(ip, due).finish()  # type: ignore[arg-type]
    starts = [[line.split()[3] for line in what[1]] for kind, what in ip.log if kind == "start"]
    assert [["boot", "5"], ["boot", "99"], ["static", "5"], ["boot"]] == starts


def test_independent_commands_with_numbers_come_last_and_need_one_process() -> None:
    protos = ["5", "boot"] * 50
    due = [Command.of("inet", f"route add proto {proto}".split())._replace(independent=True) for proto in protos]
    ip = RecordingIp()
    Work(ip, due).finish()  # type: ignore[arg-type]
    assert 1 == len([kind for kind, _ in ip.log if kind == "start"])


def test_nothing_is_run_behind_a_batch_that_was_lost() -> None:
    class LosingIp(RecordingIp):
        def outcome(self, asked: tuple[int, int]) -> Outcome:
            return Outcome({0: "File exists"}, [], "killed by signal 9")

    ip = LosingIp()
    refusals, answers = Work(ip, commands(MOST_LINES + 5)).finish()  # type: ignore[arg-type]
    assert 1 == len(ip.log)
    assert (MOST_LINES + 5, None) == (len(refusals), answers)
    assert [False] + [True] * (MOST_LINES + 4) == [refusal.lost for refusal in refusals]


def test_where_only_the_answers_are_in_doubt_nothing_was_refused() -> None:
    class InterruptedIp(RecordingIp):
        def outcome(self, asked: tuple[int, int]) -> Outcome:
            return Outcome({}, [], "Dump was interrupted", interrupted=True)

    work = Work(InterruptedIp(), commands(3), {"inet": ["link show"]})  # type: ignore[arg-type]
    assert ([], None) == work.finish()
