"""Small machines on which `explain` and `status` could easily say something false; the kernel judges what they say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.netns.namespace import LAN, MIRROR, TUNNEL, Machine, Namespace, run, wait_until


def explained(namespace: Namespace, *argv: str, config: str = "", code: int = 0) -> dict[str, Any]:
    """The first answer of `explain`."""
    found: dict[str, Any] = json.loads(namespace.fz("explain", *argv, "--json", config=config, code=code))
    return dict(found["answers"][0])


def test_the_tunnel_that_carries_ipv4_is_named_and_not_the_configured_one(machine: Machine) -> None:
    machine.ip("route", "del", "default", "table", str(MIRROR))
    machine.tunnel("wg7")
    machine.ip("route", "add", "default", "dev", "wg7", "table", str(MIRROR))
    config = '[tunnel]\ninterface = "wg-somewhere"\n'
    said = explained(machine, "9.9.9.9", config=config)["sentence"]
    assert f"goes into the tunnel, because IPv4 goes into wg7 (IPv6 goes into {TUNNEL})" == said
    first, *_ = machine.fz("status", config=config).splitlines()
    assert first.startswith("VPN    wg-somewhere is missing, but ") and f"table {MIRROR} leads into " in first


@pytest.mark.parametrize(
    ("change", "item", "said"),
    [
        ("link set lan1 down", "is down: no LAN is reached by it", "lan1 is down"),
        ("link set far1 down", "has no carrier: 10.1.0.0/24 cannot be reached", "; but lan1 has no carrier"),
        ("address flush dev lan1", "has no address: no LAN is reached by it", "lan1 has no address"),
        (
            "route del 10.1.0.0/24",
            "has the address 10.1.0.1, and main no route to its network",
            "with this address: lan1 has the address 10.1.0.1, and main no route to its network",
        ),
    ],
)
def test_an_interface_that_does_not_reach_its_lan_is_named(change: str, item: str, said: str, machine: Machine) -> None:
    machine.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    machine.veth("lan1", "10.1.0.1/24", peer="far1")
    machine.ip("address", "add", "10.3.0.1/24", "dev", "far1")
    machine.fz("sync")
    machine.ip(*change.split())
    if change.startswith("route"):
        machine.fz("sync")  # until then, the copy reaches it
    wait_until(lambda: f" lan1  {item}" in machine.fz("status"), "the kernel noticed")
    assert said in explained(machine, "10.1.0.7")["sentence"]
    assert f"lan1 {item}" in " ".join(machine.fz("doctor").split())


@pytest.mark.parametrize("is_plugged", [True, False])
def test_a_copy_by_a_card_without_a_carrier_makes_no_lan_reachable(machine: Machine, *, is_plugged: bool) -> None:
    def lan() -> str:
        return machine.fz("status").splitlines()[1].partition("→")[0].strip()

    machine.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    machine.veth("lan1", "10.1.0.1/24", peer="far1")
    machine.fz("sync")
    machine.ip("link", "set", "far1", "up" if is_plugged else "down")
    wait_until(lambda: ("NO-CARRIER" in machine.ip("link", "show", "lan1")) is not is_plugged, "the kernel noticed")
    in_step = lan()
    machine.ip("route", "del", "10.1.0.0/24", "dev", "lan1", "table", str(MIRROR))
    assert TUNNEL == machine.way("10.1.0.7")
    assert is_plugged is (lan() != f"{in_step}; not in step")
    assert is_plugged is (lan() < in_step)
    machine.fz("sync")
    assert ("lan1", in_step) == (machine.way("10.1.0.7"), lan())


WARNED = re.compile("^warning: main has lost the route of fd00:188::/64, .*; `(.*)` gives main its route back$", re.M)
HOST6 = "fd00:188::7"
LOST_HERE = f"main has lost the route of fd00:188::/64, but {LAN} still has the address fd00:188::112"


@pytest.mark.parametrize(
    ("vpns", "is_lost"),
    [
        ("", True),
        ("fd00:188::/64 metric 1024", True),
        ("fd00:188::/60", True),
        ("fd00:188::/64 metric 5", False),
    ],
)
def test_a_sync_that_cuts_a_lan_whose_route_main_has_lost_is_told_before(
    vpns: str, machine: Machine, *, is_lost: bool
) -> None:
    """Of two routes to the same prefix, the kernel uses the one with the lower metric."""
    machine.fz("sync")
    machine.ip("-6", "route", "del", "fd00:188::/64", "dev", LAN)
    if vpns:
        machine.ip("-6", "route", "add", *vpns.split(), "dev", TUNNEL, "table", str(MIRROR))
    assert is_lost is (machine.way(HOST6) == LAN)
    status = machine.fz("status")
    assert is_lost is ("sync would cut this LAN" in status)
    assert is_lost is not bool(re.search("→ .* sync$", status, re.MULTILINE))
    assert is_lost is (f"{LOST_HERE}: `" in explained(machine, HOST6)["sentence"])
    found = json.loads(machine.fz("doctor", "--json", code=1))["checks"]
    remedy = "".join(each["remedy"] for each in found if each["seen"] == LOST_HERE)
    commands = [*WARNED.findall(machine.fz_done("plan").stderr), *WARNED.findall(machine.fz_done("sync").stderr)]
    assert ([commands[0]] * 2 if is_lost else []) == commands
    assert TUNNEL == machine.way(HOST6)
    for command in commands[:1]:
        assert command in remedy
        run("sh", "-c", command)
        machine.fz("sync")
        assert LAN in machine.ip("-6", "route", "show", "fd00:188::/64")
        assert (TUNNEL if vpns else LAN) == machine.way(HOST6)


def test_a_lan_that_main_has_by_another_card_is_not_lost(machine: Machine) -> None:
    machine.veth("lan1", "192.168.188.6/24 metric 900", peer="far1", to=machine.neighbour)
    machine.fz("sync")
    machine.ip("route", "del", "192.168.188.0/24", "dev", "lan1")
    for _ in range(2):
        assert LAN == machine.way("192.168.188.7")
        said = machine.fz("status") + machine.fz_done("doctor").stdout + machine.fz_done("plan").stderr
        assert not re.search("main has lost|cut this LAN|main no route", said)
        machine.fz("sync")
    machine.ip("route", "del", "192.168.188.0/24", "dev", LAN)
    assert LAN == machine.way("192.168.188.7")
    assert "sync would cut this LAN" in machine.fz("status")


def test_a_lan_that_the_machine_has_left_goes_without_a_warning(machine: Machine) -> None:
    machine.fz("sync")
    machine.ip("address", "flush", "dev", LAN, "scope", "global")
    assert "main has no such route" in machine.fz("plan")
    assert ["", ""] == [machine.fz_done("-q", verb).stderr for verb in ("plan", "sync")]


@pytest.mark.parametrize("options", [[], ["--redact"]])
def test_a_route_into_a_forbidden_group_is_suppressed(options: list[str], machine: Machine, tmp_path: Path) -> None:
    machine.ip("link", "set", "dev", TUNNEL, "group", "57841")
    machine.batch(["rule del pref 32765", f"rule add pref 50 lookup {MIRROR} suppress_ifgroup 57841"])
    machine.fz("sync")
    assert ["uplink0", LAN] == [machine.way(address) for address in ("8.8.8.8", "192.168.188.1")]
    path = tmp_path / "snapshot"
    machine.fz("snapshot", *options, "-o", str(path))
    recorded = json.loads(machine.fz("status", "--json", "--snapshot", str(path)))
    assert {"inet": "off", "inet6": "active"} == recorded["tunnel"]["internet"]
    assert {"inet": "off", "inet6": "active"} == machine.status()["tunnel"]["internet"]
    assert [] == explained(machine, "8.8.8.8")["doubts"]


# Received packets


@pytest.mark.parametrize(
    ("sysctls", "argv", "said"),
    [
        (
            {"ip_forward": 0},
            ["1.1.1.1", "--from", "192.168.188.50"],
            f"is dropped: this machine does not forward what {LAN} receives (net.ipv4.conf.{LAN}.forwarding = 0); "
            "by rules and routes, it goes into the tunnel",
        ),
        (
            {f"conf.{LAN}.rp_filter": 1},
            ["192.168.188.112", "--from", "8.8.8.8"],
            f"is dropped: {LAN} has a strict rp_filter, and the answer to its source would leave by {TUNNEL}; ",
        ),
        ({}, ["1.1.1.1", "--from", "10.77.0.2"], "is dropped: its source is an address of this machine; "),
        ({}, ["192.168.188.112", "--from", "224.0.0.9"], "is dropped: "),
        ({}, ["127.0.0.1", "--from", "192.168.188.50"], "is dropped: the kernel does not accept it by "),
        ({f"conf.{LAN}.rp_filter": 2}, ["192.168.188.112", "--from", "8.8.8.8"], "stays on this machine"),
        ({}, ["1.1.1.1", "--from", "192.168.188.50"], "goes into the tunnel"),
    ],
)
def test_a_received_packet_that_is_dropped_is_no_disagreement(
    sysctls: dict[str, int], argv: list[str], said: str, machine: Machine
) -> None:
    for name, value in ({"ip_forward": 1, "conf.all.rp_filter": 0, f"conf.{LAN}.rp_filter": 0} | sysctls).items():
        machine.sysctl(f"net.ipv4.{name}", value)
    machine.fz("sync")
    answer = explained(machine, *argv, "--iif", LAN)
    assert answer["sentence"].startswith(said)
    assert answer["kernel"]["agrees"]
    words = [argv[0], "from", argv[2], "iif", LAN]
    is_dropped = "RTNETLINK answers" in machine.ip("route", "get", *words, check=False)
    assert said.startswith("is dropped") is is_dropped


@pytest.mark.parametrize("dst", ["255.255.255.255", "224.0.0.1", "224.0.0.251", "192.168.188.255"])
@pytest.mark.parametrize("rule", ["to 255.255.255.255 unreachable", "to 224.0.0.0/4 prohibit"])
def test_rules_are_not_asked_about_what_is_received_for_everybody(dst: str, rule: str, machine: Machine) -> None:
    """Multicast is dropped unless somebody here listens, which the kernel knows."""
    machine.ip("rule", "add", *rule.split(), "pref", "9")
    said = machine.ip("route", "get", dst, "from", "192.168.188.50", "iif", LAN, check=False)
    answer = explained(machine, dst, "--from", "192.168.188.50", "--iif", LAN)
    assert answer["kernel"]["agrees"]
    assert answer["sentence"].startswith("stays on this machine" if "cache <local" in said else "is dropped: ")
