"""Says when a file has changed, however it changed: written, replaced, deleted, created."""

import os
import threading
from pathlib import Path

from watchfiles import watch

# How often watchfiles looks up, in ms: it is a person who edits the file.
_STEP = 500

# The byte that stands for a change; no signal has this number.
CHANGED = ord("c")


class FileWatch:
    """A thread that writes a byte to `wakeup` when something has happened around `path`."""

    def __init__(self, path: Path, wakeup: int) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(path, wakeup), name="file-watch", daemon=True)
        self._thread.start()

    def _run(self, path: Path, wakeup: int) -> None:
        while not self._stop.is_set():
            # The folder, since a file that is replaced is another file. While there is none, its nearest ancestor.
            folder = next(parent for parent in path.absolute().parents if parent.is_dir())
            try:
                for _ in watch(
                    folder, watch_filter=None, step=_STEP, debounce=2 * _STEP, stop_event=self._stop,
                    rust_timeout=0, recursive=False, raise_interrupt=False,
                ):  # fmt: skip
                    os.write(wakeup, bytes([CHANGED]))
                    if not folder.is_dir() or folder != next(p for p in path.absolute().parents if p.is_dir()):
                        break
            except OSError:
                # The folder has gone in between, or inotify has no watches left: look again later.
                self._stop.wait(5)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=1)
