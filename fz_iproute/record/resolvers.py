"""Reads which name servers systemd-resolved uses for each interface."""

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

_ALL = "~."  # systemd-resolved's sign for a link whose servers answer for all names
_RESOLVED = "run/systemd/resolve/netif"  # settings by other programs, for example NetworkManager or a VPN client
_NETWORKD = "run/systemd/netif/links"  # settings by systemd-networkd, from leases and its own files


def resolvers(root: Path, read: Callable[[Path], str | None]) -> Iterator[str]:
    """A line for each link with servers: its ifindex, then `~.` if they answer for all names, then the servers."""
    paths = [path for folder in (_RESOLVED, _NETWORKD) for path in (root / folder).glob("[0-9]*")]
    for index in sorted({int(path.name) for path in paths if path.name.isdecimal()}):
        told = _settings(read(root / _RESOLVED / str(index)))
        known = _settings(read(root / _NETWORKD / str(index)))
        servers = told.get("SERVERS") or known.get("DNS", [])
        is_for_all = _ALL in told.get("DOMAINS", []) or "." in known.get("ROUTE_DOMAINS", [])
        if found := list(_addresses(servers)):
            yield " ".join([str(index), *([_ALL] if is_for_all else []), *found])


def _settings(text: str | None) -> dict[str, list[str]]:
    pairs = (line.partition("=") for line in (text or "").splitlines())
    return {name: value.split() for name, _, value in pairs}


def _addresses(servers: list[str]) -> Iterator[str]:
    """The plain addresses, without port, zone and name. The longest form is `[2001:db8::1]:53%eth0#name`."""
    for server in servers:
        host = server.partition("#")[0].partition("%")[0]
        host = host[1:].partition("]")[0] if host.startswith("[") else host
        host = host.partition(":")[0] if host.count(":") == 1 else host
        try:
            yield str(ip_address(host))
        except ValueError:
            continue
