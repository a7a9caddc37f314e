"""Notices that a file was written, replaced, deleted or created."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

try:
    from watchfiles import watch
except ImportError:  # it is a compiled package, which the single-file program cannot include
    watch = None  # type: ignore[assignment]

# How often watchfiles looks for inotify events, in ms. A person edits the file, so half a second is soon enough.
_STEP = 500
# How often to check a file that is missing or cannot be watched, in seconds. To watch its folder instead would wake us
# too often, since that may be /etc.
_POLL = 2.0

# The byte that stands for a change, in a pipe whose other bytes are the numbers of signals. No signal has this number.
CHANGED = ord("c")


class FileWatch:
    """A thread that writes the byte CHANGED to the descriptor `wakeup` whenever the file at `path` has changed.

    If the file cannot be watched, `warn` gets one message. It gets the next one only after watching has worked again.
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
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the main thread
        while not self._stop.is_set():
            if self._seen is None or not self._wait_for_change():
                self._stop.wait(_POLL)
            if (signature := self._signature()) != self._seen:
                self._seen = signature
                os.write(self._wakeup, bytes([CHANGED]))

    def _wait_for_change(self) -> bool:
        """Wait for a change, but at most 5 s. False if the file cannot be watched.

        The limit is needed because inotify does not notice when a symbolic link in the path changes.
        """
        if watch is None:
            return False
        try:
            next(watch(self._path, watch_filter=None, step=_STEP, stop_event=self._stop, yield_on_timeout=True), None)
        except FileNotFoundError:
            return False  # the file was deleted a moment ago
        # watchfiles raises its own RuntimeError if the machine has no file descriptors or inotify instances left.
        except (OSError, RuntimeError) as error:
            self._complain(error.strerror if isinstance(error, OSError) and error.strerror else str(error))
            return False
        self._failing = False
        return True

    def _complain(self, words: str) -> None:
        if not self._failing:
            self._warn(
                f"{self._path}: changes cannot be watched for now ({words}); "
                f"the file is checked every {_POLL:g} s instead, and on SIGHUP"
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
