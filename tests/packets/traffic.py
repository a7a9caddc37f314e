"""Sends streams of numbered packets, and records where each packet arrives."""

import json
import secrets
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.netns import rtnetlink
from tests.netns.namespace import Namespace, enlarge, wait_until
from tests.netns.witness import PORT, received
from tests.packets.sender import PAYLOAD
from tests.packets.terrain import Crossroads

_SCRIPT = Path(__file__).with_name("sender.py")
_ETH_P_ALL = 0x0003
_BUFFER = 64 << 20  # bytes; the test does not read all the time


class Sighting(NamedTuple):
    """A packet that arrived at the wrong place, or did not arrive."""

    address: str
    number: int
    when: str

    def __str__(self) -> str:
        return f"{self.address} #{self.number} ({self.when})"


class Sender:
    """A process in a namespace that keeps sending packets to each address."""

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
        """Stop the process, and read what it has sent."""
        if self._process.returncode is not None:
            return
        printed, _ = self._process.communicate(timeout=30)
        assert 0 == self._process.returncode
        report = json.loads(printed)
        self.sent = report["sent"]
        self.failures = [Sighting(self.addresses[stream], number, why) for stream, number, why in report["failures"]]

    def kill(self) -> None:
        """End the process, also after a failure."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


class Traffic:
    """What the senders of a machine send, and where it arrives. Call `account` often."""

    def __init__(self, crossroads: Crossroads, pause: float, lan: Sequence[str], internet: Sequence[str]) -> None:
        self._crossroads = crossroads
        crossroads.ip("link", "set", "dev", crossroads.vpn.name, "txqueuelen", "100000")
        self._lan = crossroads.neighbour.listener(PORT, _BUFFER)
        self._uplink = rtnetlink.inside(crossroads.router.name, self._capture)
        self.now = "at the start"
        self.strays: list[Sighting] = []  # packets that arrived at the wrong place
        self.leaks: list[Sighting] = []  # packets that left by the uplink
        self.arrived: Counter[str] = Counter()
        self._next: Counter[str] = Counter()  # the number of the packet that is expected next
        self._missing: dict[tuple[str, int], str] = {}
        self._senders = {"LAN": Sender(crossroads, lan, pause), "tunnel": Sender(crossroads, internet, pause)}

    @staticmethod
    def _capture() -> socket.socket:
        """A socket that receives every packet on the uplink, to any address."""
        made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        enlarge(made, _BUFFER)
        made.bind(("up0", _ETH_P_ALL))
        made.setblocking(False)
        return made

    def prove_that_leaks_are_seen(self, mark: int) -> None:
        """Make one packet of each family leak, and check that it is seen. These packets are not counted."""
        sender = self._senders["tunnel"]
        for stream, address in enumerate(sender.addresses[:2]):
            with self._crossroads.sender(address, mark) as marked:
                marked.sendto(PAYLOAD.pack(sender.token, stream, 2**40), (address, PORT))

        def both_are_seen() -> bool:
            self.account()
            return {leak.address for leak in self.leaks} == set(sender.addresses[:2])

        wait_until(both_are_seen, "packets that leak are seen")
        self.leaks.clear()

    @property
    def sent(self) -> int:
        """The number of packets sent. Valid after `end`, as the next four are."""
        return sum(sender.sent * len(sender.addresses) for sender in self._senders.values())

    @property
    def refused(self) -> list[Sighting]:
        """The packets that the kernel refused to send."""
        return [failure for sender in self._senders.values() for failure in sender.failures]

    @property
    def lost(self) -> list[Sighting]:
        """The packets that did not arrive."""
        found = [Sighting(*packet, when) for packet, when in self._missing.items()]
        for sender in self._senders.values():
            for address in sender.addresses:
                found += [Sighting(address, number, "the end") for number in range(self._next[address], sender.sent)]
        refused = {failure[:2] for failure in self.refused}
        return [packet for packet in found if packet[:2] not in refused]

    @property
    def faults(self) -> dict[str, list[Sighting]]:
        """All packets that did not arrive where they should, or arrived elsewhere."""
        found = {"leaked": self.leaks, "astray": self.strays, "refused": self.refused, "lost": self.lost}
        return {fault: packets for fault, packets in found.items() if packets}

    @property
    def report(self) -> str:
        """A summary of what went wrong."""
        lines = [f"{self.sent} packets sent"]
        for fault, packets in self.faults.items():
            lines += [f"{fault}: {len(packets)}", *(f"    {packet}" for packet in packets[:5])]
        return "\n".join(lines)

    def account(self, now: str = "") -> None:
        """Record the packets that have arrived; `now` says what the test does next."""
        for where, packet in self._seen():
            for destined, sender in self._senders.items():
                if len(packet) < PAYLOAD.size or not packet[-PAYLOAD.size :].startswith(sender.token):
                    continue
                _, stream, number = PAYLOAD.unpack(packet[-PAYLOAD.size :])
                address = sender.addresses[stream]
                if where == destined:
                    self._arrive(address, number)
                else:
                    sighting = Sighting(address, number, f"{self.now}, arrived at: {where}")
                    (self.leaks if where == "uplink" else self.strays).append(sighting)
        self.now = now or self.now

    def _arrive(self, address: str, number: int) -> None:
        self.arrived[address] += 1
        due = self._next[address]
        for missing in range(due, number):
            self._missing[address, missing] = self.now
        self._missing.pop((address, number), None)
        self._next[address] = max(due, number + 1)

    def _seen(self) -> Iterator[tuple[str, bytes]]:
        yield from (("tunnel", packet) for packet in self._crossroads.vpn.packets())
        for where, receiver in (("LAN", self._lan), ("uplink", self._uplink)):
            yield from ((where, packet) for packet, _ in received(receiver))

    def end(self) -> None:
        """Stop all senders."""
        for sender in self._senders.values():
            sender.stop()

    def close(self) -> None:
        for sender in self._senders.values():
            sender.kill()
        self._lan.close()
        self._uplink.close()
