"""Locks: at any time, only one fz-iproute may change the same tables of the same network namespace."""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from fz_iproute.errors import Locked, UsageError
from fz_iproute.files.trusted_file import said_of
from fz_iproute.files.whole_file import file_failure

RUN = Path("/run")
# The pause before a lock is tried again, in seconds. A pass takes a tenth of a second.
_PAUSE = 0.05


class Lock:
    """The locks of some tables in a network namespace. They can be taken again and again, until `close`.

    Each table has two kinds of locks. A daemon holds the lock `watch` as long as it runs, and the lock `pass` only
    during each pass.
    """

    def __init__(self, netns: str | None, tables: Iterable[int], kind: str = "pass") -> None:
        namespace = _namespace(netns)
        self._folder = _made_folder()
        self._files: dict[str, _Open] = {}
        try:
            for table in sorted(tables):  # all processes take locks in the same order, so there is no deadlock
                name = f"{namespace}-{table}.{kind}.lock"
                self._files[name] = _opened(self._folder, name)
        except UsageError:
            self.close()
            raise

    @contextmanager
    def held(self, wait: float, advice: str = "", waiting: Callable[[str], None] | None = None) -> Iterator[None]:
        """Hold the locks while the block runs. The kernel releases them if this process ends, however that happens.

        Locked if another process still holds one after `wait` seconds; the message ends with `advice`. If it is
        necessary to wait, `waiting` is called at once and told which process holds a lock.
        """
        deadline = time.monotonic() + wait
        try:
            for name in self._files:
                while not self._take(name):
                    if time.monotonic() >= deadline:
                        raise Locked(f"{self._trouble(name)}{advice}")
                    if waiting:
                        waiting(self._trouble(name))
                        waiting = None
                    time.sleep(_PAUSE)
            yield
        finally:
            for opened in self._files.values():
                fcntl.flock(opened.fd, fcntl.LOCK_UN)

    def _trouble(self, name: str) -> str:
        file = self._files[name]
        return f"another fz-iproute{_holder(file.fd)} holds {file.path}"

    def _take(self, name: str) -> bool:
        """Take the lock if it is free.

        The last holder may have removed the file after this process opened it. So only a lock on a file that still
        exists counts. Two systemd units that start at the same time may each have made a file, in different folders.
        Then this process removes its own file, and tries the other one.
        """
        while _taken((file := self._files[name]).fd):
            is_there = os.fstat(file.fd).st_nlink > 0
            if is_there and (file.was_alone or not self._others(file) or not _removed(file.path)):
                # From now on, other processes find this file, and make no other one.
                self._files[name] = file._replace(was_alone=True)
                return True
            self._files[name] = _opened(self._folder, name)
            os.close(file.fd)
        return False

    def _others(self, file: "_Open") -> list[Path]:
        return [path for path in _present(file.path.name) if path != file.path]

    def close(self) -> None:
        """Close the files, and remove those that no other process has locked.

        A process that is killed leaves its files behind. The next process that locks the same table removes them.
        """
        for path, fd, _ in self._files.values():
            if _taken(fd) and os.fstat(fd).st_nlink:
                _removed(path)
            os.close(fd)
        self._files.clear()


@contextmanager
def locked(netns: str | None, tables: Iterable[int], wait: float) -> Iterator[None]:
    """Hold the locks `pass` while the block runs, then remove their files. Locked if that takes too long."""
    advice = f"; this one has waited for {wait:g} s, and --wait SECONDS waits longer"
    with closing(Lock(netns, tables)) as lock, lock.held(wait, advice):
        yield


class WatchLocks:
    """The locks `watch` of a daemon, for the tables that it keeps in step. A new configuration may change these."""

    def __init__(self, netns: str | None) -> None:
        self._netns = netns
        self._held: dict[int, ExitStack] = {}

    def extend(
        self,
        tables: Iterable[int],
        wait: float = 0.0,
        advice: str = "one `watch` for a table is enough",
        waiting: Callable[[str], None] | None = None,
    ) -> None:
        """Also lock these tables: all of them or none. Locked if another daemon still has one after `wait` seconds."""
        with ExitStack() as undo:
            taken = {}
            for table in sorted(set(tables) - self._held.keys()):
                taken[table] = undo.enter_context(ExitStack())
                lock = taken[table].enter_context(closing(Lock(self._netns, [table], kind="watch")))
                taken[table].enter_context(lock.held(wait, f"; {advice}", waiting))
            undo.pop_all()
        self._held |= taken

    def close(self) -> None:
        """Release all locks."""
        self.restrict()

    def restrict(self, tables: Collection[int] = ()) -> None:
        """Release all locks except those of these tables."""
        for table in self._held.keys() - set(tables):
            self._held.pop(table).close()


class _Open(NamedTuple):
    """The file of a lock."""

    path: Path
    fd: int
    was_alone: bool = False  # once, while this process held the lock, no other folder had a file for it


def _present(name: str) -> Iterator[Path]:
    """The existing files of a lock."""
    return (path for each in _folders() if os.access(path := each / name, os.R_OK))


def _opened(folder: Path, name: str) -> _Open:
    """Open the file of a lock; make it if necessary. Only its owner may open it, because that is enough to lock it.

    A new file gets the owner of its folder. So if root makes the file first, the user of the systemd unit can open it.
    """
    # Open it read-only, because a systemd unit cannot write to the folders of other units.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    while True:
        path = folder / name
        try:
            path = next(_present(name), path)
            if path.is_dir():
                raise UsageError(f"{path}: the lock cannot be opened: it is a folder")
            with suppress(FileExistsError):
                fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
                # Change the owner only of a new file: an existing one may be a hard link to some other file.
                with suppress(OSError):
                    owner = path.parent.stat()
                    os.fchown(fd, owner.st_uid, owner.st_gid)
                return _Open(path, fd)
            with suppress(FileNotFoundError):
                return _Open(path, os.open(path, flags))
        except OSError as error:
            raise UsageError(f"{path}: the lock cannot be opened: {said_of(error)}") from None


def _removed(path: Path) -> bool:
    """Remove the file of a lock. False if that fails: a systemd unit cannot write to the folders of other units."""
    with suppress(OSError):
        path.unlink()
        return True
    return False


def _taken(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def watching(netns: str | None, tables: Iterable[int]) -> int | None:
    """The process id of the `watch` that keeps one of these tables in step; 0 if there is none.

    None if this user may not know. The files are not opened, because only their owner may do that.
    """
    try:
        for path in (path for table in tables for path in places(netns, table, "watch.lock")):
            with suppress(FileNotFoundError):
                if process := _process(path.stat()):
                    return process
    except OSError:  # perhaps only root may enter the folder
        return None
    return 0


def places(netns: str | None, table: int, kind: str) -> list[Path]:
    """All places where another process may have put a file of this kind for the table."""
    name = f"{_namespace(netns)}-{table}.{kind}"
    return [folder / name for folder in _folders()]


def place(netns: str | None, table: int, kind: str) -> Path:
    """The place where this process puts a file of this kind for the table."""
    return _made_folder() / f"{_namespace(netns)}-{table}.{kind}"


def _holder(fd: int) -> str:
    """The process that holds the lock, for a message. "" if unknown: the sandbox of the units hides /proc/locks."""
    with suppress(OSError):
        if process := _process(os.fstat(fd)):
            return f" (process {process})"
    return ""


def _process(file: os.stat_result) -> int:
    """The process that holds the lock of this file, 0 if none does."""
    wanted = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        match line.split():
            case [_, "FLOCK", _, _, pid, place, *_] if place == wanted:
                return int(pid)
    return 0


def _namespace(netns: str | None) -> int:
    path = f"/run/netns/{netns}" if netns else "/proc/self/ns/net"
    try:
        return Path(path).stat().st_ino
    except OSError as error:
        raise UsageError(f"--netns {netns}: {path}: {error.strerror}; `ip netns list` shows what there is") from None


def _folder() -> Path:
    """The folder in which this process puts its files. In a systemd unit, it is the runtime folder of the unit."""
    given = os.environ.get("RUNTIME_DIRECTORY")
    return Path(given.split(":")[0]) if given else RUN / "fz-iproute"


def _made_folder() -> Path:
    """The same, made if it is missing. NotPermitted or UsageError if this process cannot write there."""
    folder = _folder()
    try:
        # Other users may ask for the status of a file in it, to tell whether a `watch` runs, but not list it.
        folder.mkdir(mode=0o711, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise file_failure(folder, error) from None
    return folder


def _folders() -> list[Path]:
    """The folders where locks may be: that of this process, and those of all systemd units."""
    own = _folder()
    units = sorted(RUN.glob("fz-iproute*")) if own.parent == RUN else []
    return list(dict.fromkeys([own, *units]))
