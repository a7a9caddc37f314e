"""Sends packets from a machine, and tells where they arrive."""

import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from tests.netns.namespace import Namespace, wait_until

PORT = 7777
# A packet that has not arrived by then is lost. Even a busy machine resolves neighbours faster.
_LOST = 3.0


class Witness:
    """Listens in some places, and in the tunnel `vpn` of the machine."""

    def __init__(self, machine: Any, places: Mapping[str, Namespace]) -> None:
        self._machine = machine
        self._listeners = {name: place.listener(PORT) for name, place in places.items()}

    def path(self, address: str, *, mark: int = 0) -> str:
        """Send one datagram. Returns `PLACE, from SOURCE`, `tunnel`, `refused` (by the kernel) or `lost`."""
        token = secrets.token_bytes(16)
        with self._machine.sender(address, mark) as sender:
            try:
                sender.sendto(token, (address, PORT))
            except OSError:
                return "refused"
        end = time.monotonic() + _LOST
        while time.monotonic() < end:
            if found := list(self._arrivals(token)):
                assert 1 == len(found), f"a packet to {address} arrived twice: {found}"
                return found[0]
            time.sleep(0.001)
        return "lost"

    def way(self, address: str, *, mark: int = 0) -> str:
        """The same without the source."""
        return self.path(address, mark=mark).partition(", from ")[0]

    def sees(self, path: str, address: str) -> bool:
        """Wait until a packet to `address` takes this path. The kernel uses a new IPv6 address only after a while."""
        return wait_until(lambda: self.path(address).startswith(path), f"{address}: {path}")

    def _arrivals(self, token: bytes) -> Iterator[str]:
        yield from ("tunnel" for packet in self._machine.vpn.packets() if packet.endswith(token))
        for place, listener in self._listeners.items():
            for content, source in received(listener):
                if content == token:
                    yield f"{place}, from {source[0].removeprefix('::ffff:')}"

    def close(self) -> None:
        for listener in self._listeners.values():
            listener.close()


def received(listener: socket.socket) -> Iterator[tuple[bytes, tuple[str, ...]]]:
    """The packets that a non-blocking socket has received, each with its source."""
    with suppress(BlockingIOError):
        while True:
            yield listener.recvfrom(2048)
