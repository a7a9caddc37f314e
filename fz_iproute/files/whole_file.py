"""Writes files whole, so that no reader sees half of one."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp

from fz_iproute.errors import UsageError
from fz_iproute.files.trusted_file import file_failure


@contextmanager
def _draft(path: Path, text: str, mode: int) -> Iterator[Path]:
    """A temporary file with the text, in the folder of `path`. It is removed, unless the block renames it."""
    fd, name = mkstemp(prefix=".fz-iproute-", dir=path.parent)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            os.fchmod(fd, mode)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def replace(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace the file by one with this text, or write a new one. UsageError or NotPermitted if that fails.

    Only a regular file is replaced: in place of /dev/stdout, or of a link that another user has made, there must not
    suddenly be a file.
    """
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise UsageError(f"{path}: not a regular file; leave out -o to write to stdout")
    try:
        with _draft(path, text, mode) as new:
            new.replace(path)
    except OSError as error:
        raise file_failure(path, error) from None


def create(path: Path, text: str) -> None:
    """Write a new file. Make its folder if that is missing.

    UsageError if the file exists already. UsageError or NotPermitted if it cannot be written.
    """
    try:
        if not path.parent.exists():
            path.parent.mkdir()
        with _draft(path, text, 0o644) as new:
            os.link(new, path)  # unlike a rename, this fails if the file exists
    except FileExistsError:
        raise UsageError(f"{path} exists already; name a new file, or move that one away") from None
    except OSError as error:
        raise file_failure(path, error) from None
