"""Prints the data of a verb on stdout."""

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from fz_iproute.errors import UsageError


def write(text: str) -> bool:
    """Print the text and a newline. False if nobody reads it, which is no error (`plan | head`)."""
    return _send(f"{text}\n".encode("utf-8", "backslashreplace"))


def write_json(document: dict[str, Any]) -> None:
    """Print the document, with the number of its schema."""
    write(json.dumps({"schema": 1, **document}, indent=2))


def write_lines(lines: Iterable[str]) -> None:
    """Print lines for a shell, with every byte as it is."""
    _send("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))


def _send(data: bytes) -> bool:
    if sys.stdout is None:
        raise UsageError("stdout is closed, but this verb prints something; give it a stdout such as /dev/null")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        # Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UsageError(f"stdout: {error.strerror}") from None
        return False
    return True
