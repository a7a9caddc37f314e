"""Writes messages to stderr, in the format that fits the reader: a terminal, journald, or a program."""

import json
import sys
from collections.abc import Callable
from datetime import UTC
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import loguru


class Log:
    """Messages at `level` and above, one line each, in one of `FORMATS`.

    A message may have several lines, such as the commands of one batch. Each line gets a prefix. To call the logger
    for each of ten thousand commands would take longer than to run them.
    """

    def __init__(self, level: str = "INFO", format: str = "text") -> None:
        self._level = level
        self._silent = _LEVELS[: _LEVELS.index(level)]
        self._write = FORMATS[format]

    @cached_property
    def _logger(self) -> "loguru.Logger":
        # Imported with the first message. Most runs of a cron job have none, and the import takes 15 ms.
        from loguru import logger  # noqa: PLC0415

        logger.remove()
        logger.add(self._write, level=self._level, format="{message}", backtrace=False, diagnose=False)
        return logger

    def debug(self, message: str) -> None:
        """What a developer wants to know."""
        self._say("DEBUG", message)

    def info(self, message: str) -> None:
        """A command, exactly as it is run, or a comment about commands."""
        self._say("INFO", message)

    def warning(self, message: str) -> None:
        """Nothing has failed, but a user should know."""
        self._say("WARNING", message)

    def error(self, message: str) -> None:
        """Something could not be done."""
        self._say("ERROR", message)

    def _say(self, level: str, message: str) -> None:
        if level not in self._silent:
            self._logger.log(level, message)


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def _text(record: "loguru.Record") -> str:
    # Commands have no prefix, so that they can be copied from the terminal.
    level = record["level"].name
    return "" if level == "INFO" else f"{level.lower()}: "


def _stamped(record: "loguru.Record") -> str:
    return f"{_time(record)} {_text(record)}"


def _journal(record: "loguru.Record") -> str:
    # journald adds the time, and reads the priority of syslog(3) from the start of the line.
    return f"<{_PRIORITIES[record['level'].name]}>"


def _time(record: "loguru.Record") -> str:
    return record["time"].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3}


def _lines(prefix: Callable[["loguru.Record"], str]) -> Callable[["loguru.Message"], None]:
    def write(message: "loguru.Message") -> None:
        head = prefix(message.record)
        text = message.record["message"].replace("\n", f"\n{head}")
        _print(f"{head}{text}\n")

    return write


def _json(message: "loguru.Message") -> None:
    common = {"time": _time(message.record), "level": message.record["level"].name.lower()}
    lines = message.record["message"].split("\n")
    _print("".join(f"{json.dumps({**common, 'message': line})}\n" for line in lines))


def _print(text: str) -> None:
    if sys.stderr is None:
        return
    sys.stderr.write(text)
    sys.stderr.flush()


FORMATS = {"text": _lines(_text), "stamped": _lines(_stamped), "journal": _lines(_journal), "json": _json}
