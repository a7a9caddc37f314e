"""The commands of the README's tour, and what they print there."""

from tests.netns.namespace import PROJECT


def tour() -> list[tuple[str, list[str]]]:
    """Each command that stands behind a `#`, with the lines below it."""
    found: list[tuple[str, list[str]]] = []
    output: list[str] = []
    section = (PROJECT / "README.md").read_text().partition("\n## A tour\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("    # "):
            output = []
            found.append((line[6:], output))
        elif line.startswith("    "):
            output.append(line[4:])
        elif line:
            output = []  # a sentence
    return found
