"""Parses files in the format of iproute2's `rt_tables`."""


def parsed(text: str) -> list[tuple[str, int]]:
    """The pairs (name, number) in the text of such a file. `#` starts a comment; malformed lines are ignored."""
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 2:
            try:
                found.append((words[1], int(words[0], 0)))
            except ValueError:
                continue
    return found
