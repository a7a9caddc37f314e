"""The words that a redacted recording keeps: words of iproute2, of the kernel and of fz-iproute."""

import re

from fz_iproute.files.data import texts
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.config_text import dump
from fz_iproute.mirror.words import PROTOCOLS, TABLE_NUMBERS


def words() -> frozenset[str]:
    """The words, in lower case. A recording keeps them in any case."""
    shipped = " ".join(texts("words").values()).split()
    return frozenset([*PROTOCOLS, *TABLE_NUMBERS, *re.findall(r"[\w-]+", dump(Config())), *shipped])
