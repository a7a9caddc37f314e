"""Reads the JSON that `ip` prints, and says what is wrong with a text that is something else."""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from fz_iproute.mirror.words import printable

Document = dict[str, Any]

# A route as `ip -json` lists it: its destination, and the rest of its JSON object. Routes that differ only in their
# destination may share one `rest`, even across listings.
Listed = tuple[str, Document]

_ESCAPED = re.compile(rb"\\.", re.DOTALL)


class Unparsable(ValueError):
    """The document is JSON, but not what `ip` prints."""


def json_fault(error: Exception) -> str:
    """What is wrong with a text that is not JSON, or not the JSON that was expected."""
    if isinstance(error, json.JSONDecodeError):
        if error.pos >= len(error.doc.rstrip()):
            return "not JSON: it ends too early" if error.doc.strip() else "it is empty"
        return f"not JSON: line {error.lineno}, column {error.colno}"
    return form_fault(error)


def form_fault(error: Exception) -> str:
    """What is wrong with JSON in which something is missing, or has another type than `ip` gives it."""
    match error:
        case RecursionError():
            return "it is nested too deeply"
        case UnicodeDecodeError():
            return "it is not a text"
        case KeyError():
            return f"there is no {printable(str(error)[:_MOST_QUOTED])}"
        case ValueError() if not str(error).startswith(_OF_PYTHON):
            return printable(str(error)[:_MOST_QUOTED])
        case _:
            return "a value in it has the wrong type"


_MOST_QUOTED = 200  # characters: an error may quote all that `ip` has printed
# How messages of Python start that tell a user nothing.
_OF_PYTHON = ("invalid literal", "Exceeds the limit", "not enough values", "too many values", "could not convert")


def documents_of(text: bytes) -> list[Document]:
    """Parse a JSON list of objects. ValueError if the text is anything else."""
    return _loaded(_decoded(text))


def listed(documents: Iterable[Document]) -> list[Listed]:
    """The routes in these documents. Unparsable if a document has no destination."""
    shapes: dict[str, Document] = {}
    found = []
    for document in documents:
        if "dst" not in document:
            raise Unparsable("a route without a destination")
        rest = {key: value for key, value in document.items() if key != "dst"}
        found.append((document["dst"], shapes.setdefault(repr(rest), rest)))
    return found


def listing_of(text: bytes, scope: str = "") -> list[Listed]:
    """Parse what `ip -json route show` prints. ValueError if it is not a JSON list of objects.

    A question that filters by scope makes `ip` omit the key `scope`. So the caller gives the `scope`, and each route
    gets it.
    """
    whole = _decoded(text)
    try:
        return _split(whole, scope)
    except ValueError:
        documents = _loaded(whole)
        return listed({**document, "scope": scope} for document in documents) if scope else listed(documents)


def _split(text: str, scope: str) -> list[Listed]:
    """Parse a listing at a fifth of the cost of `json.loads`: equal texts between two destinations are parsed once.

    ValueError if the text is incomplete, or is valid JSON in another form than `ip` writes.
    """
    if not text.startswith("[{") or not text.endswith("}]"):
        raise ValueError("not a list of objects")
    # The separator at the end lets the last route be split like all others.
    head, *parts = _DST.split(f"{text[1:-1]},{{")
    found: list[Listed] = []
    for dst, between in zip(parts[::2], parts[1::2], strict=True):
        rest, head = _shape(head, between, scope)
        found.append((dst, rest))
    if head != "{" or not found:
        raise ValueError("not what `ip` prints")
    return found


_DST = re.compile(r'"dst":"([^"\\]*)"')


@lru_cache(maxsize=256)
def _shape(head: str, between: str, scope: str) -> tuple[Document, str]:
    """Parse one route: `head` is its text before the key `dst`, `between` what follows up to the next `dst`.

    Returns the route without its destination, and the head of the next route. A head is `{`, or has the key `type`.
    """
    end = between.rindex("},{") + 1
    (rest,) = _loaded(f'[{head}"dst":""{between[:end]}]')
    if rest.pop("dst", None) != "":
        raise ValueError("this `dst` belongs to an object inside the route")
    if scope:
        rest["scope"] = scope
    return rest, between[end + 1 :]


def _decoded(text: bytes) -> str:
    if b"\\'" in text:
        # iproute2 5.9 writes \' for a single quote, which JSON does not allow.
        text = _ESCAPED.sub(lambda match: b"'" if match[0] == b"\\'" else match[0], text)
    # Interface names may hold bytes that are not UTF-8, and `ip` prints them unchanged.
    return text.decode("utf-8", "surrogateescape")


def _loaded(text: str) -> list[Document]:
    # A route with `encap ip` has a second key `dst`; only the first is the route's. The hook is slow, so it is used
    # only where it is needed.
    hook = _first_of_each if '"encap"' in text else None
    documents = json.loads(text, strict=False, object_pairs_hook=hook)
    if not isinstance(documents, list) or not all(isinstance(document, dict) for document in documents):
        raise ValueError("JSON, but not a list of objects")
    return documents


def _first_of_each(pairs: list[tuple[str, Any]]) -> Document:
    return dict(reversed(pairs))
