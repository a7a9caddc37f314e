"""Reads which name servers systemd-resolved asks by which interface."""

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

_ALL = "~."  # how resolved writes that a link answers for all names
_RESOLVED = "run/systemd/resolve/netif"  # what somebody told resolved, NetworkManager or a VPN's client for example
_NETWORKD = "run/systemd/netif/links"  # what networkd knows from leases and its own files


def resolvers(root: Path, read: Callable[[Path], str | None]) -> Iterator[str]:
    """For each link with servers a line: its ifindex, `~.` if it answers for all names, and the servers."""
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
    """Without port, zone and name: `[2001:db8::1]:53%eth0#name`."""
    for server in servers:
        host = server.partition("#")[0].partition("%")[0]
        host = host[1:].partition("]")[0] if host.startswith("[") else host
        host = host.partition(":")[0] if host.count(":") == 1 else host
        try:
            yield str(ip_address(host))
        except ValueError:
            continue
