"""Reads the names of tables from iproute2's files."""

from collections.abc import Iterator
from pathlib import Path

from fz_iproute.mirror.rt_tables import parsed
from fz_iproute.mirror.words import TABLE_NUMBERS

# Newer versions of iproute2 ship their files in /usr. Files in /etc override them. Each folder may have drop-ins.
_FOLDERS = ("usr/share/iproute2", "usr/lib/iproute2", "etc/iproute2")


def table_ids() -> dict[str, int]:
    """The ids of tables by name. Like `ip`, ignore files that cannot be read."""
    return TABLE_NUMBERS | {name: number for _, name, number in _named()}


def misleading() -> dict[int, str]:
    """Numbers that are also the name of another table, with a message about each.

    `ip` looks for names first, so with such a number it would use the wrong table.
    """
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
