"""Announces the start, the end and the state of the tunnel, in the log of `watch` and to systemd."""

from pathlib import Path

from fz_iproute import __version__
from fz_iproute.daemon.notify import notify
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.tunnel import Layout

_CHANGES = {
    ("missing", "up"): "has appeared and is up",
    ("missing", "down"): "has appeared and is down",
    ("up", "missing"): "has disappeared",
    ("down", "missing"): "has disappeared",
}


class Announcer:
    """Announces each state once. The lines in the log are comments, so that the log remains a shell script."""

    def __init__(self, place: Path, log: Log) -> None:
        self._place = place
        self._log = log
        self._tunnel = ("", "")  # the interface and its state
        self._status = ""

    def start(self) -> None:
        """Announce the version and the configuration file."""
        file = str(self._place) if self._place.exists() else f"the defaults, because there is no {self._place}"
        self._log.info(f"# fz-iproute {__version__} starts with {file}")

    def tunnel(self, config: Config, layout: Layout | None, state: str) -> None:
        """Announce the state of the tunnel if it has changed. For a new tunnel, also name the table for its copies."""
        name = config.tunnel.interface
        before, self._tunnel = self._tunnel, (name, state)
        if before != self._tunnel and not config.is_auto:
            is_known = before[0] == name
            change = _CHANGES.get((before[1], state), f"is {state}") if is_known else f"is {state}"
            target = f"; copies go to table {layout.mirror}" if layout and not is_known else ""
            self._log.info(f"# {name} {change}{target}")

    def status(self, copies: int, due: int) -> None:
        """Tell systemd the state of the tunnel, the number of copies, and how many commands the last pass planned."""
        name, state = self._tunnel
        changes = f", {due} to be changed" if due else ""
        status = f"{name} is {state}; {copies} copies{changes}"
        if status != self._status:
            self._status = status
            notify(f"STATUS={status}")

    def end(self, *, with_copies: bool) -> None:
        """Announce that the daemon ends, and whether it removes the copies."""
        end = "and removes the copies" if with_copies else "and leaves the copies in place"
        self._log.info(f"# fz-iproute ends {end}")
