"""The screen of the reader: its width, and whether it shows colours."""

import os
import sys
from argparse import Namespace
from textwrap import wrap
from typing import NamedTuple

MOST_READABLE = 100  # columns; longer lines of prose are hard to read
_CODES = {"red": "31", "green": "32", "yellow": "33", "bold": "1"}


class Screen(NamedTuple):
    """A screen. If `width` is None, lines may have any length: stdout is a pipe, or a terminal of unknown size."""

    width: int | None = None
    colour: bool = False

    def paint(self, text: str, colour: str) -> str:
        """The text in this colour, if the screen shows colours. If `colour` is "", the text stays as it is."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.colour and colour and text else text

    def cut(self, text: str, used: int = 0) -> str:
        """The text, shortened to fit into a line in which `used` columns are already taken."""
        space = max(1, self.width - used) if self.width else len(text)
        return text if len(text) <= space else f"{text[: space - 1]}…"

    def folded(self, text: str, indent: int, most: int | None = MOST_READABLE) -> list[str]:
        """The text in lines that fit the screen and have at most `most` columns. All but the first are indented."""
        width = max(indent + 20, min(self.width, most or self.width)) if self.width else 0
        if len(text) <= width or not width:
            return [text]
        return wrap(text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)

    def page(self, text: str, indent: int, most: int | None = MOST_READABLE, literal: str = "\0") -> str:
        """The text in lines that fit the screen: bold headings, and folded details, which begin with a space.

        Lines that begin with `literal` stay as they are, so that they can be copied.
        """
        lines: list[str] = []
        for line in text.split("\n"):
            if line.startswith(literal):
                lines.append(line)
            elif line.startswith(" "):
                lines += self.folded(line, indent, most)
            else:
                lines += (self.paint(part, "bold") for part in self.folded(line, 2))
        return "\n".join(lines)


def screen(arguments: Namespace) -> Screen:
    """The screen that stdout goes to. --color decides about colours."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    columns = os.get_terminal_size(sys.stdout.fileno()).columns if is_terminal else 0
    is_wanted = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Screen(columns or None, {"always": True, "never": False}.get(arguments.color, is_wanted))
