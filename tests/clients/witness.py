"""Where packets really go: it sends some, and looks for them at the neighbour and in the tunnel."""

import secrets
import select
import socket
import time

from tests.netns import rtnetlink
from tests.netns.namespace import DEADLINE, Machine, wait_until

_PORT = 7777
# Until a packet counts as lost: neighbours are resolved in less, even on a busy machine.
_LOST = 1.0


class Witness:
    """Listens at the neighbour for datagrams of both families."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._ear = rtnetlink.inside(machine.neighbour.name, self._listen)

    @staticmethod
    def _listen() -> socket.socket:
        ear = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        ear.bind(("::", _PORT))
        ear.setblocking(False)
        return ear

    def path(self, address: str) -> str:
        """Send one datagram: `neighbour, from SOURCE`, `tunnel`, or `nowhere`; or the words of a refusal."""
        mouth = rtnetlink.inside(
            self._machine.name,
            lambda: socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM),
        )
        mark = secrets.token_bytes(8)
        list(self._machine.vpn.destinations())
        with mouth:
            try:
                mouth.sendto(mark, (address, _PORT))
            except OSError as error:
                return str(error.strerror)
        end = time.monotonic() + _LOST
        while (left := end - time.monotonic()) > 0:
            if address in self._machine.vpn.destinations():
                return "tunnel"
            if select.select([self._ear], [], [], min(left, 0.01))[0]:
                content, (source, *_) = self._ear.recvfrom(64)
                if content == mark:
                    return f"neighbour, from {source.removeprefix('::ffff:')}"
        return "nowhere"

    def sees(self, path: str, address: str, deadline: float = DEADLINE) -> bool:
        """Packets to `address` take this path, if not at once: an IPv6 address is not used before it is ready."""
        return wait_until(lambda: self.path(address).startswith(path), f"{address}: {path}", deadline)

    def close(self) -> None:
        self._ear.close()
