"""What a running `watch` says about itself: a small file beside its lock, which `metrics` reads."""

import json
import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fz_iproute.errors import FzError
from fz_iproute.files.lock import place, places, watching
from fz_iproute.files.whole_file import replace


class Report:
    """The report of this process. Nothing depends on it, so no failure is told."""

    def __init__(self, netns: str | None) -> None:
        self._netns = netns
        self._started = self._last_good = time.time()
        self._path: Path | None = None

    def follow(self, tables: Collection[int]) -> None:
        """Report from now on beside the lock of these tables."""
        self.close()
        self._path = place(self._netns, min(tables), _KIND)

    def publish(self, counters: Mapping[str, int], *, good: bool) -> None:
        """A pass has ended: replace the report."""
        if good:
            self._last_good = time.time()
        document = {"started": self._started, "last_good_pass": self._last_good, "counters": counters}
        if self._path:
            with suppress(FzError):
                replace(self._path, json.dumps({"pid": os.getpid(), **document}))

    def close(self) -> None:
        """Remove the file."""
        if self._path:
            with suppress(OSError):
                self._path.unlink()


def reported(netns: str | None, tables: Collection[int]) -> dict[str, Any] | None:
    """The report of the daemon that keeps these tables in step; None if there is none that this user may read."""
    process = watching(netns, tables)
    for path in places(netns, min(tables), _KIND) if process else []:
        with suppress(OSError, ValueError):
            document: dict[str, Any] = json.loads(path.read_bytes())
            if document["pid"] == process:
                return document
    return None


_KIND = "watch.json"
