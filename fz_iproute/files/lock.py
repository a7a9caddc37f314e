"""One fz-iproute at a time works on the same tables of the same network namespace."""

import fcntl
import os
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fz_iproute.errors import Locked, UsageError

# How often a held lock is tried again, in seconds: a pass takes a tenth of a second.
_PAUSE = 0.05


class Lock:
    """The locks of some tables in a network namespace; an instance may be taken again and again.

    There is one of each `kind`: who holds that of `watch` for days takes that of `pass` only for each pass.
    """

    def __init__(self, netns: str | None, tables: Iterable[int], kind: str = "pass") -> None:
        namespace, folder = _namespace(netns), _folder()
        self._files: dict[Path, int] = {}
        for table in sorted(tables):  # in the same order by everybody, so that no two wait for each other
            path = folder / f"{namespace}-{table}.{kind}.lock"
            try:
                self._files[path] = _opened(path)
            except OSError as error:
                self.close()
                raise UsageError(f"{path}: the lock cannot be opened: {error.strerror}") from None

    @contextmanager
    def held(self, wait: float) -> Iterator[None]:
        """Hold them while the block runs; Locked if another holds one for longer than `wait` seconds.

        The kernel releases them when the process ends, however it ends.
        """
        deadline = time.monotonic() + wait
        with ExitStack() as stack:
            for path, fd in self._files.items():
                while not _taken(fd):
                    if time.monotonic() >= deadline:
                        raise Locked(
                            f"another fz-iproute has held {path} for more than {wait:g} s; "
                            f"see who with `fuser {path}`, or wait longer with --wait"
                        )
                    time.sleep(_PAUSE)
                stack.callback(fcntl.flock, fd, fcntl.LOCK_UN)
            yield

    def close(self) -> None:
        """Give up the files."""
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()


class Claim:
    """The tables of which a daemon is the only one, for days; which ones they are may change on the way."""

    def __init__(self, netns: str | None) -> None:
        self._netns = netns
        self._held: dict[int, ExitStack] = {}

    def extend(self, tables: Iterable[int]) -> None:
        """Be the only one of these too. Locked if another is at work on one of them; then all is as before."""
        with ExitStack() as undo:
            taken = {}
            for table in sorted(set(tables) - self._held.keys()):
                taken[table] = undo.enter_context(ExitStack())
                lock = Lock(self._netns, [table], kind="watch")
                taken[table].callback(lock.close)
                taken[table].enter_context(lock.held(0))
            undo.pop_all()
        self._held |= taken

    def restrict(self, tables: Collection[int]) -> None:
        """Leave all but these to others."""
        for table in self._held.keys() - set(tables):
            self._held.pop(table).close()


def _opened(path: Path) -> int:
    """The file of a lock, for its owner alone: who can open it could hold it for ever.

    It belongs to whom the folder belongs to. That may be the user of the systemd unit, who is to open it later,
    though root was the first to need it.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with suppress(FileExistsError):
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            owner = path.parent.stat()
            if owner.st_uid != os.geteuid():
                # Only of a file that we have made: what is there already may be another one by a hard link.
                with suppress(OSError):
                    os.fchown(fd, owner.st_uid, owner.st_gid)
            return fd
        with suppress(FileNotFoundError):
            return os.open(path, flags)


def _taken(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _namespace(netns: str | None) -> int:
    path = f"/run/netns/{netns}" if netns else "/proc/self/ns/net"
    try:
        return Path(path).stat().st_ino
    except OSError as error:
        raise UsageError(f"--netns {netns}: {path}: {error.strerror}; `ip netns list` shows what there is") from None


def _folder() -> Path:
    """Where locks live: systemd's runtime folder, /run for root, else a folder that only this user can write.

    The first two are the same one: systemd gives /run/fz-iproute to the user of the unit.
    """
    if given := os.environ.get("RUNTIME_DIRECTORY", ""):
        return Path(given.split(":")[0])
    candidates = [Path("/run/fz-iproute"), Path(f"/tmp/fz-iproute-{os.getuid()}")]
    if session := os.environ.get("XDG_RUNTIME_DIR", ""):
        candidates.insert(1, Path(session) / "fz-iproute")
    for folder in candidates:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            continue
        status = folder.lstat()  # not stat: in /tmp, somebody else may have left a link of this name
        # Nobody but root makes folders in /run, so root need not ask to whom it has given this one.
        is_safe = status.st_uid == os.getuid() or (os.getuid() == 0 and folder.parent == Path("/run"))
        if stat.S_ISDIR(status.st_mode) and is_safe and os.access(folder, os.W_OK):
            return folder
    raise UsageError(f"no folder for the lock: none of {', '.join(map(str, candidates))} can be written")
