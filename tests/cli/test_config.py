"""The configuration file as its author sees it: all problems at once, each with the file and the key.

tests/unit/mirror/test_config.py has each problem.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fz_iproute.files.config_file import DEFAULT_PATH
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.config_text import dump
from tests.cli.test_replay import ADD, HEADING, journal
from tests.cli.world import Done, Program
from tests.user_ids import DROP_RIGHTS, need_user_ids


def test_without_a_file_the_defaults_are_in_force(program: Program) -> None:
    done = program.run("config", "show")
    assert (0, [f"# {DEFAULT_PATH}: there is no such file, so the defaults are in force"]) == (done.code, done.lines)
    assert dump(Config()) == done.out
    path = program.config("# nothing\n")
    assert (0, f"{path}: good\n", "") == program.run("config", "check", path)


def test_the_shown_configuration_is_a_valid_file_with_the_same_content(program: Program) -> None:
    path = program.config('lan.deny = ["192.0.2.1"]')
    done = program.run("config", "show", "-c", path)
    assert (0, [f"# read from {path}"]) == (done.code, done.lines)
    assert done.out == program.run("config", "show", "-q", "-c", program.config(done.out)).out
    assert 'deny = ["192.0.2.1/32"]' in done.out


@pytest.mark.parametrize("argv", [("sync",), ("plan",), ("status",), ("down",), ("config", "show")], ids=" ".join)
def test_every_verb_refuses_a_bad_file_before_it_starts_an_ip(program: Program, argv: tuple[str, ...]) -> None:
    path = program.config("[lan]\ntrust = 3\n")
    program.install("#!/bin/sh\necho ip was started >&2\n")
    done = program.run(*argv, "-c", path)
    assert (2, "", 1) == (done.code, done.out, len(done.lines)), done
    assert done.errors[0].startswith(f"{path}: lan.trust: ")


def test_what_is_hardly_meant_is_a_warning(program: Program) -> None:
    path = program.config("tunnel.internet = true")
    done = program.run("config", "check", path)
    assert (0, f"{path}: good\n") == (done.code, done.out)
    assert [True] == [f"{path}: tunnel.internet: has an effect only with mode" in line for line in done.lines]
    in_force = program.run("-c", path, "config", "check")
    assert (done.code, done.out, done.lines) == (in_force.code, in_force.out, in_force.lines)


@pytest.mark.parametrize(
    "text",
    ["# für\n".encode("latin-1"), "[lan]\n".encode("utf-16"), b"#" * ((1 << 20) + 1)],
    ids=["Latin-1", "UTF-16", "too large"],
)
def test_a_file_that_is_no_text_is_refused_in_one_line(program: Program, text: bytes) -> None:
    path = Path(program.config(""))
    path.write_bytes(text)
    done = program.run("config", "check", str(path))
    assert (2, "", 1) == (done.code, done.out, len(done.lines)), done
    assert done.errors[0].startswith(f"{path}: ")


def test_a_file_that_is_missing_or_no_regular_file_is_one_line(program: Program) -> None:
    os.mkfifo(program.folder / "fifo")
    (program.folder / "circle").symlink_to("circle")
    for name in ("missing.toml", "no/such/folder.toml", "run", "fifo", "circle", "/dev/zero"):
        path = program.folder / name
        done = program.run("sync", "-c", str(path))
        assert (2, 1) == (done.code, len(done.lines)), done
        assert done.errors[0].startswith(f"{path}: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root distrusts such a file")
def test_root_does_not_trust_a_file_that_everybody_may_write(program: Program) -> None:
    path = Path(program.config(""))
    path.chmod(0o666)
    done = program.run("plan", "-c", str(path))
    assert (2, 1) == (done.code, len(done.lines)), done
    assert done.errors[0].startswith(f"{path}: ")
    assert f"chmod o-w {path}" in done.errors[0]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter; those of pytest are private."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_ordinary_user(program: Program, *argv: str) -> Done:
    """Run the program as an ordinary user, even if the test runs as root."""
    need_user_ids()
    return program.run(*argv, program=[sys.executable, "-c", DROP_RIGHTS])


@pytest.mark.parametrize("verb", ["config check", "-c FILE status", "plan --snapshot", "replay --dry-run"])
def test_an_unreadable_file_is_reported_with_what_to_do(program: Program, open_folder: Path, verb: str) -> None:
    path = open_folder / "inner" / "file"
    path.parent.mkdir()
    path.touch()
    (path.parent if verb == "config check" else path).chmod(0)
    words = verb.replace("FILE", str(path)).split()
    done = as_ordinary_user(program, *words, *([] if "FILE" in verb else [str(path)]))
    path.parent.chmod(0o755)
    advice = "run as root (sudo), or give this user the right"
    assert (2, [f"{path}: Permission denied; {advice}"]) == (done.code, done.errors), done


def test_a_lock_that_only_root_may_open_is_reported_with_what_to_do(program: Program, open_folder: Path) -> None:
    file = open_folder / "journal"
    file.write_bytes(Path(journal(program, HEADING, ADD)).read_bytes())
    (error,) = as_ordinary_user(program, "replay", str(file)).errors
    assert ": Permission denied; run as root (sudo)" in error


def test_a_file_that_only_root_may_write_is_reported_with_what_to_do(open_folder: Path) -> None:
    script = f"""
{DROP_RIGHTS.rpartition("sys.exit")[0]}
from pathlib import Path
from fz_iproute.errors import NotPermitted
from fz_iproute.files.whole_file import create, replace
for write in create, replace:
    try:
        write(Path("{open_folder}/new"), "")
    except NotPermitted as error:
        print(error)
"""
    need_user_ids()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    line = f"{open_folder}/new: Permission denied; run as root (sudo), or give this user the right"
    assert [line] * 2 == done.stdout.splitlines()


def test_an_ordinary_user_may_look_at_a_file_that_everybody_may_write(program: Program, open_folder: Path) -> None:
    path = open_folder / "config.toml"
    path.write_text("[lan]\n")
    path.chmod(0o666)
    done = as_ordinary_user(program, "config", "check", str(path))
    assert (0, []) == (done.code, done.lines), done
