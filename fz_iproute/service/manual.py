"""Shows a page of the manual as plain text, where there is no `man`. It knows the macros of man(7) in our pages."""

import re
from collections.abc import Iterator
from textwrap import wrap

_TEXT = " " * 5  # the indentation of a paragraph
_TAG = 6  # columns for the tag of a list item; the text is beside a shorter tag, and below a longer one
_BLOCK = re.compile(r"^\.(SH|SS|PP|TP|IP|RS) ?(.*)\n((?:(?!\.(?:SH|SS|PP|TP|IP|RS)).*\n)*)", re.MULTILINE)


def page(source: str, width: int) -> str:
    """The page as text. Lines have at most `width` columns, except literal ones."""
    lines: list[str] = []
    for macro, words, text in _BLOCK.findall(source):
        # No empty line at the top or below a heading.
        if macro in ("SH", "SS") or lines[-1].startswith(_TEXT):
            lines.append("")
        lines += _block(macro, words, text, width)
    return "\n".join(lines[1:])


def _block(macro: str, words: str, text: str, width: int) -> Iterator[str]:
    match macro:
        case "SH" | "SS":
            yield f"{'   ' if macro == 'SS' else ''}{words}"
            yield from _paragraph("", text, width)
        case "PP":
            yield from _paragraph("", text, width)
        case "TP":
            tag, _, text = text.partition("\n")
            yield from _paragraph(_plain(tag), text, width, _TAG)
        case "IP":
            yield from _paragraph("-" if words else "", text, width, _TAG)
        case "RS":  # all that is indented is literal
            literal = (_plain(line) for line in text.splitlines() if not line.startswith("."))
            yield from (f"{_TEXT}{'':{_TAG}}{line}".rstrip() for line in literal)


def _paragraph(tag: str, text: str, width: int, indent: int = 0) -> Iterator[str]:
    """The lines of a paragraph. Bold words get quotes, because plain text has no bold type."""
    if len(tag) >= _TAG:
        yield f"{_TEXT}{tag}"
        tag = ""
    yield from wrap(
        _plain(re.sub(r"(?s)\\fB(.*?)\\fR", r"`\1`", text)),
        width,
        initial_indent=f"{_TEXT}{tag:{indent}}",
        subsequent_indent=f"{_TEXT}{'':{indent}}",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(text: str) -> str:
    return re.sub(r"\\f[BIR]|\\&", "", text).replace(r"\-", "-")
