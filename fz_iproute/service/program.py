"""Finds out how to start the running program again, and whether a sandboxed systemd unit can start it."""

import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR

from fz_iproute.errors import UsageError
from fz_iproute.log import Log
from fz_iproute.service.units import Choice, check, hidden_by_sandbox


def running_program() -> tuple[str, ...]:
    """The words of a command that start the running program again."""
    program = Path(sys.argv[0])
    program = program.parent.resolve() / program.name  # /bin may be a link to /usr/bin
    if program.name == "__main__.py":
        return (sys.executable, "-m", "fz_iproute")
    return (str(program),) if os.access(program, os.X_OK) else (sys.executable, str(program))


def default_prefix(program: tuple[str, ...]) -> str:
    """The prefix for shared files: /usr if the program belongs to a package of the distribution, else /usr/local."""
    return "/usr" if program[0].startswith(("/usr/bin/fz-", "/usr/sbin/fz-")) else "/usr/local"


def choose(arguments: Namespace, way: str, log: Log) -> Choice:
    """The choice made by the options of a verb. UsageError if it cannot work; a dry run only warns."""
    program = (str(arguments.program.absolute()),) if arguments.program else running_program()
    choice = Choice(
        program,
        way,
        arguments.instance or "",
        str(arguments.config.absolute()) if arguments.config else "",
        arguments.netns or "",
        arguments.prefix or default_prefix(program),
    )
    check(choice)
    with only_warned(arguments, log):
        if arguments.root == Path("/") and not os.access(program[0], os.X_OK):
            raise UsageError(f"{program[0]}: no program that can be started; name another one with --program")
        if choice.is_sandboxed:
            _check_reach(choice)
    return choice


@contextmanager
def only_warned(arguments: Namespace, log: Log) -> Iterator[None]:
    """In a dry run, a UsageError in the block becomes a warning, and the rest of the block is skipped."""
    try:
        yield
    except UsageError as error:
        if not arguments.dry_run:
            raise
        log.warning(str(error))


def _check_reach(choice: Choice) -> None:
    """UsageError if the unit could not read its program, its Python or its configuration.

    It runs as an ordinary user, and its sandbox hides the home folders.
    """
    program = Path(choice.program[0])
    pythons = _interpreters(program)
    needed = [program]
    if running_program() == choice.program:
        pythons += [Path(sys.executable), Path(sys.base_prefix).resolve()]
        needed += [program.resolve(), Path(sys.prefix), Path(__file__).resolve()]
    for path in (*needed, *pythons):
        if folder := hidden_by_sandbox(str(path)) or _closed(path):
            why = f"because its user sees nothing in {folder}"
            if path in pythons:
                raise UsageError(f"{path}: the unit cannot start this Python, {why}; {_with_another(pythons[0])}")
            raise UsageError(
                f"{path}: the unit cannot reach it, {why}; install fz-iproute where everybody may read it, for example "
                "in /opt/fz-iproute, and name that one with --program"
            )
    config = Path(choice.config_file or "/etc/fz-iproute/config.toml")
    if folder := hidden_by_sandbox(str(config)) or _closed(config):
        raise UsageError(
            f"{config}: the unit cannot read it, because its user sees nothing in {folder}; move it to /etc/fz-iproute"
        )
    if config.exists() and not config.stat().st_mode & 0o004:
        raise UsageError(f"{config}: the unit cannot read it, because its user is not root; run `chmod o+r {config}`")


def _interpreters(program: Path) -> list[Path]:
    """The interpreter that the first line of a script names, and what that is a link to, as in a venv.

    Empty if it is no script, or cannot be read.
    """
    try:
        with program.open("rb") as file:
            first = file.readline(_LONGEST)
    except OSError:
        return []
    words = first[2:].split() if first.startswith(b"#!") else []
    return [each for word in words[:1] for each in (Path(os.fsdecode(word)), Path(os.fsdecode(word)).resolve())]


_LONGEST = 4096  # bytes of a first line


def _with_another(python: Path) -> str:
    """How to install fz-iproute with another Python than this one, which may be that of a venv."""
    folder = python.parent.parent
    venv = folder if (folder / "pyvenv.cfg").exists() else Path("/opt/fz-iproute")
    command = f"/usr/bin/python3 -m venv --clear {shlex.quote(str(venv))}"
    return f"make the venv with one that everybody may start, as by `{command}`, then install fz-iproute in it again"


def _closed(path: Path) -> str:
    """The first folder in the path that not everybody may enter; "" if there is none.

    If a single-file program is part of the path, everybody must be able to read it.
    """
    for folder in reversed(path.parents):
        try:
            mode = folder.stat().st_mode
        except OSError:
            break
        if not mode & (0o001 if S_ISDIR(mode) else 0o004):
            return str(folder)
    return ""
