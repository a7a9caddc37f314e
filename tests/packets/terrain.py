"""Machines with a LAN and a way to the internet, in namespaces."""

from typing import ClassVar

from tests.netns.namespace import LAN, TUNNEL, Namespace, Terrain
from tests.netns.witness import Witness

UPLINK = "uplink0"
NEIGHBOURS = ("192.168.188.1", "fd00:188::1")
HOSTS = ("203.0.113.80", "2001:db8:113::80")  # of the internet


class Online(Terrain):
    """A machine with a LAN, and an uplink to a router. One host behind the router plays the internet."""

    lan: ClassVar = LAN

    def _furnish(self) -> None:
        self.neighbour, self.router, self.internet = (self._place() for _ in range(3))
        self.veth(self.lan, "192.168.188.112/24 metric 600", "fd00:188::112/64", peer="far0", to=self.neighbour)
        self.veth(UPLINK, "10.77.0.2/24", "fd00:77::2/64", peer="up0", to=self.router)
        self.router.veth("wan0", "203.0.113.1/24", "2001:db8:113::1/64", peer="eth0", to=self.internet)
        far = [
            (self.neighbour, "far0", NEIGHBOURS),
            (self.router, "up0", ("10.77.0.1", "fd00:77::1")),
            (self.internet, "eth0", HOSTS),
        ]
        for namespace, device, (v4, v6) in far:
            namespace.address(device, f"{v4}/24")
            namespace.address(device, f"{v6}/64")
        for family in ("ipv4", "ipv6"):
            self.router.sysctl(f"net.{family}.conf.all.forwarding", 1)
        self.batch(["route add default via 10.77.0.1", "-6 route add default via fd00:77::1"])


class Crossroads(Online):
    """With two LANs, lan0 and lan1, and a tunnel. It has only the kernel's rules, and the internet is all addresses."""

    lan = "lan0"

    def _place(self) -> Namespace:
        made = super()._place()
        for scope in ("all", "default"):
            made.sysctl(f"net.ipv4.conf.{scope}.rp_filter", 0)  # accept packets from any source
        return made

    def _furnish(self) -> None:
        super()._furnish()
        self.sysctl("net.ipv4.conf.all.promote_secondaries", 1)  # as systemd does
        self.second = self._place()
        self.veth("lan1", "10.200.5.112/24", "fd00:200:0:5::112/64", peer="far1", to=self.second)
        for address in ("10.200.5.1/24", "fd00:200:0:5::1/64"):
            self.second.address("far1", address)
        for address in ("192.168.188.77/24", "fd00:188::77/64"):
            self.neighbour.address("far0", address)
        v4, v6 = HOSTS
        self.router.batch([f"route add default via {v4}", f"-6 route add default via {v6}"])
        self.internet.batch(["route add local default dev lo", "-6 route add local default dev lo"])
        self.internet.sysctl("net.ipv4.conf.eth0.accept_local", 1)  # even from addresses that are its own
        self.vpn = self.tunnel(TUNNEL, "100.64.0.5/32", "fd00:2021:1111::5/128")

    def witness(self) -> Witness:
        """Listens on both LANs and on the internet."""
        return Witness(self, {"LAN": self.neighbour, "second LAN": self.second, "uplink": self.internet})
