"""The commands that the README shows, and what they print there."""

from tests.netns.namespace import PROJECT


def section(title: str) -> list[str]:
    """The lines below a heading."""
    text = (PROJECT / "README.md").read_text()
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0].splitlines()


def blocks(title: str) -> list[str]:
    """The indented blocks below a heading."""
    lines = [line[4:] if line.startswith("    ") else "" for line in section(title)]
    return [block for block in "\n".join(lines).strip().split("\n\n") if block.strip()]


def tour() -> list[tuple[str, list[str]]]:
    """Each command that stands behind a `#`, with the lines below it."""
    found: list[tuple[str, list[str]]] = []
    output: list[str] = []
    for line in section("A tour"):
        if line.startswith("    # "):
            output = []
            found.append((line[6:], output))
        elif line.startswith("    "):
            output.append(line[4:])
        elif line:
            output = []  # a sentence
    return found


def as_script() -> str:
    """The commands of the tour for a shell in a lab. `printed` divides what it prints."""
    steps = (f"echo '---- {number}'\n{command}\n" for number, (command, _) in enumerate(tour()))
    return f"exec 2>&1; set -e\n{''.join(steps)}"


def printed(output: str) -> list[list[str]]:
    """The lines that each command has printed, but for empty ones."""
    return [[line for line in part.splitlines()[1:] if line] for part in output.split("---- ")[1:]]
