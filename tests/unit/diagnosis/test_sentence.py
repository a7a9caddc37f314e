"""What `explain` says of small machines. tests/netns/test_explain.py compares its decisions with the kernel's."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from fz_iproute.diagnosis.lookup import Packet
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.sentence import Case, sentence, step_text
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.config import replace as configured
from fz_iproute.mirror.desired import desired
from fz_iproute.mirror.prefix import Family, Prefix
from tests.layouts import LAYOUTS, copied, read

MIRROR, LAN, INTERNET = 539098368, 539098369, 539098370
FIREZONE, TIERED = (list(LAYOUTS[f"Firezone {name}"].lines) for name in ("up to 1.5.3", "from 1.5.5"))
OWN = [
    "-6 route add local ::1 dev lo table 255",
    "route add local 127.0.0.0/8 dev lo scope host table 255",
    "route add local 192.168.1.5 dev eth0 scope host table 255",
    "route add broadcast 192.168.1.255 dev eth0 scope link table 255",
    "route add local 172.17.0.1 dev docker0 scope host table 255",
    "-6 route add local fd00:1::5 dev eth0 table 255",
    "-6 route add anycast fd00:1:: dev eth0 table 255",
    "-6 route add multicast ff00::/8 dev eth0 table 255",
]


SPLIT = [line for line in FIREZONE if "default" not in line]
HALVES = [f"route add {half} dev tun-firezone proto static table {MIRROR}" for half in ("0.0.0.0/1", "128.0.0.0/1")]
MIRRORED = [*FIREZONE, *copied(MIRROR)]
STALE = "route add 192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.99 table 539098368"
FROM_5 = "rule add pref 50 from 192.168.1.5"
OTHERS = [
    f"route add throw 203.0.113.0/24 table {MIRROR}",
    f"route add unreachable 198.51.100.0/24 table {MIRROR}",
    f"route add 198.18.0.0/15 via 192.168.1.1 dev eth0 table {MIRROR}",
    "rule add pref 50 to 192.0.2.0/24 lookup 77",
    "route add 192.0.2.0/24 dev eth0 table 77",
    "rule add pref 51 to 10.99.0.0/16 lookup 77",
    "route add 10.99.0.0/16 dev tun-firezone table 77",
    "rule add pref 52 to 10.98.0.0/16 lookup 78",
    "rule add pref 53 to 99.0.0.0/8 lookup 78",
    "route add default dev wg0 table 78",
    "rule add pref 54 to 192.0.3.0/24 prohibit",
]
IN_MAIN = [
    "route add 10.0.0.0/16 via 192.168.1.1 dev eth0",
    "route add 10.1.0.0/16 nexthop via 192.168.1.1 dev eth0 nexthop via 172.17.0.2 dev docker0",
    "route add 10.2.0.0/16 via 192.168.1.1 dev eth0 mtu 1400",
    "route add unreachable 10.9.0.0/24",
    "route add 10.8.0.0/24 dev eth0 scope global",
    "route add 10.7.0.0/24 via 10.66.0.1 dev tun-firezone",
    "route add 10.66.0.0/24 dev tun-firezone proto kernel scope link",  # the tunnel's own network is no LAN
    "-6 route add 2001:db8::/32 via fd00:1::1 dev eth0",
    "-6 route add fd00:9::/64 dev eth0 expires -1",
    "-6 route add fd00:8::/64 dev eth0 expires -1",
    "-6 route add fd00:8::/48 via fd00:1::1 dev eth0",
    # LANs
    "route add 100.96.7.0/24 dev eth0",
    "route add 100.64.0.0/10 dev eth0",
    "route add 10.128.0.0/9 dev docker0",
    "route add 10.128.0.0/16 dev eth0",
]
WIREGUARD = ["rule add pref 32765 not fwmark 51820 lookup 51820", "route add default dev wg0 table 51820"]
UNCOPIED = [line for line in TIERED if f"table {LAN}" not in line]
HELD = f"route add 203.0.113.0/24 dev tun-firezone proto 245 scope global table {MIRROR}"  # a placeholder
BACKSTOP = f"route add unreachable default proto static metric 4294967295 table {MIRROR}"

ACTIVE = "goes into the tunnel, because all traffic goes into tun-firezone"
MISSING = f"{ACTIVE} and the copy of {{}} is missing; run `fz-iproute sync`"
NOTHING = "because the VPN's tables have no route to the address"
OURS = "stays on this machine, because the address is its own"
COPIED = "leaves by eth0 to the LAN, because {} is mirrored into the VPN's table"
LEFT = "leaves by eth0 to the LAN, because table 539098368 has a stale copy of 192.168.1.0/24"
GONE = "; but no program can connect (Network is unreachable), because the route's source address 192.168.1.99 is gone"
GONE += " from this machine"
SAID: list[tuple[list[str], dict[str, str]]] = [
    (
        FIREZONE,
        {
            "8.8.8.8": ACTIVE,
            "192.168.1.7": MISSING.format("192.168.1.0/24"),
            "fd00:1::7": MISSING.format("fd00:1::/64"),
            "100.64.0.9": "goes into the tunnel, because the VPN routes 100.64.0.0/11 explicitly",
            "192.168.1.7 mark=7": MISSING.format("192.168.1.0/24"),
            "192.168.1.7 mark=0xfd002021": "leaves by eth0 to the LAN, "
            "because the packet is marked 0xfd002021, so the VPN's tables are not consulted",
            "8.8.8.8 oif=eth0": "leaves by eth0 through the router 192.168.1.1, "
            "because the VPN's tables have no route to the address by eth0",
            "8.8.8.8 oif=docker0": "leaves by docker0, because the sender is bound to it: no route is used",
            "8.8.8.8 src=10.3.3.3": "cannot be sent: its source is not an address of this machine",
            "8.8.8.8 src=192.168.1.5": ACTIVE,
            "8.8.8.8 iif=eth0 src=192.168.1.9": ACTIVE,
            "2600::1 mark=7": ACTIVE,
            **dict.fromkeys(("192.168.1.5", "fd00:1::5", "127.8.9.10", "::1", "0.0.0.0"), OURS),
            "fd00:1::": f"{OURS} (anycast)",
            "192.168.1.255": "leaves by eth0 to everybody on the LAN, because it is the broadcast address there",
            "ff02::fb": "leaves by eth0 to all listeners there, because IPv6 multicast is sent by one interface, "
            "with lan.multicast too",
            "224.0.0.251": f"{ACTIVE}; lan.multicast = true would send it to the LAN",
            "255.255.255.255": f"{ACTIVE}; lan.multicast = true would send it to the LAN",
            "224.0.0.251 oif=eth0": "leaves by eth0, because the sender is bound to it: no route is used",
            "224.0.0.251 iif=eth0 src=192.168.1.9": "stays on this machine, because it is a multicast packet",
        },
    ),
    (MIRRORED, {"192.168.1.7": COPIED.format("192.168.1.0/24"), "fd00:1::7": COPIED.format("fd00:1::/64")}),
    (
        SPLIT,
        {
            "192.168.1.7": f"leaves by eth0 to the LAN, {NOTHING}",
            "8.8.8.8": f"leaves by eth0 through the router 192.168.1.1, {NOTHING}",
            "2600::1": f"leaves by eth0 through the router fd00:1::1, {NOTHING}",
        },
    ),
    ([*SPLIT, *HALVES], {"8.8.8.8": ACTIVE, "192.168.1.7": MISSING.format("192.168.1.0/24")}),
    (
        [*SPLIT, *HALVES, IN_MAIN[0]],
        {"10.0.3.3": f"{ACTIVE} and main has 10.0.0.0/16 via 192.168.1.1: lan.allow would mirror it"},
    ),
    (
        [*FIREZONE, *OTHERS],
        {
            "203.0.113.7": "leaves by eth0 through the router 192.168.1.1, "
            "because the VPN's tables have no route to the address",
            "198.51.100.7": "is refused by the route unreachable 198.51.100.0/24 proto boot scope global "
            "in table 539098368",
            "198.18.0.7": "leaves by eth0 through the router 192.168.1.1, "
            "because table 539098368 has 198.18.0.0/15, which is not known to be a copy",
            "192.0.2.7": "leaves by eth0 to the LAN, because rule 50 decides, before the VPN's 32765",
            "10.99.0.7": "goes into the tunnel, "
            "because table 77 has 10.99.0.0/16 dev tun-firezone proto boot scope link",
            "10.98.0.7": "goes into wg0, which may be a tunnel, because rule 52 decides, before the VPN's 32765",
            "99.0.0.1": "leaves by wg0 to the internet, because rule 53 decides, before the VPN's 32765",
            "192.0.3.7": "is refused (prohibit) by rule 54",
        },
    ),
    (
        [*FIREZONE, *IN_MAIN],
        {
            "10.0.3.3": f"{ACTIVE} and main has 10.0.0.0/16 via 192.168.1.1: lan.allow would mirror it",
            "10.1.3.3": f"{ACTIVE} and main has 10.1.0.0/16 through a router: lan.allow would mirror it",
            "10.2.3.3": f"{ACTIVE} and main has 10.2.0.0/16 via 192.168.1.1: lan.allow would mirror it, "
            "unless one of its metrics is locked",
            "10.9.0.7": f"{ACTIVE} and main rejects it (unreachable 10.9.0.0/24)",
            "10.7.0.7": f"{ACTIVE} and main has 10.7.0.0/24, but it leads into the tunnel",
            "10.66.0.9": ACTIVE,
            "fd00:9::7": f"{ACTIVE} and main has fd00:9::/64, but it has expired",
            "fd00:8::7": f"{ACTIVE} and main has fd00:8::/48 via fd00:1::1: lan.allow would mirror it",
            "10.128.7.7": MISSING.format("10.128.0.0/16"),
            "100.64.0.9": "goes into the tunnel, because the VPN routes 100.64.0.0/11 explicitly",
            "10.1.3.3 mark=0xfd002021": "leaves by eth0 or docker0 through routers, "
            "because the packet is marked 0xfd002021, so the VPN's tables are not consulted",
            "10.8.0.7": f"{ACTIVE} and main has 10.8.0.0/24 on-link, but with scope global: lan.allow would mirror it",
            "2001:db8::1": f"{ACTIVE} and main has 2001:db8::/32 via fd00:1::1: "
            "wider than lan.min_prefixlen.inet6 = 48",
        },
    ),
    (
        [*FIREZONE, *IN_MAIN, f"route add 100.96.0.0/11 dev tun-firezone table {MIRROR}"],
        {
            "100.96.7.9": "goes into the tunnel, because the VPN routes 100.96.0.0/11 explicitly, "
            "which wins over the LAN 100.96.7.0/24"
        },
    ),
    (
        [
            *MIRRORED,
            "route add 192.168.1.48/28 via 192.168.1.1 dev eth0",
            "route add unreachable 192.168.1.66",
            "-6 route add prohibit fd00:1::66",
        ],
        {
            "192.168.1.49": f"{COPIED.format('192.168.1.0/24')}, "
            "although main has 192.168.1.48/28 via 192.168.1.1: lan.allow would mirror it",
            "192.168.1.66": f"{COPIED.format('192.168.1.0/24')}, although main rejects it (unreachable 192.168.1.66)",
            "fd00:1::66": f"{COPIED.format('fd00:1::/64')}, although main rejects it (prohibit fd00:1::66)",
        },
    ),
    (
        [*TIERED, *HALVES],
        {
            "192.168.1.7": f"{ACTIVE} and rule 100 decides, before any rule that leads to the copy in table 539098369",
            "172.18.0.7": ACTIVE,
        },
    ),
    (
        [*TIERED, f"route add throw 172.17.0.0/17 table {LAN}"],
        {
            "172.17.0.7": f"{ACTIVE} and table 539098369 has throw 172.17.0.0/17 proto boot scope global: "
            "a copy of 172.17.0.0/16 does not change that"
        },
    ),
    (
        [*UNCOPIED, *HALVES],
        {
            "192.168.1.7": f"{ACTIVE} and rule 100 decides, "
            "before any rule that leads to table 539098369, which gets the copies"
        },
    ),
    (
        [line.replace(f"lookup {LAN}", f"lookup {LAN} suppress_prefixlength 24") for line in TIERED],
        {"192.168.1.7": f"{ACTIVE} and a copy of 192.168.1.0/24 does not change that"},
    ),
    (
        [line.replace(f"not fwmark 0xfd002021 lookup {LAN}", f"iif eth0 lookup {LAN}") for line in UNCOPIED],
        {"192.168.1.7": f"{ACTIVE} and a copy of 192.168.1.0/24 does not change that"},
    ),
    (
        [*FIREZONE, "route del default", "-6 route del default", "-6 route add fd00:9::/64 dev eth0 expires -1"],
        {
            "8.8.8.8": ACTIVE,
            "8.8.8.8 mark=0xfd002021": "cannot be sent: no rule leads to a route",
            "fd00:9::7": f"{ACTIVE} and main has fd00:9::/64, but it has expired",
        },
    ),
    (
        FIREZONE[1:],  # IPv6 only
        {"8.8.8.8": "leaves by eth0 through the router 192.168.1.1, because no rule leads to the VPN's tables"},
    ),
    (
        [*FIREZONE, HELD],
        {
            "203.0.113.9": "goes into the tunnel, because a placeholder keeps the VPN's client from copying "
            "203.0.113.0/24 (no longer needed); run `fz-iproute sync`"
        },
    ),
    (
        [*FIREZONE[:2], BACKSTOP],  # left by manage mode
        {
            "8.8.8.8": "is refused by the route unreachable default proto static scope global metric 4294967295 "
            "in table 539098368"
        },
    ),
    (
        [*FIREZONE, STALE],
        {
            "192.168.1.7": f"{LEFT}{GONE}; run `fz-iproute sync`",
            "192.168.1.7 iif=eth0 src=192.168.1.9": f"{LEFT}; run `fz-iproute sync`",
        },
    ),
    (
        [*FIREZONE, f"route add 10.9.0.0/24 dev eth0 table {MIRROR}"],
        {"10.9.0.7": LEFT.replace("192.168.1", "10.9.0") + "; run `fz-iproute sync`"},
    ),
    (
        [*FIREZONE, STALE, f"route add 192.168.0.0/16 dev tun-firezone table {MIRROR}"],
        {
            "192.168.1.7": f"{LEFT}{GONE}; the VPN routes 192.168.0.0/16 explicitly, "
            "so `fz-iproute sync` gives this LAN's addresses to the VPN"
        },
    ),
    (
        [*MIRRORED, f"{FROM_5} lookup 77", "route add default dev tun-firezone table 77"],
        {
            "192.168.1.7": f"{COPIED.format('192.168.1.0/24')}; but a program that connects sends from 192.168.1.5: "
            "rule 50 decides, and it leaves by tun-firezone",
            "192.168.1.7 src=192.168.1.5": "goes into the tunnel, "
            "because table 77 has default dev tun-firezone proto boot scope link",
        },
    ),
    (
        [*MIRRORED, f"{FROM_5} prohibit"],
        {
            "192.168.1.7": f"{COPIED.format('192.168.1.0/24')}; but a program that connects sends from 192.168.1.5: "
            "rule 50 decides, and it fails (Permission denied)"
        },
    ),
    # Machines of other VPNs
    (
        WIREGUARD,
        {
            "8.8.8.8": "leaves by wg0 to the internet, "
            "because rule 32765 leads to table 51820, and none leads to the VPN's tables",
            "192.168.1.7": "goes into wg0, which may be a tunnel, "
            "because rule 32765 leads to table 51820, and none leads to the VPN's tables",
        },
    ),
    (
        ["route add 0.0.0.0/1 via 10.64.0.1 dev tun0"],  # as OpenVPN does
        {"1.1.1.1": "goes into tun0, which may be a tunnel, because main has 0.0.0.0/1"},
    ),
    (
        ["route del default", "route add default dev ppp0"],  # a modem
        {"8.8.8.8": "leaves by ppp0 to the internet, because no rule leads to the VPN's tables"},
    ),
    (
        ["route del default", "route add default dev docker0"],
        {
            "10.3.3.3": "leaves by docker0, because no rule leads to the VPN's tables",
            "192.168.1.7": "leaves by eth0 to the LAN, because no rule leads to the VPN's tables",
        },
    ),
]


def case(lines: Sequence[str], address: str, config: Config | None = None, **fields: Any) -> Case:
    """The case of a packet to the address, on the laptop after these lines."""
    config = config or Config()
    numbered = fields.pop("numbered", {})
    family: Family = "inet6" if ":" in address else "inet"
    fields = {key: int(ip_address(value)) if key == "src" else value for key, value in fields.items()}
    seen, tables = read([*OWN, *lines], config)
    seen = replace(seen, numbered=numbered)
    network = Network(seen.links, seen.rules, tables)
    packet = Packet(family, int(ip_address(address)), **fields)
    return Case(config, seen, desired(config, seen), network, packet, network.way(packet), "fz-iproute sync")


def asked(lines: Sequence[str], question: str, config: Config | None = None) -> Case:
    """`8.8.8.8 oif=eth0 mark=7`"""
    address, *words = question.split()
    fields: dict[str, Any] = dict(word.split("=") for word in words)
    return case(lines, address, config, **{**fields, "mark": int(fields.get("mark", "0"), 0)})


@pytest.mark.parametrize(
    ("lines", "question", "said"), [(lines, *both) for lines, answers in SAID for both in answers.items()]
)
def test_the_way_is_said_with_its_reason(lines: list[str], question: str, said: str) -> None:
    assert said == sentence(asked(lines, question))


@pytest.mark.parametrize(
    ("lan", "reason"),
    [
        ({"trust": "private"}, 'a public prefix: lan.trust = "private", and lan.allow does not have it'),
        ({"deny": (Prefix.parse("203.0.113.128/25"),)}, "lan.deny has 203.0.113.128/25"),
        ({"interfaces": ("en*",)}, "lan.interfaces does not have eth0"),
        ({"exclude_interfaces": ("e*",)}, "lan.exclude_interfaces has eth0"),
    ],
    ids=str,
)
def test_the_setting_that_refuses_a_lan_is_named(lan: dict[str, Any], reason: str) -> None:
    config = configured(Config(), lan=lan)
    lines = [*FIREZONE, "route add 203.0.113.0/24 dev eth0"]
    assert f"{ACTIVE} and 203.0.113.0/24 is not mirrored: {reason}" == sentence(case(lines, "203.0.113.9", config))
    placeholder = "goes into the tunnel, because a placeholder keeps the VPN's client from copying 203.0.113.0/24"
    assert f"{placeholder} ({reason})" == sentence(case([*lines, HELD], "203.0.113.9", config))


def test_where_lan_multicast_is_set_its_route_is_missing() -> None:
    config = configured(Config(), lan={"multicast": True})
    said = f"{ACTIVE} and the route that lan.multicast adds is missing; run `fz-iproute sync`"
    assert said == sentence(case(MIRRORED, "224.0.0.251", config))


IN_MANAGE_MODE = configured(Config(), tunnel={"mode": "manage", "internet": True, "on_down": "closed"})


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([BACKSTOP], "tun-firezone is missing (tunnel.on_down)"),
        (
            [BACKSTOP, "route add 10.3.0.0/16 dev tun-firezone"],
            "tun-firezone has no IPv4 address (tunnel.internet_leak)",
        ),
    ],
)
def test_the_setting_that_blocks_is_named(lines: list[str], said: str) -> None:
    found = case([*FIREZONE[:2], *lines], "8.8.8.8", IN_MANAGE_MODE, numbered={"inet6": frozenset(["tun-firezone"])})
    assert f"is refused, because {said}" == sentence(found)
    others = case([*FIREZONE[:2], *lines, *OTHERS], "198.51.100.7", IN_MANAGE_MODE)
    assert sentence(others).startswith("is refused by the route unreachable 198.51.100.0/24 proto boot")


@pytest.mark.parametrize(
    ("lines", "question", "error"),
    [
        ([*FIREZONE, STALE], "192.168.1.7", "Network is unreachable"),
        (MIRRORED, "192.168.1.7", ""),
        (MIRRORED, "8.8.8.8", ""),
        ([*FIREZONE, *OTHERS], "192.0.3.7", "Permission denied"),
    ],
)
def test_the_error_is_that_of_a_program_that_connects(lines: list[str], question: str, error: str) -> None:
    assert error == asked(lines, question).error


STEPS = {
    "goto 99": "goto a rule that does not exist",
    "goto 13": "goto",
    "nop": "nop",
    "to 10.0.0.0/8 lookup 5": "does not match: the packet is not to 10.0.0.0/8",
    "ipproto 6 lookup 5": "assumed not to match: unknown whether the packet is of 6",
    "lookup 5": "no route to the address",
    "lookup 6": "throw 8.0.0.0/8 proto boot scope global: on to the next rule",
    "lookup 7": "throw 8.8.0.0/16 proto 245 scope global: a placeholder, on to the next rule",
    "lookup main suppress_prefixlength 0": "default via 192.168.1.1 dev eth0 proto dhcp scope global: suppressed",
    "lookup 8": "default dev wg0 proto boot scope link",
}
THROWS = ["route add throw 8.0.0.0/8 table 6", "route add throw 8.8.0.0/16 proto 245 table 7"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (STEPS, [*STEPS.values()]),
        (["lookup 6", "prohibit"], [STEPS["lookup 6"], "prohibit"]),
    ],
)
def test_the_result_of_each_rule_is_said(lines: Sequence[str], said: list[str]) -> None:
    rules = [f"rule add pref {number} {line}" for number, line in enumerate(lines, start=11)]
    found = case([*THROWS, "route add default dev wg0 table 8", *rules], "8.8.8.8")
    assert said == [step_text(step, found.packet) for step in found.decision.steps[1:]]
