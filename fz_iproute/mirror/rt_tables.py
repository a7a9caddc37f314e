"""Reads files such as iproute2's `rt_tables`."""


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
