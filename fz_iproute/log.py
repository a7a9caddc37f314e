"""Writes messages to stderr, in the format that fits the reader: a terminal, journald, or a program."""

import json
import sys
from datetime import UTC
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import loguru


class Log:
    """Messages at `level` and above, one line each, in one of `FORMATS`.

    A message may have several lines, such as the commands of one batch. To call the logger for each of ten thousand
    commands would take longer than to run them.
    """

    def __init__(self, level: str = "INFO", format: str = "text") -> None:
        self._level = level
        self._silent = _LEVELS[: _LEVELS.index(level)]
        self._format = FORMATS[format]

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

    def _write(self, message: "loguru.Message") -> None:
        record = message.record
        time = record["time"].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        lines = (self._format(time, record["level"].name, line) for line in record["message"].split("\n"))
        if sys.stderr is not None:
            sys.stderr.write("".join(f"{line}\n" for line in lines))
            sys.stderr.flush()


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
# journald reads the priority of syslog(3) from the start of a line.
_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3}


def _text(time: str, level: str, line: str) -> str:
    # Commands have no prefix, so that they can be copied from the terminal.
    return line if level == "INFO" else f"{level.lower()}: {line}"


def _stamped(time: str, level: str, line: str) -> str:
    return f"{time} {_text(time, level, line)}"


def _journal(time: str, level: str, line: str) -> str:
    return f"<{_PRIORITIES[level]}>{line}"


def _json(time: str, level: str, line: str) -> str:
    return json.dumps({"time": time, "level": level.lower(), "message": line})


FORMATS = {"text": _text, "stamped": _stamped, "journal": _journal, "json": _json}
