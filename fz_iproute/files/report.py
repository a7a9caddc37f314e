"""What a running `watch` says about itself: a small file beside its lock, which `metrics` reads."""

import json
import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fz_iproute.files.lock import report_path, watching

# Every report has this size in bytes, so that one write replaces the last one.
_SIZE = 1024
# A reader may meet a report that is just being replaced. Then it looks again.
_LOOKS = 20


class Report:
    """Writes the report of this process. Failures are ignored, because only `metrics` needs the report."""

    def __init__(self, netns: str | None) -> None:
        self._netns = netns
        self._started = self._last_good = time.time()
        self._path = Path()
        self._fd: int | None = None

    def follow(self, tables: Collection[int]) -> None:
        """From now on, write the report beside the lock of these tables."""
        self.close()
        with suppress(OSError):
            self._path = report_path(self._netns, min(tables))
            self._path.unlink(missing_ok=True)  # a daemon that was killed may have left it
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            os.fchmod(self._fd, 0o644)  # any user may read it, whatever the umask says

    def publish(self, counters: Mapping[str, int], *, good: bool) -> None:
        """Replace the report after a pass. `good`: the pass has succeeded."""
        if good:
            self._last_good = time.time()
        document = {"started": self._started, "last_good_pass": self._last_good, "counters": counters}
        if self._fd is not None:
            with suppress(OSError):
                os.pwrite(self._fd, json.dumps({"pid": os.getpid(), **document}).ljust(_SIZE).encode(), 0)

    def close(self) -> None:
        """Remove the report."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            with suppress(OSError):
                self._path.unlink()


def reported(netns: str | None, tables: Collection[int]) -> dict[str, Any] | None:
    """The report of the daemon that keeps these tables in step. None if there is none, or this user may not read it."""
    process = watching(netns, tables)
    for _ in range(_LOOKS if process else 0):
        with suppress(OSError, ValueError):
            document: dict[str, Any] = json.loads(report_path(netns, min(tables)).read_bytes())
            if document["pid"] == process:
                return document
    return None
