"""Real VPNs are found, and what `detect` advises gives their LAN back without opening the tunnel."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.netns.namespace import wait_until
from tests.peers.terrain import HOSTS, NEIGHBOURS, SERVER, UPLINK, Laptop
from tests.peers.vpns import OpenConnect, OpenVpn, Vpn, WireGuard

BOTH, IPV4 = ["inet", "inet6"], ["inet"]

# Own rules for the table 333. `$1` is add or del.
MARKED_OUT = "for family in -4 -6; do ip $family rule $1 not fwmark {mark} lookup 333 pref 30000; done\n"
DEFAULT = '[ "$1" = del ] || for family in -4 -6; do ip $family route add default dev tun0 table 333; done\n'
NO_MARK = (
    f"ip rule $1 to {SERVER} lookup main pref 29000\n"
    "for family in -4 -6; do ip $family rule $1 lookup 333 pref 30000; done\n"
)
# wg-quick's own rule that keeps the LAN.
WITHOUT_SUPPRESS = [
    f"PostUp = ip {family} rule del table main suppress_prefixlength 0" for family in ("-4", "-6")
]


class Case(NamedTuple):
    """A client, and what `detect` says of it."""

    kind: type[Vpn]
    options: list[str]
    rules: str
    advice: str
    product: str
    fwmark: str | None
    table: int
    families: list[str] = BOTH


CASES = {
    "wg-quick": Case(WireGuard, [], "", "nothing", "wg-quick", "0xca6c", 51820),
    "wg-quick, IPv4 only": Case(
        WireGuard, ["AllowedIPs = 0.0.0.0/0"], "", "nothing", "wg-quick", "0xca6c", 51820, IPV4
    ),
    "wg-quick without its suppress rule": Case(
        WireGuard, WITHOUT_SUPPRESS, "", "mirror", "unknown", "0xca6c", 51820
    ),
    "wg-quick without its suppress rule, IPv4 only": Case(
        WireGuard, [*WITHOUT_SUPPRESS[:1], "AllowedIPs = 0.0.0.0/0"], "", "mirror", "unknown", "0xca6c", 51820, IPV4
    ),
    "wg-quick with a table and rules": Case(
        WireGuard, ["Table = 333", "FwMark = 0x29a"], MARKED_OUT.format(mark="0x29a"), "mirror", "unknown", "0x29a", 333
    ),
    "wg-quick with a masked mark": Case(
        WireGuard, ["Table = 333", "FwMark = 0x12900"], MARKED_OUT.format(mark="0x2900/0xff00"),
        "mirror", "unknown", "0x2900/0xff00", 333,
    ),
    "OpenVPN": Case(OpenVpn, ["--redirect-gateway", "def1", "ipv6"], "", "nothing", "OpenVPN", None, 254),
    "OpenVPN, IPv4 only": Case(OpenVpn, ["--redirect-gateway", "def1"], "", "nothing", "OpenVPN", None, 254, IPV4),
    "OpenVPN with a table, rules and a mark": Case(
        OpenVpn, ["--route-nopull", "--mark", "666"], MARKED_OUT.format(mark="0x29a") + DEFAULT,
        "mirror", "unknown", "0x29a", 333,
    ),
    "OpenConnect": Case(OpenConnect, [], "", "nothing", "unknown", None, 254),
    "OpenConnect with a table and rules without a mark": Case(
        OpenConnect, [], NO_MARK + DEFAULT, "mirror", "unknown", None, 333
    ),
}  # fmt: skip


def neighbours_answer(laptop: Laptop) -> list[bool]:
    return [laptop.answers(address) for address in NEIGHBOURS]


@pytest.mark.parametrize("name", CASES)
def test_try(name: str, laptop: Laptop, served: Callable[[type[Vpn]], Vpn]) -> None:
    case = CASES[name]
    vpn = served(case.kind)
    families = len(case.families)
    before = laptop.routing()
    assert {host: {UPLINK} for host in HOSTS} == laptop.goes_by(UPLINK)
    with vpn.up(case.options, case.rules, families):
        expected = {host: {vpn.device} if n < families else {UPLINK} for n, host in enumerate(HOSTS)}
        assert expected == laptop.goes_by(vpn.device, UPLINK)
        assert [case.advice == "nothing" or n >= families for n in range(2)] == neighbours_answer(laptop)
    wait_until(lambda: before == laptop.routing(), "all as before")
