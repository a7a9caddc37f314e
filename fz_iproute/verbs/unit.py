"""`unit`: print what a service manager needs to run fz-iproute, or the names of its tables for iproute2."""

import re
import sys
from argparse import ArgumentParser, Namespace
from importlib.resources import files
from pathlib import Path

from fz_iproute.files.config_file import load
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.words import KERNEL_TABLES
from fz_iproute.verbs.output import write

# The file of the package for each name on the command line.
_UNITS = {"systemd": "fz-iproute.service", "timer": "fz-iproute-sync.timer", "cron": "fz-iproute.cron"}


def add(parser: ArgumentParser) -> None:
    """Add the argument of this verb."""
    parser.add_argument("name", choices=(*_UNITS, "rt_tables"))


def run(arguments: Namespace, log: Log) -> int:
    """Print the unit."""
    if arguments.name == "rt_tables":
        write(_rt_tables(load(arguments.config)))
    else:
        text = files("fz_iproute").joinpath("data", _UNITS[arguments.name]).read_text("utf-8")
        write(text.replace("{program}", _program()).rstrip())
    return 0


def _program() -> str:
    """How to start the program that runs now."""
    program = Path(sys.argv[0]).absolute()
    return str(program) if program.name == "fz-iproute" else f"{sys.executable} -m fz_iproute"


def _rt_tables(config: Config) -> str:
    """A file for iproute2's `rt_tables.d` that names the tables after the tunnel: `firezone` for `tun-firezone`."""
    name = re.sub(r"[^\w-]", "_", config.tunnel.interface.removeprefix("tun-"), flags=re.ASCII)
    # `ip` would take a number for the id of a table, and the kernel's tables have these names.
    if not name[:1].isalpha() or name in (*KERNEL_TABLES.values(), "all", "cache"):
        name = f"vpn-{name}" if name else "vpn"
    tables = config.tables
    names = {tables.single: name}
    names.setdefault(tables.user, f"{name}-user")
    names |= {tables.lan: f"{name}-lan", tables.internet: f"{name}-internet"}
    lines = [
        # iproute2 reads them as signed numbers.
        f"{table}\t{name}" if table < 2**31 else f"# {table} cannot have a name: iproute2 names none from 2^31 on"
        for table, name in names.items()
    ]
    return "\n".join(["# for /etc/iproute2/rt_tables.d/fz-iproute.conf", *lines])
