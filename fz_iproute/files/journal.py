"""The journal: a file that records each command of `watch`. It is a shell script."""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

from fz_iproute.errors import UsageError
from fz_iproute.files.trusted_file import read_trusted

# Enough for half a million commands. With logrotate, a journal remains much smaller.
_MOST_BYTES = 64 << 20


class Journal:
    """Appends to the file `path`; "" means that no journal is kept. `warn` is called once for failures in a row."""

    def __init__(self, path: str, warn: Callable[[str], None]) -> None:
        self._path = path
        self._warn = warn
        self._fd: int | None = None
        self._failing = False

    def append(self, lines: Sequence[str]) -> None:
        """Write all of these lines or none. If that fails, they are lost: the routes are more important."""
        if not self._path:
            return
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        try:
            if self._fd is None:
                self._fd = _opened(self._path)
            start = os.fstat(self._fd).st_size
            if os.write(self._fd, data) < len(data):
                # Remove what was written: in a script, half a command would be dangerous.
                os.ftruncate(self._fd, start)
                raise OSError(errno.ENOSPC, "no space for the whole of it")
        except OSError as error:
            if not self._failing:
                words = "not a regular file" if error.errno == errno.ENXIO else error.strerror
                self._warn(f"watch.journal: {self._path}: {words}; going on without the record")
            self._failing = True
            self.reopen()
        else:
            self._failing = False

    def reopen(self) -> None:
        """Close the file. The next append opens the path again, since logrotate may have moved the file away."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _opened(path: str) -> int:
    """Open the journal for appending. ENXIO if it is anything but a regular file.

    Opening a FIFO would block until somebody reads it. O_NONBLOCK makes the kernel refuse that with ENXIO.
    """
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, 0o640)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return fd


def read(path: Path) -> list[str]:
    """The lines of a journal, with their line ends. Like `sh`, split only at newlines, and accept any bytes."""
    try:
        content = read_trusted(path, _MOST_BYTES, "a journal")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    return [line.decode("utf-8", "surrogateescape") for line in BytesIO(content)]
