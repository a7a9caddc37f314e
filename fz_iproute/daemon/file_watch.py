"""Tells when a file has changed, however it changed: written, replaced, deleted, created."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

try:
    from watchfiles import watch
except ImportError:  # a compiled package, which the single-file program does not carry
    watch = None  # type: ignore[assignment]

# How often watchfiles looks for events, in ms. A person edits the file, so there is no hurry.
_STEP = 500
# A file that is missing or cannot be watched is looked at this often, in seconds. We do not watch its folder instead:
# that may be /etc, where every program opens files.
_POLL = 1.0

# The byte that stands for a change. No signal has this number.
CHANGED = ord("c")


class FileWatch:
    """A thread that writes a byte to `wakeup` whenever the file at `path` is another than before.

    `warn` is told when the machine cannot watch the file, once until it can again.
    """

    def __init__(self, path: Path, wakeup: int, warn: Callable[[str], None]) -> None:
        self._path = path
        self._wakeup = wakeup
        self._warn = warn
        self._failing = False
        self._stop = threading.Event()
        self._seen = self._signature()
        if watch is None:
            self._complain("the package watchfiles is not installed")
        self._thread = threading.Thread(target=self._run, name="file-watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._seen is None or not self._wait_for_change():
                self._stop.wait(_POLL)
            if (signature := self._signature()) != self._seen:
                self._seen = signature
                os.write(self._wakeup, bytes([CHANGED]))

    def _wait_for_change(self) -> bool:
        """Wait for a change, or for the 5 s after which watchfiles gives up. False if the file cannot be watched.

        It has to give up: inotify does not see that a link in the path now leads elsewhere.
        """
        if watch is None:
            return False
        try:
            next(watch(self._path, watch_filter=None, step=_STEP, stop_event=self._stop, yield_on_timeout=True), None)
        except FileNotFoundError:
            return False  # it has just gone
        # watchfiles raises a RuntimeError of its own where there are no descriptors or inotify instances left.
        except (OSError, RuntimeError) as error:
            self._complain(str(error))
            return False
        self._failing = False
        return True

    def _complain(self, words: str) -> None:
        if not self._failing:
            self._warn(
                f"{self._path}: changes cannot be watched for now ({words}); "
                f"the file is looked at every {_POLL:g} s instead, and SIGHUP reads it at once"
            )
        self._failing = True

    def _signature(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=2 * _STEP / 1000)
