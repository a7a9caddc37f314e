"""Collects what `doctor` needs besides the output of `ip`: settings files, this process's rights, the journal's end.

It never fails. Anything that it cannot read is left out.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fz_iproute.files.config_file import DEFAULT_PATH, VARIABLE
from fz_iproute.files.rt_tables import table_files
from fz_iproute.files.trusted_file import opened
from fz_iproute.ip.rights import capabilities
from fz_iproute.mirror.config import Config
from fz_iproute.record.leases import dhcp_servers
from fz_iproute.record.resolvers import resolvers

# Enough for any settings file, and for the last few hundred passes of the journal.
_MOST_BYTES = 1 << 16

_SYSTEMD = ("etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd")
# Only networkd writes this file, when it starts to manage an interface.
_NETWORKD_STATE = "run/systemd/netif/state"
_RESOLVERS = ("etc/resolv.conf", "run/systemd/resolve/resolv.conf")


def facts(config: Config, path: Path | None, netns: str | None, root: Path = Path("/")) -> dict[str, str]:
    """The facts by name. The name of a file is its path, as if `root` were /."""
    found = {f"/{file.relative_to(root)}": text for file in _files(root, netns) if (text := _text(file)) is not None}
    found |= dict(_of_config(path or _default_config(root)))
    found["uid"] = str(os.geteuid())
    if held := capabilities(root):
        found["capabilities"] = held
    found["networkd"] = "in use" if (root / _NETWORKD_STATE).exists() else "not in use"
    if netns:
        found["netns"] = netns
    else:
        if servers := dhcp_servers(root, _content):
            found["dhcp.servers"] = " ".join(servers)
        if lines := list(resolvers(root, _text)):
            found["resolved"] = "".join(f"{line}\n" for line in lines)
    if config.watch.journal and (tail := _text(Path(config.watch.journal))) is not None:
        found["journal"] = tail
    return found


def _default_config(root: Path) -> Path:
    """The configuration file in force without -c. A lab has its own."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else root / DEFAULT_PATH.relative_to("/")


def _files(root: Path, netns: str | None) -> Iterator[Path]:
    for folder in _SYSTEMD:
        yield root / folder / "networkd.conf"
        yield from sorted((root / folder / "networkd.conf.d").glob("*.conf"))
    yield from table_files(root)
    yield from (root / path for path in _RESOLVERS)
    if netns:
        yield root / "etc/netns" / netns / "resolv.conf"  # `ip netns exec` mounts it over /etc/resolv.conf


def _of_config(path: Path) -> Iterator[tuple[str, str]]:
    yield "config.path", str(path)
    with suppress(OSError):
        status = path.stat()
        yield "config.mode", f"{status.st_mode & 0o7777:04o}"
        yield "config.uid", str(status.st_uid)


def _text(path: Path) -> str | None:
    """The content of the file; of a large file, the last lines. None if it cannot be read."""
    content = _content(path)
    return None if content is None else content.decode("utf-8", "replace")


def _content(path: Path) -> bytes | None:
    try:
        with opened(path) as file:
            start = max(0, os.fstat(file.fileno()).st_size - _MOST_BYTES)
            if start:
                file.seek(start)
            content = file.read(_MOST_BYTES) or b""
    except OSError:
        return None
    return content.partition(b"\n")[2] if start else content
