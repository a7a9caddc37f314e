"""`replay` as a program: its streams and its exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_lock import held
from tests.cli.world import TABLE, World, finish

HEADING = "# 2026-01-31T12:00:00.000Z 1.5 ms, 1 command, woken by: start"
ADD = f"ip route add table {TABLE} 10.9.0.0/24 dev eth0 proto static scope link"
DELETE = ADD.replace(" add ", " del ")


def journal(world: World, *lines: str) -> str:
    path = world.folder / "journal"
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def test_commands_go_to_stderr_and_the_summary_to_stdout(world: World) -> None:
    done = world.run("replay", journal(world, HEADING, ADD))
    assert (0, "# 1 command: 1 as recorded\n", f"{ADD}\n") == done
    assert "10.9.0.0/24" in world.copies("inet")


def test_quiet_prints_only_the_differences(world: World) -> None:
    done = world.run("-q", "replay", journal(world, HEADING, ADD, ADD))
    assert (3, ["1 of 2 commands worked then, and did not work now"]) == (done.code, done.errors)
    assert [f"{ADD}  # then worked; now refused: RTNETLINK answers: File exists"] == done.out.splitlines()[:-1]


def test_a_command_that_works_only_now_is_shown_but_no_failure(world: World) -> None:
    done = world.run("-q", "replay", journal(world, HEADING, ADD, "#   refused: Error: Nexthop has invalid gateway."))
    assert (0, "") == (done.code, done.err)
    assert f"{ADD}  # then refused: Error: Nexthop has invalid gateway.; now worked" == done.out.splitlines()[0]


def test_a_killed_ip_is_a_failure_and_the_rest_is_run(world: World) -> None:
    world.fails("10.9.0.0/24", signal=9)
    done = world.run("replay", journal(world, HEADING, ADD, ADD.replace("10.9", "10.8")))
    assert 3 == done.code
    assert "killed by signal 9" in done.out
    assert "10.8.0.0/24" in world.copies("inet")


def test_the_output_of_a_dry_run_is_a_journal(world: World) -> None:
    (world.folder / "journal").write_text(world.run("sync", "-n").out)
    assert 0 == world.run("replay", str(world.folder / "journal")).code
    assert world.in_step()


def test_a_dry_run_prints_them_again(world: World) -> None:
    printed = world.run("sync", "-n").out
    (world.folder / "journal").write_text(printed)
    before = world.tables()
    assert (0, printed, "") == world.run("replay", "-n", str(world.folder / "journal"))
    assert before == world.tables()


def test_an_empty_journal_does_nothing(world: World) -> None:
    assert (0, "# 0 commands: 0 as recorded\n", "") == world.run("replay", journal(world))
    assert (0, "", "") == world.run("replay", "-n", journal(world, "# a remark"))


@pytest.mark.parametrize("argv", ["replay", "replay --until noon", "replay --until= ", "replay --netns= "])
def test_wrong_usage_ends_with_2(world: World, argv: str) -> None:
    path = journal(world, HEADING, ADD)
    done = world.run(*argv.split(), *([path] if " " in argv else []))
    assert (2, "") == (done.code, done.out)
    assert [] == world.batches()


def test_until_refuses_commands_without_a_time(world: World) -> None:
    done = world.run("replay", "--until", "2026-02-01", journal(world, ADD, HEADING, ADD))
    assert (2, 1) == (done.code, len(done.lines))
    assert [] == world.batches()


def test_without_permission_it_ends_with_4_at_the_first(world: World) -> None:
    world.fails("route add", words="RTNETLINK answers: Operation not permitted")
    done = world.run("replay", journal(world, HEADING, ADD, DELETE))
    assert (4, "", 1) == (done.code, done.out, len(done.errors))
    assert [1] == world.batches()


def test_tables_that_another_process_has_locked_are_left_alone(world: World) -> None:
    path = world.locks / f"{Path('/proc/self/ns/net').stat().st_ino}-{TABLE}.pass.lock"
    path.touch()
    before = world.tables()
    with held(path):
        done = world.run("replay", "--wait", "0.1", journal(world, HEADING, ADD))
    assert (5, "", 1) == (done.code, done.out, len(done.lines)), done
    assert before == world.tables()


def test_it_goes_on_when_nobody_reads_its_output(world: World) -> None:
    lines = [line for _ in range(20) for line in (ADD, "#   refused: before", DELETE, "#   refused: before")]
    reading, writing = os.pipe()
    os.close(reading)
    process = world.start("replay", journal(world, HEADING, *lines, ADD), stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    done = finish(process)
    assert 0 == done.code, done.lines
    assert "10.9.0.0/24" in world.copies("inet")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root distrusts such a file")
def test_root_does_not_trust_a_journal_that_everybody_may_write(world: World) -> None:
    path = journal(world, HEADING, ADD)
    Path(path).chmod(0o666)
    done = world.run("replay", path)
    assert (2, 1, []) == (done.code, len(done.lines), world.batches())
    assert f"chmod o-w {path}" in done.errors[0]


def test_a_pipe_is_refused(world: World) -> None:
    os.mkfifo(world.folder / "fifo")
    assert 2 == world.run("replay", str(world.folder / "fifo")).code


def test_a_long_replay_collects_its_garbage(world: World) -> None:
    code = "import gc, sys; from fz_iproute.cli import main; main(sys.argv[1:]); print(gc.isenabled())"
    done = world.run("replay", journal(world, HEADING, ADD), program=[sys.executable, "-c", code])
    assert "True" == done.out.splitlines()[-1]
