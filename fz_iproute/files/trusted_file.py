"""Reads files that decide what root does. It refuses a file that any user could have written."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from fz_iproute.errors import FzError, NotPermitted, UsageError


def opened(place: Path) -> BinaryIO:
    """Open the file for reading. If it is a FIFO, this does not wait for a writer."""
    return os.fdopen(os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def read_trusted(place: Path, most_bytes: int, what: str, *, suspicious: bool = False) -> bytes:
    """The content of the regular file `place`; `what` names it in messages. FileNotFoundError if there is none.

    UsageError for any other failure. Root refuses a file that everybody may write to. A caller that only examines the
    content may allow a `suspicious` file.
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
    """The error in words, with advice if this user lacks the right to use the file."""
    is_helpless = isinstance(error, PermissionError) and os.geteuid()
    return f"{error.strerror}; run as root (sudo), or give this user the right" if is_helpless else f"{error.strerror}"


def file_failure(path: Path, error: OSError) -> FzError:
    """The error to raise after a failure with this file."""
    return (NotPermitted if isinstance(error, PermissionError) else UsageError)(f"{path}: {said_of(error)}")
