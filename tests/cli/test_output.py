"""Data on stdout, messages on stderr; what is printed is what is run."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.world import PROGRAM, Program, World, alive, finish, lan
from tests.netns.namespace import wait_until

WRITES = [
    "ip route add table 539098368 10.20.0.0/16 dev wlan0 proto kernel scope link src 10.20.0.5",
    "ip route del table 539098368 192.168.77.0/24 dev eth0 proto kernel scope link",
    "ip -6 route add table 539098368 fd00:1::/64 dev eth0 proto kernel metric 256 pref medium",
    "ip -6 route append table 539098368 fe80::/64 dev wlan0 proto kernel metric 256 pref medium",
    "ip -6 route del table 539098368 fd00:77::/64 dev eth0 proto kernel metric 256 pref medium",
]


def test_sync_prints_each_command_once_and_bare_on_stderr_and_a_second_one_none(world: World) -> None:
    done = world.run("sync")
    assert (0, "") == (done.code, done.out)
    assert sorted(WRITES) == sorted(done.lines)
    assert (0, "", "") == world.run("sync")
    assert {"schema": 1, "commands": [], "failures": []} == json.loads(world.run("sync", "--json").out)


@pytest.mark.parametrize("verb", ["sync", "down"])
def test_a_dry_run_prints_the_commands_on_stdout_and_changes_nothing(world: World, verb: str) -> None:
    before = world.tables()
    plan = world.run(verb, "--dry-run")
    assert (0, "") == (plan.code, plan.err)
    assert before == world.tables()
    assert world.run(verb).lines == plan.out.splitlines()


def test_a_plan_gives_its_reasons_as_comments_and_its_exit_code_on_request(world: World) -> None:
    done = world.run("plan")
    assert (0, "") == (done.code, done.err)
    assert 1 == world.run("plan", "--exit-code").code
    assert sorted(WRITES) == sorted(line.partition("  # ")[0] for line in done.out.splitlines())
    assert all(line.partition("  # ")[2] for line in done.out.splitlines())
    commands = json.loads(world.run("plan", "--json").out)["commands"]
    assert [(each["command"], each["reason"]) for each in commands] == [
        tuple(line.split("  # ")) for line in done.out.splitlines()
    ]
    world.shell(done.out)
    assert (0, "", "") == world.run("plan", "--exit-code")


def test_the_log_in_json_has_one_document_per_line_whatever_the_names(world: World) -> None:
    world.main("inet", lan("203.0.113.0/24", world.land.odd_veth("a\udcff\x07", "far0")))
    world.fails("route add table 539098368 203.0.113.0/24", words="RTNETLINK answers: Invalid argument")
    documents = [json.loads(line) for line in world.run("sync", "--log-format", "json").err.splitlines()]
    assert {"info", "warning", "error"} == {document["level"] for document in documents}
    for document in documents:
        assert {"time", "level", "message"} == document.keys()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", document["time"])
    messages = [document["message"] for document in documents if document["level"] == "info"]
    assert WRITES[2:] == messages[-3:]


@pytest.mark.parametrize(
    ("words", "encoding"),
    [("plan", "ascii"), ("plan", "utf-8:strict"), ("plan --json", "ascii"), ("sync -v", "ascii")],
)
def test_names_are_printed_as_the_bytes_of_the_kernel_in_any_locale(world: World, words: str, encoding: str) -> None:
    """A shell must be able to run what is printed."""
    devices = [world.land.odd_veth(name, f"far{len(name)}") for name in ("größe", "a\udcff")]
    world.main("inet", *(lan(f"10.{number}.0.0/16", device) for number, device in enumerate(devices, start=3)))
    world.environment["PYTHONIOENCODING"] = encoding
    done = finish(world.start(*words.split()))
    assert 0 == done.code and "Traceback" not in done.err, done
    assert ("gr\\u00f6\\u00dfe" if "--json" in words else "größe") in done.out + done.err


@pytest.mark.parametrize("option", ["-c", "--netns"])
@pytest.mark.parametrize("verb", ["plan", "doctor", "watch"])
def test_an_argument_may_hold_any_byte(program: Program, option: str, verb: str) -> None:
    done = program.run(verb, option, "n\udcff")
    assert done.code in (1, 2), done
    assert 1 >= len(done.lines) and re.search(r"n\\(udc|x)ff", done.out + done.err), done


@pytest.mark.parametrize(
    "argv",
    [("-q", "sync", "--json"), ("sync", "-q", "--json"), ("--log-format", "json", "sync", "-q", "--json")],
    ids=" ".join,
)
def test_options_may_stand_before_or_after_the_verb(world: World, argv: tuple[str, ...]) -> None:
    done = world.run(*argv)
    assert (0, "") == (done.code, done.err)
    assert json.loads(done.out)["commands"]


@pytest.mark.parametrize("count", [1, 3000], ids=["a few lines", "more than a pipe holds"])
def test_a_reader_that_stops_reading_is_no_error(world: World, count: int) -> None:
    world.add("inet", *(lan(f"10.{index // 250}.{index % 250}.0/24") for index in range(count)))
    process = world.start("plan")
    assert process.stdout
    if count > 1:
        assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr
    err = process.stderr.read()
    process.stderr.close()
    assert (0, "") == (process.wait(30), err)


@pytest.mark.parametrize("verb", ["plan", "sync"])
@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_closed_stream_causes_no_traceback(world: World, verb: str, stream: str) -> None:
    done = world.run(verb, program=["sh", "-c", f'exec {stream}>&-; exec "$@"', "sh", *PROGRAM])
    assert (2 if stream == "1" and verb != "sync" else 0) == done.code, done
    assert [] == [line for line in done.lines if not line.startswith(("ip ", "error: stdout is closed"))]


@pytest.mark.parametrize("verb", ["plan", "config show"])
def test_a_full_disk_is_reported_in_one_line(world: World, verb: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = world.run(*verb.split(), stdout=full)
    assert 0 != done.code
    assert 1 == len(done.lines), done
    assert "No space left on device" in done.err


def test_a_sync_goes_on_when_nobody_reads_its_log(world: World) -> None:
    process = world.start("sync")
    assert process.stderr
    process.stderr.close()
    process.wait(30)
    assert ["10.20.0.0/16", "192.168.1.0/24"] == world.copies("inet")
    assert ["fd00:1::/64", "fe80::/64", "fe80::/64"] == world.copies("inet6")


@pytest.mark.parametrize("terminal", [False, True], ids=["the program alone", "its whole process group"])
@pytest.mark.parametrize("where", ["link show", r"-4 .*route add"], ids=["reading", "writing"])
def test_an_interrupt_ends_the_program_and_its_children(world: World, where: str, terminal: bool) -> None:
    """Ctrl-C goes to the whole process group, so `ip` ends by it as well."""
    world.fails(where, hang=True)
    process = world.start("sync", "-q", start_new_session=True)
    wait_until(world.hanging, "ip hangs")
    (os.killpg if terminal else os.kill)(process.pid, signal.SIGINT)
    done = finish(process)
    assert (130, "") == (done.code, done.out), done
    assert "fz_iproute" not in done.err  # neither in a traceback; the fake is a Python program and has its own
    assert terminal or not done.err
    wait_until(lambda: not any(map(alive, world.hanging())), "the child is gone")


def test_the_version_is_one_line_that_the_installed_script_prints_too(program: Program) -> None:
    printed = program.run("--version")
    assert (0, "") == (printed.code, printed.err)
    assert re.fullmatch(r"fz-iproute \d+\.\d+\.\d+\S*\n", printed.out)
    script = Path(PROGRAM[0]).with_name("fz-iproute")
    if not script.exists():
        pytest.skip("the package is not installed beside this Python")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, timeout=30)
    assert printed.out == done.stdout


def test_status_does_not_advise_a_service_where_cron_runs_sync(world: World) -> None:
    if os.geteuid() or not Path("/etc/cron.d").is_dir():
        pytest.skip("it takes root, or root of a user namespace, to show another /etc/cron.d")
    hide = 'mount -t tmpfs tmpfs /etc/cron.d && "$@" && touch /etc/cron.d/fz-iproute && exec "$@"'
    done = world.run("status", program=["unshare", "--mount", "sh", "-c", hide, "sh", *PROGRAM])
    said = [line.removeprefix("watch  does not run: ") for line in done.out.splitlines() if line.startswith("watch")]
    assert ["changes wait for the next sync   → fz-iproute install --now", "sync runs every minute"] == said, done


def test_status_advises_no_service_where_no_rule_leads_to_the_copies(world: World) -> None:
    """Most VPNs keep the LAN themselves."""
    world.batch("rule del pref 32765")
    lines = [line for line in world.run("status").out.splitlines() if line.startswith("watch")]
    assert ["watch  does not run"] == lines
