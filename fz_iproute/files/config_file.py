"""Reads the configuration file."""

import os
from pathlib import Path

from fz_iproute.errors import UsageError
from fz_iproute.files.rt_tables import table_ids
from fz_iproute.files.trusted_file import open_trusted
from fz_iproute.mirror.config import Config, parse

DEFAULT_PATH = Path("/etc/fz-iproute/config.toml")

# In a lab, this names the file that stands for the default one: /etc is the machine's.
VARIABLE = "FZ_IPROUTE_CONFIG"

# A configuration is a page; what is larger is some other file.
_MOST_BYTES = 1 << 16


def load(path: Path | None, *, suspicious: bool = False) -> Config:
    """The configuration in `path`. Without one, the default file if it exists, else the defaults.

    What everybody may write to is refused by root, unless it may be `suspicious`: to look at it does no harm.
    """
    return ConfigFile(path).load(suspicious=suspicious)


class ConfigFile:
    """The file in `place`, for those who read it again and again; `path` as for `load`."""

    def __init__(self, path: Path | None) -> None:
        self.place = path or Path(os.environ.get(VARIABLE) or DEFAULT_PATH)
        self._may_be_missing = path is None

    def load(self, *, suspicious: bool = False) -> Config:
        """What it says now; UsageError if it was there before, and has gone.

        Who replaces a file may take the old one away first: in that moment, nobody has asked for the defaults.
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
    with open_trusted(place, suspicious=suspicious) as file:
        try:
            content = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise UsageError(f"{place}: {error.strerror}") from None
    if len(content) > _MOST_BYTES:
        raise UsageError(f"{place}: larger than 64 KiB, so hardly a configuration")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{place}: not UTF-8 at byte {error.start}") from None
    if not text.strip():
        raise UsageError(f"{place}: is empty, as a full disk leaves it; if it is meant, write a comment, or delete it")
    return parse(text, str(place), table_ids)
