"""What different versions of `ip` print about the same machine means the same. scripts/matrix records them."""

from collections import Counter

import pytest

from fz_iproute.daemon.events import Interest, changed, is_about_links, matters
from fz_iproute.errors import ReadFailed
from fz_iproute.ip.ip import Asked, Ip
from fz_iproute.ip.process import Answer
from fz_iproute.ip.version import is_too_old
from fz_iproute.mirror.model import EVERYTHING
from tests.unit.recorded_versions import RECORDED, told

INTEREST = Interest(frozenset(["254", "539098368"]), known=frozenset(["10.61.0.0/24"]))

each_version = pytest.mark.parametrize("version", RECORDED)


def asked(name: str, version: str, *questions: str, writes: int = 0) -> Asked:
    """As if that `ip` had just answered."""
    document = RECORDED[version]
    code, stdout, stderr = document["refused"] if name == "refused" else document["questions"][name]

    class Told:
        def answer(self) -> Answer:
            return Answer(("ip",), code, stdout.encode(), stderr)

    return Asked("inet", writes, questions, Told())


def test_there_are_old_and_new_versions() -> None:
    assert 5 <= len(RECORDED)
    assert not any(is_too_old(document["version"]) for document in RECORDED.values())


@each_version
def test_a_snapshot_gives_the_same_answers(version: str) -> None:
    expected = told(RECORDED["6.1.0"]["snapshot"])
    assert len(expected[0]) > 15
    assert expected == told(RECORDED[version]["snapshot"])


@each_version
def test_a_table_that_does_not_exist_is_empty(version: str) -> None:
    assert [b"[]"] == Ip().answers(asked("no table", version, "route show table 4242"))


@each_version
def test_a_link_that_does_not_exist_is_a_failed_read(version: str) -> None:
    with pytest.raises(ReadFailed, match='Device "nobody" does not exist'):
        Ip().answers(asked("no link", version, "link show dev nobody"))


@each_version
def test_refused_lines_of_a_batch_are_found_with_their_reasons(version: str) -> None:
    reply = Ip().reply(asked("refused", version, writes=6))
    assert ("", [1, 2, 3, 4]) == (reply.doubt, sorted(reply.failures))
    reasons = ["File exists", "No such process", 'Cannot find device "nobody"', "No such file or directory"]
    for reason, words in zip(reasons, reply.failures.values(), strict=True):
        assert reason in words


@each_version
def test_lines_of_the_monitor_wake_the_same_pass(version: str) -> None:
    def verdicts(name: str) -> dict[str, Counter[str]]:
        return {
            change: Counter(line.partition("]")[0] for line in lines if matters(line, INTEREST))
            for change, lines in RECORDED[name]["monitor"].items()
        }

    assert verdicts("6.1.0") == verdicts(version)
    heard = RECORDED[version]["monitor"]
    asleep = {change for change, lines in heard.items() if not any(matters(line, INTEREST) for line in lines)}
    routed = {change for change in heard if " via " in change or " blackhole " in change or "table 77" in change}
    assert {change for change in routed if "lookup" not in change} == asleep
    assert all(any(map(is_about_links, lines)) for change, lines in heard.items() if change.startswith("link"))
    assert all(EVERYTHING in map(changed, lines) for change, lines in heard.items() if change.startswith("rule"))
