"""Reads which servers gave the DHCP leases of this machine. Nothing else of a lease is recorded."""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

_MOST_BYTES = 1 << 16
_SERVER_ADDRESS = re.compile(rb"^SERVER_ADDRESS=([0-9.]+)$", re.MULTILINE)
_LEASE = re.compile(rb"^lease \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_SERVER = re.compile(rb"option dhcp-server-identifier ([0-9.]+);")
_EXPIRE = re.compile(rb"expire \d (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d);")
# A DHCP packet has a BOOTP header of 236 bytes, then a magic number, then the options.
_HEADER, _COOKIE = 236, b"\x63\x82\x53\x63"
_PAD, _END, _SERVER_IDENTIFIER = 0, 255, 54


def dhcp_servers(root: Path) -> list[str]:
    """The addresses of the servers, sorted. Files that cannot be read are ignored."""
    found: set[str] = set()
    for pattern in ("run/systemd/netif/leases/*", "var/lib/NetworkManager/internal-*.lease"):
        for content in _contents(root, pattern):
            found.update(match.decode() for match in _SERVER_ADDRESS.findall(content))
    for pattern in ("var/lib/dhcp/dhclient*.lease*", "var/lib/dhclient/*.lease*", "var/lib/NetworkManager/dhclient-*"):
        for content in _contents(root, pattern):
            found.update(_of_dhclient(content))
    for pattern in ("var/lib/dhcpcd/*.lease", "var/lib/dhcpcd5/*.lease"):
        for content in _contents(root, pattern):
            found.update(_of_packet(content))
    return sorted(found)


def _contents(root: Path, pattern: str) -> Iterator[bytes]:
    for path in root.glob(pattern):
        with suppress(OSError):
            if path.is_file():
                yield path.read_bytes()[-_MOST_BYTES:]


def _of_dhclient(content: bytes) -> Iterator[str]:
    """The server of the last lease in a file of dhclient, unless the lease has expired."""
    for lease in _LEASE.findall(content)[-1:]:
        end = _EXPIRE.search(lease)
        now = datetime.now(UTC).strftime("%Y/%m/%d %H:%M:%S")
        if (server := _SERVER.search(lease)) and (end is None or end[1].decode() > now):
            yield server[1].decode()


def _of_packet(content: bytes) -> Iterator[str]:
    """The server of a lease of dhcpcd. The file is the DHCP packet with which the server gave the lease."""
    options = content[_HEADER + len(_COOKIE) :]
    if content[_HEADER:].startswith(_COOKIE):
        while options and options[0] != _END:
            length = 0 if options[0] == _PAD else 1 + (options[1] if len(options) > 1 else 0)
            if options[0] == _SERVER_IDENTIFIER and length == 5 and len(options) >= 6:
                yield str(IPv4Address(options[2:6]))
            options = options[1 + length :]
