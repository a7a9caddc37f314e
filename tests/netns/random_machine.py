"""Machines at random: a laptop with a VPN, and what users, other VPNs and hostile networks do to it."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.netns.namespace import MARK, MIRROR, TIER_INTERNET, TIER_LAN, TUNNEL

WIFI, CABLE, BRIDGE, OTHER_VPN = "wlan0", "eth0", "br0", "wg0"
DEVICES = [WIFI, CABLE, BRIDGE, TUNNEL, OTHER_VPN]
TUNNELS = {TUNNEL, OTHER_VPN}
OTHER_TABLES = [52, 201, 51820]
TABLES = ["main", MIRROR, TIER_LAN, TIER_INTERNET, *OTHER_TABLES]
PRIORITIES = [5, 50, 150, 250, 1000, 32000, 32764, 32766, 40000]


@dataclass(frozen=True)
class Land:
    """The addresses of a family. Its LANs hold the probed hosts, each of its parts at least one of them."""

    option: str
    own: dict[str, str]
    router: str
    lans: tuple[str, str, str]  # of wlan0, eth0 and br0
    parts: tuple[str, ...]  # of the first LAN: two halves, a part and a host
    resources: tuple[str, ...]
    halves: tuple[str, str]  # of the internet
    routed: tuple[str, ...]  # parts of the internet that a router has routes for
    hosts: tuple[str, ...]
    internet: tuple[str, ...]
    scope: str  # that of a route into a tunnel


LANDS = {
    "inet": Land(
        option="",
        own={
            WIFI: "192.168.1.5/24", CABLE: "10.1.1.9/24", BRIDGE: "172.17.0.1/16",
            TUNNEL: "100.64.0.5/32", OTHER_VPN: "10.8.0.2/24",
        },
        router="192.168.1.1",
        lans=("192.168.1.0/24", "10.1.1.0/24", "172.17.0.0/16"),
        parts=("192.168.1.0/25", "192.168.1.128/25", "192.168.1.64/26", "192.168.1.66"),
        resources=("100.64.0.0/11", "100.100.111.0/24"),
        halves=("0.0.0.0/1", "128.0.0.0/1"),
        routed=("0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/2", "192.0.0.0/2"),
        hosts=(
            *("192.168.1.1", "192.168.1.66", "192.168.1.70", "192.168.1.130", "10.1.1.1", "10.1.1.130", "172.17.0.2"),
            *("172.17.130.2", "100.64.0.9", "100.100.111.1", "10.8.0.9", "10.9.0.1", "192.168.1.5", "10.1.1.9"),
        ),
        internet=("8.8.8.8", "99.1.1.1", "200.1.1.1", "130.1.1.1"),
        scope=" scope global",
    ),
    "inet6": Land(
        option="-6 ",
        own={
            WIFI: "fd00:1::5/64", CABLE: "fd00:2::9/64", BRIDGE: "fd00:17::1/64",
            TUNNEL: "fd00:2021:1111::5/128", OTHER_VPN: "fd00:8::2/64",
        },
        router="fd00:1::1",
        lans=("fd00:1::/64", "fd00:2::/64", "fd00:17::/64"),
        parts=("fd00:1::/65", "fd00:1:0:0:8000::/65", "fd00:1::40/122", "fd00:1::42"),
        resources=("fd00:2021:1111::/48", "fd00:9::/64"),
        halves=("::/1", "8000::/1"),
        routed=("2000::/5", "2800::/5", "3000::/5", "3800::/5"),
        hosts=(
            *("fd00:1::1", "fd00:1::42", "fd00:1::46", "fd00:1:0:0:8000::1", "fd00:2::1", "fd00:17::2"),
            *("fd00:2021:1111::9", "fd00:8::9", "fd00:9::1", "fd00:1::5", "fd00:2::9"),
        ),
        internet=("2001:4860::8", "2600::1", "3000::1", "2a00::1"),
        scope="",
    ),
}  # fmt: skip


@dataclass
class Plan:
    """What makes a machine: lines for `ip`, with `SYNC` where the program runs; sysctls; the configuration."""

    lines: list[str] = field(default_factory=list)
    sysctls: dict[str, int] = field(default_factory=dict)
    config: str = f'[tunnel]\ninterface = "{TUNNEL}"\n'

    def __str__(self) -> str:
        sysctls = (f"sysctl {name}={value}" for name, value in self.sysctls.items())
        return "\n".join([*self.lines, *sysctls, self.config])


SYNC = "sync"


def plan(dice: random.Random) -> Plan:
    """A machine: most have both families, and a VPN that takes everything."""
    made = Plan()
    families = dice.choice([["inet"], ["inet", "inet6"], ["inet", "inet6"]])
    is_tiered, is_full = dice.random() < 0.4, dice.random() < 0.8
    for family in families:
        land = LANDS[family]
        for device, address in land.own.items():
            if device != OTHER_VPN:
                made.lines.append(f"{land.option}addr add {address} dev {device}")
        made.lines.append(f"{land.option}route add default via {land.router} dev {WIFI}")
        made.lines += _vpn(land, is_tiered=is_tiered, is_full=is_full)
    breakages = [line for _ in range(dice.choice([1, 1, 2, 3])) for line in _breakage(dice, families, made)]
    when = dice.choice(["before", "before", "before", "after", "never"])
    made.lines += {"before": [SYNC, *breakages], "after": [*breakages, SYNC], "never": breakages}[when]
    return made


def _vpn(land: Land, *, is_tiered: bool, is_full: bool) -> Iterator[str]:
    tables = {100: MIRROR, 200: TIER_LAN, 300: TIER_INTERNET} if is_tiered else {32765: MIRROR}
    for priority, table in tables.items():
        yield f"{land.option}rule add not fwmark {MARK:#x} lookup {table} priority {priority}"
    for prefix in land.resources:
        yield f"{land.option}route add {prefix} dev {TUNNEL} proto static{land.scope} table {MIRROR}"
    if is_full:
        table = TIER_INTERNET if is_tiered else MIRROR
        yield f"{land.option}route add default dev {TUNNEL} proto static{land.scope} table {table}"


def _breakage(dice: random.Random, families: list[str], made: Plan) -> list[str]:
    kinds: list[Callable[[random.Random, Land, Plan], Iterator[str]]] = [
        *[_rule] * 6, *[_kernel_rule] * 2, *[_vpn_rule] * 3, *[_vpn_route] * 4, *[_main_route] * 3, _default, _spread,
        _routed, _twin, *[_new_address] * 2, *[_lost_route] * 2, *[_detour] * 2, *[_other_vpn] * 4, _link, _sysctl,
        _setting,
    ]  # fmt: skip
    return list(dice.choice(kinds)(dice, LANDS[dice.choice(families)], made))


def _address(land: Land, device: str) -> str:
    return land.own[device].split("/")[0]


def _rule(dice: random.Random, land: Land, _: Plan) -> Iterator[str]:
    """Any rule at any place."""
    selector = dice.choice(
        [
            *["", "", f"to {land.lans[0]}", f"to {land.resources[1]}", f"to {dice.choice(land.internet)}"],
            *[f"to {land.parts[2]}", f"to {land.parts[3]}", "uidrange 7-9", "dport 9100"],
            *[f"from {_address(land, WIFI)}", f"from {_address(land, CABLE)}", f"from {land.lans[0]}"],
            *[f"to {dice.choice(land.parts)}", f"from {_address(land, WIFI)} to {land.lans[0]}"],
            *[f"fwmark {MARK:#x}", "fwmark 0x80000/0xff0000", "iif lo", f"iif {WIFI}", f"oif {WIFI}"],
        ]
    )
    inverted = dice.choice(["", "", "", "not "]) if selector else ""
    action = dice.choice(
        [
            *["lookup main"] * 4,
            *[f"lookup main suppress_prefixlength {length}" for length in (0, 0, 8, 24)],
            *[f"lookup {table}" for table in (MIRROR, TIER_INTERNET, 201, 201)],
            *["goto 32766", "goto 99999", "prohibit", "unreachable", "blackhole", "l3mdev", "l3mdev unreachable"],
            "lookup main suppress_ifgroup default",
        ]
    )
    if "201" in action:
        yield f"{land.option}route add default via {land.router} dev {WIFI} table 201"
    yield f"{land.option}rule add {inverted}{selector} {action} priority {dice.choice(PRIORITIES)}"


def _kernel_rule(dice: random.Random, land: Land, _: Plan) -> Iterator[str]:
    """The kernel's own rules are moved, doubled or gone."""
    name, priority = dice.choice([("main", 32766), ("local", 0)])
    if dice.random() < 0.8:
        yield f"{land.option}rule add lookup {name} priority {dice.choice(PRIORITIES)}"
    if dice.random() < 0.7:
        yield f"{land.option}rule del lookup {name} priority {priority}"


def _vpn_rule(dice: random.Random, land: Land, _: Plan) -> Iterator[str]:
    """The VPN's rules are gone, doubled, or without their mark."""
    table = dice.choice([MIRROR, MIRROR, TIER_LAN, TIER_INTERNET])
    words = dice.choice([f"not fwmark {MARK:#x}", f"not fwmark {MARK:#x}", f"fwmark {MARK:#x}", "", "not fwmark 0x7"])
    if dice.random() < 0.7:
        yield f"{land.option}rule add {words} lookup {table} priority {dice.choice(PRIORITIES)}"
    if dice.random() < 0.5:
        yield f"{land.option}rule del lookup {table}"


def _vpn_route(dice: random.Random, land: Land, _: Plan) -> Iterator[str]:
    """The VPN routes a LAN or parts of it, or refuses them, or leaves them to main."""
    table = dice.choice([MIRROR, MIRROR, TIER_LAN, TIER_INTERNET])
    prefixes = dice.choice([[land.lans[0]], [land.lans[2]], land.parts[:2], [land.parts[2]], [land.parts[3]]])
    kind = dice.choice(["", "", "", "throw ", "unreachable ", "blackhole "])
    way = f" dev {dice.choice([TUNNEL, TUNNEL, TUNNEL, CABLE])} proto static{land.scope}" if not kind else ""
    for prefix in prefixes:
        yield f"{land.option}route replace {kind}{prefix}{way} table {table}"


def _main_route(dice: random.Random, land: Land, _: Plan) -> Iterator[str]:
    """Main treats a part of a LAN in another way."""
    part = dice.choice(land.parts)
    way = dice.choice(["unreachable {}", "blackhole {}", "{} via " + land.router, "{} dev " + CABLE, "throw {}"])
    yield f"{land.option}route add {way.format(part)}"


def _default(dice: random.Random, land: Land, _: Plan) -> Iterator[str]:
    """The default route is gone, or in two halves, in the VPN's table or in main."""
    table = dice.choice(["main", MIRROR, MIRROR])
    if dice.random() < 0.7:
        yield f"{land.option}route del default table {table}"
    if dice.random() < 0.8:
        # In the VPN's own table, both halves are parts of its default route.
        device = TUNNEL if table == MIRROR else dice.choice([TUNNEL, TUNNEL, OTHER_VPN])
        for half in land.halves[: dice.choice([1, 2, 2])]:
            yield f"{land.option}route add {half} dev {device}{land.scope} table {table}"


def _spread(dice: random.Random, land: Land, _: Plan) -> Iterator[str]:
    """The default route into the tunnel has two nexthops, and the other one is a router of the LAN."""
    hops = [f"nexthop dev {TUNNEL}", f"nexthop via {land.router} dev {WIFI}"]
    dice.shuffle(hops)
    for table in (MIRROR, TIER_INTERNET):
        yield f"{land.option}route del default dev {TUNNEL} table {table}"
        yield f"{land.option}route add default {' '.join(hops)} table {table}"


def _routed(dice: random.Random, land: Land, _: Plan) -> Iterator[str]:
    """Main has the internet in parts, as a router there has, and perhaps no default route."""
    if dice.random() < 0.5:
        yield f"{land.option}route del default table main"
    for part in dice.sample(land.routed, dice.choice([2, 3, 4])):
        yield f"{land.option}route add {part} via {land.router} dev {WIFI}"


def _twin(dice: random.Random, land: Land, _: Plan) -> Iterator[str]:
    """Two interfaces in one LAN."""
    address = "192.168.1.6/24" if land.own[WIFI].startswith("192") else "fd00:1::6/64"
    yield f"{land.option}addr add {address} dev {CABLE} metric {dice.choice([100, 600])}"


def _new_address(dice: random.Random, land: Land, _: Plan) -> Iterator[str]:
    """Another lease."""
    device = dice.choice([WIFI, CABLE])
    host, _, length = land.own[device].rpartition("/")
    if dice.random() < 0.8:
        yield f"{land.option}addr add {host[:-1]}77/{length} dev {device}"
    yield f"{land.option}addr del {land.own[device]} dev {device}"


def _detour(dice: random.Random, land: Land, _: Plan) -> Iterator[str]:
    """A rule sends some packets to a LAN elsewhere."""
    selector = dice.choice([f"to {land.parts[2]}", f"to {land.parts[3]}", "uidrange 7-9", "dport 9100"])
    action = dice.choice(["prohibit", "unreachable", "lookup 201", f"lookup {MIRROR}", "lookup main"])
    yield f"{land.option}route add default dev {TUNNEL} table 201"
    yield f"{land.option}rule add {selector} {action} priority {dice.choice([50, 32000])}"


def _lost_route(dice: random.Random, land: Land, _: Plan) -> Iterator[str]:
    """Main loses the route of a LAN, and the address stays."""
    number = dice.choice([0, 0, 1])
    yield f"{land.option}route del {land.lans[number]} dev {DEVICES[number]}"


def _other_vpn(dice: random.Random, land: Land, made: Plan) -> Iterator[str]:
    """Another VPN beside this one, or in its place."""
    if dice.random() < 0.3:
        made.config = '[tunnel]\ninterface = "tun-missing"\n'
    option = land.option
    yield f"{option}addr add {land.own[OTHER_VPN]} dev {OTHER_VPN}"
    table = dice.choice([52, 51820, "main"])
    prefix = dice.choice(["default", "default", land.resources[0], *land.parts[2:3]])
    yield f"{option}route add {prefix} dev {OTHER_VPN}{land.scope} table {table} metric 50"
    if dice.random() < 0.3:
        yield f"{option}route add throw {land.lans[0]} table {table}"
    priority = dice.choice([105, 5270, 32700, 32766])
    if dice.random() < 0.6:
        yield f"{option}rule add lookup main suppress_prefixlength 0 priority {priority}"
    mark = dice.choice(["not fwmark 0xca6c ", "not fwmark 0x80000/0xff0000 ", "fwmark 0x80000/0xff0000 ", ""])
    yield f"{option}rule add {mark}lookup {table} priority {priority}"


def _link(dice: random.Random, _land: Land, _: Plan) -> Iterator[str]:
    device = dice.choice([WIFI, CABLE, TUNNEL, TUNNEL])
    yield f"link set {device} down"
    if dice.random() < 0.5:
        yield f"link set {device} up"


def _sysctl(dice: random.Random, _land: Land, made: Plan) -> Iterator[str]:
    made.sysctls[f"net.ipv4.conf.{dice.choice([WIFI, CABLE, 'all'])}.rp_filter"] = dice.choice([1, 2])
    yield from ()


def _setting(dice: random.Random, land: Land, made: Plan) -> Iterator[str]:
    made.config = made.config.partition("[lan]")[0].partition("[tables]")[0].partition("fwmark")[0].partition("mode")[0]
    settings = [
        f'[lan]\ndeny = ["{land.lans[0]}"]\n',
        *("[lan]\nmulticast = true\n", "[lan]\nprune = false\n", "fwmark = 0x7\n"),
        *('[tables]\nlayout = "single"\n', '[tables]\nlayout = "tiered"\n', 'mode = "manage"\ninternet = true\n'),
    ]
    # A tunnel that is to be managed, but missing, says nothing about another one that leads there.
    is_missing = "tun-missing" in made.config
    made.config += dice.choice([setting for setting in settings if not (is_missing and "manage" in setting)])
    yield from ()
