"""A laptop with 30 links, as a snapshot: a LAN by Wi-Fi, a dock, and many bridges of containers."""

from typing import Any

from tests.unit.recordings import own_addresses, printed

TABLE = 539098368
SIX = {"protocol": "kernel", "metric": 256, "flags": [], "pref": "medium"}
STATIC = {"protocol": "static", "flags": []}

Document = dict[str, Any]


class Laptop:
    """In step with the VPN, until a test changes something."""

    def __init__(self) -> None:
        names = ["lo", "enp1s0", "wlp192s0", "docker0", "podman0", "virbr0"]
        names += [f"br-{number:012x}" for number in range(0x2F6C41A09B31, 0x2F6C41A09B31 + 23)]
        cable = {"flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"], "link_type": "ether"}
        loopback = {"flags": ["LOOPBACK", "UP"], "link_type": "loopback"}
        self.links = [
            {"ifindex": index, "ifname": name, "mtu": 1500, **(loopback if name == "lo" else cable)}
            for index, name in enumerate(names, start=1)
        ]
        self.add_tunnel("tun-firezone")
        self.main = [
            connected("10.20.0.0/22", "enp1s0", "10.20.0.5", metric=100),
            connected("192.168.188.0/24", "wlp192s0", "192.168.188.112", metric=600),
            connected("10.88.0.0/16", "podman0", "10.88.0.1"),
            connected("192.168.122.0/24", "virbr0", "192.168.122.1"),
            *(connected(f"172.{17 + number}.0.0/16", name, f"172.{17 + number}.0.1") for number, name in self._bridges),
        ]
        self.main6 = [
            {"dst": "2001:db8:188::/64", "dev": "wlp192s0", **SIX, "protocol": "ra"},
            *({"dst": "fe80::/64", "dev": name, **SIX} for name in ("enp1s0", "wlp192s0", *names[6:13])),
        ]
        self.default = {
            "dst": "default",
            "gateway": "192.168.188.1",
            "dev": "wlp192s0",
            "protocol": "dhcp",
            "flags": [],
        }
        self.vpn = [into("default"), into("100.64.0.0/11"), into("100.96.0.0/11")]
        self.vpn6 = [{**into("default"), "metric": 1024, "pref": "medium"}]
        self.copies = [dict(route) for route in self.main]
        self.copies6 = [dict(route) for route in self.main6]
        self.rules = [rule(0, 255), rule(32765, TABLE, mark="0xfd002021"), rule(32766, 254), rule(32767, 253)]
        self.others: dict[int, list[Document]] = {}

    @property
    def _bridges(self) -> list[tuple[int, str]]:
        names = ["docker0", *(link["ifname"] for link in self.links if link["ifname"].startswith("br-"))]
        return list(enumerate(names))[:15]

    def add_tunnel(self, name: str, *flags: str) -> None:
        flags = flags or ("POINTOPOINT", "MULTICAST", "NOARP", "UP", "LOWER_UP")
        index = len(self.links) + 1
        self.links.append({"ifindex": index, "ifname": name, "mtu": 1280, "flags": list(flags), "link_type": "none"})

    def remove_tunnel(self) -> None:
        """The VPN is not connected: the kernel has removed its routes with its device."""
        self.links = [link for link in self.links if link["ifname"] != "tun-firezone"]
        self.vpn, self.vpn6 = [], []

    def take_tunnel_down(self) -> None:
        """The kernel removes the routes, and the device stays."""
        self.remove_tunnel()
        self.add_tunnel("tun-firezone", "POINTOPOINT", "MULTICAST", "NOARP")

    def add_other_vpn(self) -> None:
        """WireGuard, as wg-quick sets it up."""
        self.add_tunnel("wg0")
        self.rules.insert(1, {**rule(32763, 51820, mark="0xca6c")})
        self.others[51820] = [{**into("default"), "dev": "wg0"}]

    def _addresses(self, name: str) -> list[Document]:
        return [
            {
                "family": "inet",
                "local": route["prefsrc"],
                "prefixlen": int(route["dst"].partition("/")[2] or 32),
                "scope": "global",
            }
            for route in self.main
            if route["dev"] == name
        ]

    def document(self) -> Document:
        """The snapshot, with the outputs of `ip` as texts."""
        outputs: Document = {"-json link show": self.links, "-json nexthop show": []}
        addresses = [{**link, "addr_info": self._addresses(link["ifname"])} for link in self.links]
        outputs["-json address show"] = addresses
        outputs |= {
            f"-json {option} route show table local": own_addresses(addresses, family)
            for option, family in (("-4", "inet"), ("-6", "inet6"))
        }
        tables: dict[str, dict[int, list[Document]]] = {
            "-4": {TABLE: [*self.vpn, *self.copies], **self.others},
            "-6": {TABLE: [*self.vpn6, *self.copies6], **self.others},
        }
        for option, main in ("-4", [*self.main, self.default]), ("-6", self.main6):
            outputs[f"-json {option} -details -Numeric rule show"] = self.rules
            outputs[f"-json {option} route show table main"] = main
            outputs[f"-json {option} route show table default"] = []
            for table in (TABLE, TABLE + 1, TABLE + 2, *self.others):
                outputs[f"-json {option} route show table {table}"] = tables[option].get(table, [])
        document = {"schema": 1, "taken": "2026-01-01T00:00:00Z", "versions": {}, "config": "", "sysctls": {}}
        return printed({**document, "ip": outputs})


def connected(dst: str, dev: str, src: str, **keys: Any) -> Document:
    """A route as the kernel adds it for an address."""
    return {"dst": dst, "dev": dev, "protocol": "kernel", "scope": "link", "prefsrc": src, "flags": [], **keys}


def into(dst: str) -> Document:
    """A route into the VPN, as Firezone adds it."""
    return {"dst": dst, "dev": "tun-firezone", **STATIC}


def rule(priority: int, table: int, mark: str = "") -> Document:
    """A rule of the kernel, or that of a VPN with its mark."""
    marked = {"not": None, "fwmark": mark} if mark else {}
    return {"priority": priority, "src": "all", "table": str(table), "protocol": "kernel", **marked}
