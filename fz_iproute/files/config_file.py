"""Reads the configuration file."""

import os
from pathlib import Path

from fz_iproute.errors import UsageError
from fz_iproute.files.rt_tables import table_ids
from fz_iproute.files.trusted_file import read_trusted
from fz_iproute.mirror.config import Config, parse

DEFAULT_PATH = Path("/etc/fz-iproute/config.toml")

# In a lab, this names the file that takes the place of the default one, since /etc belongs to the machine.
VARIABLE = "FZ_IPROUTE_CONFIG"

# A configuration is about a page long. A larger file is something else.
_MOST_BYTES = 1 << 16


def usual_path() -> Path:
    """What the next command reads without -c, if root runs it. Others need sudo for that, which drops the variable."""
    return Path((not os.geteuid() and os.environ.get(VARIABLE)) or DEFAULT_PATH)


def is_lab() -> bool:
    """True in a lab, which has a network and a /run of its own. All other files and services are the machine's."""
    return VARIABLE in os.environ


def load(path: Path | None, *, suspicious: bool = False) -> Config:
    """The configuration in `path`. Without one, the default file if it exists, else the defaults.

    Root refuses a file that everybody may write to, unless the caller only looks at it and allows a `suspicious` one.
    """
    return ConfigFile(path).load(suspicious=suspicious)


class ConfigFile:
    """The file in `place`, for a daemon that reads it again and again; `path` as for `load`."""

    def __init__(self, path: Path | None) -> None:
        self.place = path or Path(os.environ.get(VARIABLE) or DEFAULT_PATH)
        self._may_be_missing = path is None

    def load(self, *, suspicious: bool = False) -> Config:
        """What it says now. UsageError if it was there before and is gone.

        A program that replaces the file may delete the old one first. That does not ask for the defaults.
        """
        try:
            config = _read(self.place, suspicious)
        except FileNotFoundError:
            if self._may_be_missing:
                return Config()
            raise UsageError(f"{self.place}: no such file") from None
        self._may_be_missing = False
        return config


def _read(place: Path, suspicious: bool) -> Config:
    content = read_trusted(place, _MOST_BYTES, "a configuration", suspicious=suspicious)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{place}: not UTF-8 at byte {error.start}") from None
    if not text.strip():
        # A write to a full disk leaves such a file.
        raise UsageError(f"{place}: is empty; if that is intended, write a comment, or delete the file")
    return parse(text, str(place), table_ids)
