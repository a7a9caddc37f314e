"""Tells whether tests can become another user."""

import os
from pathlib import Path

import pytest

_NOBODY = 65534


def need_user_ids() -> None:
    """Skip the test without root, and in a user namespace that knows only the ids of one user."""
    ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    has_nobody = any(int(first) <= _NOBODY < int(first) + int(size) for first, _, size in ranges)
    if os.geteuid() != 0 or not has_nobody:
        pytest.skip("this user namespace has no other user ids; run as root")
