"""Writes files whole, so that no reader sees half of one."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp

from fz_iproute.errors import FzError, NotPermitted, UsageError
from fz_iproute.files.trusted_file import said_of


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
    """Replace the file by one with this text. UsageError or NotPermitted if that fails."""
    try:
        with _draft(path, text, mode) as new:
            new.replace(path)
    except OSError as error:
        raise file_failure(path, error) from None


def save(path: Path, text: str, mode: int = 0o644) -> None:
    """Write the output of a verb to the file that the user names. UsageError or NotPermitted if that fails.

    A regular file is replaced. A pipe or a device is written to, and so is what a symbolic link leads to. But a link
    that another user may have made is replaced, because it may lead to any file of this user.
    """
    try:
        kind = stat.S_IFMT(path.lstat().st_mode) if os.path.lexists(path) else stat.S_IFREG
        if kind == stat.S_IFREG or (kind == stat.S_IFLNK and not _is_trusted(path)):
            replace(path, text, mode)
        else:
            # Nobody can put a link in the place of a pipe or a device in time.
            _write_into(path, text, mode, 0 if kind == stat.S_IFLNK else os.O_NOFOLLOW)
    except OSError as error:
        raise file_failure(path, error) from None


def _is_trusted(link: Path) -> bool:
    """True if nobody but root and this user can have made the symbolic link."""
    return {link.lstat().st_uid, link.parent.stat().st_uid} <= {0, os.geteuid()}


def _write_into(path: Path, text: str, mode: int, flags: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC | flags, mode)
    with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fchmod(fd, mode)
            os.ftruncate(fd, 0)
        file.write(text)


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


def file_failure(path: Path, error: OSError) -> FzError:
    """The error to raise after a failure with this file."""
    return (NotPermitted if isinstance(error, PermissionError) else UsageError)(f"{path}: {said_of(error)}")
