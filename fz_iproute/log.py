"""The program's voice on stderr. Says what it is told; knows nothing of what is going on."""

import json
import sys
from datetime import UTC
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import loguru


class Log:
    """Messages at `level` and above, one line each, as text or as JSON documents.

    A message of several lines (the commands of one batch) is written a line each: ten thousand calls of the
    logger would take longer than the ten thousand routes.
    """

    def __init__(self, level: str = "INFO", format: str = "text") -> None:
        self._level = level
        self._write = {"text": _write_text, "json": _write_json}[format]

    @cached_property
    def _logger(self) -> "loguru.Logger":
        # With the first message: most runs of a cron job have nothing to say, and the import takes 15 ms.
        from loguru import logger  # noqa: PLC0415

        logger.remove()
        logger.add(self._write, level=self._level, format="{message}", backtrace=False, diagnose=False)
        return logger

    def debug(self, message: str) -> None:
        """For those who look into the tool itself."""
        self._logger.debug(message)

    def info(self, message: str) -> None:
        """A command, exactly as it is run."""
        self._logger.info(message)

    def warning(self, message: str) -> None:
        """Nothing failed, but somebody should know."""
        self._logger.warning(message)

    def error(self, message: str) -> None:
        """Something was not done."""
        self._logger.error(message)


def _write_text(message: "loguru.Message") -> None:
    level = message.record["level"].name
    # Commands stand bare, so that they can be copied from the terminal.
    prefix = "" if level == "INFO" else f"{level.lower()}: "
    _print("".join(f"{prefix}{line}\n" for line in message.record["message"].splitlines()))


def _write_json(message: "loguru.Message") -> None:
    record = message.record
    common: dict[str, Any] = {
        "time": record["time"].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record["level"].name.lower(),
    }
    lines = record["message"].splitlines()
    _print("".join(f"{json.dumps({**common, 'message': line})}\n" for line in lines))


def _print(text: str) -> None:
    # The name of an interface may hold any byte; a log line is no reason to fail.
    sys.stderr.write(text.encode("utf-8", "backslashreplace").decode("utf-8"))
    sys.stderr.flush()
