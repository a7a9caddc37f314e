"""What `watch` tells besides its commands: with what it starts, how the tunnel is, and how it ends."""

from pathlib import Path

from fz_iproute import __version__
from fz_iproute.daemon.notify import notify
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.tunnel import Layout

_CHANGES = {
    ("missing", "up"): "has come and is up",
    ("missing", "down"): "has come and is down",
    ("up", "missing"): "has gone",
    ("down", "missing"): "has gone",
}


class Story:
    """Says each thing once. All lines are comments, so that the log stays a shell script."""

    def __init__(self, place: Path, log: Log) -> None:
        self._place = place
        self._log = log
        self._tunnel = ("", "")  # the interface and its state
        self._status = ""

    def begins(self) -> None:
        """Tell the version and the configuration."""
        file = str(self._place) if self._place.exists() else f"the defaults, because there is no {self._place}"
        self._log.info(f"# fz-iproute {__version__} starts with {file}")

    def goes_on(self, config: Config, layout: Layout | None, state: str) -> None:
        """Tell the state of the tunnel if that is news; the first time, also where the copies go."""
        name = config.tunnel.interface
        before, self._tunnel = self._tunnel, (name, state)
        if before != self._tunnel and not config.follows:
            is_known = before[0] == name
            change = _CHANGES.get((before[1], state), f"is {state}") if is_known else f"is {state}"
            target = f"; copies go to table {layout.mirror}" if layout and not is_known else ""
            self._log.info(f"# {name} {change}{target}")

    def has_done(self, copies: int, due: int) -> None:
        """Tell systemd the state of the tunnel and how many copies there are."""
        name, state = self._tunnel
        changes = f", {due} to be changed" if due else ""
        self._tell(f"{name} is {state}; {copies} copies{changes}")

    def ends(self, *, with_copies: bool) -> None:
        """The daemon ends by a signal; the copies go with it or stay."""
        end = "and removes the copies" if with_copies else "and leaves the copies in place"
        self._log.info(f"# fz-iproute ends {end}")

    def _tell(self, status: str) -> None:
        if status != self._status:
            self._status = status
            notify(f"STATUS={status}")
