"""How to start the program that runs now, and whether a sandboxed unit could."""

import os
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
    """The words that start the program that runs now."""
    program = Path(sys.argv[0])
    program = program.parent.resolve() / program.name  # /bin may be a link to /usr/bin
    if program.name == "__main__.py":
        return (sys.executable, "-m", "fz_iproute")
    return (str(program),) if os.access(program, os.X_OK) else (sys.executable, str(program))


def default_prefix(program: tuple[str, ...]) -> str:
    """Where the shared files belong: beside a program that the distribution has packaged, else in /usr/local."""
    return "/usr" if program[0].startswith(("/usr/bin/fz-", "/usr/sbin/fz-")) else "/usr/local"


def choose(arguments: Namespace, way: str, log: Log) -> Choice:
    """The choice that the options of a verb stand for. UsageError if it cannot work; a dry run only warns of that."""
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
    """In a dry run, a UsageError ends the block, and is only a warning."""
    try:
        yield
    except UsageError as error:
        if not arguments.dry_run:
            raise
        log.warning(str(error))


def _check_reach(choice: Choice) -> None:
    """UsageError if a unit cannot read what it needs: it runs as an ordinary user and sees no home folders."""
    running = running_program() == choice.program
    needed = [Path(choice.program[0])]
    if running:
        needed += [needed[0].resolve(), Path(sys.prefix), Path(sys.base_prefix).resolve(), Path(__file__).resolve()]
    for path in needed:
        if folder := hidden_by_sandbox(str(path)) or _closed(path):
            raise UsageError(
                f"{path}: the unit cannot reach it, because its user sees nothing in {folder}; install fz-iproute "
                "where everybody may read it, for example in /opt/fz-iproute, and name that one with --program"
            )
    config = Path(choice.config_file or "/etc/fz-iproute/config.toml")
    if folder := hidden_by_sandbox(str(config)) or _closed(config):
        raise UsageError(
            f"{config}: the unit cannot read it, because its user sees nothing in {folder}; move it to /etc/fz-iproute"
        )
    if config.exists() and not config.stat().st_mode & 0o004:
        raise UsageError(f"{config}: the unit cannot read it, because its user is not root; run `chmod o+r {config}`")


def _closed(path: Path) -> str:
    """The first folder on the way that only some users may enter; "" if there is none.

    A single-file program counts as the folder of its modules.
    """
    for folder in reversed(path.parents):
        try:
            mode = folder.stat().st_mode
        except OSError:
            break
        if not mode & (0o001 if S_ISDIR(mode) else 0o004):
            return str(folder)
    return ""
