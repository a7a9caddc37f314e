"""A hand-written snapshot with something of everything in it."""

import json
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from typing import Any

from fz_iproute.record.recording import Recording

CONFIG = """
[tunnel]
interface = "tun-corp"
mode = "{mode}"
routes = ["100.64.0.0/11", "198.51.100.0/24"]
internet = true
[lan]
allow = ["172.16.0.0/12"]
deny = ["10.99.0.0/16", "2001:db8:99::/48"]
interfaces = ["corp*", "office0"]
exclude_interfaces = ["corp9"]
multicast = true
[watch]
journal = "/home/alice/journal"
"""


def machine(mode: str = "observe") -> dict[str, Any]:
    """The snapshot as a document, with the outputs of `ip` as documents too."""
    common = {"mtu": 1500, "operstate": "UP", "address": "02:5e:11:22:33:44", "master": "corp1"}
    common |= {"ifalias": "Alice's desk", "altnames": ["enp-alice"], "group": "group-of-alice"}
    loopback = {"flags": ["LOOPBACK", "UP"], "link_type": "loopback"}
    cable = {"flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"], "link_type": "ether"}
    links: list[dict[str, Any]] = [
        {"ifindex": number, "ifname": name, **common, **(loopback if name == "lo" else cable)}
        for number, name in enumerate(["lo", "office0", "corp1", "tun-corp"], start=1)
    ]
    numbered = {
        "lo": [("inet", "127.0.0.1", 8), ("inet6", "::1", 128)],
        "office0": [("inet", "192.168.188.112", 24), ("inet6", "2001:db8:7::112", 64), ("inet6", "fe80::5e:11", 64)],
        "corp1": [("inet", "203.0.113.9", 28)],
        "tun-corp": [("inet", "100.64.0.5", 32), ("inet6", "fd00:2021::5", 128)],
    }
    addresses = [
        {
            **link,
            "addr_info": [
                {"family": family, "local": local, "prefixlen": length, "scope": "global", "label": link["ifname"]}
                for family, local, length in numbered[link["ifname"]]
            ],
        }
        for link in links
    ]
    four = {"protocol": "kernel", "scope": "link", "flags": []}
    six = {"protocol": "kernel", "dev": "office0", "metric": 256, "flags": [], "pref": "medium"}
    static = {"protocol": "static", "flags": []}
    rules = [
        {"priority": 0, "src": "all", "table": "255", "protocol": "kernel"},
        {"priority": 60, "src": "192.168.188.77", "srclen": 24, "dst": "198.51.100.7", "table": "7", "iif": "office0"},
        {"priority": 61, "src": "all", "fwmark": "0x1", "fwmask": "0xff", "goto": 32766, "ipproto": "ipproto-6"},
        {"priority": 32765, "not": None, "src": "all", "fwmark": "0xfd002021", "table": "539098368"},
        {"priority": 32766, "src": "all", "table": "254", "suppress_prefixlen": 0},
    ]
    main = [
        {"dst": "default", "gateway": "192.168.188.1", "dev": "office0", "protocol": "dhcp", "metric": 600},
        {"dst": "192.168.188.0/24", "dev": "office0", "prefsrc": "192.168.188.112", "metric": 600, **four},
        {"dst": "203.0.113.0/28", "dev": "corp1", "prefsrc": "203.0.113.9", "metrics": [{"mtu": 1400}], **four},
        {"dst": "172.16.5.0/24", "via": {"family": "inet6", "host": "2001:db8:7::1"}, "dev": "office0", **static},
        {"dst": "10.99.1.0/24", "dev": "office0", **four, "tos": "0x10", "flow": {"to": "7"}},
        {"dst": "198.51.100.128/25", "nhid": 1, "dev": "office0", **four},
        {"dst": "192.0.2.0/24", **four, "nexthops": [{"dev": "office0", "weight": 1}, {"dev": "corp1", "weight": 2}]},
        {"type": "unreachable", "dst": "198.18.0.0/15", "protocol": "static", "scope": "global", "flags": []},
    ]
    main6 = [
        {"dst": "2001:db8:7::/64", **six},
        {"dst": "2001:db8:99:7::/64", **six, "expires": 600},
        {"dst": "fe80::/64", **six},
        {"dst": "default", "gateway": "fe80::1", **six},
    ]
    vpn = [
        {"dst": "default", "dev": "tun-corp", "scope": "global", **static},
        {"dst": "192.168.188.0/24", "dev": "office0", "prefsrc": "192.168.188.9", "metric": 600, **four},
        {"dst": "10.66.0.0/16", "dev": "corp1", **four},
    ]
    vpn6 = [{"dst": "default", "dev": "tun-corp", **static, "metric": 1024, "pref": "medium"}]
    lines = ["192.168.188.0/24 dev office0 proto kernel scope link src 192.168.188.112 metric 600"]
    lines += ["203.0.113.0/28 dev corp1 proto kernel scope link src 203.0.113.9 mtu lock 1400"]
    outputs: dict[str, Any] = {
        "-json link show": links,
        "-json address show": addresses,
        "-json nexthop show": [{"id": 1, "dev": "office0", "scope": "link", "protocol": "static", "flags": []}],
        "-oneline -4 route show table main": "".join(f"{line}\n" for line in lines),
        "-oneline -4 route show table main root 172.16.0.0/12": "172.16.5.0/24 via inet6 2001:db8:7::1 dev office0\n",
    }
    for option, found, others in (("-4", main, vpn), ("-6", main6, vpn6)):
        outputs |= {
            f"-json {option} -details -Numeric rule show": rules if option == "-4" else [*rules[:1], *rules[2:]],
            f"-json {option} route show table main": found,
            f"-json {option} route show table local": own_addresses(addresses, "inet" if option == "-4" else "inet6"),
            f"-json {option} route show table 539098368": others,
            f"-json {option} route show table 7": [{**found[1], "dev": "corp1"}],
            **{f"-json {option} route show table {table}": [] for table in (539098369, 539098370)},
        }
    return {
        "schema": 1,
        "taken": "2025-01-01T00:00:00Z",
        "versions": {"ip": "ip utility, iproute2-6.1.0"},
        "config": CONFIG.format(mode=mode),
        "sysctls": {"ipv4/ip_forward": "0", "ipv4/conf/office0/rp_filter": "1"},
        "ip": outputs,
    }


def own_addresses(links: list[dict[str, Any]], family: str) -> list[dict[str, Any]]:
    """The part of table local that says which addresses are the machine's own, as the kernel fills it."""
    hosts = [
        (link["ifname"], each["local"]) for link in links for each in link["addr_info"] if each["family"] == family
    ]
    if family == "inet":
        common = {"type": "local", "protocol": "kernel", "scope": "host", "flags": []}
        return [{**common, "dst": host, "dev": device, "prefsrc": host} for device, host in hosts]
    common = {"protocol": "kernel", "flags": [], "pref": "medium"}
    found = [{"type": "local", "dst": host, "dev": device, **common, "metric": 0} for device, host in hosts]
    multicast = {"type": "multicast", "dst": "ff00::/8", **common, "metric": 256}
    return [*found, *({**multicast, "dev": link["ifname"]} for link in links if "MULTICAST" in link["flags"])]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value in a document."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*path, key)
        yield from places(part, (*path, key))


def parent(document: Any, path: tuple[Any, ...]) -> Any:
    """What holds the value at this place."""
    return reduce(getitem, path[:-1], document)


def printed(document: dict[str, Any]) -> dict[str, Any]:
    """The outputs as text."""
    if not isinstance(outputs := document.get("ip"), dict):
        return document
    texts = {key: part if isinstance(part, str) else json.dumps(part) + "\n" for key, part in outputs.items()}
    return {**document, "ip": texts}


def recording(mode: str = "observe") -> Recording:
    found = printed(machine(mode))
    return Recording(found["taken"], found["versions"], found["config"], found["sysctls"], found["ip"])
