"""The laptop of tests/layouts.py on the real kernel."""

import re
from collections.abc import Sequence

from tests.layouts import LAPTOP, devices
from tests.netns.namespace import Terrain

# A gateway, and the address by which its tunnel reaches it.
_BEFORE_GATEWAYS = {"10.64.0.1": "10.64.0.2/30", "10.0.85.1": "10.0.85.5/24"}
_HERE = ("192.168.1.5", "172.17.0.1")
_OF_IPSEC = "10.64.0.9"


class Laptop(Terrain):
    """A LAN, containers and an uplink. It forwards, and has no link-local addresses."""

    def _furnish(self) -> None:
        self.others = self._place()
        for name in ("all", "default"):
            self.sysctl(f"net.ipv4.conf.{name}.forwarding", 1)
            self.sysctl(f"net.ipv4.conf.{name}.rp_filter", 0)
            self.sysctl(f"net.ipv6.conf.{name}.forwarding", 1)
            self.sysctl(f"net.ipv6.conf.{name}.addr_gen_mode", 1)
        self.veth("eth0", "192.168.1.5/24", "fd00:1::5/64", peer="eth0", to=self.others)
        self.veth("docker0", "172.17.0.1/16", to=self.others)
        self.batch(line for line in LAPTOP if " via " in line)
        for address in ("192.168.1.1/24", "192.168.1.7/24", "fd00:1::1/64", "fd00:1::7/64"):
            self.others.address("eth0", address)

    def equip(self, lines: Sequence[str]) -> None:
        """Add the devices that the lines use, then the lines, without what the kernel adds for addresses."""
        text = " ".join(lines)
        for device in devices(lines):
            if device.startswith(("br", "ipv6leak")):
                self.bridge(device)
            else:
                self.tunnel(device, *(own for gateway, own in _BEFORE_GATEWAYS.items() if f" via {gateway} " in text))
        # A route can only be added with a source that is there; the laptop has lost that of a stale copy since.
        own = dict(re.findall(r"add local (\S+) dev (br\S+) ", text))
        for address, bridge in own.items():
            self.address(bridge, f"{address}/32")
        sources = set(re.findall(r" src (\S+)", text)).difference(_HERE, own)
        for source in sources:
            self.address("eth0", f"{source}/32")
        self.batch(line for line in lines if not line.endswith(" table 255"))
        for source in sources - {_OF_IPSEC}:
            self.ip("addr", "del", f"{source}/32", "dev", "eth0")
