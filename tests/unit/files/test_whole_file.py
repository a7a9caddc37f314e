"""The output of a verb goes where the user means, and nowhere that somebody else means."""

import os
import stat
import threading
from pathlib import Path

import pytest

from fz_iproute.errors import UsageError
from fz_iproute.files.whole_file import save
from tests.user_ids import need_user_ids

NOBODY = 65534


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
        save(old, "new\n", 0o600)
        assert is_written(old)
        assert "a longer text than the new one\n" == reading.read()
    assert [old] == list(old.parent.iterdir())


@pytest.mark.parametrize("name", ["old", "missing"])
def test_a_link_stays_and_what_it_leads_to_is_written(name: str, old: Path) -> None:
    link, further = old.with_name("link"), old.with_name("further")
    link.symlink_to("further")
    further.symlink_to(name)
    save(link, "new\n", 0o600)
    assert link.is_symlink() and further.is_symlink() and is_written(old.with_name(name))


@pytest.mark.parametrize("foreign", ["link", "folder"])
@pytest.mark.parametrize("target", ["old", "missing", "fifo", "/dev/full"])
def test_a_link_that_another_user_may_have_made_is_replaced(foreign: str, target: str, old: Path) -> None:
    need_user_ids()
    folder = old.parent / "folder"
    folder.mkdir()
    fifo = old.with_name("fifo")
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    link = folder / "link"
    link.symlink_to(old.parent / target)
    os.lchown(link if foreign == "link" else folder, NOBODY, NOBODY)
    save(link, "new\n", 0o600)
    assert not link.is_symlink() and is_written(link)
    assert b"" == os.read(reading, 99)
    os.close(reading)
    assert "a longer text than the new one\n" == old.read_text() and not old.with_name("missing").exists()


@pytest.mark.parametrize("is_link", [False, True])
def test_a_named_pipe_is_written_to(is_link: bool, tmp_path: Path) -> None:
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()), daemon=True)
    reader.start()
    save(link if is_link else fifo, "new\n", 0o600)
    reader.join(10)
    assert ["new\n"] == read
    assert stat.S_ISFIFO(fifo.lstat().st_mode) and link.is_symlink()


def test_a_device_is_written_to(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    for path in (link, Path("/dev/null")):
        save(path, "new\n", 0o600)
    assert link.is_symlink() and Path("/dev/null").is_char_device()
    with pytest.raises(UsageError, match="/dev/full: No space left on device"):
        save(Path("/dev/full"), "new\n")


def test_a_pipe_of_the_shell_is_written_to() -> None:
    reading, writing = os.pipe()
    save(Path(f"/dev/fd/{writing}"), "new\n")
    assert b"new\n" == os.read(reading, 99)
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(path.name)], ids=["folder", "circle"])
def test_what_cannot_be_written_is_an_error_and_stays(make, tmp_path: Path) -> None:
    path = tmp_path / "path"
    make(path)
    kind = path.lstat().st_mode
    with pytest.raises(UsageError, match=r"Is a directory|Too many levels of symbolic links"):
        save(path, "new\n")
    assert kind == path.lstat().st_mode and [path] == list(tmp_path.iterdir())
