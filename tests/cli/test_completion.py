"""The real shells complete verbs, options and their values."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fz_iproute.cli import VERBS
from fz_iproute.service.completion import SHELLS
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
_RUN = {"bash": ["bash", "-c"], "zsh": ["zsh", "-f", "-c"], "fish": ["fish", "--no-config", "-c"]}

INTERFACES = {path.name for path in Path("/sys/class/net").iterdir()}


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A shell, and the completion for it."""
    if not shutil.which(request.param):
        pytest.skip(f"COMPLETION NOT TRIED: {request.param} is not installed")
    path = tmp_path_factory.mktemp("completion") / "file"
    path.write_text(starter().run(["completion", request.param], {}, 60).stdout)
    return request.param, path


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
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
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
