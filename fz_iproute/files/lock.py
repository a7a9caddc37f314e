"""One fz-iproute at a time works on the same tables of the same network namespace."""

import fcntl
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from fz_iproute.errors import Locked, UsageError
from fz_iproute.files.trusted_file import said_of

RUN = Path("/run")
# A held lock is tried again this often, in seconds. A pass takes a tenth of a second.
_PAUSE = 0.05


class Lock:
    """The locks of some tables in a network namespace. They may be taken again and again, until `close`.

    There is one of each `kind`: a daemon holds that of `watch` for days, and that of `pass` only for each pass.
    """

    def __init__(self, netns: str | None, tables: Iterable[int], kind: str = "pass") -> None:
        namespace = _namespace(netns)
        self._folder = _folder()
        self._files: dict[str, _Open] = {}
        try:
            for table in sorted(tables):  # everybody in the same order, so that no two wait for each other
                name = f"{namespace}-{table}.{kind}.lock"
                self._files[name] = _opened(self._folder, name)
        except UsageError:
            self.close()
            raise

    @contextmanager
    def held(self, wait: float, advice: str = "", waiting: Callable[[str], None] | None = None) -> Iterator[None]:
        """Hold the locks while the block runs. Locked, with the `advice`, if one is still held after `wait` seconds.

        `waiting` is told at once who holds one. The kernel releases them when the process ends, however it ends.
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

        Its last holder may have removed the file after we opened it, and two systemd units that start at the same
        time may each have made one. So only a lock on a file that is still there counts, and only if it was alone.
        """
        while _taken((file := self._files[name]).fd):
            is_there = os.fstat(file.fd).st_nlink > 0
            if is_there and (file.was_alone or not self._others(file) or not _removed(file.path)):
                self._files[name] = file._replace(was_alone=True)  # whoever makes another will find this one
                return True
            self._files[name] = _opened(self._folder, name)
            os.close(file.fd)
        return False

    def _others(self, file: "_Open") -> list[Path]:
        return [path for path in _present(self._folder, file.path.name) if path != file.path]

    def close(self) -> None:
        """Close the files, and remove those that nobody holds.

        Only the holder of a lock removes its file. A process that was killed leaves its files behind; the next one
        that locks the same table removes them.
        """
        for path, fd, _ in self._files.values():
            if _taken(fd) and os.fstat(fd).st_nlink:
                _removed(path)
            os.close(fd)
        self._files.clear()


@contextmanager
def locked(netns: str | None, tables: Iterable[int], wait: float) -> Iterator[None]:
    """Hold the locks of a pass while the block runs, and leave no file behind. Locked if it takes too long."""
    advice = f"; this one has waited for {wait:g} s, and --wait SECONDS waits longer"
    with closing(Lock(netns, tables)) as lock, lock.held(wait, advice):
        yield


class WatchLocks:
    """The tables that this daemon alone keeps in step. A new configuration may change which ones."""

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
        """Take these too. If another daemon still has one of them after `wait` seconds, Locked, and none is taken."""
        with ExitStack() as undo:
            taken = {}
            for table in sorted(set(tables) - self._held.keys()):
                taken[table] = undo.enter_context(ExitStack())
                lock = taken[table].enter_context(closing(Lock(self._netns, [table], kind="watch")))
                taken[table].enter_context(lock.held(wait, f"; {advice}", waiting))
            undo.pop_all()
        self._held |= taken

    def close(self) -> None:
        """Give up all of them."""
        self.restrict()

    def restrict(self, tables: Collection[int] = ()) -> None:
        """Give up all but these."""
        for table in self._held.keys() - set(tables):
            self._held.pop(table).close()


class _Open(NamedTuple):
    """The file of a lock."""

    path: Path
    fd: int
    was_alone: bool = False  # when we had taken it, no other folder had one


def _present(folder: Path, name: str) -> Iterator[Path]:
    """The files of a lock that we may open; this folder is the one for ours."""
    # In /tmp, anybody could have made a file of this name.
    places = (each / name for each in _folders() if each == folder or each.parent == RUN)
    return (path for path in places if os.access(path, os.R_OK))


def _opened(folder: Path, name: str) -> _Open:
    """Open the file of a lock. Nobody but its owner may, since whoever can open it can hold it for ever.

    The owner of the folder owns it, too: root may be the first to need a lock that the systemd unit's user opens later.
    """
    # Not for writing, because a systemd unit sees the folders of the others read-only.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    while True:
        path = next(_present(folder, name), folder / name)
        try:
            if path.is_dir():
                raise UsageError(f"{path}: the lock cannot be opened: it is a folder")
            with suppress(FileExistsError):
                fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
                # Only for a file that we have made: an existing one may be a hard link to something else.
                with suppress(OSError):
                    owner = path.parent.stat()
                    os.fchown(fd, owner.st_uid, owner.st_gid)
                return _Open(path, fd)
            with suppress(FileNotFoundError):
                return _Open(path, os.open(path, flags))
        except OSError as error:
            raise UsageError(f"{path}: the lock cannot be opened: {said_of(error)}") from None


def _removed(path: Path) -> bool:
    """Remove a file of ours. A systemd unit cannot remove those in the folders of the others."""
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
    """The process whose `watch` keeps one of these tables in step, 0 if there is none. None if this user cannot tell.

    The files are only looked at: whoever opens one may hold its lock.
    """
    try:
        for path in (path for table in tables for path in places(netns, table, "watch.lock")):
            with suppress(FileNotFoundError):
                if process := _process(path.stat()):
                    return process
    except OSError:  # the folder may be root's alone
        return None
    return 0


def places(netns: str | None, table: int, kind: str) -> list[Path]:
    """Where a file of this kind about a table may be."""
    name = f"{_namespace(netns)}-{table}.{kind}"
    return [folder / name for folder in _folders()]


def place(netns: str | None, table: int, kind: str) -> Path:
    """Where this process may make a file of this kind about a table."""
    return _folder() / f"{_namespace(netns)}-{table}.{kind}"


def _holder(fd: int) -> str:
    """Which process holds the lock, as words for a message. The kernel does not tell a sandboxed daemon."""
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
    """The first of the folders that can be used: of two programs, each must find the other's locks."""
    if given := os.environ.get(_GIVEN):
        return Path(given.split(":")[0])
    folders = _folders()
    for folder in folders:
        try:
            # Others may look at a lock, to tell whether a `watch` runs, but not open it.
            folder.mkdir(mode=0o711, exist_ok=True)
        except OSError:
            continue
        status = folder.lstat()  # not stat: in /tmp, somebody else may have left a link of this name
        # Only root makes folders in /run, so root trusts this one whoever owns it.
        is_safe = status.st_uid == os.getuid() or (os.getuid() == 0 and folder.parent == RUN)
        if stat.S_ISDIR(status.st_mode) and is_safe and os.access(folder, os.W_OK):
            return folder
    advice = "; run as root (sudo)" if os.geteuid() else ""
    raise UsageError(f"no folder for the lock: none of {', '.join(map(str, folders))} can be written{advice}")


def _folders() -> list[Path]:
    """Where locks may be: systemd's runtime folder, /run/fz-iproute for root, else a folder that only this user writes.

    Each systemd unit has a folder of its own in /run; that of the service is root's, too.
    """
    session = os.environ.get("XDG_RUNTIME_DIR") or "/run"
    usual = [RUN / "fz-iproute", Path(session, "fz-iproute"), Path(f"/tmp/fz-iproute-{os.getuid()}")]
    if given := os.environ.get(_GIVEN):
        usual = [Path(given.split(":")[0])]
    units = sorted(RUN.glob("fz-iproute*")) if usual[0].parent == RUN else []
    return list(dict.fromkeys([*usual, *units]))


_GIVEN = "RUNTIME_DIRECTORY"
