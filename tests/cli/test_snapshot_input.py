"""A broken or hostile snapshot ends in one clear line and exit code 2. Reading one needs no `ip`."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fz_iproute.errors import UsageError
from fz_iproute.ip.passes import Plans
from fz_iproute.lab.lab import DEMO
from fz_iproute.log import Log
from fz_iproute.mirror.config_text import parse
from fz_iproute.record.recorded_ip import RecordedIp, blamed_on, load_recording
from fz_iproute.record.recording import Recording
from tests.starter import starter
from tests.unit.recordings import machine, printed

VERBS = [["plan"], ["status"], ["status", "--json"], ["explain", "192.168.188.7"]]


def run(path: Path, *verb: str) -> tuple[int, str, str]:
    """Run a verb where there is no `ip`."""
    return starter_run([*verb, "--snapshot", str(path)])


def starter_run(words: list[str]) -> tuple[int, str, str]:
    done = starter().run(words, {"PATH": "/nonexistent", "LC_ALL": "C.UTF-8"}, 60)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def written(folder: Path, content: Any) -> Path:
    path = folder / "snapshot.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def assert_refused(path: Path, words: str = "", verbs: list[list[str]] = VERBS) -> None:
    for verb in verbs:
        code, out, err = run(path, *verb)
        assert (2, "") == (code, out), err
        (line,) = err.splitlines()
        assert line.startswith(f"error: {path}: ") and words in line
        assert line.isprintable() and len(line) < 1000


GOOD = printed(machine())


@pytest.mark.parametrize("verb", [*VERBS, ["detect"], ["doctor"], ["explain", "9.9.9.9", "fd00:77::1", "--mark", "9"]])
def test_every_verb_reads_the_machine_of_the_demo(verb: list[str]) -> None:
    code, out, err = run(DEMO, *verb)
    assert (int(verb == ["doctor"]), True, "") == (code, bool(out), err)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, '"schema": 1'),
        ({"schema": "1"}, '"schema": 1'),
        ({"ip": {"-json link show": 5}}, 'a value in "ip" is not a text'),
        ({"ip": {}}, "the snapshot does not have `ip -json"),
        ({"config": 5}, '"config" is not a text'),
        ({"config": "["}, "not TOML"),
        ({"config": '[tunnel]\n"a\\u001b[31m" = 1\n'}, "unknown key"),
        ({"ip": {**GOOD["ip"], "-json link show": '[{"ifname": NaN}]'}}, "does not know"),
        ({"ip": {**GOOD["ip"], "-json -4 route show table main": '[{"dst": 5}]'}}, "does not know"),
        ({"ip": {**GOOD["ip"], "-json -4 route show table main": f'[{{"dst": "x", "metric": {"9" * 5000}}}]'}}, "main"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_an_edited_snapshot_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    assert_refused(written(tmp_path, {**GOOD, **change}), words, [["explain", "10.9.9.9"]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a snapshot: it is empty"),
        (b" \n", "not a snapshot: it is empty"),
        (b'{"schema": 1,\n', "not a snapshot: not JSON: it ends too early"),
        (b'{"schema": 1,\n x', "not a snapshot: not JSON: line 2, column 2"),
        (b"[" * 100_000, "not a snapshot: it is nested too deeply"),
        (b"9" * 5000, "not a snapshot: a value in it has the wrong type"),
        ({**GOOD, "ip": {**GOOD["ip"], "-json link show": ""}}, "link show: it is empty"),
        ({**GOOD, "ip": {**GOOD["ip"], "-json link show": "[{]"}}, "ip -json link show: not JSON: line 1, column 3"),
        ({**GOOD, "ip": {**GOOD["ip"], "-json link show": "{}"}}, "JSON, but not a list of objects"),
        ({**GOOD, "ip": {**GOOD["ip"], "-json link show": '[{"a": 5}]'}}, "link show: there is no 'ifname'"),
        ({**GOOD, "ip": {**GOOD["ip"], "-json link show": '[{"ifname": []}]'}}, "a value in it has the wrong type"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_broken_snapshot_is_refused_in_plain_words(tmp_path: Path, content: Any, words: str) -> None:
    assert_refused(written(tmp_path, content), words, [["plan"]])


@pytest.mark.parametrize(
    "content", [b"\x7fELF\x02\xd0", b"\xff\xfe{", b"\x1f\x8b\x08", b'{"schema": 1, "taken": "\xff"}']
)
def test_a_binary_file_is_told_without_the_name_of_a_codec(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path, content)
    assert_refused(path, "not a snapshot: it is not a text", [["plan"]])
    for verb in (["config", "check", str(path)], ["status", "-c", str(path)]):
        code, out, err = starter_run(verb)
        assert (2, "", True) == (code, out, f"{path}: not a text: byte " in err), err


@pytest.mark.parametrize("key", ["taken", "versions", "config", "sysctls", "ip"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    path = written(tmp_path, {name: part for name, part in GOOD.items() if name != key})
    assert_refused(path, f'not a snapshot: it has no "{key}"', [["plan"]])


@pytest.mark.parametrize("garbage", ["", "Cannot open netlink socket", "null", "{}", "[1]", '[{"x": 1}]'])
@pytest.mark.parametrize("key", [key for key in GOOD["ip"] if key.startswith("-json")])
def test_garbage_is_refused_even_if_no_verb_asks_for_it(tmp_path: Path, key: str, garbage: str) -> None:
    path = written(tmp_path, {**GOOD, "ip": {**GOOD["ip"], key: garbage}})
    with pytest.raises(UsageError) as error, blamed_on(path):
        plan_of(load_recording(path))
    assert str(error.value).startswith(f"{path}: ip ")


def plan_of(recorded: Recording) -> None:
    Plans(RecordedIp(recorded), parse(recorded.config, "config"), Log("ERROR")).plan_sync()


def test_explain_takes_the_host_out_of_a_url() -> None:
    for url in (
        "http://192.168.188.1:631/ipp?a=1",
        "https://user@192.168.188.1",
        "smb://192.168.188.1/share",
        "192.168.188.1:631",
    ):
        assert run(DEMO, "explain", "192.168.188.1") == run(DEMO, "explain", url)
    for url in ("http://[fd00:77::1]:80/", "[fd00:77::1]:80", "[fd00:77::1]"):
        assert run(DEMO, "explain", "fd00:77::1") == run(DEMO, "explain", url)
    assert "ADDRESS: 'http://[x/' is not an IPv4 or IPv6 address\n" in run(DEMO, "explain", "http://[x/")[2]


def test_without_table_local_nothing_is_said_about_packets(tmp_path: Path) -> None:
    outputs = {key: text for key, text in GOOD["ip"].items() if not key.endswith(" local")}
    path = written(tmp_path, {**GOOD, "ip": outputs})
    assert_refused(path, "table local", [*VERBS[1:], ["detect"], ["doctor"]])


def test_a_large_file_a_directory_a_pipe_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(50 << 20)
    for name, words in {"large": "larger than 32 MiB", "missing": "", ".": "", "fifo": ""}.items():
        assert_refused(tmp_path / name, words, VERBS[:2])


NAMES = ["a\nb", "\x1b[2J", "'q", '"', ";reboot", "$(reboot)", "#", "\u2028", "\x9b"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_hostile_names_do_not_reach_the_terminal_or_a_shell(tmp_path: Path, name: str) -> None:
    text = json.dumps(machine()).replace("office0", json.dumps(name)[1:-1])
    path = written(tmp_path, {**printed(json.loads(text)), "config": ""})
    for verb in [*VERBS, ["explain", "10.9.9.9", "--oif", "nope\x1b"]]:
        code, out, err = run(path, *verb)
        assert (2 if "--oif" in verb else 0) == code
        assert all(line.isprintable() for line in (out + err).splitlines())
    for line in run(path, "plan")[1].splitlines():
        assert line.startswith("ip ") and (";" not in line or "';" in line) and ("$" not in line or "'$" in line)


def test_verbs_that_change_the_machine_take_no_snapshot(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    for verb in ("sync", "watch", "down", "snapshot"):
        assert 2 == run(path, verb)[0]
