"""A snapshot is used, or it is refused with a UsageError; no other error escapes, whatever the file holds."""

import json
import unicodedata
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fz_iproute.diagnosis import status as app_status
from fz_iproute.diagnosis.tree import draw
from fz_iproute.errors import UsageError
from fz_iproute.ip.passes import Plans
from fz_iproute.ip.process import Spelling
from fz_iproute.mirror import config_text
from fz_iproute.mirror.words import printable
from fz_iproute.record import recording as core_recording
from fz_iproute.record.recorded_ip import RecordedIp, blamed_on
from fz_iproute.record.recording import Recording, Unusable
from fz_iproute.verbs import explain as app_explain
from fz_iproute.verbs.explain import Question
from fz_iproute.verbs.seen import seen
from tests.unit.recordings import machine, parent, places, printed, recording

ASKED = ["192.168.188.7", "8.8.8.8", "100.64.0.9", "2001:db8:7::9", "ff02::1", "0.0.0.0"]


def everything(recorded: Recording) -> list[str]:
    """What `plan`, `status` and `explain` print of it."""
    config = config_text.parse(recorded.config, "config")
    said: list[str] = []
    log = SimpleNamespace(warning=said.append, info=lambda line: None)
    due = Plans(RecordedIp(recorded), config, log).plan_sync()
    said += [f"{Spelling().line(command)}  # {printable(command.reason)}" for command in due]
    found = app_status.status(config, *seen(RecordedIp(recorded), config))
    said += [draw(found), draw(found, width=40), json.dumps(app_status.as_document(found))]
    for address in ASKED:
        question = Question(address)
        answers = app_explain.explain(question, config, RecordedIp(recorded), "fz-iproute sync")
        said += [app_explain.as_text(answers, question, config), json.dumps(app_explain.as_document(answers, question))]
    return said


def used_or_refused(text: str) -> str:
    """What is printed about the snapshot, or the message of its refusal. No control character is in either."""
    try:
        recorded = core_recording.load(text)
        with blamed_on(Path("snapshot.json")):
            said = everything(recorded)
    except (UsageError, Unusable) as error:
        said = [str(error)]
        lines = 30 if isinstance(error, UsageError) else 1  # a configuration may have many problems
        assert 1 <= len(said[0].splitlines()) <= lines
        assert len(said[0]) < 5000
    signs = {sign for text in said for line in text.splitlines() for sign in line}
    assert set() == {sign for sign in signs if unicodedata.category(sign) in ("Cc", "Zl", "Zp")}
    return "\n".join(said)


def dumped(document: dict[str, Any]) -> str:
    return json.dumps(printed(document))


@pytest.mark.parametrize("mode", ["observe", "manage"])
def test_the_unchanged_snapshot_is_used(mode: str) -> None:
    said = used_or_refused(dumped(machine(mode)))
    assert "ip route" in said
    assert "goes into the tunnel" in said
    assert recording(mode) == core_recording.load(core_recording.dump(recording(mode)))


VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, 10**30, -(10**30), float("nan"), float("inf"), [], {}, [[]], [None], [{}], {"a": {}}),
    *("", "default", "all", "x", "::", "10.0.0.0", "10.0.0.0/99", "1.2.3", "300.1.1.1", "1.2.3.4.5", "-1", "fd00::/8"),
    *("a\nb", "\x1b[31mred", "'", '"', ";reboot", "$(reboot)", "#", "\u202e", "\x9b", "a" * 300, "\udc80", "\u2028"),
    *("255", "254", "99999999999999999999", "0x1", "+5", "\u0663", "lo", "office0", "unreachable", "4294967295/3"),
    *(["office0"], [{"dev": "office0"}], [{"mtu": {}}], {"to": []}, {"family": "inet", "host": []}, ["UP", 5]),
]


PLACES = {mode: [*places(machine(mode))] for mode in ("observe", "manage")}
NESTED = st.recursive(
    st.none() | st.text(max_size=5), lambda part: st.lists(part) | st.dictionaries(st.just("dev"), part)
)
VALUE = st.sampled_from(VALUES) | st.text(max_size=20) | st.integers() | NESTED
KEY = st.sampled_from(["dst", "dev", "via", "nhid", "type", "goto", "tos", "x"])


@st.composite
def mutants(draw: st.DrawFn) -> str:
    """A usable snapshot in which a few values were changed, removed, doubled, or added."""
    mode = draw(st.sampled_from(["observe", "manage"]))
    document = machine(mode)
    for path in draw(st.lists(st.sampled_from(PLACES[mode]), min_size=1, max_size=3)):
        try:
            holder = parent(document, path)
            match draw(st.sampled_from(["change", "change", "change", "remove", "put in", "double"])):
                case "change":
                    holder[path[-1]] = deepcopy(draw(VALUE))
                case "remove":
                    del holder[path[-1]]
                case "put in":
                    holder[path[-1]][draw(KEY)] = deepcopy(draw(VALUE))
                case _:
                    holder.append(holder[path[-1]])
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # another mutation was here before
    return dumped(document)


@settings(max_examples=250)
@given(mutants())
def test_a_snapshot_that_was_edited_is_used_or_refused(text: str) -> None:
    used_or_refused(text)


@pytest.mark.parametrize("key", ["type", "protocol", "scope", "dev", "dst"])
@pytest.mark.parametrize("table", ["main", "539098368"])
def test_a_control_character_in_a_route_is_not_printed(key: str, table: str) -> None:
    document = printed(machine("observe"))
    for question, text in document["ip"].items():
        if question.startswith(f"-json -4 route show table {table}") and text.strip() != "[]":
            routes = json.loads(text)
            for route in routes:
                document["ip"][question] = json.dumps([*routes, {**route, key: "\x1b[2J"}])
                used_or_refused(json.dumps(document))


@settings(max_examples=150)
@given(st.text() | st.binary().map(lambda text: text.decode("latin-1")))
@example("[" * 100_000)
@example('{"schema":' * 50_000)
@example('{"schema": ' + "1" * 10_000 + "}")
@example("{}")
@example('{"schema": NaN}')
@example(json.dumps(printed(machine()))[:-1])
@example(f'"{"a" * 100_000}"')
@example('{"schema": 1, "taken": "", "versions": {}, "config": "", "sysctls": {}, "ip": []}')
def test_a_text_that_is_no_snapshot_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(Unusable) as refusal:
        core_recording.load(text)
    assert 1 == len(str(refusal.value).splitlines())
    assert len(str(refusal.value)) < 5000


# No verb needs these: nexthop objects of their own, a foreign table, and tables of a layout that is not in force.
UNREAD = ("nexthop show", "table 7", "table 539098369", "table 539098370")


@pytest.mark.parametrize(
    "key", [key for key in machine()["ip"] if key.startswith("-json") and not key.endswith(UNREAD)]
)
@pytest.mark.parametrize(
    "text", ["", "[", "{}", "[5]", "[[]]", "null", "NaN", "[" * 10_000, "[]x"], ids=lambda text: text[:9]
)
def test_an_output_that_is_no_list_of_objects_is_refused(key: str, text: str) -> None:
    document = printed(machine("manage"))
    document["ip"][key] = text
    with pytest.raises(UsageError, match=r"^snapshot\.json: ip -json "), blamed_on(Path("snapshot.json")):
        everything(core_recording.load(json.dumps(document)))
