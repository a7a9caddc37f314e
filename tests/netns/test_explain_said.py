"""Small machines on which `explain` and `status` could easily say something false; the kernel judges what they say."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.netns.namespace import LAN, MAIN, MARK, MIRROR, TUNNEL, Machine, Namespace, run, wait_until

RULE = f"not from all fwmark {MARK:#x} lookup {MIRROR} pref 32765"
VRF_RULES = ["rule add pref 1000 l3mdev", "rule add pref 1001 l3mdev unreachable"]


def explained(namespace: Namespace, *argv: str, config: str = "", code: int = 0) -> dict[str, Any]:
    """The first answer of `explain`."""
    found: dict[str, Any] = json.loads(namespace.fz("explain", *argv, "--json", config=config, code=code))
    return dict(found["answers"][0])


def headline(namespace: Namespace, config: str = "") -> str:
    return namespace.fz("status", "--routes", config=config).splitlines()[0]


def test_the_tunnel_that_carries_all_traffic_is_named_and_not_the_configured_one(machine: Machine) -> None:
    machine.ip("route", "del", "default", "table", str(MIRROR))
    machine.tunnel("wg7")
    machine.ip("route", "add", "default", "dev", "wg7", "table", str(MIRROR))
    said = explained(machine, "9.9.9.9", config='[tunnel]\ninterface = "wg-somewhere"\n')["sentence"]
    assert "goes into the tunnel, because all traffic goes into wg7" == said


# The headline of status


NO_RULE = "rule del pref 32765"
IN_FRONT = "rule add pref 9 lookup main"
NO_DEFAULT = f"route del default table {MIRROR}"
HALVES = ("0.0.0.0/1", "128.0.0.0/1")
# As a router of the internet has them.
PARTS = [f"route add {first}.0.0.0/3 via 10.77.0.1 dev uplink0" for first in range(0, 224, 32)]


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        pytest.param([NO_RULE], "off", id="no rule"),
        pytest.param([NO_RULE, f"rule add {RULE.replace('32765', '32767')}"], "off", id="rule behind main"),
        pytest.param([IN_FRONT], "off", id="main in front"),
        pytest.param([NO_RULE, f"rule add {RULE.removeprefix('not ')}"], "off", id="mark not inverted"),
        pytest.param(["rule add pref 9 prohibit"], "blocked", id="rule that prohibits"),
        pytest.param([*(f"route add {half} via 10.77.0.1" for half in HALVES), IN_FRONT], "off", id="halves in main"),
        pytest.param(
            [NO_DEFAULT, *(f"route add {half} dev {TUNNEL} table {MIRROR}" for half in HALVES)], "active", id="halves"
        ),
        pytest.param([*PARTS, "route del default", IN_FRONT], "off", id="parts in main"),
        pytest.param([*PARTS, f"{IN_FRONT} suppress_prefixlength 0"], "off", id="parts in main without its default"),
        pytest.param(VRF_RULES, "active", id="rules for VRFs"),
    ],
)
def test_the_headline_tells_where_packets_to_the_internet_go(
    lines: list[str], state: str, machine: Machine, tmp_path: Path
) -> None:
    machine.batch(lines)
    ways = [machine.way(address) for address in ("8.8.8.8", "200.1.1.1")]
    assert [state == "active"] * 2 == [way == TUNNEL for way in ways]
    told = machine.status()["tunnel"]["internet"]
    assert {"inet": state, "inet6": "active"} == told
    assert ("IPv4 and IPv6 enter it" in headline(machine)) is (state == "active")
    path = tmp_path / "snapshot"
    machine.fz("snapshot", "-o", str(path))
    assert told == json.loads(machine.fz("status", "--json", "--snapshot", str(path)))["tunnel"]["internet"]


@pytest.mark.parametrize("table", [7113, MAIN])
def test_another_vpn_that_carries_all_traffic_is_named(table: int, namespace: Namespace) -> None:
    namespace.veth(LAN, "192.168.1.63/24")
    namespace.tunnel("outline-tun1", "10.0.85.5/24")
    halves = ["default"] if table != MAIN else ["0.0.0.0/1", "128.0.0.0/1"]
    namespace.batch(f"route add {half} via 10.0.85.1 dev outline-tun1 table {table}" for half in halves)
    namespace.batch([f"rule add not fwmark 0x711e lookup {table} pref 28958"])
    assert "outline-tun1" == namespace.way("8.8.8.8")
    carries = "IPv4 goes into outline-tun1 (IPv6 has no route)"
    assert headline(namespace) == f"no {TUNNEL} here, but {carries}"
    carrier = {"dev": ["outline-tun1"], "priority": 28958, "table": table}
    assert {"inet": carrier} == namespace.status()["tunnel"]["carriers"]


@pytest.mark.parametrize(
    ("end", "item", "said"),
    [
        ("lan1", "· lan1  is down: no LAN is reached by it", "goes into the tunnel, because all traffic goes into it"),
        ("far1", "· lan1  has no carrier: 10.1.0.0/24 cannot be reached", "; but lan1 has no carrier"),
    ],
)
def test_an_interface_that_does_not_work_is_named(end: str, item: str, said: str, machine: Machine) -> None:
    machine.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    machine.veth("lan1", "10.1.0.1/24", peer="far1")
    machine.fz("sync")
    machine.ip("link", "set", end, "down")
    wait_until(lambda: item in machine.fz("status"), "the kernel noticed")
    assert said.replace("into it", f"into {TUNNEL}") in explained(machine, "10.1.0.7")["sentence"]


# What the VPN takes of a LAN


def test_two_halves_that_cover_a_lan_take_it_together(machine: Machine) -> None:
    for half in ("192.168.188.0/25", "192.168.188.128/25"):
        machine.tunnel_route(half, MIRROR)
    machine.fz("sync")
    assert [TUNNEL] * 2 == [machine.way(address) for address in ("192.168.188.7", "192.168.188.200")]
    told = "shadow  192.168.188.0/25 and 192.168.188.128/25 of the VPN take all of the LAN 192.168.188.0/24"
    assert told in machine.fz("status", "--routes").splitlines()
    assert [True, True] == [shadow["whole"] for shadow in machine.status()["shadows"]]


@pytest.mark.parametrize(
    "lines",
    [
        [f"route add throw 192.168.188.0/24 table {MIRROR}"],
        ["rule add pref 105 lookup main suppress_prefixlength 0"],
        ["rule add pref 105 to 192.168.188.0/24 lookup main"],
    ],
)
def test_a_lan_that_answers_is_not_said_to_be_taken(lines: list[str], machine: Machine) -> None:
    machine.tunnel_route("192.168.0.0/16", MIRROR)
    assert "shadow  192.168.0.0/16 of the VPN takes all of the LAN 192.168.188.0/24" in machine.fz("status", "--routes")
    machine.batch(lines)
    assert machine.reaches("192.168.188.1")
    assert "shadow" not in machine.fz("status", "--routes")


# What main would do


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        ("10.0.0.0/16 via 10.77.0.1", "through a router: lan.allow would mirror it"),
        (f"10.9.0.0/24 dev {LAN} scope global", "on-link, but with scope global: lan.allow would mirror it"),
        ("unreachable 10.9.0.0/24", "main rejects it"),
        (
            "10.0.0.0/16 via 10.77.0.1 mtu lock 1400",
            "through a router: lan.allow would mirror it, unless one of its metrics is locked",
        ),
    ],
)
def test_status_lists_a_route_of_main_that_is_no_lan(route: str, reason: str, machine: Machine) -> None:
    machine.batch([f"route add {route}"])
    machine.fz("sync")
    (listed,) = machine.status()["uncopied"]
    assert reason == listed["reason"]
    assert "main    " in machine.fz("status", "--routes")


def test_an_expired_route_of_main_is_told(machine: Machine) -> None:
    """It stays listed for some seconds, and is not used."""
    machine.batch([f"-6 route add fd00:9::/64 dev {LAN} expires 1"])
    wait_until(lambda: "expires -" in " ".join(machine.route("fd00:9::/64", "main")), "the route has expired")
    said = explained(machine, "fd00:9::7")["sentence"]
    assert said.startswith("goes into the tunnel, because all traffic goes into tun-firezone")
    if machine.route("fd00:9::/64", "main"):
        assert said.endswith("and main has fd00:9::/64, but it has expired")


# Rules that are not understood


def test_rules_for_vrfs_change_nothing_without_a_vrf(machine: Machine, tmp_path: Path) -> None:
    machine.batch(VRF_RULES)
    machine.fz("sync")
    assert machine.reaches("192.168.188.1")
    answer = explained(machine, "192.168.188.1")
    assert ("unicast", [LAN], True) == (answer["outcome"], answer["dev"], answer["kernel"]["agrees"])
    path = tmp_path / "snapshot"
    machine.fz("snapshot", "-o", str(path))
    asked = ["lab", "--snapshot", str(path), "--", "ip", "route", "get", "192.168.188.1"]
    assert f"dev {LAN}" in run(*machine.fz_argv(*asked, netns=False), **machine.fz_options()).stdout


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


@pytest.mark.parametrize("selector", ["ipproto tcp", "dport 443"])
def test_in_doubt_the_kernel_s_answer_is_shown_and_not_compared(selector: str, machine: Machine) -> None:
    machine.ip("rule", "add", "pref", "50", *selector.split(), "lookup", "main")
    answer = explained(machine, "8.8.8.8")
    assert ({"agrees": None, "says": f"unicast dev {TUNNEL}"}, 1) == (answer["kernel"], len(answer["doubts"]))
    printed = machine.fz("explain", "8.8.8.8")
    assert f"  the kernel was not compared; it says: unicast dev {TUNNEL}" in printed.splitlines()


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
    sysctls: dict[str, int], argv: list[str], said: str, machine: Machine, tmp_path: Path
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
    if "does not accept" not in said:  # only the kernel knows that
        path = tmp_path / "snapshot"
        machine.fz("snapshot", "-o", str(path))
        recorded = explained(machine, *argv, "--iif", LAN, "--snapshot", str(path))
        assert (answer["sentence"], None) == (recorded["sentence"], recorded["kernel"])


@pytest.mark.parametrize("dst", ["255.255.255.255", "224.0.0.1", "224.0.0.251", "192.168.188.255"])
@pytest.mark.parametrize("rule", ["to 255.255.255.255 unreachable", "to 224.0.0.0/4 prohibit"])
def test_rules_are_not_asked_about_what_is_received_for_everybody(dst: str, rule: str, machine: Machine) -> None:
    """Multicast is dropped unless somebody here listens, which the kernel knows."""
    machine.ip("rule", "add", *rule.split(), "pref", "9")
    said = machine.ip("route", "get", dst, "from", "192.168.188.50", "iif", LAN, check=False)
    answer = explained(machine, dst, "--from", "192.168.188.50", "--iif", LAN)
    assert answer["kernel"]["agrees"]
    assert answer["sentence"].startswith("stays on this machine" if "cache <local" in said else "is dropped: ")


def test_ipv6_that_is_not_forwarded_is_told_though_the_kernel_shows_a_way(machine: Machine) -> None:
    machine.sysctl("net.ipv6.conf.all.forwarding", 0)
    said = explained(machine, "2600::1", "--from", "fd00:188::50", "--iif", LAN)["sentence"]
    assert said.startswith("is dropped: this machine does not forward IPv6 (net.ipv6.conf.all.forwarding = 0); ")


def test_explain_and_doctor_say_the_same_of_a_stale_copy_that_the_vpn_claims(machine: Machine) -> None:
    """`sync` would give the LAN to the VPN: neither of them simply advises it."""
    machine.fz("sync")
    machine.batch([f"addr add 192.168.188.7/24 dev {LAN} metric 600", f"addr del 192.168.188.112/24 dev {LAN}"])
    machine.tunnel_route("192.168.0.0/16", MIRROR)
    said = explained(machine, "192.168.188.1")["sentence"]
    assert "; the VPN routes 192.168.0.0/16 explicitly, so `fz-iproute" in said and "; run `" not in said
    found = json.loads(machine.fz("doctor", "--json", code=1))["checks"]
    (mirror,) = [each for each in found if each["name"] == "mirror"]
    assert mirror["remedy"].startswith("the VPN routes 192.168.188.0/24 explicitly: ")
