"""Sends packets, and looks for them at the neighbour and in the tunnel."""

import secrets
import select
import time

from tests.netns.namespace import DEADLINE, Machine, wait_until

_PORT = 7777
# A packet that has not arrived by then is lost. Even a busy machine resolves neighbours faster.
_LOST = 3.0


class Witness:
    """Listens at the neighbour for datagrams of both families."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._listener = machine.neighbour.listener(_PORT)

    def path(self, address: str) -> str:
        """Send one datagram. Returns `neighbour, from SOURCE`, `tunnel`, `nowhere`, or the kernel's refusal."""
        token = secrets.token_bytes(8)
        list(self._machine.vpn.destinations())
        with self._machine.sender(address) as sender:
            try:
                sender.sendto(token, (address, _PORT))
            except OSError as error:
                return str(error.strerror)
        end = time.monotonic() + _LOST
        while (left := end - time.monotonic()) > 0:
            if address in self._machine.vpn.destinations():
                return "tunnel"
            if select.select([self._listener], [], [], min(left, 0.01))[0]:
                content, (source, *_) = self._listener.recvfrom(64)
                if content == token:
                    return f"neighbour, from {source.removeprefix('::ffff:')}"
        return "nowhere"

    def sees(self, path: str, address: str, deadline: float = DEADLINE) -> bool:
        """Wait until a packet to `address` takes this path. The kernel uses a new IPv6 address only after a while."""
        return wait_until(lambda: self.path(address).startswith(path), f"{address}: {path}", deadline)

    def close(self) -> None:
        self._listener.close()
