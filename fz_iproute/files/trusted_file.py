"""Opens files that decide what root does, and refuses those that somebody else could have written."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from fz_iproute.errors import UsageError


def open_trusted(place: Path, *, suspicious: bool = False) -> BinaryIO:
    """The regular file `place`, for reading. FileNotFoundError if there is none; else UsageError says what is wrong.

    What everybody may write to is refused by root, unless it may be `suspicious`: to look at it does no harm.
    """
    try:
        # Not blocking: a FIFO would wait for a writer.
        fd = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"{place}: {error.strerror}") from None
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise UsageError(f"{place}: not a regular file")
    if os.geteuid() == 0 and mode & stat.S_IWOTH and not suspicious:
        os.close(fd)
        raise UsageError(f"{place}: everybody may write to it, so root does not trust it; run `chmod o-w {place}`")
    return os.fdopen(fd, "rb")
