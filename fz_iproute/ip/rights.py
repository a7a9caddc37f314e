"""Tells whether the kernel lets this process change routes."""

from pathlib import Path

_NET_ADMIN = 12  # the number of the capability


def has_net_admin() -> bool:
    """True if CAP_NET_ADMIN is effective, or if nobody can tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return True
    held = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "f" * 16)
    return bool(int(held, 16) >> _NET_ADMIN & 1)
