"""Locks: at any time, only one fz-iproute may change the same tables of the same network namespace.

All locks are in one file, a byte for each. They are locks of fcntl(2): the kernel releases them when their process
ends, however that happens, and lists them with their holders for any user.
"""

import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal

from fz_iproute.errors import Locked, UsageError
from fz_iproute.files.trusted_file import file_failure

# The pause before a lock is tried again, in seconds. A pass takes a tenth of a second.
_PAUSE = 0.05

# Each table has two locks. A daemon holds `watch` as long as it runs, and `pass` only during each pass.
Kind = Literal["watch", "pass"]


class Locks:
    """The locks of this process in a network namespace.

    To close one object releases the locks of all, because fcntl(2) does so.
    """

    def __init__(self, netns: str | None) -> None:
        self._namespace = _namespace(netns)
        self._watched: set[int] = set()
        self._path = path = folder() / "locks"
        try:
            # Other users may know that a `watch` runs, but may not hold a lock.
            path.parent.mkdir(mode=0o711, exist_ok=True)
            self._fd = _opened(path)
        except OSError as error:
            raise file_failure(path, error) from None

    @contextmanager
    def held(self, tables: Iterable[int], wait: float, advice: str = "") -> Iterator[None]:
        """Hold the locks `pass` of these tables while the block runs.

        Locked if another process still holds one after `wait` seconds; the message ends with `advice`.
        """
        taken = self._take("pass", tables, wait, advice)
        try:
            yield
        finally:
            self._release(taken)

    def watch(
        self,
        tables: Iterable[int],
        wait: float = 0.0,
        advice: str = "; one `watch` for a table is enough",
        waiting: Callable[[str], None] | None = None,
    ) -> None:
        """Also take the locks `watch` of these tables: all of them or none. Locked as for `held`.

        If it is necessary to wait, `waiting` is called at once and told which process holds a lock.
        """
        new = set(tables) - self._watched
        self._take("watch", new, wait, advice, waiting)
        self._watched |= new

    def watch_only(self, tables: Collection[int]) -> None:
        """Release the locks `watch` except those of these tables."""
        self._release(_place(self._namespace, table, "watch") for table in self._watched - set(tables))
        self._watched &= set(tables)

    def close(self) -> None:
        """Release all locks."""
        os.close(self._fd)

    def _take(
        self,
        kind: Kind,
        tables: Iterable[int],
        wait: float,
        advice: str,
        waiting: Callable[[str], None] | None = None,
    ) -> list[int]:
        deadline = time.monotonic() + wait
        taken: list[int] = []
        try:
            for table in sorted(tables):  # all processes take locks in the same order, so there is no deadlock
                place = _place(self._namespace, table, kind)
                while not self._is_taken(place):
                    does = "keeps the copies in" if kind == "watch" else "is working on"
                    trouble = f"another fz-iproute{_named(place)} {does} table {table}"
                    if time.monotonic() >= deadline:
                        raise Locked(f"{trouble}{advice}")
                    if waiting:
                        waiting(trouble)
                        waiting = None
                    time.sleep(_PAUSE)
                taken.append(place)
        except BaseException:
            self._release(taken)
            raise
        return taken

    def _is_taken(self, place: int) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):  # POSIX allows both
            return False
        return True

    def _release(self, places: Iterable[int]) -> None:
        for place in places:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, place)


def _opened(path: Path) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with suppress(FileExistsError):
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        # The daemon has to open it later, as the user of its unit. An existing file keeps its owner, since it may be a
        # hard link to some other file.
        with suppress(OSError):
            owner = path.parent.stat()
            os.fchown(fd, owner.st_uid, owner.st_gid)
        return fd
    return os.open(path, flags)


@contextmanager
def locked(netns: str | None, tables: Iterable[int], wait: float, free_of_watch: bool = False) -> Iterator[None]:
    """Hold the locks `pass` while the block runs. Locked if that takes too long.

    With `free_of_watch`, also hold the locks `watch`. Locked if a daemon has one.
    """
    advice = f"; this one has waited for {wait:g} s, and --wait SECONDS waits longer"
    with closing(Locks(netns)) as locks:
        if free_of_watch:
            locks.watch(tables, advice=": it would put back what `down` removes, so stop that process first")
        with locks.held(tables, wait, advice):
            yield


def watching(netns: str | None, tables: Iterable[int]) -> int | None:
    """The process id of the `watch` that keeps one of these tables in step; 0 if there is none, None if unknown."""
    namespace = _namespace(netns)
    try:
        return next(filter(None, (_holder(_place(namespace, table, "watch")) for table in tables)), 0)
    except OSError:
        return None


def _named(place: int) -> str:
    """The holder of a lock, for a message. "" if unknown: the sandbox of the units hides /proc/locks."""
    with suppress(OSError):
        if process := _holder(place):
            return f" (process {process})"
    return ""


def _holder(place: int) -> int:
    """The process that holds the lock at this place, 0 if none does."""
    try:
        status = (folder() / "locks").stat()
        file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    except FileNotFoundError:
        return 0
    except PermissionError:
        file = ""  # under systemd, only root may enter the folder; but no other program has locks at such places
    for line in Path("/proc/locks").read_text().splitlines():
        match line.split():
            # The kernel joins neighbouring locks of a process into one.
            case [_, "POSIX", _, "WRITE", pid, where, start, end] if file in (where, "") and end != "EOF":
                if int(start) <= place <= int(end):
                    return int(pid)
    return 0


def _place(namespace: int, table: int, kind: Kind) -> int:
    """The place of a lock in the file: the number of the namespace, of the table, and of the kind."""
    # The largest place has 63 bits. The kernel counts namespaces from 0xf0000000 on.
    return (namespace & 0x3FFFFFFF) << 33 | table << 1 | (kind == "watch")


def _namespace(netns: str | None) -> int:
    path = f"/run/netns/{netns}" if netns else "/proc/self/ns/net"
    try:
        return Path(path).stat().st_ino
    except OSError as error:
        raise UsageError(f"--netns {netns}: {path}: {error.strerror}; `ip netns list` shows what there is") from None


def folder() -> Path:
    """The folder for locks and reports. Tests give it with the variable that systemd sets for a unit."""
    return Path(os.environ.get("RUNTIME_DIRECTORY") or "/run/fz-iproute")


def report_path(netns: str | None, table: int) -> Path:
    """The file in which the `watch` of the table reports what it counts."""
    return folder() / f"{_namespace(netns)}-{table}.watch.json"
