"""Replaces files at once, so that no reader sees half of one."""

from pathlib import Path

from fz_iproute.errors import FzError, NotPermitted, UsageError


def replace(path: Path, text: str, mode: int = 0o644) -> None:
    """Make `text` the content of the file. UsageError or NotPermitted say what is wrong."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text, "utf-8", "surrogateescape")
        new.chmod(mode)
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise file_failure(path, error) from None


def file_failure(path: Path, error: OSError) -> FzError:
    """What a failure with a file means to the user."""
    if isinstance(error, PermissionError):
        return NotPermitted(f"{path}: {error.strerror}; run as root")
    return UsageError(f"{path}: {error.strerror}")
