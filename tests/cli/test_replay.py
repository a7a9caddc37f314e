"""`replay` as a program: its streams and its exit codes."""

import os
import subprocess
import sys

import pytest

from tests.cli.world import TABLE, Program, World, finish

HEADING = "# 2026-01-31T12:00:00.000Z 1.5 ms, 1 command, woken by: start"
ADD = f"ip route add table {TABLE} 10.9.0.0/24 dev eth0 proto static scope link"
DELETE = ADD.replace(" add ", " del ")


def journal(program: Program, *lines: str) -> str:
    path = program.folder / "journal"
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def test_a_killed_ip_is_a_failure_and_the_rest_is_run(world: World) -> None:
    world.fails("10.9.0.0/24", signal=9)
    done = world.run("replay", journal(world, HEADING, ADD, ADD.replace("10.9", "10.8")))
    assert 3 == done.code
    assert "killed by signal 9" in done.out
    assert "10.8.0.0/24" in world.copies("inet")


def test_the_output_of_a_dry_run_is_a_journal(world: World) -> None:
    before = world.tables()
    printed = world.run("sync", "-n").out
    path = journal(world, *printed.splitlines())
    assert (0, printed, "") == world.run("replay", "-n", path)
    assert before == world.tables()
    assert 0 == world.run("replay", path).code
    assert world.in_step()


def test_an_empty_journal_does_nothing(world: World) -> None:
    assert (0, "# 0 commands: 0 as recorded\n", "") == world.run("replay", journal(world))
    assert (0, "", "") == world.run("replay", "-n", journal(world, "# a remark"))


@pytest.mark.parametrize("argv", ["replay", "replay --until noon", "replay --until= ", "replay --netns= "])
def test_wrong_usage_ends_with_2(world: World, argv: str) -> None:
    done = world.run(*argv.split(), *([journal(world, HEADING, ADD)] if " " in argv else []))
    assert (2, "") == (done.code, done.out)
    assert "10.9.0.0/24" not in world.copies("inet")


@pytest.mark.parametrize(
    "line",
    [
        f"2026-11-26T20:44:02.217Z {ADD}  # missing",
        f"Nov 26 20:44:02 laptop fz-iproute[812]: {ADD}  # missing",
        f"{ADD}  # missing",
        "VPN    tun-firezone is up",
    ],
    ids=["watch", "journalctl", "plan", "status"],
)
def test_the_output_of_a_verb_is_no_journal(world: World, line: str) -> None:
    wants = "; replay reads the file that watch.journal names, not what a verb prints"
    (error,) = world.run("replay", journal(world, line)).errors
    assert "line 1: " in error and error.endswith(wants)
    (error,) = world.run("replay", journal(world, HEADING, ADD, line)).errors
    assert "line 3: " in error and wants not in error, "this one is a journal"


def test_without_permission_it_ends_with_4_at_the_first(world: World) -> None:
    world.fails("route add", words="RTNETLINK answers: Operation not permitted")
    done = world.run("replay", journal(world, HEADING, ADD, DELETE))
    assert (4, "", 1, [1]) == (done.code, done.out, len(done.errors), world.batches())


def test_it_goes_on_when_nobody_reads_its_output(world: World) -> None:
    lines = [line for _ in range(3) for line in (ADD, "#   refused: before", DELETE, "#   refused: before")]
    reading, writing = os.pipe()
    os.close(reading)
    process = world.start("replay", journal(world, HEADING, *lines, ADD), stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    done = finish(process)
    assert 0 == done.code, done.lines
    assert "10.9.0.0/24" in world.copies("inet")


def test_a_long_replay_collects_its_garbage(world: World) -> None:
    code = "import gc, sys; from fz_iproute.cli import main; main(sys.argv[1:]); print(gc.isenabled())"
    done = world.run("replay", journal(world, HEADING, ADD), program=[sys.executable, "-c", code])
    assert "True" == done.out.splitlines()[-1]
