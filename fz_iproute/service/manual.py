"""Shows a page of the manual as plain text, where there is no `man`. It knows the mdoc macros of our pages."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from textwrap import wrap

# Between two words, this means that there is no space.
_JOINT = "\0"
_CLOSING = frozenset(".,:;)]?!")
_DELIMITERS = _CLOSING | {"(", "[", "|"}
_ENCLOSING = {"Op": ("[", "]"), "Pq": ("(", ")"), "Ql": ("`", "`"), "Dq": ('"', '"')}
# Macros whose words are printed unchanged.
_PLAIN = frozenset(("Ar", "Cm", "Em", "Ev", "Ic", "No", "Pa", "Sx", "Sy"))
_QUOTED = frozenset(("Cm", "Ic"))
_INLINE = _PLAIN | _ENCLOSING.keys() | {"Fl", "Nm", "Xr"}
_wrap = partial(wrap, break_long_words=False, break_on_hyphens=False)
_TEXT = 5  # the indentation of a paragraph, in columns
_TAG = 6  # columns for the tag of a list item; the text is beside a shorter tag, and below a longer one


def page(source: str, width: int) -> str:
    """The page as text. Lines have at most `width` columns, except in tables and literal displays."""
    return "\n".join(_Page(source, width).lines())


class _Page:
    """Formats one page, line by line. Words are collected until their paragraph is complete."""

    def __init__(self, source: str, width: int) -> None:
        self._source = source
        self._width = width
        self._name = ""
        self._words: list[str] = []
        self._tag = ""  # the tag of the list item, for its first paragraph
        self._list = ""  # the kind of the open list, "" if none is
        self._widths: list[int] = []  # the widths of the columns of a table
        self._is_literal = False

    def lines(self) -> Iterator[str]:
        """All lines, without empty lines at the top, below a heading, or below another empty line."""
        before = ""
        for line in chain(*map(self._line, self._source.splitlines()), self._paragraph()):
            if line or before.startswith(" " * _TEXT):
                yield line
            before = line

    def _line(self, text: str) -> Iterator[str]:
        if not text.startswith("."):
            if self._is_literal:
                yield f"{'':{_TEXT + _TAG}}{_plain(text)}".rstrip()
            else:
                self._words += map(_plain, text.split())
            return
        macro, *words = _split(text[1:])
        if macro in _BLOCKS:
            yield from self._paragraph()
            yield from self._block(macro, words)
        elif macro not in ("Dd", "Dt", "Os"):
            self._words += self._inline([macro, *words], quoted=_QUOTED)

    def _block(self, macro: str, words: list[str]) -> Iterator[str]:
        text = _joined(self._inline(words))
        match macro:
            case "Sh" | "Ss":
                yield from ("", f"{'':{0 if macro == 'Sh' else 3}}{text}")
            case "Pp":
                yield ""
            case "Bd":
                yield ""
                self._is_literal = True
            case "Ed":
                self._is_literal = False
            case "Bl":
                self._list = words[0]
                self._widths = [len(word) for word in words[1:]]
                yield ""
            case "El":
                self._list = ""
            case "It" if self._list == "-column":
                cells = text.split(" Ta ")
                yield f"{'':{_TEXT}}" + "  ".join(map(str.ljust, cells, self._widths)).rstrip()
            case "It":
                yield ""
                self._tag = "-" if self._list == "-bullet" else text

    def _paragraph(self) -> Iterator[str]:
        """The lines of the collected paragraph, with its tag."""
        tag, text = self._tag, _joined(self._words)
        self._tag, self._words = "", []
        indent = " " * (_TEXT + _TAG if self._list else _TEXT)
        if len(tag) >= _TAG or not text:
            yield from _wrap(tag, self._width, initial_indent=" " * _TEXT, subsequent_indent=indent)
            tag = ""
        first = f"{'':{_TEXT}}{tag}".ljust(len(indent))
        yield from _wrap(text, self._width, initial_indent=first, subsequent_indent=indent)

    def _inline(self, words: Sequence[str], quoted: Collection[str] = ()) -> Iterator[str]:
        """The words of a line with macros. Words before the first macro are unchanged.

        Words of the macros `quoted` get quotes, because plain text has no bold type.
        """
        macro = ""
        for place, word in enumerate(words):
            rest = words[place + 1 :]
            if word in _ENCLOSING:
                yield from self._enclosed(word, rest, quoted)
                return
            if word in ("Po", "Pc"):
                yield from ("(", _JOINT) if word == "Po" else (_JOINT, ")")
            elif word == "Nd":
                yield "-"
            elif word in _INLINE:
                macro = word
                if word == "Nm" and (not rest or rest[0] in _DELIMITERS):
                    yield self._name
            elif word in _CLOSING:
                yield from (_JOINT, word)
            elif word in ("(", "["):
                yield from (word, _JOINT)
            elif word in _DELIMITERS:
                yield word
            elif macro == "Xr" and word.isdigit():
                yield from (_JOINT, f"({word})")
            else:
                self._name = self._name or (word if macro == "Nm" else "")
                yield _spelled(macro, _plain(word), quoted)

    def _enclosed(self, macro: str, words: Sequence[str], quoted: Collection[str]) -> Iterator[str]:
        """The words in brackets or quotes. Closing delimiters at the end of the line follow after these."""
        end = len(words)
        while end and words[end - 1] in _CLOSING:
            end -= 1
        opening, closing = _ENCLOSING[macro]
        yield from (opening, _JOINT, *self._inline(words[:end], quoted), _JOINT, closing)
        yield from self._inline(words[end:])


_BLOCKS = frozenset(("Sh", "Ss", "Pp", "Bd", "Ed", "Bl", "El", "It"))
MACROS = _INLINE | _BLOCKS | {"Dd", "Dt", "Os", "Nd", "Po", "Pc", "Ta"}


def _split(text: str) -> list[str]:
    """The words of a line with macros. A word in double quotes may have spaces."""
    parts = text.split('"')
    return [word for place, part in enumerate(parts) for word in ([part] if place % 2 else part.split())]


def _spelled(macro: str, text: str, quoted: Collection[str]) -> str:
    """A word after this macro, in the style of --help."""
    if macro in quoted:
        return f"`{text}`"
    return f"-{text}" if macro == "Fl" else text.upper() if macro == "Ar" else text


def _joined(words: Iterable[str]) -> str:
    return " ".join(words).replace(f" {_JOINT} ", "").replace(f"{_JOINT} ", "").replace(f" {_JOINT}", "")


def _plain(word: str) -> str:
    return word.replace(r"\(dq", '"').replace(r"\&", "")
