"""Streams of numbered packets, and an account of where each of them came out."""

import json
import secrets
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.netns import rtnetlink
from tests.netns.namespace import Namespace, wait_until
from tests.packets.sender import PAYLOAD
from tests.packets.terrain import PORT, Crossroads

_SCRIPT = Path(__file__).with_name("sender.py")
_SO_RCVBUFFORCE, _ETH_P_ALL = 33, 0x0003
_BUFFER = 64 << 20  # for as long as the test looks elsewhere
_NAMES = {"LAN": "the LAN", "tunnel": "the tunnel", "uplink": "the uplink"}


class Sighting(NamedTuple):
    """A packet that came out where it must not, or did not come out at all."""

    address: str
    number: int
    when: str

    def __str__(self) -> str:
        return f"{self.address} #{self.number} ({self.when})"


class Sender:
    """A process in a namespace that sends a packet to each address, again and again."""

    def __init__(self, namespace: Namespace, addresses: Sequence[str], pause: float) -> None:
        self.addresses = tuple(addresses)
        self.token = secrets.token_bytes(8)
        self.sent = 0
        self.failures: list[Sighting] = []
        argv = [sys.executable, str(_SCRIPT), str(PORT), str(pause), self.token.hex(), *addresses]
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", namespace.name, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def stop(self) -> None:
        """Let it end, and hear what it has sent."""
        if self._process.returncode is not None:
            return
        said, _ = self._process.communicate(timeout=30)
        assert 0 == self._process.returncode
        report = json.loads(said)
        self.sent = report["sent"]
        self.failures = [Sighting(self.addresses[stream], number, why) for stream, number, why in report["failures"]]

    def kill(self) -> None:
        """However the test has ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


class Traffic:
    """What the senders of a crossroads send, and where it comes out. `account` is to be called often."""

    def __init__(self, crossroads: Crossroads, pause: float, lan: Sequence[str], internet: Sequence[str]) -> None:
        self._crossroads = crossroads
        crossroads.ip("link", "set", "dev", crossroads.vpn.name, "txqueuelen", "100000")
        self._ear = rtnetlink.inside(crossroads.neighbour.name, self._listen)
        self._eye = rtnetlink.inside(crossroads.router.name, self._look)
        self.now = "at the start"
        self.strays: list[Sighting] = []  # came out at the wrong place
        self.leaks: list[Sighting] = []  # … which was the uplink
        self.arrived: Counter[str] = Counter()
        self._next: dict[str, int] = {}
        self._missing: dict[tuple[str, int], str] = {}
        self._senders = {"LAN": Sender(crossroads, lan, pause), "tunnel": Sender(crossroads, internet, pause)}

    @staticmethod
    def _listen() -> socket.socket:
        ear = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        ear.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        ear.bind(("::", PORT))
        ear.setblocking(False)
        return ear

    @staticmethod
    def _look() -> socket.socket:
        """Sees every packet that comes over the uplink, whoever it is for."""
        eye = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        eye.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        eye.bind(("up0", _ETH_P_ALL))
        eye.setblocking(False)
        return eye

    def prove_that_leaks_are_seen(self, mark: int) -> None:
        """Send one packet with the mark: it leaks, and is forgiven."""
        sender = self._senders["tunnel"]
        for stream, address in enumerate(sender.addresses[:2]):
            with self._crossroads.mouth(address, mark) as mouth:
                mouth.sendto(PAYLOAD.pack(sender.token, stream, 2**40), (address, PORT))

        def both_are_seen() -> bool:
            self.account()
            return {leak.address for leak in self.leaks} == set(sender.addresses[:2])

        wait_until(both_are_seen, "packets that leak are seen")
        self.leaks.clear()

    @property
    def sent(self) -> int:
        """How many packets, after the end."""
        return sum(sender.sent * len(sender.addresses) for sender in self._senders.values())

    @property
    def refused(self) -> list[Sighting]:
        """Those that could not even be sent, after the end."""
        return [failure for sender in self._senders.values() for failure in sender.failures]

    @property
    def lost(self) -> list[Sighting]:
        """Those that later ones have overtaken, and after the end all that did not arrive."""
        found = [Sighting(*packet, when) for packet, when in self._missing.items()]
        for sender in self._senders.values():
            for address in sender.addresses:
                found += [Sighting(address, number, "the end") for number in range(self._due(address), sender.sent)]
        refused = {failure[:2] for failure in self.refused}
        return [packet for packet in found if packet[:2] not in refused]

    @property
    def is_faultless(self) -> bool:
        """All came out where it should, and nowhere else."""
        return not (self.leaks or self.strays or self.refused or self.lost)

    @property
    def report(self) -> str:
        """What went wrong, after the end."""
        faults = {"leaked": self.leaks, "astray": self.strays, "refused": self.refused, "lost": self.lost}
        lines = [f"{self.sent} packets sent"]
        for fault, packets in faults.items():
            lines += [f"{fault}: {len(packets)}", *(f"    {packet}" for packet in packets[:5])]
        return "\n".join(lines)

    def _due(self, address: str) -> int:
        return self._next.get(address, 0)

    def account(self, now: str = "") -> None:
        """Take note of all that has come out; `now` says what is being done from here on."""
        for where, packet in self._seen():
            for destined, sender in self._senders.items():
                if len(packet) < PAYLOAD.size or not packet[-PAYLOAD.size :].startswith(sender.token):
                    continue
                _, stream, number = PAYLOAD.unpack(packet[-PAYLOAD.size :])
                address = sender.addresses[stream]
                if where == destined:
                    self._arrive(address, number)
                else:
                    sighting = Sighting(address, number, f"{self.now}, came out at {_NAMES[where]}")
                    (self.leaks if where == "uplink" else self.strays).append(sighting)
        self.now = now or self.now

    def _arrive(self, address: str, number: int) -> None:
        self.arrived[address] += 1
        due = self._due(address)
        for missing in range(due, number):
            self._missing[address, missing] = self.now
        self._missing.pop((address, number), None)
        self._next[address] = max(due, number + 1)

    def _seen(self) -> Iterator[tuple[str, bytes]]:
        yield from (("tunnel", packet) for packet in self._crossroads.vpn.packets())
        for where, ear in (("LAN", self._ear), ("uplink", self._eye)):
            with suppress(BlockingIOError):
                while True:
                    yield where, ear.recv(2048)

    def end(self) -> None:
        """No more of it."""
        for sender in self._senders.values():
            sender.stop()

    def close(self) -> None:
        for sender in self._senders.values():
            sender.kill()
        self._ear.close()
        self._eye.close()
