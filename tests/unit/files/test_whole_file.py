"""The output of a verb goes where the user means, and nowhere that somebody else means."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fz_iproute.errors import UsageError
from fz_iproute.files.whole_file import replace


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that is there already."""
    file = tmp_path / "old"
    file.write_text("a longer text than the new one\n")
    file.chmod(0o644)
    return file


def is_written(file: Path) -> bool:
    return ("new\n", 0o600) == (file.read_text(), stat.S_IMODE(file.stat().st_mode))


def test_a_regular_file_is_replaced_so_that_no_reader_sees_half_of_it(old: Path) -> None:
    with old.open() as reading:
        replace(old, "new\n", 0o600)
        assert is_written(old)
        assert "a longer text than the new one\n" == reading.read()
    assert [old] == list(old.parent.iterdir())


@pytest.mark.parametrize("target", ["old", "missing", "path", "/dev/stdout"])
def test_a_link_is_refused_and_stays(target: str, old: Path) -> None:
    link = old.with_name("path")
    link.symlink_to(target)
    refused(link)
    assert (
        Path(target) == link.readlink()
        and old.read_text().startswith("a longer")
        and 2 == len(list(old.parent.iterdir()))
    )


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "fifo"])
def test_what_is_no_regular_file_is_refused_and_stays(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "path"
    make(path)
    refused(path)
    assert [path] == list(tmp_path.iterdir())


def test_a_device_is_refused_and_stays() -> None:
    refused(Path("/dev/null"))


def refused(path: Path) -> None:
    kind = path.lstat().st_mode
    with pytest.raises(UsageError, match="not a regular file; leave out -o to write to stdout"):
        replace(path, "new\n")
    assert kind == path.lstat().st_mode
