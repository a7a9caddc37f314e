"""Tells whether the kernel lets this process change routes."""

from pathlib import Path

_NET_ADMIN = 12  # the number of the capability


def capabilities(root: Path = Path("/")) -> str:
    """The effective capabilities of this process as a hexadecimal number; "" if they cannot be found out."""
    try:
        lines = (root / "proc/self/status").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("CapEff:").strip() for line in lines if line.startswith("CapEff:")), "")


def has_net_admin() -> bool:
    """True if this process has CAP_NET_ADMIN, or if that cannot be found out."""
    held = capabilities()
    return not held or bool(int(held, 16) >> _NET_ADMIN & 1)
