"""The names of tables, as iproute2 knows them."""

from pathlib import Path

# Newer ones bring theirs in /usr; what is in /etc counts more. Both may have drop-ins.
_FOLDERS = (Path("/usr/share/iproute2"), Path("/usr/lib/iproute2"), Path("/etc/iproute2"))


def table_ids() -> dict[str, int]:
    """The ids of tables by name. What cannot be read names nothing."""
    ids = {"default": 253, "main": 254, "local": 255}
    for folder in _FOLDERS:
        for path in (folder / "rt_tables", *sorted((folder / "rt_tables.d").glob("*.conf"))):
            try:
                text = path.read_text("utf-8", "surrogateescape")
            except OSError:
                continue
            ids.update(parsed(text))
    return ids


def parsed(text: str) -> list[tuple[str, int]]:
    """Name and id for each line of a file such as `rt_tables`; `#` starts a comment."""
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 2:
            try:
                found.append((words[1], int(words[0], 0)))
            except ValueError:
                continue
    return found
