"""A laptop with a LAN and an uplink, a VPN server behind the uplink, and a host of the internet behind the server."""

import secrets
import socket
from contextlib import ExitStack
from pathlib import Path

from tests.netns import rtnetlink
from tests.netns.namespace import run
from tests.netns.witness import received
from tests.packets.terrain import HOSTS, Online

SERVER = "198.51.100.1"
_ETH_P_ALL = 0x0003


def with_own_run(folder: Path, *argv: str) -> list[str]:
    """A command that sees `folder` at /run: its sockets and notes do not reach the programs of this machine."""
    return ["sh", "-c", 'mount -n --bind "$0" /run && exec "$@"', str(folder), *argv]


class Laptop(Online):
    """The machine on which the VPN clients run. The router is their server."""

    def _furnish(self) -> None:
        super()._furnish()
        self.server = self.router
        self.server.address("lo", f"{SERVER}/32")
        # The server must refuse each ping that it cannot deliver, so that nobody waits for the answer.
        for key in ("ipv4.icmp_ratelimit", "ipv6.icmp.ratelimit"):
            self.server.sysctl(f"net.{key}", 0)
        self.internet.batch(["route add default via 203.0.113.1", "-6 route add default via 2001:db8:113::1"])

    def answers(self, address: str, token: bytes = b"") -> bool:
        """True if the host answers a ping. The packets carry the token, 16 bytes at most."""
        pattern = ["-p", token.hex()] if token else []
        return self.exec("ping", "-n", "-c1", "-w5", *pattern, address, check=False).returncode == 0

    def goes_by(self, *devices: str) -> dict[str, set[str]]:
        """Ping the hosts of the internet. Returns for each the devices on which its packets, in clear, are seen."""
        seen = {}
        for host in HOSTS:
            token = secrets.token_bytes(16)
            with ExitStack() as stack:
                taps = {device: stack.enter_context(self._tap(device)) for device in devices}
                assert self.answers(host, token), f"{host} does not answer"
                seen[host] = {
                    device for device, tap in taps.items() if any(token in packet for packet, _ in received(tap))
                }
        return seen

    def _tap(self, device: str) -> socket.socket:
        """A socket that receives all packets of a device, in both directions."""

        def made() -> socket.socket:
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
            tap.bind((device, _ETH_P_ALL))
            tap.setblocking(False)
            return tap

        return rtnetlink.inside(self.name, made)

    def routing(self, *, without: int = 0) -> dict[str, list[str]]:
        """All rules and routes as `ip` prints them, except the routes of the table `without`."""
        return {
            f"{option} {what}": [
                line for line in self.ip(option, *words).splitlines() if f" table {without} " not in line
            ]
            for option in ("-4", "-6")
            for what, words in {"rules": ["rule"], "routes": ["route", "show", "table", "all"]}.items()
        }

    def remove(self) -> None:
        """Remove all namespaces, and end what a failed test has left running in them."""
        for namespace in (self, *(getattr(self, name, None) for name in ("neighbour", "router", "internet"))):
            for pid in run("ip", "netns", "pids", namespace.name).stdout.split() if namespace else []:
                run("kill", "-9", pid, check=False)
        super().remove()
