"""Prints the output of a verb on stdout, or writes it to a file."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from fz_iproute.errors import UsageError
from fz_iproute.files.whole_file import replace


def write(text: str) -> bool:
    """Print the text and a newline. False if nobody reads it, which is no error (`plan | head`)."""
    return _sent(lambda stdout: stdout.write(f"{text}\n"))


def write_json(document: dict[str, Any]) -> None:
    """Print the document, with the number of its schema."""
    write(json.dumps({"schema": 1, **document}, indent=2))


def write_lines(lines: Iterable[str]) -> None:
    """Print lines for a shell. Bytes that are not UTF-8, as a file name may have, are printed unchanged."""
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    _sent(lambda stdout: stdout.buffer.write(data))


def write_to(path: Path | None, text: str, mode: int = 0o644) -> None:
    """Write the text and a newline to the file; to stdout if `path` is None."""
    if path is None:
        write(text)
    else:
        replace(path, f"{text}\n", mode)


def _sent(send: Callable[[TextIO], object]) -> bool:
    if sys.stdout is None:
        raise UsageError("stdout is closed, but this verb prints something; give it a stdout such as /dev/null")
    try:
        send(sys.stdout)
        sys.stdout.flush()
    except OSError as error:
        # At its end, Python flushes stdout. Without this, it would then print the same error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UsageError(f"stdout: {error.strerror}") from None
        return False
    return True
