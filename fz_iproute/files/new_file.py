"""Writes a file that was not there before."""

import os
from pathlib import Path
from tempfile import mkstemp

from fz_iproute.errors import UsageError


def write_new(path: Path, text: str) -> None:
    """Write the whole text or nothing, and make the folder if it is missing.

    UsageError if the file exists already, or cannot be written.
    """
    try:
        if not path.parent.exists():
            path.parent.mkdir()
        fd, draft = mkstemp(prefix=".fz-iproute-", dir=path.parent)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
                os.fchmod(file.fileno(), 0o644)
            os.link(draft, path)  # unlike a rename, this replaces nothing
        finally:
            Path(draft).unlink()
    except FileExistsError:
        raise UsageError(f"{path} exists already; name a new file, or move that one away") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
