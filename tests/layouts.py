"""The rules and routes of VPN clients, as lines of `ip`: read in their sources, and rebuilt without the clients.

A layout stands on a laptop with a LAN, containers and an uplink. Numbers in it can be moved: most clients take others
when theirs are in use.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network
from itertools import groupby
from typing import Any, NamedTuple

from fz_iproute.diagnosis.simulated import rank
from fz_iproute.mirror import ip_json, parse, parse_rules
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import own_tables
from fz_iproute.mirror.model import Link, Route, Rule, Snapshot
from fz_iproute.mirror.prefix import FAMILIES, Family

LAN, CONTAINERS = "eth0", "docker0"
LAPTOP = [
    "route add default via 192.168.1.1 dev eth0 proto dhcp",
    "route add 192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.5",
    "route add 172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1",
    "-6 route add default via fd00:1::1 dev eth0 proto ra",
    "-6 route add fd00:1::/64 dev eth0 proto kernel metric 256",
]
COPIES = [line for line in LAPTOP if "proto kernel" in line]


class Layout(NamedTuple):
    """`lines` as for `ip -batch`; those of IPv6 start with -6. The rest is what `detect` should say."""

    lines: Sequence[str]
    product: str
    interface: str
    families: str = "inet inet6"
    mark: str | None = None
    table: int = 254
    lan: str = "kept"
    advice: str = "nothing"


def both(*lines: str) -> list[str]:
    """The lines, for both families."""
    return [f"{option}{line}" for line in lines for option in ("", "-6 ")]


def copied(table: int, lines: Sequence[str] = COPIES) -> list[str]:
    """Copies of the laptop's on-link routes."""
    return [f"{line} table {table}" for line in lines]


def complement(holes: Sequence[str], family: str) -> list[str]:
    """The prefixes that together are all but the holes."""
    parts = [ip_network("0.0.0.0/0" if family == "inet" else "2000::/3")]
    for hole in map(ip_network, holes):
        parts = [
            rest
            for part in parts
            for rest in (part.address_exclude(hole) if hole.subnet_of(part) else [part])  # type: ignore[arg-type]
        ]
    return sorted(map(str, parts))


_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "224.0.0.0/4")
_FIREZONE = both("rule add not fwmark 0xfd002021 lookup 539098368 pref 32765")
_TIERS = both(
    *(f"rule add not fwmark 0xfd002021 lookup {539098368 + tier} pref {100 + 100 * tier}" for tier in range(3))
)
_RESOURCES = [
    "route add 100.64.0.0/11 dev tun-firezone proto static",
    "-6 route add fd00:2021:1111::/107 dev tun-firezone proto static",
]
_DEFAULTS = both("route add default dev tun-firezone proto static")
_TAILSCALE = both(
    "rule add fwmark 0x80000/0xff0000 lookup main pref 5210",
    "rule add fwmark 0x80000/0xff0000 lookup default pref 5230",
    "rule add fwmark 0x80000/0xff0000 unreachable pref 5250",
    "rule add lookup 52 pref 5270",
    "route add default dev tailscale0 table 52",
)


def _table(lines: Sequence[str], table: int) -> list[str]:
    return [f"{line} table {table}" for line in lines]


def _not_main(first: int, mark: str, table: int, device: str, protocol: str = "static") -> list[str]:
    """A rule that asks main for all but its default route, and one for what is not marked."""
    return both(
        f"rule add lookup main suppress_prefixlength 0 pref {first}",
        f"rule add not fwmark {mark} lookup {table} pref {first + 1}",
        f"route add default dev {device} proto {protocol} table {table}",
    )


LAYOUTS = {
    "Firezone up to 1.5.3": Layout(
        [*_FIREZONE, *_table([*_RESOURCES, *_DEFAULTS], 539098368)],
        "Firezone", "tun-firezone", mark="0xfd002021", table=539098368, lan="cut", advice="mirror",
    ),
    "Firezone 1.5.4": Layout(
        [*_FIREZONE, *_table([*_RESOURCES, *_DEFAULTS], 539098368), *copied(539098368, COPIES[:2])],
        "Firezone", "tun-firezone", mark="0xfd002021", table=539098368, lan="cut", advice="mirror",  # IPv6
    ),
    "Firezone from 1.5.5": Layout(
        [*_TIERS, *_table(_RESOURCES, 539098368), *copied(539098369, COPIES[:2]), *_table(_DEFAULTS, 539098370)],
        "Firezone", "tun-firezone", mark="0xfd002021", table=539098370, lan="cut", advice="mirror",
    ),
    "Firezone from 1.5.5 with all copies": Layout(
        [*_TIERS, *_table(_RESOURCES, 539098368), *copied(539098369), *_table(_DEFAULTS, 539098370)],
        "Firezone", "tun-firezone", mark="0xfd002021", table=539098370,
    ),
    "NetBird": Layout(
        _not_main(105, "0x1bd00", 7120, "wt0"), "NetBird", "wt0", mark="0x1bd00", table=7120,
    ),
    "NetBird without IPv6": Layout(
        [*_not_main(105, "0x1bd00", 7120, "wt0")[:-1], "-6 route add unreachable default table 7120"],
        "NetBird", "wt0", "inet", "0x1bd00", 7120,
    ),
    "Tailscale": Layout(
        _TAILSCALE, "Tailscale", "tailscale0", mark="0x80000/0xff0000", table=52, lan="cut", advice="client",
    ),
    "Tailscale with its switch": Layout(
        [*_TAILSCALE, "route add throw 192.168.1.0/24 table 52", "route add throw 172.17.0.0/16 table 52",
         "-6 route add throw fd00:1::/64 table 52"],
        "Tailscale", "tailscale0", mark="0x80000/0xff0000", table=52,
    ),
    "Mullvad": Layout(
        _not_main(32764, "0x6d6f6c65", 1836018789, "wg0-mullvad"),
        "Mullvad", "wg0-mullvad", mark="0x6d6f6c65", table=1836018789, advice="client",
    ),
    "NordVPN": Layout(
        ["rule add not fwmark 0xe1f1 lookup 205 pref 32764", "route add default dev nordlynx table 205"],
        "NordVPN", "nordlynx", "inet", "0xe1f1", 205, "cut", "client",
    ),
    "Cloudflare WARP": Layout(
        [*both("rule add not fwmark 0x100cf lookup 65743 pref 32765"),
         *(f"route add {part} dev CloudflareWARP table 65743" for part in complement(_PRIVATE, "inet")),
         *(f"-6 route add {part} dev CloudflareWARP table 65743" for part in complement((), "inet6"))],
        "Cloudflare WARP", "CloudflareWARP", mark="0x100cf", table=65743,
    ),
    "sing-box": Layout(
        both("rule add lookup 2022 suppress_prefixlength 0 pref 9001",
             "rule add not dport 53 lookup main suppress_prefixlength 0 pref 9002",
             "rule add lookup 2022 pref 9003", "rule add nop pref 9010", "route add default dev tun0 table 2022"),
        "sing-box or mihomo", "tun0", table=2022, advice="refuse",
    ),
    "Netmaker": Layout(
        ["rule add from 10.64.0.2 lookup main pref 2000",
         *both("rule add lookup main suppress_prefixlength 0 pref 2500"), "rule add to 10.64.0.1 lookup main pref 2999",
         *both("rule add lookup 111 pref 3000"),
         *both("route add default dev netmaker table 111")],
        "Netmaker", "netmaker", table=111,
    ),
    "Nebula": Layout(
        [f"route add {half} dev nebula1 scope link" for half in ("0.0.0.0/1", "128.0.0.0/1")],
        "Nebula", "nebula1", "inet",
    ),
    "wg-quick": Layout(
        _not_main(32764, "0xca6c", 51820, "wg0", "boot"), "wg-quick", "wg0", mark="0xca6c", table=51820,
    ),
    "NetworkManager": Layout(
        _not_main(31764, "0xcbe4", 52196, "office"), "NetworkManager", "office", mark="0xcbe4", table=52196,
    ),
    "ProtonVPN with its kill switch": Layout(
        [*_not_main(31764, "0xcbe4", 52196, "proton0"), "route add default dev ipv6leak0 metric 98",
         "-6 route add default dev ipv6leak0 metric 95"],
        "ProtonVPN", "proton0", mark="0xcbe4", table=52196,
    ),
    "Outline": Layout(
        ["rule add not fwmark 0x711e lookup 7113 pref 28958",
         "route add default via 10.0.85.1 dev outline-tun1 proto static table 7113"],
        "Outline", "outline-tun1", "inet", "0x711e", 7113, "cut", "mirror",
    ),
    "strongSwan": Layout(
        ["rule add lookup 220 pref 220",
         "route add default via 192.168.1.1 dev eth0 proto static src 10.64.0.9 table 220"],
        "strongSwan", "eth0", "inet", table=220, lan="cut", advice="refuse",
    ),
    "OpenVPN def1": Layout(
        ["route add 0.0.0.0/1 via 10.64.0.1 dev tun0", "route add 128.0.0.0/1 via 10.64.0.1 dev tun0",
         "route add 203.0.113.9 via 192.168.1.1 dev eth0", "-6 route add 2000::/3 dev tun0"],
        "OpenVPN", "tun0",
    ),
    "OpenConnect": Layout(
        ["route del default", "route add default dev tun0", "route add 203.0.113.9 via 192.168.1.1 dev eth0"],
        "unknown", "tun0", "inet",
    ),
    "WireGuard with a table of its own": Layout(
        both("rule add not fwmark 0x33 lookup 300 pref 500", "route add default dev wg7 table 300"),
        "unknown", "wg7", mark="0x33", table=300, lan="cut", advice="mirror",
    ),
    "a split default, and the mark with a mask": Layout(
        both("rule add not fwmark 0x10000/0xff0000 lookup 300 pref 500")
        + [f"route add {half} dev wg7 table 300" for half in ("0.0.0.0/1", "128.0.0.0/1")],
        "unknown", "wg7", "inet", "0x10000/0xff0000", 300, "cut", "mirror",
    ),
}  # fmt: skip

_INTO_WG0 = both("route add default dev wg0 table 100")
_BY_ETH0 = "route add default via 192.168.1.1 dev eth0 src 192.168.1.5 table 1"
_RESOURCE = ["route add 10.9.0.0/16 dev wg0", "-6 route add fd77::/48 dev wg0"]
NO_VPN = {
    "no VPN": [],
    "a split tunnel": _RESOURCE,
    "a split tunnel with a table": [*both("rule add lookup 51820 pref 100"), *_table(_RESOURCE, 51820)],
    "a rule for one source": ["rule add from 10.64.0.2 lookup 100 pref 100", *_INTO_WG0],
    "a rule for marked packets": [*both("rule add fwmark 0x5 lookup 100 pref 100"), *_INTO_WG0],
    "a rule behind main": [
        *both("rule add lookup main pref 90", "rule add not fwmark 0x5 lookup 100 pref 100"),
        *_INTO_WG0,
    ],
    "mwan3": [
        *both(
            "rule add iif eth0 lookup 1 pref 1001",
            "rule add fwmark 0x100/0x3f00 lookup 1 pref 2001",
            "rule add fwmark 0x200/0x3f00 lookup 100 pref 2002",
            "rule add fwmark 0x3d00/0x3f00 blackhole pref 2061",
        ),
        *_INTO_WG0,
        _BY_ETH0,
    ],
    "a second uplink": ["rule add lookup 1 pref 100", _BY_ETH0],
    "a VRF": [*both("rule add l3mdev pref 1000", "route add unreachable default metric 8192 table 100"), *_INTO_WG0],
    "a modem": ["route del default", "-6 route del default", *both("route add default dev wwan0")],
    "a modem and a cable": both("route add default dev wwan0 metric 1"),
    "a tunnel as the last way out": both("route add default dev wg0 metric 9000"),
    "thirty bridges": [f"route add 10.{number}.0.0/16 dev br{number} proto kernel scope link" for number in range(30)],
}


_NAMES = {"main": "254", "default": "253", "local": "255"}


def devices(lines: Sequence[str]) -> list[str]:
    """The devices that the lines use, besides those of the laptop."""
    found = dict.fromkeys(name for line in lines for name in re.findall(r" dev (\S+)", line))
    return [name for name in found if name not in ("lo", LAN, CONTAINERS)]


def machine(lines: Sequence[str]) -> tuple[Snapshot, dict[int, dict[Family, tuple[Route, ...]]]]:
    """The laptop after these lines, and all its tables."""
    names = ["lo", LAN, CONTAINERS, *devices(lines)]
    links = {
        name: Link(
            name, number, f"link set dev {name} down" not in lines, name == "lo", name, may_be_tunnel=_is_tunnel(name)
        )
        for number, name in enumerate(names, start=1)
    }
    rules: list[Rule] = []
    tables: dict[int, dict[Family, tuple[Route, ...]]] = {}
    for family, option in zip(FAMILIES, ("-4", "-6"), strict=True):
        kernels = [
            "rule add lookup local pref 0",
            "rule add lookup main pref 32766",
            "rule add lookup default pref 32767",
        ]
        mine = [line.removeprefix("-6 ") for line in (*LAPTOP, *lines) if line.startswith("-6 ") == (option == "-6")]
        found_rules = [rule(line, family) for line in (*kernels, *mine) if line.startswith("rule add")]
        for gone in (rule(line, family) for line in mine if line.startswith("rule del")):
            found_rules.remove(gone)
        rules += sorted(found_rules, key=lambda each: each.priority)
        found: dict[int, list[Any]] = {}
        for line in mine:
            verb, *words = line.split()[1:] if line.startswith("route") else ["", ""]
            table = int(words[-1]) if "table" in words else 254
            if verb == "del":
                found[table] = [document for document in found[table] if document["dst"] != words[0]]
            elif verb:
                found.setdefault(table, []).append(_route(words, family))
        for table, routes in found.items():
            listed = sorted(parse.routes(ip_json.listed(routes), family, links), key=_place)
            tables.setdefault(table, dict.fromkeys(FAMILIES, ()))[family] = tuple(listed)
    main = tables[254]
    return Snapshot(links=links, rules=tuple(rules), main=main), tables


def _place(route: Route) -> tuple[object, ...]:
    """By which the kernel orders the routes of a table: a part of a prefix comes before it, in IPv6 with all others."""
    family = route.attributes.family
    network = ip_network(route.dst if route.dst != "default" else {"inet": "0.0.0.0/0", "inet6": "::/0"}[family])
    address = network.network_address if family == "inet" else network.broadcast_address
    return address, -network.prefixlen, rank(route)


def read(lines: Sequence[str], config: Config) -> tuple[Snapshot, dict[int, dict[Family, tuple[Route, ...]]]]:
    """The same, as the planner reads it: the VPN's tables, and what of main may be mirrored."""
    seen, tables = machine(lines)
    main = {
        family: tuple(
            route
            for route in seen.main[family]
            if route.attributes.on_link
            or (config.lan.multicast and route.dst == "default")
            or any(allowed.covers(route.prefix) for allowed in config.lan.allow)
        )
        for family in FAMILIES
    }
    own = {table: tables.get(table, dict.fromkeys(FAMILIES, ())) for table in own_tables(config, seen.rules)}
    return replace(seen, main=main, tables=own), tables


def _is_tunnel(name: str) -> bool:
    return name not in ("lo", LAN, CONTAINERS) and not name.startswith(("ipv6leak", f"{LAN}.", "br"))


def rule(line: str, family: Family) -> Rule:
    """What `rule add PROPERTIES` adds."""
    document: dict[str, Any] = {"src": "all"}
    given = iter(line.split()[2:])
    for word in given:
        if word in _BARE:
            document[word] = None
        elif word in _ACTIONS:
            document["action"] = _ACTIONS[word]
        elif word == "fwmark":
            document["fwmark"], _, mask = next(given).partition("/")
            document |= {"fwmask": mask} if mask else {}
        elif word in _RANGES:
            document |= zip(_RANGES[word], next(given).split("-"), strict=True)
        else:
            value = next(given)
            document[_RULE_KEYS.get(word, word)] = _NAMES.get(value, value)
    return parse_rules.rules([{**document, "priority": int(document["priority"])}], family)[0]


_RULE_KEYS = {
    "lookup": "table", "pref": "priority", "suppress_prefixlength": "suppress_prefixlen", "from": "src", "to": "dst",
}  # fmt: skip
_RANGES = {"sport": ("sport_start", "sport_end"), "uidrange": ("uid_start", "uid_end")}
_BARE = ("not", "l3mdev", "nop")
_ACTIONS = {"blackhole": "6", "unreachable": "7", "prohibit": "8"}


def route(line: str, family: Family) -> Route:
    """What `route add PROPERTIES` adds, in whatever table."""
    return parse.routes(ip_json.listed([_route(line.split()[2:], family)]), family, {})[0]


def _route(words: Sequence[str], family: Family) -> dict[str, Any]:
    kind, rest = (words[0], words[1:]) if words[0] in _KINDS else ("unicast", words)
    if "table" in rest:
        rest = rest[: rest.index("table")]
    rest, *hops = (list(part) for is_sign, part in groupby(rest, "nexthop".__eq__) if not is_sign)
    options = dict(zip(rest[1::2], rest[2::2], strict=True))
    document: dict[str, Any] = {"dst": rest[0], "flags": [], "protocol": options.get("proto", "boot")}
    if hops:
        document["nexthops"] = [dict(zip(map(_KEYS.get, hop[::2]), hop[1::2], strict=True)) for hop in hops]
    if "mtu" in options:
        document["metrics"] = [{"mtu": int(options["mtu"])}]
    if "expires" in options:
        document["expires"] = int(options["expires"])
    if kind != "unicast":
        document |= {"type": kind} | ({"dev": "lo"} if family == "inet6" else {})  # as `ip` shows it
    document |= {key: options[word] for word, key in _KEYS.items() if word in options}
    if family == "inet" and "via" not in words and "proto" not in options and kind == "unicast":
        document.setdefault("scope", "link")  # as `ip` does
    metric = int(options.get("metric", 1024 if family == "inet6" else 0))
    document |= {"metric": metric} if metric else {}
    return document if family == "inet" else {**document, "pref": options.get("pref", "medium")}


_KINDS = ("throw", "unreachable", "blackhole", "prohibit", "local", "broadcast", "anycast", "multicast")
_KEYS = {"via": "gateway", "dev": "dev", "scope": "scope", "src": "prefsrc", "tos": "tos", "encap": "encap"}


def moved(layout: Layout) -> Layout:
    """The same layout with other marks, tables and priorities."""

    def mark(text: str) -> str:
        value, slash, mask = text.partition("/")
        return f"{int(value, 0) * 2:#x}/{mask}" if slash else f"{int(value, 0) + 77:#x}"

    def line(text: str) -> str:
        text = re.sub(r"(?<= pref )\d+", lambda match: str(int(match[0]) - 9), text)
        text = re.sub(r"(?<=fwmark )\S+", lambda match: mark(match[0]), text)
        return re.sub(r"(?:(?<= table )|(?<=lookup ))\d+", lambda match: str(int(match[0]) + 77), text)

    return layout._replace(
        lines=list(map(line, layout.lines)),
        mark=mark(layout.mark) if layout.mark else None,
        table=layout.table + 77 * (layout.table != 254),
    )


def named(layouts: Mapping[str, Layout]) -> Iterator[tuple[str, Layout]]:
    """Each layout, and the same with its numbers moved."""
    for name, layout in layouts.items():
        yield name, layout
        yield f"{name}, moved", moved(layout)
