"""Reads the configuration file."""

import os
from pathlib import Path

from fz_iproute.errors import UsageError
from fz_iproute.files.rt_tables import table_ids
from fz_iproute.files.trusted_file import read_trusted
from fz_iproute.mirror.config import Config

DEFAULT_PATH = Path("/etc/fz-iproute/config.toml")

# In a lab, this environment variable names the default configuration file, because /etc belongs to the machine.
VARIABLE = "FZ_IPROUTE_CONFIG"

# A configuration is about a page long. A larger file is something else.
_MOST_BYTES = 1 << 16


def usual_path() -> Path:
    """The file that the next command with root's rights reads without -c.

    For other users that command needs sudo, which drops the variable of the lab.
    """
    return Path((not os.geteuid() and os.environ.get(VARIABLE)) or DEFAULT_PATH)


def is_lab() -> bool:
    """True in a lab. A lab has its own network and its own /run; all other files and services belong to the machine."""
    return VARIABLE in os.environ


def load(path: Path | None, *, suspicious: bool = False) -> Config:
    """The configuration in the file `path`. If that is None, the default file if it exists, else the defaults.

    Root refuses a file that everybody may write to. A caller that only examines the file may allow a `suspicious` one.
    """
    return ConfigFile(path).load(suspicious=suspicious)


class ConfigFile:
    """A configuration file, for a daemon that reads it again and again. `path` has the same meaning as for `load`."""

    def __init__(self, path: Path | None) -> None:
        self.place = path or Path(os.environ.get(VARIABLE) or DEFAULT_PATH)
        self._may_be_missing = path is None

    def load(self, *, suspicious: bool = False) -> Config:
        """Read the file. UsageError if an earlier `load` found it, and it is missing now.

        A program may delete the old file before it writes the new one. In between, the defaults would be wrong.
        """
        try:
            content = read_trusted(self.place, _MOST_BYTES, "a configuration", suspicious=suspicious)
        except FileNotFoundError:
            if self._may_be_missing:
                return Config()
            raise UsageError(f"{self.place}: no such file") from None
        self._may_be_missing = False
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.place}: not a text: byte {error.start} is not UTF-8") from None
        if not text.strip():
            # When the disk is full, an editor may leave an empty file.
            raise UsageError(f"{self.place}: is empty; if that is intended, write a comment")
        from fz_iproute.mirror.config_text import parse  # noqa: PLC0415  # most machines have no file; it takes time

        return parse(text, str(self.place), table_ids)
