"""What `explain` says of small machines. tests/netns/test_explain.py compares its decisions with the kernel's."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.lookup import Packet
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.sentence import Case, sentence, step_text
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.config import replace as configured
from fz_iproute.mirror.prefix import Family, Prefix
from tests.layouts import read
from tests.unit.diagnosis.machines import (
    BACKSTOP,
    FIREZONE,
    HALVES,
    HELD,
    LAN,
    MIRROR,
    OWN,
    SERVED,
    SPLIT,
    STALE,
    TIERED,
    WIREGUARD,
    without,
)

FROM_5 = "rule add pref 50 from 192.168.1.5"
OTHERS = [
    f"route add throw 203.0.113.0/24 table {MIRROR}",
    f"route add unreachable 198.51.100.0/24 table {MIRROR}",
    f"route add 198.18.0.0/15 via 192.168.1.1 dev eth0 table {MIRROR}",
    "rule add pref 50 to 192.0.2.0/24 lookup 77",
    "route add 192.0.2.0/24 dev eth0 table 77",
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
UNCOPIED = [line for line in TIERED if f"table {LAN}" not in line]
ACTIVE = "goes into the tunnel, because all traffic goes into tun-firezone"
HALF = "goes into the tunnel, because table 539098368 routes {} there"
OF_HALF = HALF.format("128.0.0.0/1")
MISSING = f"{ACTIVE}; {{}} is not in the VPN's table yet; run `fz-iproute sync`"
BY_MAIN = "{} of table main, by rule 32766 (from all lookup main)"
BY_VPN = "{} of table 539098368, by rule 32765 (not from all fwmark 0xfd002021 lookup 539098368)"
USELESS = f"{ACTIVE}; a copy of {{}} in table {{}} would not change that"
OURS = "stays on this machine, because the address is its own"
COPIED = "leaves by eth0 to the LAN, because {} is copied into the VPN's table"
LEFT = "leaves by eth0 to the LAN, because table 539098368 has a stale copy of 192.168.1.0/24"
UNWANTED = LEFT.replace("has a stale copy of 192.168.1.0/24", "still has a copy of 192.168.1.0/24 ({})")
OWN_ROUTE = "the VPN's table has its own route to 192.168.0.0/16"
STALE_7 = LEFT.replace("192.168.1.0/24", "192.168.1.7")
NARROW = "route add 192.168.1.7 dev eth0 proto static scope link"
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
            "192.168.1.7 mark=0xfd002021": f"leaves by eth0 to the LAN: {BY_MAIN.format('192.168.1.0/24')}",
            "8.8.8.8 oif=eth0": f"leaves by eth0 through the router 192.168.1.1: {BY_MAIN.format('default')}",
            "8.8.8.8 oif=docker0": "leaves by docker0, because the sender is bound to it: no route is used",
            "8.8.8.8 src=10.3.3.3": "cannot be sent: its source is not an address of this machine",
            **dict.fromkeys(("192.168.1.5", "fd00:1::5", "0.0.0.0"), OURS),
            "fd00:1::": f"{OURS} (anycast)",
            "192.168.1.255": "leaves by eth0 to everybody on the LAN, because it is the broadcast address there",
            "ff02::fb": "leaves by eth0 to all listeners there, because IPv6 sends multicast by one interface; "
            "lan.multicast does not change that",
            "224.0.0.251": f"{ACTIVE}; lan.multicast = true would send it to the LAN",
            "255.255.255.255": f"{ACTIVE}; lan.multicast = true would send it to the LAN",
            "224.0.0.251 iif=eth0 src=192.168.1.9": "stays on this machine, because it is a multicast packet",
        },
    ),
    (SERVED, {"192.168.1.7": COPIED.format("192.168.1.0/24"), "fd00:1::7": COPIED.format("fd00:1::/64")}),
    (
        [*SPLIT, *HALVES],
        {"8.8.8.8": HALF.format("0.0.0.0/1"), "192.168.1.7": MISSING.replace(ACTIVE, OF_HALF).format("192.168.1.0/24")},
    ),
    (
        [*FIREZONE, *OTHERS],
        {
            "203.0.113.7": f"leaves by eth0 through the router 192.168.1.1: {BY_MAIN.format('default')}",
            "198.51.100.7": f"is refused: {BY_VPN.format('unreachable 198.51.100.0/24')}",
            "198.18.0.7": "leaves by eth0 through the router 192.168.1.1, "
            "because the route 198.18.0.0/15 of table 539098368 leads there",
            "192.0.2.7": "leaves by eth0 to the LAN: 192.0.2.0/24 of table 77, "
            "by rule 50 (from all to 192.0.2.0/24 lookup 77)",
            "99.0.0.1": "goes into wg0, which may be a tunnel: default of table 78, "
            "by rule 53 (from all to 99.0.0.0/8 lookup 78)",
            "192.0.3.7": "is refused: rule 54 (from all to 192.0.3.0/24 prohibit)",
        },
    ),
    (
        [*FIREZONE, *IN_MAIN],
        {
            "10.0.3.3": f"{ACTIVE}; main has 10.0.0.0/16 via 192.168.1.1 dev eth0 proto boot scope global: "
            'lan.allow = ["10.0.0.0/16"] would copy it',
            "10.1.3.3": f"{ACTIVE}; main has 10.1.0.0/16 proto boot scope global nexthop via 192.168.1.1 dev eth0 "
            'nexthop via 172.17.0.2 dev docker0: lan.allow = ["10.1.0.0/16"] would copy it',
            "10.2.3.3": f"{ACTIVE}; main has 10.2.0.0/16 via 192.168.1.1 dev eth0 proto boot scope global mtu 1400: "
            'lan.allow = ["10.2.0.0/16"] would copy it, unless one of its metrics is locked',
            "10.9.0.7": f"{ACTIVE}; main has unreachable 10.9.0.0/24 proto boot scope global: it rejects packets",
            "10.7.0.7": f"{ACTIVE}; main has 10.7.0.0/24 via 10.66.0.1 dev tun-firezone proto boot scope global: "
            "it leads into the tunnel",
            "10.66.0.9": f"{ACTIVE}; 10.66.0.0/24 is not copied: tun-firezone is the tunnel",
            "fd00:9::7": f"{ACTIVE}; main has fd00:9::/64 dev eth0 proto boot metric 1024 pref medium: it has expired",
            "fd00:8::7": f"{ACTIVE}; main has fd00:8::/48 via fd00:1::1 dev eth0 proto boot metric 1024 pref medium: "
            'lan.allow = ["fd00:8::/48"] would copy it',
            "10.128.7.7": MISSING.format("10.128.0.0/16"),
            "100.64.0.9": "goes into the tunnel, because the VPN routes 100.64.0.0/11 explicitly; "
            "a copy of 100.64.0.0/10 in table 539098368 would not change that",
            "10.1.3.3 mark=0xfd002021": f"leaves by eth0 or docker0 through routers: {BY_MAIN.format('10.1.0.0/16')}",
            "10.8.0.7": f"{ACTIVE}; main has 10.8.0.0/24 dev eth0 proto boot scope global: "
            'lan.allow = ["10.8.0.0/24"] would copy it',
            "2001:db8::1": f"{ACTIVE}; main has 2001:db8::/32 via fd00:1::1 dev eth0 proto boot metric 1024 "
            "pref medium: wider than lan.min_prefixlen.inet6 = 48",
        },
    ),
    (
        [*FIREZONE, *IN_MAIN, f"route add 100.96.0.0/11 dev tun-firezone table {MIRROR}"],
        {
            "100.96.7.9": "goes into the tunnel, because the VPN routes 100.96.0.0/11 explicitly; "
            "100.96.7.0/24 is not copied: the VPN's table has its own route to 100.96.0.0/11"
        },
    ),
    (
        [
            *SERVED,
            "route add unreachable 192.168.1.66",
        ],
        {
            "192.168.1.66": f"{COPIED.format('192.168.1.0/24')}; main has unreachable 192.168.1.66 "
            "proto boot scope global: it rejects packets",
        },
    ),
    (
        [*TIERED, *HALVES],
        {
            "192.168.1.7": USELESS.replace(ACTIVE, OF_HALF).format("192.168.1.0/24", LAN),
            "172.18.0.7": OF_HALF,
        },
    ),
    (
        [*TIERED, f"route add throw 172.17.0.0/17 table {LAN}"],
        {
            "172.17.0.7": USELESS.format("172.17.0.0/16", LAN),
        },
    ),
    (
        [*UNCOPIED, *HALVES],
        {
            "192.168.1.7": USELESS.replace(ACTIVE, OF_HALF).format("192.168.1.0/24", LAN),
        },
    ),
    (
        [line.replace(f"lookup {LAN}", f"lookup {LAN} suppress_prefixlength 24") for line in TIERED],
        {"192.168.1.7": USELESS.format("192.168.1.0/24", LAN)},
    ),
    (
        [*FIREZONE, "route del default", "-6 route del default", "-6 route add fd00:9::/64 dev eth0 expires -1"],
        {
            "8.8.8.8": ACTIVE,
            "8.8.8.8 mark=0xfd002021": "cannot be sent: no rule leads to a route",
            "fd00:9::7": f"{ACTIVE}; main has fd00:9::/64 dev eth0 proto boot metric 1024 pref medium: it has expired",
        },
    ),
    (
        FIREZONE[1:],  # IPv6 only
        {"8.8.8.8": f"leaves by eth0 through the router 192.168.1.1: {BY_MAIN.format('default')}"},
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
            "8.8.8.8": f"is refused: {BY_VPN.format('unreachable default')}",
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
        [*FIREZONE, STALE, f"route add 192.168.0.0/16 dev tun-firezone table {MIRROR}"],
        {
            "192.168.1.7": f"{UNWANTED.format(OWN_ROUTE)}{GONE}; `fz-iproute sync` removes that route; "
            "then packets enter tun-firezone: "
            f"{BY_VPN.format('192.168.0.0/16')}"
        },
    ),
    (
        [*SERVED, f"{NARROW} table {MIRROR}"],
        {"192.168.1.7": f"{STALE_7}; `fz-iproute sync` removes that route; then 192.168.1.0/24 leads to eth0"},
    ),
    (
        [*FIREZONE, f"route add 192.168.1.0/24 dev tun-firezone table {MIRROR}", f"{NARROW} table {MIRROR}"],
        {
            "192.168.1.7": f"{STALE_7}; `fz-iproute sync` removes that route; then packets enter tun-firezone: "
            f"{BY_VPN.format('192.168.1.0/24')}"
        },
    ),
    # The tunnel has an address in the LAN, so main has two routes to it.
    *(
        (
            [*SERVED, f"route add 192.168.1.0/24 dev tun-firezone proto kernel scope link metric {metric}"],
            {"192.168.1.7": COPIED.format("192.168.1.0/24")},
        )
        for metric in (9, 999)
    ),
    (
        [*SERVED, f"{FROM_5} lookup 77", "route add default dev tun-firezone table 77"],
        {
            "192.168.1.7": f"{COPIED.format('192.168.1.0/24')}; but a program that connects sends from 192.168.1.5: "
            "rule 50 decides, and it leaves by tun-firezone",
            "192.168.1.7 src=192.168.1.5": "goes into the tunnel: default of table 77, "
            "by rule 50 (from 192.168.1.5 lookup 77); "
            "a copy of 192.168.1.0/24 in table 539098368 would not change that",
        },
    ),
    (
        [*SERVED, f"{FROM_5} lookup 77", "route add default via 192.168.1.1 dev eth0 table 77"],
        {
            "192.168.1.8": f"{COPIED.format('192.168.1.0/24')}; but a program that connects sends from 192.168.1.5: "
            "rule 50 decides, and it leaves by eth0 through the router 192.168.1.1",
        },
    ),
    (
        [*SERVED, f"{FROM_5} prohibit"],
        {
            "192.168.1.7": f"{COPIED.format('192.168.1.0/24')}; but a program that connects sends from 192.168.1.5: "
            "rule 50 decides, and it fails (Permission denied)"
        },
    ),
    # Machines of other VPNs
    (
        WIREGUARD,
        {
            "192.168.1.7": "goes into wg0, which may be a tunnel: default of table 51820, "
            "by rule 32765 (not from all fwmark 0xca6c lookup 51820); a copy of 192.168.1.0/24 in table 539098368 "
            "would not change that; `detect` says whether a copy in table 51820 would",
        },
    ),
    (
        ["route add 0.0.0.0/1 via 10.64.0.1 dev tun0"],  # as OpenVPN does
        {"1.1.1.1": f"goes into tun0, which may be a tunnel: {BY_MAIN.format('0.0.0.0/1')}"},
    ),
    (
        ["route del default", "route add default dev ppp0"],  # a modem
        {"8.8.8.8": f"leaves by ppp0 to the internet: {BY_MAIN.format('default')}"},
    ),
    (
        ["route del default", "route add default dev docker0"],
        {
            "10.3.3.3": f"leaves by docker0: {BY_MAIN.format('default')}",
            "192.168.1.7": f"leaves by eth0 to the LAN: {BY_MAIN.format('192.168.1.0/24')}",
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
    return Case(Judgement(config, seen, network), packet, network.way(packet), "fz-iproute sync", network)


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
    assert f"{ACTIVE}; 203.0.113.0/24 is not copied: {reason}" == sentence(case(lines, "203.0.113.9", config))
    placeholder = "goes into the tunnel, because a placeholder keeps the VPN's client from copying 203.0.113.0/24"
    assert f"{placeholder} ({reason}); 203.0.113.0/24 is not copied: {reason}" == sentence(
        case([*lines, HELD], "203.0.113.9", config)
    )


@pytest.mark.parametrize(
    ("lines", "address", "why"),
    [
        (FIREZONE, "8.8.8.8", "all traffic goes into tun-firezone"),
        (without("-6", FIREZONE), "8.8.8.8", "IPv4 goes into tun-firezone (IPv6 leaves by eth0)"),
        (without("-6", FIREZONE), "192.168.1.7", "IPv4 goes into tun-firezone (IPv6 leaves by eth0)"),
        (
            [*without("-6", FIREZONE), "-6 rule add pref 9 lookup 77", "-6 route add default dev wg0 table 77"],
            "8.8.8.8",
            "IPv4 goes into tun-firezone (IPv6 goes into wg0)",
        ),
        (
            [*FIREZONE, "rule add pref 9 to 8.0.0.0/7 lookup main"],
            "192.168.1.7",
            "IPv4 and IPv6 go into tun-firezone (some IPv4 leaves by eth0)",
        ),
        (
            [*without("rule", FIREZONE), f"rule add pref 9 uidrange 0-999 lookup {MIRROR}"],
            "8.8.8.8",
            "table 539098368 routes default there",
        ),
    ],
)
def test_the_tunnel_is_said_to_take_no_more_than_it_does(lines: list[str], address: str, why: str) -> None:
    found = case(lines, address, uid=0)
    assert sentence(found).partition("; ")[0] == f"goes into the tunnel, because {why}"
    unread = sentence(found._replace(whole=None)).partition("; ")[0]
    assert unread == "goes into the tunnel, because table 539098368 routes default there"


@pytest.mark.parametrize("prune", [True, False])
def test_a_copy_that_a_setting_leaves_out_is_not_called_stale(prune: bool) -> None:
    config = configured(Config(), lan={"deny": (Prefix.parse("192.168.0.0/16"),), "prune": prune})
    said = sentence(case(SERVED, "192.168.1.7", config))
    assert said.startswith(UNWANTED.format("lan.deny has 192.168.0.0/16")), said


def test_where_lan_multicast_is_set_its_route_is_missing() -> None:
    config = configured(Config(), lan={"multicast": True})
    said = MISSING.format("224.0.0.0/4")
    assert said == sentence(case(SERVED, "224.0.0.251", config))


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
    assert sentence(others).startswith("is refused: unreachable 198.51.100.0/24 of table")


@pytest.mark.parametrize(
    ("lines", "question", "error"),
    [
        ([*FIREZONE, STALE], "192.168.1.7", "Network is unreachable"),
        (SERVED, "192.168.1.7", ""),
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
    "from 10.0.0.0/8 lookup 5": "does not match: the packet is not from 10.0.0.0/8",
    "iif eth0 lookup 5": "does not match: the packet is not received by eth0",
    "oif eth0 lookup 5": "does not match: the packet is not bound to eth0",
    "tos 0x10 lookup 5": "does not match: the packet is not of tos 0x10",
    "fwmark 0x7 ipproto 6 lookup 5": "does not match: the packet is not marked 0x7",
    "l3mdev unreachable": "does not match: the packet is not of a VRF",
    "ipproto 6 lookup 5": "assumed not to match: unknown whether it is of ipproto tcp",
    "lookup 5": "no route to the address",
    "lookup 6": "throw 8.0.0.0/8 proto boot scope global: on to the next rule",
    "lookup 7": "throw 8.8.0.0/16 proto 245 scope global: a placeholder, on to the next rule",
    "lookup main suppress_prefixlength 0": "default via 192.168.1.1 dev eth0 proto dhcp scope global: suppressed",
    "lookup 8": "default dev wg0 proto boot scope link",
}
RECEIVED, NOT_SENT = "8.8.8.8 iif=eth0 src=192.168.1.9", "does not match: the packet is not sent by this machine"
THROWS = ["route add throw 8.0.0.0/8 table 6", "route add throw 8.8.0.0/16 proto 245 table 7"]


@pytest.mark.parametrize(
    ("lines", "question", "said"),
    [
        (STEPS, "8.8.8.8", [*STEPS.values()]),
        (["not dport 53 lookup 8"], "8.8.8.8", [STEPS["lookup 8"]]),  # as for most packets
        (["lookup 6", "prohibit"], "8.8.8.8", [STEPS["lookup 6"], "prohibit"]),
        (["iif lo lookup 5", "lookup 8"], RECEIVED, [NOT_SENT, STEPS["lookup 8"]]),
    ],
)
def test_the_result_of_each_rule_is_said(lines: Sequence[str], question: str, said: list[str]) -> None:
    rules = [f"rule add pref {number} {line}" for number, line in enumerate(lines, start=11)]
    found = asked([*THROWS, "route add default dev wg0 table 8", *rules], question)
    assert said == [step_text(step, found.packet) for step in found.decision.steps[1:]]
