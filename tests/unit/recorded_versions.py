"""What `ip` printed about the machine of tests/netns/recorded_machine.py means the same, whatever its version."""

import json
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fz_iproute.daemon.events import Interest, is_about_links, matters
from fz_iproute.daemon.news import changed_by
from fz_iproute.errors import ReadFailed
from fz_iproute.ip.ip import Asked, Ip
from fz_iproute.ip.process import Answer
from fz_iproute.ip.version import is_too_old
from fz_iproute.mirror.model import EVERYTHING
from tests.netns.questions import addresses
from tests.starter import starter

Document = dict[str, Any]

_FILES = sorted((Path(__file__).parents[1] / "recorded").glob("*.json"))
RECORDED: dict[str, Document] = {file.stem: json.loads(file.read_text()) for file in _FILES}
_INTEREST = Interest(frozenset(["254", "539098368"]), known=frozenset(["10.61.0.0/24"]))


def told(snapshot: Document) -> list[str]:
    """What `plan`, `status` and `explain` print of a recorded snapshot."""
    with tempfile.NamedTemporaryFile("w") as file:
        json.dump(snapshot, file)
        file.flush()
        verbs = (["plan"], ["status", "--routes"], ["explain", *addresses()[::7]])
        plan, tree, ways = (starter().run([*verb, "--snapshot", file.name], {}, 60).stdout for verb in verbs)
    # Versions print the attributes of an encapsulation in different places, all of them unknown.
    tree, count = re.subn("(?m)^.* 10.81.0.0/24 .* cannot be copied exactly: .* encap.*\n", "", tree)
    assert 1 == count
    return [plan, tree, ways]


def _asked(said: tuple[int, str, str], *questions: str, writes: int = 0) -> Asked:
    """As if that `ip` had just answered."""
    code, stdout, stderr = said

    class Told:
        def answer(self) -> Answer:
            return Answer(("ip",), code, stdout.encode(), stderr)

    return Asked("inet", writes, questions, Told())


def _verdicts(document: Document) -> dict[str, Counter[str]]:
    """The kinds of events that wake `watch` after each change, and how many of each."""
    return {
        change: Counter(line.partition("]")[0] for line in lines if matters(line, _INTEREST))
        for change, lines in document["monitor"].items()
    }


# Each of these judges what one version has printed.


def the_version_is_not_too_old(document: Document) -> None:
    assert not is_too_old(document["version"])


def a_snapshot_gives_the_same_answers(document: Document) -> None:
    expected = told(RECORDED["6.1.0"]["snapshot"])
    assert expected[0].count("\n") > 15
    assert expected == told(document["snapshot"])


def a_table_that_does_not_exist_is_empty(document: Document) -> None:
    said = document["questions"]["no table"]
    assert [b"[]"] == Ip().answers(_asked(said, "route show table 4242"))


def a_link_that_does_not_exist_is_a_failed_read(document: Document) -> None:
    with pytest.raises(ReadFailed, match='Device "nobody" does not exist'):
        Ip().answers(_asked(document["questions"]["no link"], "link show dev nobody"))


def refused_lines_of_a_batch_are_found_with_their_reasons(document: Document) -> None:
    reply = Ip().reply(_asked(document["refused"], writes=6))
    assert ("", [1, 2, 3, 4]) == (reply.doubt, sorted(reply.failures))
    reasons = ["File exists", "No such process", 'Cannot find device "nobody"', "No such file or directory"]
    for reason, words in zip(reasons, reply.failures.values(), strict=True):
        assert reason in words


def lines_of_the_monitor_wake_the_same_pass(document: Document) -> None:
    assert _verdicts(RECORDED["6.1.0"]) == _verdicts(document)
    heard = document["monitor"]
    asleep = {change for change, lines in heard.items() if not any(matters(line, _INTEREST) for line in lines)}
    routed = {change for change in heard if " via " in change or " blackhole " in change or "table 77" in change}
    assert {change for change in routed if "lookup" not in change} == asleep
    assert all(any(map(is_about_links, lines)) for change, lines in heard.items() if change.startswith("link"))
    assert all(EVERYTHING in map(changed_by, lines) for change, lines in heard.items() if change.startswith("rule"))


JUDGES = [
    the_version_is_not_too_old,
    a_snapshot_gives_the_same_answers,
    a_table_that_does_not_exist_is_empty,
    a_link_that_does_not_exist_is_a_failed_read,
    refused_lines_of_a_batch_are_found_with_their_reasons,
    lines_of_the_monitor_wake_the_same_pass,
]
