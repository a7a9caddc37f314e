"""Reads the configuration file; refuses one that somebody else could have written."""

import os
import stat
from pathlib import Path

from fz_iproute.core.config import Config, parse
from fz_iproute.errors import UsageError
from fz_iproute.kernel.rt_tables import table_ids

DEFAULT_PATH = Path("/etc/fz-iproute/config.toml")

# A configuration is a page; what is larger is some other file.
_MOST_BYTES = 1 << 16


def load(path: Path | None, *, suspicious: bool = False) -> Config:
    """The configuration in `path`. Without one, the default file if it exists, else the defaults.

    What everybody may write to is refused by root, unless it may be `suspicious`: to look at it does no harm.
    """
    place = path or DEFAULT_PATH
    try:
        # Not blocking: a FIFO would wait for a writer.
        fd = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path is None:
            return Config()
        raise UsageError(f"{place}: no such file") from None
    except OSError as error:
        raise UsageError(f"{place}: {error.strerror}") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{place}: not a regular file")
        if os.geteuid() == 0 and status.st_mode & stat.S_IWOTH and not suspicious:
            raise UsageError(f"{place}: everybody may write to it, so root does not trust it; run `chmod o-w {place}`")
        with os.fdopen(fd, "rb", closefd=False) as file:
            content = file.read(_MOST_BYTES + 1)
    finally:
        os.close(fd)
    if len(content) > _MOST_BYTES:
        raise UsageError(f"{place}: larger than 64 KiB, so hardly a configuration")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{place}: not UTF-8 at byte {error.start}") from None
    if not text.strip():
        raise UsageError(f"{place}: is empty, as a full disk leaves it; if it is meant, write a comment, or delete it")
    return parse(text, str(place), table_ids)
