"""Whatever a snapshot holds, it is used or refused in words; nothing else gets out of it."""

import json
import unicodedata
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fz_iproute.diagnosis import status as app_status
from fz_iproute.diagnosis.tree import draw
from fz_iproute.errors import UsageError
from fz_iproute.ip.ip import Spelling
from fz_iproute.ip.passes import Plans
from fz_iproute.ip.reader import Reader
from fz_iproute.log import Log
from fz_iproute.mirror import config as core_config
from fz_iproute.mirror.words import printable
from fz_iproute.record import recording as core_recording
from fz_iproute.record.recorded_ip import RecordedIp, blamed_on
from fz_iproute.record.recording import Recording, Unusable
from fz_iproute.verbs import explain as app_explain
from fz_iproute.verbs.explain import Question
from tests.unit.recordings import machine, printed, recording

ASKED = ["192.168.188.7", "8.8.8.8", "100.64.0.9", "2001:db8:7::9", "ff02::1", "0.0.0.0"]


class Deaf(Log):
    """Takes warnings, and lets nobody hear them."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__()
        self._heard = heard

    def warning(self, message: str) -> None:
        """Kept."""
        self._heard.append(message)


def everything(recorded: Recording) -> list[str]:
    """What `plan`, `status` and `explain` print of it."""
    config = core_config.parse(recorded.config, "config")
    said: list[str] = []
    line = Spelling().line
    said += [
        f"{line(command)}  # {printable(command.reason)}"
        for command in Plans(RecordedIp(recorded), config, Deaf(said)).plan_sync()
    ]
    reader = Reader(RecordedIp(recorded), config)
    snapshot = reader.read()
    found = app_status.status(config, snapshot, reader.looked_up(snapshot))
    said += [draw(found), draw(found, width=40), json.dumps(app_status.as_document(found))]
    for address in ASKED:
        question = Question(address)
        answers = app_explain.explain(question, config, RecordedIp(recorded))
        said += [app_explain.as_text(answers, question, config), json.dumps(app_explain.as_document(answers, question))]
    return said


def used_or_refused(text: str) -> str:
    """What is said of the snapshot: its refusal is a line, and nothing of it is for the terminal."""
    try:
        recorded = core_recording.load(text)
        with blamed_on(Path("snapshot.json")):
            said = everything(recorded)
    except (UsageError, Unusable) as error:
        said = [str(error)]
        lines = 30 if isinstance(error, UsageError) else 1  # a configuration may have many problems
        assert 1 <= len(said[0].splitlines()) <= lines
        assert len(said[0]) < 5000
    bad = [line for text in said for line in text.splitlines() if any(map(_is_control, line))]
    assert [] == bad
    return "\n".join(said)


def _is_control(sign: str) -> bool:
    return unicodedata.category(sign) in ("Cc", "Zl", "Zp")


def dumped(document: dict[str, Any]) -> str:
    return json.dumps(printed(document))


@pytest.mark.parametrize("mode", ["observe", "manage"])
def test_the_record_is_a_good_one(mode: str) -> None:
    """Else the tests below would test little."""
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


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value in a document."""
    found = [path]
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        found += places(part, (*path, key))
    return found


PLACES = {mode: places(machine(mode))[1:] for mode in ("observe", "manage")}
NESTED = st.recursive(
    st.none() | st.text(max_size=5), lambda part: st.lists(part) | st.dictionaries(st.just("dev"), part)
)
VALUE = st.sampled_from(VALUES) | st.text(max_size=20) | st.integers() | NESTED
KEY = st.sampled_from(["dst", "dev", "via", "nhid", "type", "goto", "tos", "metrics", "nexthops", "group", "x"])


@st.composite
def mutants(draw: st.DrawFn) -> str:
    """A good snapshot in which a few values have been changed, taken out, doubled, or put in."""
    mode = draw(st.sampled_from(["observe", "manage"]))
    document = machine(mode)
    for path in draw(st.lists(st.sampled_from(PLACES[mode]), min_size=1, max_size=3)):
        parent: Any = document
        try:
            for key in path[:-1]:
                parent = parent[key]
            match draw(st.sampled_from(["change", "change", "change", "remove", "put in", "double"])):
                case "change":
                    parent[path[-1]] = deepcopy(draw(VALUE))
                case "remove":
                    del parent[path[-1]]
                case "put in":
                    parent[path[-1]][
                        draw(st.sampled_from(["dst", "dev", "via", "nhid", "type", "goto", "tos", "x"]))
                    ] = deepcopy(draw(VALUE))
                case _:
                    parent.append(parent[path[-1]])
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # another mutation was here before
    return dumped(document)


@settings(max_examples=250)
@given(mutants())
def test_a_snapshot_that_was_edited_is_used_or_refused(text: str) -> None:
    used_or_refused(text)


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_every_value_may_be_a_wrong_one(value: Any) -> None:
    """Not left to chance: at each place of some documents."""
    for path in PLACES["manage"]:
        if len(path) <= 4 and path[0] != "ip":
            document = machine("manage")
            parent: Any = document
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = value
            used_or_refused(dumped(document))


@settings(max_examples=150)
@given(st.text() | st.binary().map(lambda text: text.decode("latin-1")))
@example("[" * 100_000)
@example('{"schema":' * 50_000)
@example('{"schema": ' + "1" * 10_000 + "}")
@example("{}")
@example('{"schema": NaN}')
@example('{"schema": true, "taken": "", "versions": {}, "config": "", "sysctls": {}, "ip": {}}')
@example('{"schema": 1, "taken": "", "versions": {}, "config": "", "sysctls": {}, "ip": {}}')
def test_a_text_that_is_no_snapshot_is_refused(text: str) -> None:
    used_or_refused(text)


def test_a_snapshot_that_was_cut_off_is_refused() -> None:
    text = dumped(machine())
    for end in [*range(200), *range(200, len(text), 97), len(text) - 1]:
        with pytest.raises(Unusable):
            core_recording.load(text[:end])
    assert core_recording.load(text)


@pytest.mark.parametrize("key", [key for key in machine()["ip"] if key.startswith("-json")])
@pytest.mark.parametrize("text", ["", "[", "{}", "[5]", "[{}]", "[[]]", "null", "NaN", "[" * 10_000, "[]x"], ids=ascii)
def test_an_output_that_was_cut_off_is_refused_or_used(key: str, text: str) -> None:
    document = printed(machine("manage"))
    document["ip"][key] = text
    used_or_refused(json.dumps(document))


@pytest.mark.parametrize(
    "name", ["a\nb", "\x1b[2J", "'q", '"', ";reboot", "#", "\u2028", "$(reboot)", "\x9b1m", "\x00"], ids=ascii
)
def test_a_hostile_name_is_shown_and_no_more(name: str) -> None:
    text = dumped(json.loads(json.dumps(machine()).replace("office0", json.dumps(name)[1:-1])) | {"config": ""})
    said = used_or_refused(text)
    assert "ip route" in said
