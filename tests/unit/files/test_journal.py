"""A journal that cannot be written costs one warning, and never time."""

import os
import socket
from pathlib import Path

import pytest

from fz_iproute.files.journal import Journal


def missing(path: Path) -> None:
    """Its folder is missing."""
    path.parent.rmdir()


def fifo_with_a_reader(path: Path) -> None:
    os.mkfifo(path)
    os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def listening(path: Path) -> None:
    """A socket."""
    socket.socket(socket.AF_UNIX).bind(str(path))


def device(path: Path) -> None:
    path.symlink_to("/dev/null")


WORDS = {
    missing: "No such file or directory",
    Path.mkdir: "Is a directory",
    os.mkfifo: "not a regular file",
    fifo_with_a_reader: "not a regular file",
    listening: "not a regular file",
    device: "not a regular file",
}


@pytest.mark.parametrize("make", WORDS, ids=lambda make: make.__name__)
def test_what_is_no_file_is_refused_with_one_warning(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "folder" / "journal"
    path.parent.mkdir()
    make(path)
    warnings: list[str] = []
    journal = Journal(str(path), warnings.append)
    for _ in range(3):
        journal.append(["# lost"])
    assert [f"watch.journal: {path}: {WORDS[make]}; going on without the record"] == warnings
    if path.parent.exists():
        path.rename(tmp_path / "away")
    else:
        path.parent.mkdir()
    journal.append(["# kept"])
    assert "# kept\n" == path.read_text()
