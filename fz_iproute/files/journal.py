"""The record of every command run: a shell script that grows at its end."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fz_iproute.errors import UsageError
from fz_iproute.files.trusted_file import open_trusted

# Half a million commands: with logrotate beside it, no journal comes near.
_MOST_BYTES = 64 << 20


class Journal:
    """Appends to `path`; an empty path keeps no record. `warn` is told of a failure once, until a write succeeds."""

    def __init__(self, path: str, warn: Callable[[str], None]) -> None:
        self._path = path
        self._warn = warn
        self._fd: int | None = None
        self._failing = False

    def append(self, lines: Sequence[str]) -> None:
        """All of these lines or none. What cannot be written is lost: routes matter more than their record."""
        if not self._path:
            return
        text = "".join(f"{line}\n" for line in lines)
        try:
            if self._fd is None:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            data = text.encode("utf-8", "surrogateescape")
            start = os.fstat(self._fd).st_size
            if os.write(self._fd, data) < len(data):
                # Half a command is worse than none.
                os.ftruncate(self._fd, start)
                raise OSError(None, "no space for the whole of it")
        except OSError as error:
            if not self._failing:
                self._warn(f"watch.journal: {self._path}: {error.strerror}; going on without the record")
            self._failing = True
            self.reopen()
        else:
            self._failing = False

    def reopen(self) -> None:
        """Let the next append open the path again: logrotate has moved the file away."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def read(path: Path) -> Iterator[str]:
    """The lines of a journal with their ends, as `sh` tells them apart; bytes that are not UTF-8 are surrogates."""
    try:
        with open_trusted(path) as file:
            if os.fstat(file.fileno()).st_size > _MOST_BYTES:
                raise UsageError(f"{path}: larger than {_MOST_BYTES >> 20} MiB, so hardly a journal")
            for line in file:
                yield line.decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
