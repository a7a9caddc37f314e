"""Prints the data of a verb on stdout."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from fz_iproute.errors import UsageError


def write(text: str) -> None:
    """Print the text and a newline."""
    with _stdout() as stdout:
        stdout.write(f"{text}\n")


def write_json(document: dict[str, Any]) -> None:
    """Print the document, with the number of its schema."""
    write(json.dumps({"schema": 1, **document}, indent=2))


def write_lines(lines: Iterable[str]) -> None:
    """Print lines for a shell: every byte as it is."""
    with _stdout() as stdout:
        stdout.buffer.writelines(f"{line}\n".encode("utf-8", "surrogateescape") for line in lines)


@contextmanager
def _stdout() -> Iterator[TextIO]:
    """UsageError if stdout cannot be written to. A reader that has stopped reading (`plan | head`) is no error."""
    if sys.stdout is None:
        raise UsageError("stdout is closed, and this has something to print")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        # Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UsageError(f"stdout: {error.strerror}") from None
