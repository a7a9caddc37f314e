"""The manual names every verb, option, key, check and exit code of the program, and nothing else."""

import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from fz_iproute import cli
from fz_iproute.diagnosis.checks import CHECKS
from fz_iproute.files.data import texts
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.config_text import toml
from fz_iproute.service.manual import page

PAGES = texts("man")
PROGRAM = PAGES["fz-iproute.8"]
CONFIGURATION = PAGES["fz-iproute.toml.5"]
# argparse adds it to every verb; the page says so once.
HELP = ("-h", "--help")


def part(page: str, kind: str, heading: str) -> str:
    """The text below a heading of this kind (SH or SS), up to the next one."""
    found = re.search(rf"^\.{kind} {re.escape(heading)}$(.*?)^\.({kind}|SH) ", f"{page}\n.SH \n", re.M | re.S)
    assert found, f"there is no {kind} {heading}"
    return found[1]


def entries(text: str) -> list[str]:
    """The terms that have an entry."""
    found = re.findall(r"^\.TP\n(.*)$", text, re.M)
    return [re.sub(r"\\f[BIR]", "", entry).replace(r"\-", "-") for entry in found]


def options(text: str) -> set[tuple[str, ...]]:
    """The options that have an entry, each by all its names."""
    return {tuple(re.findall(r"-\S*\w", entry)) for entry in entries(text) if entry.startswith("-")}


def test_every_verb_has_a_part_with_its_options() -> None:
    parser = cli.parser()
    common = {tuple(action.option_strings) for action in parser._actions if action.option_strings}
    text = part(PROGRAM, "SH", "OPTIONS")
    assert options(text) == common
    headings = re.findall(r"^\.SS (\w+)", part(PROGRAM, "SH", "VERBS"), re.M)
    assert list(dict.fromkeys(headings)) == list(cli.VERBS)
    for name, verb in next(action.choices for action in parser._actions if action.dest == "verb").items():
        verb.fill()
        below = "".join(part(PROGRAM, "SS", heading) for heading in re.findall(rf"^\.SS ({name}\b.*)$", PROGRAM, re.M))
        own = {tuple(action.option_strings) for action in verb._actions if action.option_strings}
        assert options(below) == own - common - {HELP}


def test_every_key_has_an_entry_with_its_default() -> None:
    for section in fields(Config):
        defaults = getattr(Config(), section.name)
        found = entries(part(CONFIGURATION, "SS", f"[{section.name}]"))
        assert found == [f"{key.name} = {toml(getattr(defaults, key.name))}" for key in fields(defaults)]
    assert len(re.findall(r"^\.SS \[", CONFIGURATION, re.M)) == len(fields(Config))


def test_every_check_of_doctor_has_an_entry() -> None:
    found = [entry for entry in entries(part(PROGRAM, "SS", "doctor")) if not entry.startswith("-")]
    assert ", ".join(found).split(", ") == [check.name for check in CHECKS]


def test_every_exit_code_has_an_entry() -> None:
    assert list(map(int, entries(part(PROGRAM, "SH", "EXIT STATUS")))) == [
        0,
        1,
        *sorted(set(cli.EXIT_CODES.values())),
        cli.INTERRUPTED,
    ]


def letters(text: str) -> str:
    """The letters and digits only: without line breaks, quotes and brackets."""
    return "".join(re.findall(r"[a-z0-9]", text.lower()))


@pytest.mark.parametrize("width", [30, 80, 100])
@pytest.mark.parametrize("name", PAGES)
def test_help_fits_the_width(name: str, width: int) -> None:
    """But for terms of entries, single words and what is literal."""
    terms = entries(PAGES[name])
    folded = page(re.sub(r"^\.RS.*?^\.RE\n", "", PAGES[name], flags=re.M | re.S), width)
    long = [line.strip() for line in folded.splitlines() if len(line) > width]
    assert [] == [line for line in long if " " in line and line not in terms]


needs_mandoc = pytest.mark.skipif(not shutil.which("mandoc"), reason="MANUAL NOT CHECKED: mandoc is not installed")


@needs_mandoc
@pytest.mark.parametrize("name", PAGES)
def test_help_shows_the_same_text_as_mandoc(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(PAGES[name])
    shown = subprocess.run(["mandoc", "-T", "utf8", "-O", "width=80", path], capture_output=True, text=True, check=True)
    _header, *lines, _footer = re.sub(".\b", "", shown.stdout).strip().splitlines()
    assert letters("\n".join(lines)) == letters(page(PAGES[name], 80))


@needs_mandoc
@pytest.mark.parametrize("name", PAGES)
def test_mandoc_has_no_complaint(name: str, tmp_path: Path) -> None:
    """But for pages that are not installed on this machine."""
    page = tmp_path / name
    page.write_text(PAGES[name])
    lint = subprocess.run(["mandoc", "-T", "lint", page], capture_output=True, text=True, check=False)
    assert [line for line in lint.stdout.splitlines() if "referenced manual not found" not in line] == []
