"""The real shells complete verbs, options and their values."""

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fz_iproute.cli import VERBS
from fz_iproute.service.units import COMPLETIONS
from tests.netns.namespace import DEADLINE, PROJECT, wait_until
from tests.starter import starter

# How each shell prints what it offers for a command line that ends at the cursor, one offer a line.
_ASK = {
    "bash": """
source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }
_fz_iproute; printf '%s\\n' "${COMPREPLY[@]}"
""",
    # Without a terminal, zsh has no widgets. The functions that they provide print what they get.
    "zsh": """
_describe() { local name=${@[-1]}; print -l -- ${${(P)name}%%:*} }
compadd() { shift; print -l -- $@ }
_files() { [[ $1 = -/ ]] && print -l -- ${PREFIX}*(/N) || print -l -- ${PREFIX}*(N) }
_message() { : }
words=("$@"); CURRENT=$#; PREFIX=$words[CURRENT]; file=$0
source $file
""",
    "fish": 'source $argv[1]; complete -C (string join " " -- $argv[2..])',
}
SHELLS = tuple(COMPLETIONS)
_RUN = {"bash": ["bash", "-c"], "zsh": ["zsh", "-f", "-c"], "fish": ["fish", "--no-config", "-c"]}

INTERFACES = {path.name for path in Path("/sys/class/net").iterdir()}


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A shell, and the completion for it."""
    if not shutil.which(request.param):
        pytest.skip(f"COMPLETION NOT TRIED: {request.param} is not installed")
    folder = tmp_path_factory.mktemp("completion")
    (folder / "file").write_text(starter().run(["completion", request.param], {}, 60).stdout)
    program = folder / "fz-iproute"
    program.write_text(f'#!/bin/sh\ncd {PROJECT} && exec {sys.executable} -m fz_iproute "$@"\n')
    program.chmod(0o755)
    return request.param, folder / "file"


def environment(script: Path, home: Path) -> dict[str, str]:
    """That of a shell which finds the program, beside the script."""
    return {"PATH": f"{script.parent}:{os.environ['PATH']}", "HOME": str(home)}


def offers(shell: tuple[str, Path], line: str, folder: Path) -> set[str]:
    """What the shell offers; the other shells than fish leave the choice among all offers to the caller."""
    name, path = shell
    words = line.split(" ")
    argv = [*_RUN[name], _ASK[name], *([] if name != "fish" else ["--"]), str(path), *words]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(path, folder),
        check=True,
    )
    assert "" == done.stderr
    found = {each.split("\t")[0] for each in done.stdout.splitlines()}
    return {each for each in found if each and each.startswith(words[-1])}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fz-iproute ", set(VERBS)),
        ("fz-iproute st", {"status"}),
        ("fz-iproute -q -c b.toml --netns x st", {"status"}),
        ("fz-iproute plan --exit", {"--exit-code"}),
        ("fz-iproute --log-format ", {"text", "json"}),
        ("fz-iproute sync --log-format t", {"text"}),
        ("fz-iproute unit t", {"timer"}),
        ("fz-iproute config ", {"show", "check"}),
        ("fz-iproute help st", {"status"}),
        ("fz-iproute completion ", set(SHELLS)),
        ("fz-iproute explain --iif ", INTERFACES),
        ("fz-iproute plan --snapshot a", {"a.json"}),
        ("fz-iproute -c b", {"b.toml"}),
        ("fz-iproute replay a", {"a.json"}),
        ("fz-iproute wait --timeout ", set()),
    ],
)
def test_the_shell_offers(shell: tuple[str, Path], tmp_path: Path, line: str, expected: set[str]) -> None:
    for name in ("a.json", "b.toml"):
        (tmp_path / name).touch()
    assert expected == offers(shell, line, tmp_path)


def test_every_verb_offers_its_options(shell: tuple[str, Path], tmp_path: Path) -> None:
    for verb in VERBS:
        assert {"--help", "--netns"} <= offers(shell, f"fz-iproute {verb} --", tmp_path), verb


# How each shell is started at a terminal and gets the file. A shell loads them by itself from the folder of its kind.
_AT_A_TERMINAL = {
    "bash": (["--norc", "--noprofile", "-i"], "source {file}"),
    "zsh": (["-f", "-i"], "fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D"),
    "fish": (["--no-config", "-i"], "source {file}"),
}


def test_the_tab_key_completes_a_verb_and_a_file(shell: tuple[str, Path], tmp_path: Path) -> None:
    name, source = shell
    file = tmp_path / Path(COMPLETIONS[name]).name
    shutil.copy(source, file)
    (tmp_path / "machine.json").touch()
    options, load = _AT_A_TERMINAL[name]
    env = {**environment(source, tmp_path), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    keyboard, terminal = pty.openpty()
    argv = ["setsid", "--ctty", "--wait", name, *options]
    streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    with (
        subprocess.Popen(argv, env=env, cwd=tmp_path, **streams) as process,  # type: ignore[call-overload]
        os.fdopen(keyboard, "r+b", buffering=0) as keys,  # the shell ends when this is closed
    ):
        os.close(terminal)
        os.set_blocking(keyboard, False)
        seen = bytearray()

        def shown(words: bytes) -> bool:
            seen.extend(keys.read(65536) or b"")
            return words in seen

        steps = [
            (f"{load.format(file=file, folder=tmp_path)}; echo lo''aded\n", b"\nloaded"),
            ("fz-iproute statu\t", b"fz-iproute status "),
            ("\x15fz-iproute plan --snapshot mach\t", b"machine.json "),
        ]
        for typed, expected in steps:
            keys.write(typed.encode())
            wait_until(lambda expected=expected: shown(expected), f"{expected!r} is shown")  # type: ignore[misc]
        keys.write(b"\x15exit\n")
        assert 0 == process.wait(DEADLINE)
