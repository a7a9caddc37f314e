"""Tells systemd how the daemon is, by the protocol of sd_notify(3). Without systemd it says nothing."""

import os
import socket
from contextlib import suppress


def notify(*words: str) -> None:
    """Send assignments such as READY=1. A failure is ignored: the daemon works without systemd too."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_systemd:
        # A leading @ is how the environment spells the NUL of an abstract name.
        to_systemd.connect("\0" + address[1:] if address.startswith("@") else address)
        to_systemd.send("\n".join(words).encode("utf-8", "backslashreplace"))


class Watchdog:
    """Feeds systemd's watchdog twice in each of its periods, if it watches this process."""

    def __init__(self) -> None:
        period = os.environ.get("WATCHDOG_USEC", "")
        is_ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._interval = int(period) / 2_000_000 if period.isdigit() and is_ours else 0.0
        self.due = 0.0 if self._interval else None

    def feed(self, now: float) -> None:
        """Feed it if it is time."""
        if self.due is not None and now >= self.due:
            notify("WATCHDOG=1")
            self.due = now + self._interval
