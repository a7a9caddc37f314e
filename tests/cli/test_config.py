"""The configuration file as its author sees it: all problems at once, each with the file and the key.

tests/unit/mirror/test_config.py has each impossible value.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fz_iproute.files.config_file import DEFAULT_PATH
from tests.cli.test_replay import ADD, HEADING, journal
from tests.cli.world import Done, Program
from tests.user_ids import DROP_RIGHTS, need_user_ids

DEFAULTS = """
[tunnel]
interface = "tun-firezone"
fwmark = 0xfd002021
mode = "observe"
split_default = "auto"
routes = []
internet = false
internet_leak = "block"
on_down = "open"
[tables]
layout = "auto"
single = 539098368
user = 539098368
lan = 539098369
internet = 539098370
[rules]
single = 32765
tiered = [100, 200, 300]
[lan]
trust = "any"
allow = []
deny = []
interfaces = ["*"]
exclude_interfaces = []
min_prefixlen = { inet = 8, inet6 = 48 }
multicast = false
prune = true
[watch]
settle = 0.002
max_wait = 0.5
resync = 60
journal = ""
cleanup_on_exit = false
"""


def check(program: Program, text: str | bytes) -> list[str]:
    """The problems of a configuration, one a line, without the prefix and the name of the file."""
    path = Path(program.config(""))
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = program.run("config", "check", str(path))
    assert (2, "") == (done.code, done.out), done
    assert done.lines == [f"error: {error}" for error in done.errors]
    assert all(error.startswith(f"{path}: ") for error in done.errors), done
    return [error.removeprefix(f"{path}: ") for error in done.errors]


def test_without_a_file_the_defaults_are_in_force(program: Program) -> None:
    done = program.run("config", "show")
    assert (0, [f"# {DEFAULT_PATH}: there is no such file, so the defaults are in force"]) == (done.code, done.lines)
    assert tomllib.loads(DEFAULTS) == tomllib.loads(done.out)


@pytest.mark.parametrize("text", ["# nothing\n", "[lan]\n", DEFAULTS], ids=["comment", "section", "all"])
def test_a_file_without_settings_means_the_defaults(program: Program, text: str) -> None:
    path = program.config(text)
    assert program.run("config", "show").out == program.run("config", "show", "-c", path).out
    assert (0, f"{path}: good\n", "") == program.run("config", "check", path)


def test_the_shown_configuration_is_a_valid_file_with_the_same_content(program: Program) -> None:
    path = program.config(
        """
        tunnel = { interface = "wg\\"\\\\0", fwmark = 8225 }
        lan = { deny = ["192.0.2.1"], interfaces = ["wl[!x]*", "\\u00fc\\u0007"], min_prefixlen = { inet6 = 64 } }
        """
    )
    done = program.run("config", "show", "-c", path)
    assert (0, [f"# read from {path}"]) == (done.code, done.lines)
    assert "" == program.run("config", "show", "-q", "-c", path).err
    shown = done.out
    document = tomllib.loads(shown)
    assert 'wg"\\0' == document["tunnel"]["interface"]
    assert ["192.0.2.1/32"] == document["lan"]["deny"]
    assert {"inet": 8, "inet6": 64} == document["lan"]["min_prefixlen"]
    assert shown == program.run("config", "show", "-c", program.config(shown)).out


@pytest.mark.parametrize("argv", [("sync",), ("plan",), ("status",), ("down",), ("config", "show")], ids=" ".join)
def test_every_verb_refuses_a_bad_file_before_it_starts_an_ip(program: Program, argv: tuple[str, ...]) -> None:
    path = program.config("[lan]\ntrust = 3\n")
    program.install("#!/bin/sh\necho ip was started >&2\n")
    done = program.run(*argv, "-c", path)
    assert (2, "", 1) == (done.code, done.out, len(done.lines)), done
    assert done.errors[0].startswith(f"{path}: lan.trust: ")


WRONG_TYPES = [
    """
    tunnel = { interface = 3, fwmark = "red", mode = 1, routes = "100.64.0.0/11", internet = "yes", on_down = {} }
    tables = { layout = 3, single = "main", user = 1.5, lan = [], internet = false }
    rules = { single = "32765", tiered = 100 }
    lan = { trust = true, allow = "10.0.0.0/8", deny = { inet = 8 }, interfaces = "*", multicast = 0, prune = "true" }
    watch = { settle = "2ms", max_wait = true, resync = 07:32:00, journal = 1, cleanup_on_exit = 1 }
    """,
    """
    tunnel = { fwmark = true, routes = [1], internet_leak = false }
    lan = { allow = [10], exclude_interfaces = 1979-05-27, min_prefixlen = { inet = "8" } }
    """,
]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lan.interfaces = []", "lan.interfaces: the list is empty"),
        ("tunnel.internet = true", "tunnel.internet: has an effect only with mode"),
        ("tunnel.routes = ['100.64.0.0/11']", "tunnel.routes: has an effect only with mode"),
    ],
)
def test_what_is_hardly_meant_is_a_warning(program: Program, text: str, words: str) -> None:
    path = program.config(text)
    done = program.run("config", "check", path)
    assert (0, f"{path}: good\n") == (done.code, done.out)
    assert [True] == [f"{path}: {words}" in line for line in done.lines]
    in_force = program.run("-c", path, "config", "check")
    assert (done.code, done.out, done.lines) == (in_force.code, in_force.out, in_force.lines)


@pytest.mark.parametrize("text", WRONG_TYPES, ids=["all sections", "more"])
def test_each_wrong_type_is_reported_with_its_key(program: Program, text: str) -> None:
    expected = [f"{section}.{key}" for section, keys in tomllib.loads(text).items() for key in keys]
    assert sorted(expected) == sorted(line.partition(":")[0] for line in check(program, text))


@pytest.mark.parametrize(
    ("text", "where", "meant"),
    [
        ("", "", "empty"),
        ("\n\n", "", "empty"),
        ("[lan]\nexclude_interface = []\n", "lan.exclude_interface: ", "exclude_interfaces"),
        ("[tables]\nInternet = 3\n", "tables.Internet: ", "internet"),
        ("interface = 'wg0'\n", "interface: ", ""),
        ("[watch]\nxyz = 1\n", "watch.xyz: unknown key; ", "there are settle, max_wait, resync, "),
        ("[foo]\nxyz = 1\n", "foo: unknown section; ", "there are tunnel, tables, rules, lan, watch"),
        ("[Lna]\n", "Lna: ", "did you mean lan?"),
        ("[watch]\nJOURNAL = ''\n", "watch.JOURNAL: ", "did you mean journal?"),
        ("[tunnel]\nlan.multicast = true\n", "tunnel.lan: ", "write [lan] on a line of its own"),
        ("tunnel = 3\n", "tunnel: ", "[tunnel]"),
        ("[[lan]]\n", "lan: ", "[lan]"),
        ("[tables]\ninternet = 539098369\n", "tables.internet: ", "tables.lan"),
        ("[watch]\nsettle = 2\nmax_wait = 1\n", "watch.settle: ", "watch.max_wait"),
        ("[lan\n", "", "line 1"),
        ("[lan]\ntrust = any\n", "line 2: ", "a text needs quotes"),
        ("[lan]\nmulticast = ture\n", "line 2: ", "multicast is true or false, in lower case and without quotes"),
        ("[lan]\nprune = yes # or no\n", "line 2: ", "prune is true or false"),
        ("lan.prune = True\n", "line 1: ", "prune is true or false"),
        ("[tunnel]\ninternet =\n", "line 2: ", "internet is true or false"),
        ("[tables]\ninternet = on\n", "line 2: ", "a text needs quotes"),
        ("[tunnel]\nfwmark = 1\n[foo]\nmulticast = on\n", "line 4: ", "a text needs quotes"),
        ("multicast = yes\n", "line 1: ", "a text needs quotes"),
        ("[lan]\nallow = [10.0.0.0/8]\n", "line 2: ", "a text in it has no quotes"),
        ("[lan]\nprune = true\nprune = false\n", "line 3: ", "this key is in its section twice; keep one of them"),
        ("[lan]\nprune = true\n\n[lan]\nmulticast = true\n", "line 4: ", "this section is there already; "),
        ("lan.prune = true\n[lan]\nmulticast = true", "line 2: ", "write its keys below the first one"),
        ("[lan] multicast = true", "line 1: ", "a line of its own"),
        ("[tunnel]\ninterface = 'wg0', fwmark = 1\n", "line 2: ", "a line of its own"),
        ("[lan]\nmin_prefixlen = { inet = 8, inet = 9 }", "line 2: ", "this key is there twice"),
        ("[lan]\nmin_prefixlen = { inet = 8 }\nmin_prefixlen.inet6 = 48", "", "line 3: "),
    ],
)
def test_each_problem_of_the_structure_is_reported_with_its_place(
    program: Program, text: str, where: str, meant: str
) -> None:
    (line,) = check(program, text)
    assert line.startswith(where)
    assert meant in line


def garbage() -> dict[str, bytes]:
    chance = random.Random(1)
    mebibyte = 1 << 20
    return {
        "random bytes": chance.randbytes(1_000_000),
        "random text": "".join(chance.choices("abc =[]{}\"'\\\n#.,0x1é", k=600_000)).encode()[:1_000_000],
        "brackets": b"x = " + b"[" * 1_000_000,
        "a deep key": b"[tunnel]\ninterface" + b".a" * 5_000 + b" = 1",
        "a long number": b"[tunnel]\nfwmark = " + b"1" * 100_000,
        "a long name": b"[tunnel]\n" + b"a" * 1_000_000 + b" = 1",
        "a long value": b"[tunnel]\ninterface = '" + b"a" * 1_000_000 + b"'",
        "Latin-1": "# für\n".encode("latin-1"),
        "UTF-16": "[lan]\n".encode("utf-16"),
        "too large": b"#" * (mebibyte + 1),
    }


@pytest.mark.parametrize("kind", garbage())
def test_garbage_is_refused_in_one_line(program: Program, kind: str) -> None:
    assert 1 == len(check(program, garbage()[kind]))


@pytest.mark.parametrize("sign", ["\\n", "\\r", "\\u001b", "\\u2028", "\\u0085"])
def test_a_key_cannot_forge_a_line_of_the_log(program: Program, sign: str) -> None:
    (line,) = check(program, f'[lan]\n"x{sign}error: forged" = 1\n')
    assert line.isprintable()


@pytest.mark.parametrize("argv", [("sync", "-c"), ("config", "show", "-c"), ("config", "check")], ids=" ".join)
def test_a_file_that_is_missing_or_no_regular_file_is_one_line(program: Program, argv: tuple[str, ...]) -> None:
    os.mkfifo(program.folder / "fifo")
    (program.folder / "circle").symlink_to("circle")
    for name in (
        "missing.toml",
        "no/such/folder.toml",
        "state/under-a-file.toml",
        "run",
        "fifo",
        "circle",
        "/dev/zero",
    ):
        path = program.folder / name
        done = program.run(*argv, str(path))
        assert (2, 1) == (done.code, len(done.lines)), done
        assert done.errors[0].startswith(f"{path}: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root distrusts such a file")
@pytest.mark.parametrize("verb", ["sync", "plan"])
def test_root_does_not_trust_a_file_that_everybody_may_write(program: Program, verb: str) -> None:
    path = Path(program.config(""))
    path.chmod(0o666)
    done = program.run(verb, "-c", str(path))
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


@pytest.mark.parametrize("mode", ["file", "folder"])
@pytest.mark.parametrize("verb", ["config check", "-c FILE status", "plan --snapshot", "replay --dry-run"])
def test_an_unreadable_file_is_reported_with_what_to_do(
    program: Program, open_folder: Path, verb: str, mode: str
) -> None:
    path = open_folder / "inner" / "file"
    path.parent.mkdir()
    path.touch()
    (path if mode == "file" else path.parent).chmod(0)
    words = verb.replace("FILE", str(path)).split()
    done = as_ordinary_user(program, *words, *([] if "FILE" in verb else [str(path)]))
    path.parent.chmod(0o755)
    advice = "run as root (sudo), or give this user the right"
    assert (2, [f"{path}: Permission denied; {advice}"]) == (done.code, done.errors), done


def test_a_lock_that_only_root_may_open_is_reported_with_what_to_do(program: Program, open_folder: Path) -> None:
    file = open_folder / "journal"
    file.write_bytes(Path(journal(program, HEADING, ADD)).read_bytes())
    (error,) = as_ordinary_user(program, "replay", str(file)).errors
    assert "the lock cannot be opened: Permission denied; run as root (sudo)" in error


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
