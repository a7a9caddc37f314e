"""Tells systemd how the daemon is, by the protocol of sd_notify(3). Without systemd it says nothing."""

import os
import socket
from contextlib import suppress


def notify(*words: str) -> None:
    """Send assignments such as READY=1. Failure is silence: the message is a courtesy."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_systemd:
        # A leading @ is how the environment spells the NUL of an abstract name.
        to_systemd.connect("\0" + address[1:] if address.startswith("@") else address)
        to_systemd.send("\n".join(words).encode("utf-8", "backslashreplace"))


def watchdog_interval() -> float | None:
    """How often systemd wants WATCHDOG=1, in seconds: half of its patience. None if it does not watch us."""
    patience = os.environ.get("WATCHDOG_USEC", "")
    owner = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not patience.isdigit() or owner != str(os.getpid()):
        return None
    return int(patience) / 2_000_000 or None
