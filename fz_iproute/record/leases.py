"""Reads which servers gave the DHCP leases of this machine. Nothing else of a lease is recorded."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

_SERVER_ADDRESS = re.compile(rb"^SERVER_ADDRESS=([0-9.]+)$", re.MULTILINE)
_LEASE = re.compile(rb"^lease \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_SERVER = re.compile(rb"option dhcp-server-identifier ([0-9.]+);")
_EXPIRE = re.compile(rb"expire \d (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d);")
# A DHCP packet has a BOOTP header of 236 bytes, then a magic number, then the options.
_HEADER, _COOKIE = 236, b"\x63\x82\x53\x63"
_PAD, _END, _SERVER_IDENTIFIER = 0, 255, 54


def dhcp_servers(root: Path, read: Callable[[Path], bytes | None]) -> list[str]:
    """The addresses of the servers, sorted. Files that `read` cannot read are ignored."""
    contents = ((servers, read(path)) for pattern, servers in _READERS.items() for path in root.glob(pattern))
    return sorted({server for servers, content in contents if content for server in servers(content)})


def _of_networkd(content: bytes) -> Iterator[str]:
    yield from (match.decode() for match in _SERVER_ADDRESS.findall(content))


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


# How to find the servers in the files of each program.
_READERS = {
    "run/systemd/netif/leases/*": _of_networkd,
    "var/lib/NetworkManager/internal-*.lease": _of_networkd,
    "var/lib/dhcp/dhclient*.lease*": _of_dhclient,
    "var/lib/dhclient/*.lease*": _of_dhclient,
    "var/lib/NetworkManager/dhclient-*": _of_dhclient,
    "var/lib/dhcpcd/*.lease": _of_packet,
    "var/lib/dhcpcd5/*.lease": _of_packet,
}
