"""Real VPNs: `detect` finds each of them, and its advice keeps the LAN reachable and the internet in the tunnel."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.netns.namespace import LAN, wait_until
from tests.packets.terrain import HOSTS, NEIGHBOURS, UPLINK
from tests.peers.terrain import SERVER, Laptop
from tests.peers.vpns import OpenConnect, OpenVpn, Vpn, WireGuard
from tests.watch.daemon import Daemon

Served = Callable[[type[Vpn]], Vpn]


class Case(NamedTuple):
    """A client, and what `detect` says of it."""

    kind: type[Vpn]
    options: list[str]
    rules: str
    product: str
    fwmark: str | None
    table: int
    families: tuple[str, ...] = ("inet", "inet6")

    @property
    def count(self) -> int:
        return len(self.families)


DEF1 = ["--redirect-gateway", "def1"]
IPV4 = "AllowedIPs = 0.0.0.0/0"

KEPT = {
    "wg-quick": Case(WireGuard, [], "", "wg-quick", "0xca6c", 51820),
    "wg-quick, IPv4 only": Case(WireGuard, [IPV4], "", "wg-quick", "0xca6c", 51820, ("inet",)),
    "OpenVPN": Case(OpenVpn, [*DEF1, "ipv6"], "", "OpenVPN", None, 254),
    "OpenVPN, IPv4 only": Case(OpenVpn, DEF1, "", "OpenVPN", None, 254, ("inet",)),
    "OpenConnect": Case(OpenConnect, [], "", "unknown", None, 254),
}

# wg-quick's own rules keep the LAN.
WITHOUT_SUPPRESS = [f"PostUp = ip {family} rule del table main suppress_prefixlength 0" for family in ("-4", "-6")]
# Scripts that add or delete what leads into the table 333.
OWN_RULES = "for family in -4 -6; do ip $family rule $1 not fwmark {} lookup 333 pref 30000; done\n"
OWN_ROUTES = '[ "$1" = del ] || for family in -4 -6; do ip $family route add default dev tun0 table 333; done\n'
WITHOUT_MARK = f"""\
ip rule $1 to {SERVER} lookup main pref 29000
for family in -4 -6; do ip $family rule $1 lookup 333 pref 30000; done
"""

CUT = {
    "wg-quick without its rules for main": Case(WireGuard, WITHOUT_SUPPRESS, "", "unknown", "0xca6c", 51820),
    "the same, IPv4 only": Case(
        WireGuard, [WITHOUT_SUPPRESS[0], IPV4], "", "unknown", "0xca6c", 51820, ("inet",)
    ),
    "wg-quick with own rules": Case(
        WireGuard, ["Table = 333", "FwMark = 0x29a"], OWN_RULES.format("0x29a"), "unknown", "0x29a", 333
    ),
    "wg-quick with a masked mark": Case(
        WireGuard, ["Table = 333", "FwMark = 0x12900"], OWN_RULES.format("0x2900/0xff00"),
        "unknown", "0x2900/0xff00", 333,
    ),
    "OpenVPN with own rules": Case(
        OpenVpn, ["--route-nopull", "--mark", "666"], OWN_RULES.format("0x29a") + OWN_ROUTES, "unknown", "0x29a", 333
    ),
    "OpenConnect with own rules": Case(OpenConnect, [], WITHOUT_MARK + OWN_ROUTES, "unknown", None, 333),
}  # fmt: skip


def detected(laptop: Laptop, code: int = 0) -> list[dict[str, Any]]:
    """The VPNs that `detect` finds."""
    found: list[dict[str, Any]] = json.loads(laptop.fz("detect", "--json", code=code))["vpns"]
    return found


def complaints(laptop: Laptop, *options: str) -> dict[str, str]:
    """The checks of `doctor` that fail or warn, and their remedies."""
    checks = json.loads(laptop.fz_done(*options, "doctor", "--json").stdout)["checks"]
    return {check["name"]: check["remedy"] for check in checks if check["level"] in ("failure", "warning")}


def answering(laptop: Laptop) -> list[bool]:
    """Which of the neighbours answer a ping: that of IPv4, that of IPv6."""
    return [laptop.answers(address) for address in NEIGHBOURS]


def assert_only_the_tunnel_carries(laptop: Laptop, device: str, families: int = 2) -> None:
    """The hosts of the internet answer, and the uplink carries no packet to or from them, except encrypted."""
    ways = [{device}] * families + [{UPLINK}] * (2 - families)
    assert dict(zip(HOSTS, ways, strict=True)) == laptop.goes_by(device, UPLINK)


@pytest.mark.parametrize("case", KEPT.values(), ids=KEPT)
def test_a_vpn_that_keeps_the_lan_needs_nothing(case: Case, laptop: Laptop, served: Served) -> None:
    vpn, before = served(case.kind), laptop.routing()
    assert [] == detected(laptop, code=1)
    with vpn.up(case.options, case.rules, case.count):
        (found,) = detected(laptop)
        assert_is(case, found, lan="kept", advice="nothing")
        assert not found["config"]
        leaks = {"leak"} if case.count == 1 else set()  # IPv6 stays outside
        assert leaks == complaints(laptop).keys()
        assert [True, True] == answering(laptop)
        assert_only_the_tunnel_carries(laptop, vpn.device, case.count)
    wait_until(lambda: before == laptop.routing(), "the VPN has left nothing")


def assert_is(case: Case, found: dict[str, Any], **also: str) -> None:
    said = {"product": case.product, "interface": case.kind.device, "fwmark": case.fwmark, "table": case.table}
    said |= {"families": list(case.families), **also}
    assert said == {key: found[key] for key in said}


@pytest.mark.parametrize("case", CUT.values(), ids=CUT)
def test_what_detect_writes_gives_the_lan_back_and_leaks_nothing(
    case: Case, laptop: Laptop, served: Served, tmp_path: Path
) -> None:
    vpn, before = served(case.kind), laptop.routing()
    assert {host: {UPLINK} for host in HOSTS} == laptop.goes_by(UPLINK)
    file = str(tmp_path / "config.toml")
    with vpn.up(case.options, case.rules, case.count):
        (found,) = detected(laptop)
        assert_is(case, found, lan="cut", advice="mirror")
        assert [False, case.count == 1] == answering(laptop)

        connected = laptop.routing()
        laptop.fz("detect", "--write", file)
        assert found["config"] == Path(file).read_text()
        leaks = {"leak"} if case.count == 1 else set()
        found_before = complaints(laptop, "-c", file)
        assert {"mirror", *leaks} == found_before.keys()
        assert found_before["mirror"].endswith(f"fz-iproute -c {file} --netns {laptop.name} sync")
        laptop.fz("-c", file, "sync")
        assert leaks == complaints(laptop, "-c", file).keys()
        assert [True, True] == answering(laptop)
        assert_only_the_tunnel_carries(laptop, vpn.device, case.count)

        laptop.fz("-c", file, "down")
        assert connected == laptop.routing()
        laptop.fz("-c", file, "sync")

    # The copies are still there, but no rule leads to them.
    assert [True, True] == answering(laptop)
    assert {host: {UPLINK} for host in HOSTS} == laptop.goes_by(UPLINK)
    assert before == laptop.routing(without=case.table)
    laptop.fz("-c", file, "down")
    assert before == laptop.routing()


def test_a_split_tunnel_is_not_found(laptop: Laptop, served: Served) -> None:
    hosts = ", ".join(HOSTS)
    with served(WireGuard).up([f"AllowedIPs = {hosts}"]):
        assert [] == detected(laptop, code=1)
        assert_only_the_tunnel_carries(laptop, "wg0")


def test_a_vpn_that_moved_is_detected_again(laptop: Laptop, served: Served, tmp_path: Path) -> None:
    """wg-quick takes the next table if copies are left in its usual one."""
    vpn, before = served(WireGuard), laptop.routing()
    files = [str(tmp_path / name) for name in ("first", "second")]
    for file, table in zip(files, (51820, 51821), strict=True):
        with vpn.up(WITHOUT_SUPPRESS):
            (found,) = detected(laptop)
            assert (table, hex(table), "mirror") == (found["table"], found["fwmark"], found["advice"])
            if table == 51821:
                said = laptop.fz_done("-c", files[0], "sync").stderr
                assert (
                    "no rule leads to table 51820, but all traffic goes into wg0 (IPv4 and IPv6) by table 51821" in said
                )
            laptop.fz("detect", "--write", file)
            laptop.fz("-c", file, "sync")
            assert [True, True] == answering(laptop)
            assert_only_the_tunnel_carries(laptop, "wg0")
    for file in files:
        laptop.fz("-c", file, "down")
    assert before == laptop.routing()


@pytest.mark.parametrize("name", ["OpenVPN", "OpenVPN with own rules"])
def test_of_two_vpns_one_takes_all_traffic(name: str, laptop: Laptop, served: Served) -> None:
    """The rule of wg-quick comes before main, but after that of OpenVPN."""
    case = (KEPT | CUT)[name]
    clients = [(WireGuard, WITHOUT_SUPPRESS, ""), (OpenVpn, case.options, case.rules)]
    if case.table == 254:
        clients.reverse()
    second, first = (kind.device for kind, *_ in clients)
    with ExitStack() as stack:
        for kind, options, rules in clients:
            stack.enter_context(served(kind).up(options, rules))
        found = [(vpn["interface"], vpn["lan"], vpn["advice"]) for vpn in detected(laptop)]
        assert [(first, "cut", "mirror"), (second, "cut", "nothing")] == found
        text = laptop.fz("detect")
        assert text.startswith(f"all traffic goes into {first} (IPv4 and IPv6)\n")
        assert f"\n{second} would carry all traffic, but another rule comes first\n" in text


def test_auto_follows_each_vpn_and_leaves_nothing_behind(
    laptop: Laptop, served: Served, watch: Callable[[str], Daemon]
) -> None:
    """So wg-quick finds its usual table empty each time."""
    before = laptop.routing()
    daemon = watch('[tunnel]\ninterface = "auto"\n')
    for name in (*list(CUT)[::5], "wg-quick", "OpenVPN with own rules", "wg-quick without its rules for main"):
        case = (KEPT | CUT)[name]
        with served(case.kind).up(case.options, case.rules):
            assert case.table == detected(laptop)[0]["table"]
            wait_until(lambda: {laptop.way(host) for host in NEIGHBOURS} == {LAN}, f"{name}: the LAN is reached")
            assert [True, True] == answering(laptop)
            assert_only_the_tunnel_carries(laptop, case.kind.device)
        wait_until(lambda: before == laptop.routing(), f"{name}: nothing is left")
    assert [] == daemon.complaints
