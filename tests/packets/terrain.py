"""A machine with two LANs, the internet and a tunnel."""

from tests.netns.namespace import TUNNEL, Namespace, Terrain, Tunnel
from tests.netns.witness import Witness

TUNNEL_ADDRESSES = ("100.64.0.5/32", "fd00:2021:1111::5/128")


class Crossroads(Terrain):
    """A machine with the LANs lan0 and lan1, an uplink to a router, a tunnel, and only the kernel's rules."""

    def _place(self) -> Namespace:
        made = super()._place()
        for scope in ("all", "default"):
            made.sysctl(f"net.ipv4.conf.{scope}.rp_filter", 0)  # accept packets from any source
        return made

    def _furnish(self) -> None:
        self.neighbour, self.second, self.router, self.internet = (self._place() for _ in range(4))
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
        # One host plays the internet: it accepts packets to every address.
        self.internet.batch(["route add local default dev lo", "-6 route add local default dev lo"])
        self.internet.sysctl("net.ipv4.conf.eth0.accept_local", 1)  # even from addresses that are its own
        self.vpn = self.tunnel(TUNNEL, *TUNNEL_ADDRESSES)

    def witness(self) -> Witness:
        """Listens on both LANs and on the internet."""
        return Witness(self, {"LAN": self.neighbour, "second LAN": self.second, "uplink": self.internet})

    def renew_tunnel(self, *addresses: str) -> Tunnel:
        """Replace the tunnel with a new one."""
        self.vpn.close()
        self.vpn = self.tunnel(TUNNEL, *addresses)
        return self.vpn
