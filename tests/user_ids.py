"""Lets tests become another user, where that is possible."""

import os
from pathlib import Path

import pytest

_NOBODY = 65534

# Runs the program as an ordinary user, even if the test runs as root. It imports before that: an ordinary user may not
# be able to read this Python.
DROP_RIGHTS = """
import os, sys, loguru, tomllib, fz_iproute.files.whole_file, fz_iproute.record.recorded_ip
from fz_iproute import cli
for verb in "config", "plan", "replay", "status": cli._module(verb)
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
sys.exit(cli.main())
"""


def need_user_ids() -> None:
    """Skip the test without root, and in a user namespace that knows only the ids of one user."""
    ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    has_nobody = any(int(first) <= _NOBODY < int(first) + int(size) for first, _, size in ranges)
    if os.geteuid() != 0 or not has_nobody:
        pytest.skip("this user namespace has no other user ids; run as root")
