"""Small machines on which `doctor` once said a wrong thing: what it says now, and what its remedies do."""

import json
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.manage.laptop import manage
from tests.netns.namespace import LAN, MARK, MIRROR, TIER_INTERNET, TIER_LAN, TUNNEL, Machine, run

Build = Callable[[Machine], str]
FIREZONE = f'[tunnel]\ninterface = "{TUNNEL}"\n'


def without_vpn(machine: Machine) -> None:
    for option in ("", "-6 "):
        machine.batch([f"{option}rule del pref 32765", f"{option}route flush table {MIRROR}"], force=True)


def another_vpn(machine: Machine) -> str:
    """Outline carries everything, and nobody has configured it."""
    without_vpn(machine)
    machine.vpn.close()
    machine.tunnel("outline-tun1", "10.0.85.5/24")
    rule = "rule add not fwmark 0x711e lookup 7113 protocol static pref 28958"
    machine.batch(["route add default via 10.0.85.1 dev outline-tun1 table 7113", rule])
    return FIREZONE


def rejected_host(machine: Machine) -> str:
    """Main bans a host of the LAN."""
    machine.ip("route", "add", "unreachable", "192.168.188.66")
    machine.fz("sync")
    return FIREZONE


def tailscale(machine: Machine) -> str:
    """A full tunnel by rule 5270; table 52 leaves the LAN to main."""
    without_vpn(machine)
    machine.tunnel("tailscale0", "100.84.216.111/32")
    lines = ["route add default dev tailscale0 table 52", "route add throw 192.168.188.0/24 table 52"]
    machine.batch([*lines, "rule add not fwmark 0x80000/0xff0000 lookup 52 pref 5270"])
    return '[tunnel]\ninterface = "tailscale0"\nfwmark = "0x80000/0xff0000"\n[tables]\nsingle = 52\n'


def tailscale_beside_a_suppress_rule(machine: Machine) -> str:
    config = tailscale(machine)
    machine.batch(
        [
            "route del throw 192.168.188.0/24 table 52",
            "route add 192.168.0.0/16 dev tailscale0 table 52",
            "rule add table main suppress_prefixlength 0 pref 105",
        ]
    )
    return config


def split_default(machine: Machine) -> str:
    """OpenVPN's two halves in main: it marks nothing."""
    without_vpn(machine)
    machine.tunnel("tun0", "10.172.1.6 peer 10.172.1.5")
    machine.batch([f"route add {half} via 10.172.1.5 dev tun0" for half in ("0.0.0.0/1", "128.0.0.0/1")])
    return '[tunnel]\ninterface = "tun0"\n'


def sing_box(machine: Machine) -> str:
    """Rules that look at the interface: no mark."""
    without_vpn(machine)
    machine.tunnel("tun0", "10.172.1.6/30")
    machine.batch(
        [
            "route add default dev tun0 table 2022",
            "rule add not iif lo lookup 2022 pref 9003",
            "rule add from 0.0.0.0 iif lo lookup 2022 pref 9003",
        ]
    )
    return '[tunnel]\ninterface = "tun0"\n[tables]\nsingle = 2022\n'


def main_asked_early(machine: Machine) -> str:
    """Main has one rule only, and it stands before the VPN's."""
    machine.batch(
        [
            "route add default via 10.77.0.1 table 201",
            "rule add lookup main pref 32000",
            "rule add lookup 201 pref 32766",
            "rule del pref 32766 lookup main",
        ]
    )
    machine.fz("sync")
    return FIREZONE


def routed_part(machine: Machine) -> str:
    """A part of the LAN is behind a router."""
    machine.ip("route", "add", "192.168.188.48/28", "via", "192.168.188.1")
    machine.fz("sync")
    return FIREZONE


def source_rule(machine: Machine) -> str:
    """A rule sends everything from one address around the tunnel."""
    machine.fz("sync")
    machine.batch(["route add default via 10.77.0.1 table 128", "rule add from 192.168.188.112 lookup 128 pref 3"])
    return FIREZONE


def new_lease(machine: Machine) -> str:
    """The address has changed: the copy has a source that is gone."""
    machine.fz("sync")
    machine.address(LAN, "192.168.188.77/24")
    machine.ip("addr", "del", "192.168.188.112/24", "dev", LAN)
    return FIREZONE


def twins_beside_another_vpn(machine: Machine) -> str:
    """Two interfaces in one LAN, and a rule of another VPN that suppresses the default route of main."""
    machine.address("uplink0", "192.168.188.113/24")
    machine.fz("sync")
    machine.ip("rule", "add", "table", "main", "suppress_prefixlength", "0", "pref", "105")
    return FIREZONE


class Case(NamedTuple):
    """`says` are patterns of `LEVEL NAME: SEEN`; no failure or warning but these. `commands` can be carried out."""

    build: Build
    says: tuple[str, ...]
    commands: int = 0


CASES = [
    Case(another_vpn, (r"warning tunnel: .*all traffic goes into outline-tun1 .*rule 28958, table 7113",)),
    Case(rejected_host, (r"warning overrides: unreachable 192.168.188.66 .*copy of 192.168.188.0/24",)),
    Case(tailscale, (r"failure mirror: \d+ commands? (is|are) due",), 1),
    Case(tailscale_beside_a_suppress_rule, (r"warning mirror: \d+ commands? (is|are) due",), 1),
    Case(split_default, ()),
    Case(sing_box, (r"failure mirror: \d+ commands? (is|are) due",), 1),
    Case(main_asked_early, (r"failure rules: 32000: .*takes packets to default",), 1),
    Case(routed_part, (r"warning overrides: 192.168.188.48/28 via 192.168.188.1",)),
    Case(source_rule, (r"warning rules: 3: .*takes packets from 192.168.188.112/32 to default",), 1),
    Case(new_lease, (r"failure mirror: the copy of 192.168.188.0/24 is stale, its source 192.168.188.112 is gone",), 1),
    Case(twins_beside_another_vpn, ()),
]


def problems(machine: Machine, config: str) -> list[dict[str, str]]:
    checks = json.loads(machine.fz_done("doctor", "--json", config=config).stdout)["checks"]
    return [each for each in checks if each["level"] in ("warning", "failure")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.build.__name__)
def test_what_doctor_says(case: Case, machine: Machine) -> None:
    config = case.build(machine)
    found = problems(machine, config)
    lines = [f"{each['level']} {each['name']}: {each['seen']}" for each in found]
    for pattern in case.says:
        assert any(re.match(pattern, line) for line in lines), lines
    unexpected = [line for line in lines if not any(re.match(pattern, line) for pattern in case.says)]
    assert not [line for line in unexpected if not line.startswith(("warning dns", "failure ipv6-leak"))], lines
    into = {address: machine.way(address) for address in ("198.51.100.1", "203.0.113.9")}
    commands = [each for each in found if re.match(r"ip -n|fz-iproute", each["remedy"])]
    assert case.commands == len(commands), commands
    for each in commands:
        if each["remedy"].endswith(" sync"):
            machine.fz("sync", config=config)
        else:
            run("sh", "-c", each["remedy"])
        assert (each["name"], each["seen"]) not in {(left["name"], left["seen"]) for left in problems(machine, config)}
    for address, device in into.items():
        if device.startswith("tun"):
            assert machine.way(address) == device
    assert "lookup main" in machine.ip("rule")


def test_a_wrong_name_of_the_tunnel_is_told_first_with_the_right_one(machine: Machine) -> None:
    """The VPN takes explicit routes only, and a stale copy looks like a route of the VPN's client."""
    machine.batch([f"{option}route del default dev {TUNNEL} table {MIRROR}" for option in ("", "-6 ")])
    machine.ip("route", "add", "10.50.0.0/16", "dev", LAN, "proto", "static", "scope", "link")
    machine.fz("sync")
    machine.ip("route", "del", "10.50.0.0/16")
    wrong = '[tunnel]\ninterface = "wg-somewhere"\n'
    first, *_ = machine.fz("status", config=wrong).splitlines()
    said = f"but table {MIRROR} leads into {TUNNEL}"
    assert first.startswith(f"VPN    wg-somewhere is missing, {said}; copies")
    assert first.endswith(" doctor")
    assert "which is not known to be a copy" in machine.fz("explain", "10.50.0.1", config=wrong)
    found = problems(machine, wrong)[0]
    assert ("tunnel", f"there is no wg-somewhere, {said}") == (found["name"], found["seen"])
    assert f'[tunnel]: interface = "{TUNNEL}", then fz-iproute ' in found["remedy"]
    machine.fz("sync", config=FIREZONE)
    assert [] == machine.route("10.50.0.0/16")
    assert [] == [each["name"] for each in problems(machine, FIREZONE) if each["name"] not in ("dns", "ipv6-leak")]


def test_where_sync_refuses_to_run_its_own_words_are_the_remedy(machine: Machine) -> None:
    """Two tables swap their parts, once with the tunnel up and once with it down."""
    without_vpn(machine)
    machine.fz("sync", config=manage(layout="tiered"))
    swapped = manage(layout="tiered", tables={"lan": TIER_INTERNET, "internet": TIER_LAN})
    for state in ("up", "down"):
        machine.ip("link", "set", TUNNEL, state)
        refusal = machine.fz_done("sync", config=swapped).stderr
        assert (
            "is in use, and the configuration now gives it another role" in refusal
            and "down` with this configuration first" in refusal
        )
        found = json.loads(machine.fz("doctor", "--json", config=swapped, code=1))["checks"]
        failed = {each["name"]: each["remedy"] for each in found if each["level"] == "failure"}
        assert {"rules", "mirror"} <= failed.keys()
        for remedy in failed.values():
            assert remedy.startswith("table ") and f"--netns {machine.name} down` with this" in remedy


def test_a_discovery_that_is_set_to_leave_needs_a_sync_only(machine: Machine) -> None:
    config = "[lan]\nmulticast = true\n"
    found = json.loads(machine.fz("doctor", "--json", config=config, code=1))["checks"]
    for name in ("mirror", "multicast"):
        (remedy,) = [each["remedy"] for each in found if each["name"] == name]
        assert remedy.startswith("fz-iproute -c ") and remedy.endswith(" sync")
    machine.fz("sync", config=config)
    assert LAN != TUNNEL == machine.way("8.8.8.8") and TUNNEL != machine.way("224.0.0.251")


def test_ipv6_leaks_where_the_right_rule_stands_behind_main_and_a_useless_one_before(machine: Machine) -> None:
    machine.fz("sync")
    machine.batch(["-6 rule del pref 32765"])
    machine.batch([f"-6 rule add fwmark {MARK:#x} lookup {MIRROR} pref 32000"])
    machine.batch([f"-6 rule add not fwmark {MARK:#x} lookup {MIRROR} pref 32766"])
    assert "uplink0" == machine.way("2001:db8::1")
    found = json.loads(machine.fz("doctor", "--json", code=1))["checks"]
    (remedy,) = [each["remedy"] for each in found if each["name"] == "ipv6-leak"]
    for command in remedy.split(" && "):
        run("sh", "-c", command)
    assert TUNNEL == machine.way("2001:db8::1")
