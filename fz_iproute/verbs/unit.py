"""`unit`: prints what a service manager needs to run us, and iproute2 to name our tables."""

import re
import sys
from importlib.resources import files
from pathlib import Path

from fz_iproute.mirror.config import Config
from fz_iproute.mirror.words import KERNEL_TABLES

# What each is called on the command line, and which file of the package it is.
UNITS = {"systemd": "fz-iproute.service", "timer": "fz-iproute-sync.timer", "cron": "fz-iproute.cron"}


def unit(name: str, program: str) -> str:
    """The text of the unit, for this program."""
    text = files("fz_iproute").joinpath("data", UNITS[name]).read_text("utf-8")
    return text.replace("{program}", program)


def own_program() -> str:
    """How a service manager starts what runs now."""
    program = Path(sys.argv[0]).absolute()
    return str(program) if program.name == "fz-iproute" else f"{sys.executable} -m fz_iproute"


def rt_tables(config: Config) -> str:
    """A drop-in for iproute2's `rt_tables.d` that names the tables after the tunnel: `firezone` for `tun-firezone`."""
    name = re.sub(r"[^\w-]", "_", config.tunnel.interface.removeprefix("tun-"), flags=re.ASCII)
    # `ip` would take a number for the id of a table, and has names of its own.
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
