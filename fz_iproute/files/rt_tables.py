"""Reads the names that iproute2 has for tables."""

from collections.abc import Iterator
from pathlib import Path

from fz_iproute.mirror.rt_tables import parsed
from fz_iproute.mirror.words import TABLE_NUMBERS

# Newer versions of iproute2 have their files in /usr; those in /etc override them. Both may have drop-ins.
_FOLDERS = ("usr/share/iproute2", "usr/lib/iproute2", "etc/iproute2")


def table_ids() -> dict[str, int]:
    """The ids of tables by name. Files that cannot be read are ignored, as `ip` does."""
    return TABLE_NUMBERS | {name: number for _, name, number in _named()}


def misleading() -> dict[int, str]:
    """Tables whose number is the name of another table, which `ip` then takes instead; with the line that is to go."""
    return {
        int(name): f"{path}: the name {name} stands for table {number}, and ip reads names first; take that line out"
        for path, name, number in _named()
        if name.isdecimal() and int(name) != number
    }


def _named() -> Iterator[tuple[Path, str, int]]:
    for path in table_files():
        try:
            text = path.read_text("utf-8", "surrogateescape")
        except OSError:
            continue
        yield from ((path, name, number) for name, number in parsed(text))


def table_files(root: Path = Path("/")) -> Iterator[Path]:
    """The files that may name tables. A later one overrides earlier ones."""
    for folder in _FOLDERS:
        place = root / folder
        yield from (place / "rt_tables", *sorted((place / "rt_tables.d").glob("*.conf")))
