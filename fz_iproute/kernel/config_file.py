"""Reads the configuration file."""

import os
from pathlib import Path

from fz_iproute.core.config import Config, parse
from fz_iproute.errors import UsageError
from fz_iproute.kernel.rt_tables import table_ids
from fz_iproute.kernel.trusted_file import open_trusted

DEFAULT_PATH = Path("/etc/fz-iproute/config.toml")

# In a lab, this names the file that stands for the default one: /etc is the machine's.
VARIABLE = "FZ_IPROUTE_CONFIG"

# A configuration is a page; what is larger is some other file.
_MOST_BYTES = 1 << 16


def default_path() -> Path:
    """Where the configuration is if nobody says where."""
    return Path(os.environ.get(VARIABLE) or DEFAULT_PATH)


def load(path: Path | None, *, suspicious: bool = False) -> Config:
    """The configuration in `path`. Without one, the default file if it exists, else the defaults.

    What everybody may write to is refused by root, unless it may be `suspicious`: to look at it does no harm.
    """
    place = path or default_path()
    try:
        with open_trusted(place, suspicious=suspicious) as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        if path is None:
            return Config()
        raise UsageError(f"{place}: no such file") from None
    if len(content) > _MOST_BYTES:
        raise UsageError(f"{place}: larger than 64 KiB, so hardly a configuration")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{place}: not UTF-8 at byte {error.start}") from None
    if not text.strip():
        raise UsageError(f"{place}: is empty, as a full disk leaves it; if it is meant, write a comment, or delete it")
    return parse(text, str(place), table_ids)
