"""`unit`: prints what a service manager needs to run us."""

import sys
from importlib.resources import files
from pathlib import Path

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
