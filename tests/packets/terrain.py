"""A machine between two LANs, the internet and a tunnel, and what arrives at each of them."""

import secrets
import socket
import struct
import time
from contextlib import ExitStack
from pathlib import Path

from tests.netns import rtnetlink
from tests.netns.namespace import MARK, MIRROR, TIER_INTERNET, TIER_LAN, TUNNEL, Namespace, Tunnel

PORT = 7777
TUNNEL_ADDRESSES = ("100.64.0.5/32", "fd00:2021:1111::5/128")
# Resources of the VPN: networks of their own, one host inside the LAN, and a network that has the second LAN inside.
ROUTES = (
    "100.64.0.0/11", "100.96.0.0/11", "100.100.111.0/24", "192.168.188.77/32", "10.200.0.0/16",
    "fd00:2021:1111::/48", "fd00:188::77/128", "fd00:200::/48",
)  # fmt: skip

# Until a packet counts as lost: neighbours are resolved in less, even on a busy machine.
_LOST = 2.0


def manage(
    *,
    layout: str = "single",
    internet: bool = True,
    routes: tuple[str, ...] = ROUTES,
    more: str = "",
) -> str:
    """A configuration, with the default tables; `more` are keys of [tunnel]."""
    return f"""\
[tunnel]
interface = "{TUNNEL}"
fwmark = {MARK:#x}
mode = "manage"
internet = {str(internet).lower()}
routes = [{", ".join(f'"{prefix}"' for prefix in routes)}]
{more}
[tables]
layout = "{layout}"
single = {MIRROR}
user = {MIRROR}
lan = {TIER_LAN}
internet = {TIER_INTERNET}
"""


class Crossroads(Namespace):
    """A machine with the LANs lan0 and lan1, an uplink to a router, and a tunnel; its rules are the kernel's."""

    def __init__(self, runtime: Path) -> None:
        super().__init__(runtime)
        self._stack = ExitStack()
        try:
            self.neighbour, self.second, self.router, self.internet = (self._place(runtime) for _ in range(4))
            self._furnish()
        except BaseException:
            self.remove()
            raise

    def _place(self, runtime: Path) -> Namespace:
        made = Namespace(runtime)
        self._stack.callback(made.remove)
        for scope in ("all", "default"):
            made.sysctl(f"net.ipv4.conf.{scope}.rp_filter", 0)  # a packet counts wherever it comes from
        return made

    def _furnish(self) -> None:
        self.sysctl("net.ipv4.conf.all.promote_secondaries", 1)  # as systemd does
        self.veth("lan0", "192.168.188.112/24", "fd00:188::112/64", peer="far0", to=self.neighbour)
        self.veth("lan1", "10.200.5.112/24", "fd00:200:0:5::112/64", peer="far1", to=self.second)
        self.veth("uplink0", "10.77.0.2/24", "fd00:77::2/64", peer="up0", to=self.router)
        self.router.veth("wan0", "203.0.113.1/24", "2001:db8:113::1/64", peer="eth0", to=self.internet)
        far = [
            (self.neighbour, "far0", ["192.168.188.1/24", "192.168.188.77/24", "fd00:188::1/64", "fd00:188::77/64"]),
            (self.second, "far1", ["10.200.5.1/24", "fd00:200:0:5::1/64"]),
            (self.router, "up0", ["10.77.0.1/24", "fd00:77::1/64"]),
            (self.internet, "eth0", ["203.0.113.2/24", "2001:db8:113::2/64"]),
        ]
        for namespace, device, addresses in far:
            for address in addresses:
                namespace.address(device, address)
        self.router.sysctl("net.ipv4.conf.all.forwarding", 1)
        self.router.sysctl("net.ipv6.conf.all.forwarding", 1)
        self.batch(["route add default via 10.77.0.1", "-6 route add default via fd00:77::1"])
        self.router.batch(["route add default via 203.0.113.2", "-6 route add default via 2001:db8:113::2"])
        # The host there stands for all of the internet: every address is its own.
        self.internet.batch(["route add local default dev lo", "-6 route add local default dev lo"])
        self.internet.sysctl("net.ipv4.conf.eth0.accept_local", 1)  # that of whoever sends too
        self.vpn = self.tunnel(TUNNEL, *TUNNEL_ADDRESSES)

    def renew_tunnel(self, *addresses: str) -> Tunnel:
        """Another tunnel in place of the last one."""
        self.vpn.close()
        self.vpn = self.tunnel(TUNNEL, *addresses)
        return self.vpn

    def mouth(self, address: str, mark: int = 0) -> socket.socket:
        """For datagrams to this address, with a mark or without."""
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = rtnetlink.inside(self.name, lambda: socket.socket(kind, socket.SOCK_DGRAM))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
        return made

    def remove(self) -> None:
        self._stack.close()
        super().remove()


class Witness:
    """Sends datagrams from a machine, and tells where they come out."""

    def __init__(self, crossroads: Crossroads) -> None:
        self._crossroads = crossroads
        places = {
            "LAN": crossroads.neighbour,
            "second LAN": crossroads.second,
            "uplink": crossroads.internet,
        }
        self._ears = {name: rtnetlink.inside(place.name, _listen) for name, place in places.items()}

    def way(self, address: str, *, mark: int = 0) -> str:
        """Send one datagram: `LAN`, `second LAN`, `uplink`, `tunnel`, `refused` if it cannot even be sent, `lost`."""
        token = secrets.token_bytes(16)
        with self._crossroads.mouth(address, mark) as mouth:
            try:
                mouth.sendto(token, (address, PORT))
            except OSError:
                return "refused"
        end = time.monotonic() + _LOST
        while time.monotonic() < end:
            if found := [name for name, seen in self._seen().items() if token in seen]:
                assert 1 == len(found), f"a packet to {address} came out twice: {found}"
                return found[0]
            time.sleep(0.001)
        return "lost"

    def _seen(self) -> dict[str, list[bytes]]:
        """What has come since the last question."""
        seen = {"tunnel": [packet[-16:] for packet in self._crossroads.vpn.packets()]}
        for name, ear in self._ears.items():
            seen[name] = list(_heard(ear))
        return seen

    def close(self) -> None:
        for ear in self._ears.values():
            ear.close()


def _listen() -> socket.socket:
    ear = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    ear.bind(("::", PORT))
    ear.setblocking(False)
    return ear


def _heard(ear: socket.socket) -> list[bytes]:
    heard = []
    while True:
        try:
            heard.append(ear.recv(64))
        except BlockingIOError:
            return heard
