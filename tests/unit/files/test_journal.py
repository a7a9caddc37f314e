"""A journal that cannot be written costs one warning, and never time."""

import os
import socket
from pathlib import Path

import pytest

from fz_iproute.files.journal import Journal


def fifo_with_a_reader(path: Path) -> None:
    os.mkfifo(path)
    os.open(path, os.O_RDONLY | os.O_NONBLOCK)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.parent.rmdir(), "No such file or directory"),
        (Path.mkdir, "Is a directory"),
        (os.mkfifo, "not a regular file"),
        (fifo_with_a_reader, "not a regular file"),
        (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "not a regular file"),
        (lambda path: path.symlink_to("/dev/null"), "not a regular file"),
    ],
    ids=["its folder is missing", "folder", "fifo", "fifo with a reader", "socket", "device"],
)
def test_what_is_no_file_is_refused_with_one_warning(make, words: str, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "journal"
    path.parent.mkdir()
    make(path)
    warnings: list[str] = []
    journal = Journal(str(path), warnings.append)
    for _ in range(3):
        journal.append(["# lost"])
    assert [f"watch.journal: {path}: {words}; going on without the record"] == warnings
    if path.parent.exists():
        path.rename(tmp_path / "away")
    else:
        path.parent.mkdir()
    journal.append(["# kept"])
    assert "# kept\n" == path.read_text()
