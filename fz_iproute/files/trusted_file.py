"""Reads files that decide what root does, and refuses those that somebody else could have written."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from fz_iproute.errors import UsageError


def opened(place: Path) -> BinaryIO:
    """The file, to be read. Opening a FIFO does not wait for a writer."""
    return os.fdopen(os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def read_trusted(place: Path, most_bytes: int, what: str, *, suspicious: bool = False) -> bytes:
    """The content of the regular file `place`; messages call it `what`. FileNotFoundError if there is none.

    UsageError says what else is wrong. Root refuses a file that everybody may write to, unless the caller only looks at
    the content and allows a `suspicious` file.
    """
    try:
        with opened(place) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise UsageError(f"{place}: not a regular file")
            if os.geteuid() == 0 and mode & stat.S_IWOTH and not suspicious:
                raise UsageError(
                    f"{place}: everybody may write to it, so root does not trust it; run `chmod o-w {place}`"
                )
            content = file.read(most_bytes + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"{place}: {said_of(error)}") from None
    if len(content) > most_bytes:
        raise UsageError(f"{place}: larger than {most_bytes >> 10} KiB, so hardly {what}")
    return content


def said_of(error: OSError) -> str:
    """What the system says of a file, and what to do where only the rights are missing."""
    is_helpless = isinstance(error, PermissionError) and os.geteuid()
    return f"{error.strerror}; run as root (sudo), or give this user the right" if is_helpless else f"{error.strerror}"
