"""One fz-iproute at a time works on the same tables of the same network namespace."""

import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fz_iproute.errors import Locked, UsageError

# How often a held lock is tried again, in seconds: a pass takes a tenth of a second.
_PAUSE = 0.05


@contextmanager
def lock(netns: str | None, tables: Iterable[int], wait: float, kind: str = "pass") -> Iterator[None]:
    """Hold the locks of the tables while the block runs; Locked if another holds one for longer than `wait` seconds.

    There is one of each `kind`: who holds that of `watch` for days takes that of `pass` only for each pass.
    The kernel releases it when the process ends, however it ends.
    """
    deadline = time.monotonic() + wait
    namespace, folder = _namespace(netns), _folder()
    with ExitStack() as stack:
        for table in sorted(tables):  # in the same order by everybody, so that no two wait for each other
            path = folder / f"{namespace}-{table}.{kind}.lock"
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise UsageError(f"{path}: the lock cannot be opened: {error.strerror}") from None
            stack.callback(os.close, fd)
            while not _taken(fd):
                if time.monotonic() >= deadline:
                    raise Locked(
                        f"another fz-iproute has held {path} for more than {wait:g} s; "
                        f"see who with `fuser {path}`, or wait longer with --wait"
                    )
                time.sleep(_PAUSE)
        yield


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
    """Where locks live: systemd's runtime folder, /run for root, else a folder that only this user can write."""
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
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and os.access(folder, os.W_OK):
            return folder
    raise UsageError(f"no folder for the lock: none of {', '.join(map(str, candidates))} can be written")
