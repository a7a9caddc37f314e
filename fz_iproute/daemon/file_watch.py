"""Says when a file has changed, however it changed: written, replaced, deleted, created."""

import os
import threading
from pathlib import Path

from watchfiles import watch

# How often watchfiles looks up, in ms: it is a person who edits the file.
_STEP = 500
# What inotify does not see (a link in the path that leads elsewhere now) is found this often, in ms.
_LOOK = 5000
# While there is no file, there is nothing to hang a watch on: its folder may be /etc, where every program opens files.
_ABSENT = 1.0

# The byte that stands for a change; no signal has this number.
CHANGED = ord("c")


class FileWatch:
    """A thread that writes a byte to `wakeup` when the file at `path` is another than before."""

    def __init__(self, path: Path, wakeup: int) -> None:
        self._path = path
        self._wakeup = wakeup
        self._stop = threading.Event()
        self._seen = self._signature()
        self._thread = threading.Thread(target=self._run, name="file-watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._seen is None or not self._wait_for_change():
                self._stop.wait(_ABSENT)
            if (signature := self._signature()) != self._seen:
                self._seen = signature
                os.write(self._wakeup, bytes([CHANGED]))

    def _wait_for_change(self) -> bool:
        """False if there is no waiting: the file has just gone, or the machine has no inotify watches left."""
        try:
            next(
                watch(
                    self._path,
                    watch_filter=None,
                    step=_STEP,
                    debounce=_STEP,
                    stop_event=self._stop,
                    rust_timeout=_LOOK,
                    yield_on_timeout=True,
                    recursive=False,
                    raise_interrupt=False,
                ),
                None,
            )
        except OSError:
            return False
        return True

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
