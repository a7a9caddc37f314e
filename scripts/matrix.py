"""Runs tests with several versions of iproute2, of Python and of the libraries, and prints a table of the results.

What is not installed comes from Debian's suites: programs are unpacked under .cache with all libraries that they need,
the C library too, so that they run on any system. Nothing is installed.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[1]
CACHE = PROJECT / ".cache"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# iproute2 5.9, 6.1, 6.15 and two newer ones. A suite loses its packages a while after its support ends.
SUITES = ("bullseye", "bookworm", "trixie", "forky", "sid")
PYTHONS = {"3.11": "bookworm", "3.12": None, "3.13": "trixie", "3.14": "sid", "3.15": "sid"}
OLDEST_PYTHON = "3.11"

# Without --full, only tests of what differs between versions, and the Pythons that README.md names.
QUICK_KERNEL_TESTS = [
    # Parser, refused lines of a batch, lines of the monitor, machines of other versions.
    "tests/netns/test_versions.py",
    "tests/netns/test_roundtrip.py::test_every_attribute_is_carried_over",
    # Coprocess and monitor.
    "tests/watch/test_following.py::test_the_mirror_follows[a-link-is-deleted]",
    "tests/watch/test_following.py::test_its_own_changes_do_not_keep_it_busy",
]
QUICK_PYTHONS = ("3.11", "3.12", "3.13")
KERNEL_TESTS = ["tests/netns", "tests/watch", "tests/manage", "tests/packets", "tests/clients"]
# What depends on sh, watchfiles and loguru.
QUICK_PYTHON_TESTS = ["tests/unit/ip", "tests/unit/daemon", "tests/unit/files", "tests/unit/record"]
PYTHON_TESTS = ["tests/unit", "tests/cli"]


class NotToBeHad(Exception):
    """A version that is neither installed nor in Debian's archive, or for which a library cannot be installed."""


class Cell(NamedTuple):
    """A row of the report."""

    name: str
    python: str
    tests: list[str]
    path: str | None = None  # a folder for the front of PATH


def main() -> int:
    """Run all, then print the table. 1 if a test failed, or if no version at all was to be had."""
    parser = argparse.ArgumentParser(prog="scripts/matrix", description=__doc__)
    parser.add_argument("--full", action="store_true", help="all versions and all tests (more than an hour)")
    parser.add_argument("--only", choices=("iproute2", "python"), help="one of the two (default: both)")
    parser.add_argument("--record", action="store_true", help="write the output of each `ip` to tests/recorded instead")
    parser.add_argument("versions", nargs="*", help="suites of Debian, or versions of Python; default: all, or a few")
    arguments = parser.parse_args()

    # Quick tests wait more than they work. All tests of a version are many processes already.
    workers = 1 if arguments.full or arguments.record else len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(workers) as pool:
        rows = list(pool.map(partial(row, arguments), chosen(arguments)))
    width = max(len(name) for name, _, _ in rows)
    print("\n".join(f"{name:{width}}  {words}" for name, _, words in rows))
    results = {passed for _, passed, _ in rows}
    return int(False in results or True not in results)


def row(arguments: argparse.Namespace, wanted: tuple[str, str]) -> tuple[str, bool | None, str]:
    """A name, whether all passed (None if nothing ran), and words."""
    kind, version = wanted
    start = time.monotonic()
    try:
        if arguments.record:
            record(version)
            return version, True, "recorded"
        cell = iproute2(version, arguments.full) if kind == "iproute2" else python(version, arguments.full)
    except NotToBeHad as error:
        return f"{kind} {version}", None, f"NOT RUN: {error}"
    print(f"--- {cell.name}", file=sys.stderr, flush=True)
    passed, words = run_tests(cell, 4 if arguments.full else 0)
    return cell.name, passed, f"{words} ({time.monotonic() - start:.0f} s in all)"


def chosen(arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """The kinds and versions to run."""
    named, everything = arguments.versions, arguments.full or arguments.record
    if arguments.only != "python":
        for suite in named or SUITES:
            if suite not in PYTHONS:
                yield "iproute2", suite
    if arguments.only != "iproute2" and not arguments.record:
        for version in named or (PYTHONS if everything else QUICK_PYTHONS):
            if version in PYTHONS:
                yield "python", version


def run_tests(cell: Cell, processes: int) -> tuple[bool, str]:
    """Whether all passed, and pytest's summary."""
    environment = {**os.environ, "PATH": os.pathsep.join(filter(None, [cell.path, os.environ.get("PATH")]))}
    argv = [cell.python, "-m", "pytest", "-q", "-n", str(processes), "-p", "no:cacheprovider", *cell.tests]
    log = CACHE / f"{cell.name.partition(',')[0]}.log"  # to be looked at while the tests run
    with log.open("wb") as stdout:
        done = subprocess.run(argv, env=environment, cwd=PROJECT, stdout=stdout, check=False)
    text = log.read_text("utf-8", "replace").strip()
    lines = text.splitlines() or ["pytest printed nothing"]
    if done.returncode:
        print(text, file=sys.stderr)
    return done.returncode == 0, lines[-1]


# --- iproute2


def iproute2(suite: str, full: bool) -> Cell:
    """The kernel's tests with the `ip` of a suite."""
    folder = ip_of(suite)
    version = run([str(folder / "ip"), "-V"]).partition("iproute2-")[2].partition(",")[0]
    return Cell(
        f"iproute2 {version} ({suite})", sys.executable, KERNEL_TESTS if full else QUICK_KERNEL_TESTS, str(folder)
    )


def record(suite: str) -> None:
    """Write what this `ip` prints to tests/recorded."""
    environment = {**os.environ, "PATH": f"{ip_of(suite)}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    argv = [sys.executable, "-m", "tests.netns.recorded_machine", "tests/recorded"]
    subprocess.run(argv, env=environment, cwd=PROJECT, check=True)


def ip_of(suite: str) -> Path:
    """The folder with the `ip` of a suite."""
    root = unpacked(suite, "iproute2")
    program = next(path for path in (root / "usr/bin/ip", root / "bin/ip") if path.exists())
    return wrapper(root, program, "ip").parent


# --- Python


def python(version: str, full: bool) -> Cell:
    """Tests with a version of Python, the oldest one with the oldest libraries that setup.cfg allows."""
    oldest = version == OLDEST_PYTHON
    folder = CACHE / f"venv-{version}"
    interpreter = folder / "bin/python"
    if not (folder / "ready").exists():
        program = python_of(version)
        try:
            run([str(program), "-m", "venv", "--clear", "--without-pip", str(folder)])
            packages = next(folder.glob("lib/python*/site-packages"))
            run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(packages), "pip"])
            run([str(interpreter), "-m", "pip", "install", "--quiet", *requirements(oldest)])
        except subprocess.CalledProcessError as error:
            raise NotToBeHad(last_line(error)) from None
        (folder / "ready").touch()
    script = "import platform, importlib.metadata as m; print(platform.python_version(), *("
    script += "f'{name} {m.version(name)}' for name in ('sh', 'watchfiles', 'loguru')))"
    found, _, libraries = run([str(interpreter), "-c", script]).strip().partition(" ")
    return Cell(f"Python {found}, {libraries}", str(interpreter), PYTHON_TESTS if full else QUICK_PYTHON_TESTS)


def requirements(oldest: bool) -> list[str]:
    """Of setup.cfg, for tests."""
    settings = ConfigParser()
    settings.read(PROJECT / "setup.cfg")
    product = settings["options"]["install_requires"].split("\n")
    tests = set(settings["options.extras_require"]["dev"].split("\n")) - {"mypy", "ruff"}
    pinned = (re.sub(" *>= *", "==", line) if oldest else line for line in product)
    return [line for line in (*pinned, *sorted(tests)) if line]


def python_of(version: str) -> Path:
    """An interpreter: one in PATH, one of pyenv, or one of Debian."""
    places = [*map(Path, os.get_exec_path()), *sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin"))]
    for candidate in (place / f"python{version}" for place in places):
        if (
            candidate.exists()
            and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0
        ):
            return candidate
    suite = PYTHONS[version]
    if suite is None:
        raise NotToBeHad("it is not installed, and no suite of Debian has it")
    root = unpacked(suite, f"python{version}")
    return wrapper(root, root / f"usr/bin/python{version}", f"python{version}")


# --- Debian


@cache
def unpacked(suite: str, package: str) -> Path:
    """The package of a suite and all that it depends on, unpacked in a folder."""
    folder = CACHE / suite
    root = folder / package
    if root.exists():
        return root
    (folder / "lists/partial").mkdir(parents=True, exist_ok=True)
    (folder / "status").write_text("")  # no package is installed, so all are fetched
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] http://deb.debian.org/debian {suite} main\n")
    archives = folder / f"archives-{package}"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
        "Dir::Cache::archives": archives,
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
    }
    options = [f"-o{name}={value}" for name, value in settings.items()]
    try:
        if not any((folder / "lists").glob("*_Packages*")):
            run(["apt-get", "-qq", *options, "update"])
        run(["apt-get", "-qq", "-y", *options, "--download-only", "install", package])
        half = folder / f"{package}.new"
        for archive in archives.glob("*.deb"):
            run(["dpkg-deb", "-x", str(archive), str(half)])
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotToBeHad(last_line(error)) from None
    half.rename(root)
    return root


def last_line(error: OSError | subprocess.CalledProcessError) -> str:
    """Of what the command said."""
    words: str = getattr(error, "stderr", "") or str(error)
    return words.strip().splitlines()[-1]


def wrapper(root: Path, program: Path, name: str) -> Path:
    """A script that runs an unpacked program with its own libraries."""
    loader = next(path for path in sorted(root.glob("**/ld-linux*.so.*")) if path.parent.name.endswith("-gnu"))
    libraries = ":".join(str(root / place / loader.parent.name) for place in ("lib", "usr/lib"))
    # Python finds its own folder by its name. Old loaders do not know --argv0, and `ip` does not need it.
    argv0 = ' --argv0 "$0"' if name.startswith("python") else ""
    made = program.with_name(f"run-{name}") if argv0 else root / "run" / name
    made.parent.mkdir(exist_ok=True)
    command = shlex.join([str(loader), "--library-path", libraries])
    made.write_text(f'#!/bin/sh\nexec {command}{argv0} {shlex.quote(str(program))} "$@"\n')
    made.chmod(0o755)
    return made


def run(argv: Sequence[str]) -> str:
    """Run a command and return what it prints."""
    return subprocess.run(argv, capture_output=True, text=True, check=True, cwd=PROJECT).stdout


if __name__ == "__main__":
    sys.exit(main())
