"""Reports the daemon's state to systemd with the protocol of sd_notify(3). Without systemd it does nothing."""

import os
import socket
from contextlib import suppress


def notify(*words: str) -> None:
    """Send assignments such as READY=1. A failure is ignored, because the daemon does not depend on systemd."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_systemd:
        # In the environment, a leading @ stands for the NUL byte that starts the name of an abstract socket.
        to_systemd.connect("\0" + address[1:] if address.startswith("@") else address)
        to_systemd.send("\n".join(words).encode("utf-8", "backslashreplace"))


class Watchdog:
    """Sends WATCHDOG=1 twice in each of the watchdog's periods, if systemd watches this process."""

    def __init__(self) -> None:
        period = os.environ.get("WATCHDOG_USEC", "")
        is_ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._interval = int(period) / 2_000_000 if period.isdigit() and is_ours else 0.0
        self.due = 0.0 if self._interval else None  # when to send the next time

    def feed(self, now: float) -> None:
        """Send WATCHDOG=1 if it is due."""
        if self.due is not None and now >= self.due:
            notify("WATCHDOG=1")
            self.due = now + self._interval
