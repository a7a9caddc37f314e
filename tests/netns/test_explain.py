"""`explain` says in a sentence where a packet goes and why, and the kernel agrees."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.netns.namespace import LAN, MARK, MIRROR, TIER_LAN, TUNNEL, Machine, wait_until
from tests.netns.wiretap import fake_ip

ACTIVE = "goes into the tunnel, because all traffic goes into tun-firezone"
MARKED = "because the packet is marked 0xfd002021, so the VPN's tables are not consulted"
NOTHING = "because the VPN's tables have no route to the address"
MIRRORED = "leaves by wlp192s0 to the LAN, because {} is mirrored into the VPN's table"


def answers(machine: Machine, *argv: str, config: str = "") -> list[dict[str, Any]]:
    """The answers of `explain --json`. The kernel must agree with all of them."""
    found: list[dict[str, Any]] = json.loads(machine.fz("explain", *argv, "--json", config=config))["answers"]
    assert all(answer["kernel"]["agrees"] and not answer["doubts"] for answer in found), found
    return found


def sentence(machine: Machine, *argv: str, config: str = "") -> str:
    """The sentence of the first answer, which is about a packet without a mark unless --mark is given."""
    said = neutral(machine, answers(machine, *argv, config=config)[0]["sentence"])
    assert said in neutral(machine, machine.fz("explain", *argv, config=config))
    return said


def neutral(machine: Machine, text: str) -> str:
    """Without the configuration and the namespace, which the advised command has to name."""
    return re.sub(rf"fz-iproute -c \S+\.toml --netns {machine.name} sync", "fz-iproute sync", text)


def test_the_lan_is_reached_after_the_copy_and_the_internet_by_the_tunnel(machine: Machine) -> None:
    machine.batch([f"route add 203.0.113.0/24 dev {LAN} scope link"])
    missing = "the copy of {} is missing; run `fz-iproute sync`"
    assert f"{ACTIVE} and {missing.format('192.168.188.0/24')}" == sentence(machine, "192.168.188.7")
    assert f"{ACTIVE} and {missing.format('fd00:188::/64')}" == sentence(machine, "fd00:188::7")
    machine.fz("sync")
    assert MIRRORED.format("192.168.188.0/24") == sentence(machine, "192.168.188.7")
    assert MIRRORED.format("fd00:188::/64") == sentence(machine, "fd00:188::7")
    assert MIRRORED.format("203.0.113.0/24") == sentence(machine, "203.0.113.7")
    assert ACTIVE == sentence(machine, "8.8.8.8") == sentence(machine, "2600::1")
    assert "goes into the tunnel, because the VPN routes 100.64.0.0/11 explicitly" == sentence(machine, "100.64.0.9")
    assert f"leaves by uplink0 through the router 10.77.0.1, {MARKED}" == sentence(
        machine, "8.8.8.8", "--mark", "0xfd002021"
    )
    assert f"leaves by {LAN} to the LAN, {MARKED}" == sentence(machine, "192.168.188.7", "--mark", str(MARK))
    for address, mark in (("8.8.8.8", "0x7"), ("2600::1", "0")):
        (answer,) = answers(machine, address, "--mark", mark)
        assert (ACTIVE, int(mark, 0)) == (answer["sentence"], answer["mark"])


def test_the_parts_of_a_split_default_route_are_all_traffic(machine: Machine) -> None:
    for whole, halves in {"default": ["0.0.0.0/1", "128.0.0.0/1"], "::/0": ["::/1", "8000::/1"]}.items():
        machine.ip("-6" if ":" in whole else "-4", "route", "del", whole, "table", str(MIRROR))
        for half in halves:
            machine.tunnel_route(half, MIRROR)
    assert ACTIVE == sentence(machine, "8.8.8.8") == sentence(machine, "2600::1")
    missing = "the copy of 192.168.188.0/24 is missing; run `fz-iproute sync`"
    assert f"{ACTIVE} and {missing}" == sentence(machine, "192.168.188.7")


@pytest.mark.parametrize("prefix", ["192.168.188.0/24", "192.168.188.0/25"])
def test_a_copy_behind_a_throw_route_is_not_missed(prefix: str, machine: Machine) -> None:
    machine.tiers()
    machine.ip("route", "add", "throw", prefix, "table", str(TIER_LAN))
    throw = f"table {TIER_LAN} has throw {prefix} proto boot scope global"
    said = f"{ACTIVE} and {throw}: a copy of 192.168.188.0/24 does not change that"
    assert said == sentence(machine, "192.168.188.7")
    machine.fz("sync")
    assert said == sentence(machine, "192.168.188.7")
    assert TUNNEL == machine.way("192.168.188.7")


def test_a_copy_that_would_not_be_asked_is_not_missed(machine: Machine) -> None:
    """The first of three tables takes all traffic, and the copies are for the second."""
    machine.tiers()
    machine.batch(f"route add {half} dev {TUNNEL} proto static table {MIRROR}" for half in ("0.0.0.0/1", "128.0.0.0/1"))
    before = f"{ACTIVE} and rule 100 decides, before any rule that leads to "
    assert f"{before}table {TIER_LAN}, which gets the copies" == sentence(machine, "192.168.188.7")
    machine.fz("sync")
    assert f"{before}the copy in table {TIER_LAN}" == sentence(machine, "192.168.188.7")
    assert TUNNEL == machine.way("192.168.188.7")


@pytest.mark.parametrize("layout", ["single", "tiered"])
def test_of_discovery_the_setting_that_sends_it_to_the_lan_is_named(layout: str, machine: Machine) -> None:
    if layout == "tiered":
        machine.tiers()
    multicast = "[lan]\nmulticast = true\n"
    groups = {"224.0.0.251": "224.0.0.0/4", "239.255.255.250": "224.0.0.0/4", "255.255.255.255": "255.255.255.255"}
    for address in groups:
        assert f"{ACTIVE}; lan.multicast = true would send it to the LAN" == sentence(machine, address)
        missing = "the route that lan.multicast adds is missing; run `fz-iproute sync`"
        assert f"{ACTIVE} and {missing}" == sentence(machine, address, config=multicast)
    machine.fz("sync", config=multicast)
    for address, dst in groups.items():
        who = "everybody on the LAN" if address == dst else "all listeners there"
        added = f"lan.multicast has added a route for {dst} to the VPN's table"
        assert f"leaves by uplink0 to {who}, because {added}" == sentence(machine, address, config=multicast)
        assert "uplink0" == machine.way(address)


def test_lan_multicast_is_not_named_where_it_would_not_help(machine: Machine) -> None:
    assert ACTIVE == sentence(machine, "224.0.0.251", config='[lan]\ninterfaces = ["nothing*"]\n')
    machine.tunnel_route("224.0.0.0/4", MIRROR)
    said = "goes into the tunnel, because the VPN routes 224.0.0.0/4 explicitly"
    assert said == sentence(machine, "224.0.0.251") == sentence(machine, "224.0.0.251", config="[lan]\nmulticast=true")


def test_a_route_that_cannot_be_copied_is_named(machine: Machine) -> None:
    machine.batch([f"route add 203.0.113.0/24 dev {LAN} scope link mtu lock 1400"])
    said = sentence(machine, "203.0.113.7")
    assert f"{ACTIVE} and 203.0.113.0/24 is not mirrored: cannot be copied exactly: " in said


def test_an_explicit_route_of_the_vpn_wins_over_a_lan(machine: Machine) -> None:
    machine.batch([f"route add 100.96.7.0/24 dev {LAN} scope link", f"route add 100.64.0.0/10 dev {LAN} scope link"])
    machine.fz("sync")
    said = "goes into the tunnel, because the VPN routes 100.96.0.0/11 explicitly, which wins over the LAN {}"
    assert said.format("100.96.7.0/24") == sentence(machine, "100.96.7.9")
    # Inside a LAN, a longer prefix of the VPN needs no precedence.
    assert "goes into the tunnel, because the VPN routes 100.64.0.0/11 explicitly" == sentence(machine, "100.64.0.9")


def test_without_the_internet_resource_other_packets_take_the_uplink(machine: Machine) -> None:
    machine.batch([f"{option}route del default dev {TUNNEL} table {MIRROR}" for option in ("", "-6 ")])
    assert f"leaves by uplink0 through the router 10.77.0.1, {NOTHING}" == sentence(machine, "8.8.8.8")
    assert f"leaves by uplink0 through the router fd00:77::1, {NOTHING}" == sentence(machine, "2600::1")
    assert f"leaves by {LAN} to the LAN, {NOTHING}" == sentence(machine, "192.168.188.7")


def test_own_broadcast_and_multicast_addresses_are_explained(machine: Machine) -> None:
    machine.ip("addr", "add", "10.5.0.5/24", "brd", "+", "dev", LAN)
    own = "stays on this machine, because the address is its own"
    assert [own] * 5 == [
        sentence(machine, address) for address in ("10.5.0.5", "127.0.0.1", "::1", "fd00:188::112", "0.0.0.0")
    ]
    said = f"leaves by {LAN} to everybody on the LAN, because it is the broadcast address there"
    assert [said] * 2 == [sentence(machine, "10.5.0.255"), sentence(machine, "192.168.188.255")]
    assert f"leaves by {LAN}" in sentence(machine, "ff02::fb", "--oif", LAN)


def test_a_source_and_a_device_change_the_answer(machine: Machine) -> None:
    machine.sysctl("net.ipv4.ip_forward", 1)
    machine.sysctl("net.ipv4.conf.all.rp_filter", 0)
    machine.sysctl(f"net.ipv4.conf.{LAN}.rp_filter", 0)
    assert "cannot be sent: its source is not an address of this machine" == sentence(
        machine, "8.8.8.8", "--from", "9.9.9.9"
    )
    assert ACTIVE == sentence(machine, "8.8.8.8", "--from", "192.168.188.112")
    assert ACTIVE == sentence(machine, "8.8.8.8", "--from", "192.168.188.50", "--iif", LAN)
    bound = f"leaves by {LAN}, because the sender is bound to it: no route is used"
    assert bound == sentence(machine, "224.0.0.251", "--oif", LAN)
    out = f"leaves by uplink0 through the router 10.77.0.1, {NOTHING} by uplink0"
    assert out == sentence(machine, "8.8.8.8", "--oif", "uplink0")


MANAGE = """
[tunnel]
mode = "manage"
internet = true
on_down = "closed"
routes = ["100.64.0.0/11"]
[tables]
layout = "{}"
"""


@pytest.mark.parametrize("layout", ["single", "tiered"])
def test_the_setting_that_blocks_in_manage_mode_is_named(machine: Machine, layout: str) -> None:
    config = MANAGE.format(layout)
    for option in ("", "-6 "):
        machine.batch([f"{option}rule del pref 32765", f"{option}route flush table {MIRROR}"])
    machine.ip("-6", "addr", "flush", "dev", TUNNEL)
    machine.fz("sync", config=config)
    assert ACTIVE == sentence(machine, "8.8.8.8", config=config)
    refused = "is refused, because tun-firezone {}"
    leak = refused.format("has no IPv6 address (tunnel.internet_leak)")
    assert leak == sentence(machine, "2600::1", config=config)
    assert MIRRORED.format("fd00:188::/64") == sentence(machine, "fd00:188::7", config=config)

    machine.vpn.close()
    wait_until(lambda: TUNNEL not in machine.ip("link"), "the tunnel is gone")
    closed = refused.format("is missing (tunnel.on_down)")
    assert [closed, closed] == [sentence(machine, address, config=config) for address in ("8.8.8.8", "2600::1")]
    assert MIRRORED.format("192.168.188.0/24") == sentence(machine, "192.168.188.7", config=config)


def test_a_kernel_that_disagrees_is_an_error(machine: Machine, tmp_path: Path) -> None:
    for answer, said in (
        ('echo \'[{"dst":"8.8.8.8","dev":"uplink0"}]\'', "unicast dev uplink0"),
        ("echo 'RTNETLINK answers: Permission denied' >&2; exit 2", "RTNETLINK answers: Permission denied"),
    ):
        liar = fake_ip(tmp_path, f'case "$*" in *"route get"*) {answer}; exit ;; esac\nexec "$ip" "$@"')
        done = machine.fz_done("explain", "8.8.8.8", "--mark", "0", path=liar)
        assert 3 == done.returncode, done
        assert f"  the kernel says otherwise: {said}" in done.stdout.splitlines()
        (line,) = done.stderr.splitlines()
        assert "please report it, with the output of `fz-iproute snapshot`" in line
        done = machine.fz_done("explain", "8.8.8.8", "--mark", "0", "--json", path=liar)
        assert (3, {"agrees": False, "says": said}) == (
            done.returncode,
            json.loads(done.stdout)["answers"][0]["kernel"],
        )


@pytest.mark.parametrize(
    "argv",
    [
        ["10.0.0.1\x1b[31m"],
        ["8.8.8.8", "--iif", "nope", "--from", "9.9.9.9"],
        ["8.8.8.8", "--oif", "nope"],
        ["8.8.8.8", "--oif", "-6"],
        ["8.8.8.8", "--oif", "a b"],
    ],
    ids=ascii,
)
def test_a_senseless_question_is_refused_in_one_line(machine: Machine, argv: Sequence[str]) -> None:
    done = machine.fz_done("explain", *argv)
    assert (2, "") == (done.returncode, done.stdout), done
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and line.isprintable()


@pytest.mark.parametrize("mark", ["x", "-1", "0x100000000", "1/2", ""])
def test_a_wrong_mark_is_refused(machine: Machine, mark: str) -> None:
    done = machine.fz_done("explain", "8.8.8.8", f"--mark={mark}")
    assert 2 == done.returncode
    assert "is not a mark" in done.stderr.splitlines()[-1]


def test_what_cannot_be_resolved_keeps_no_other_address_from_its_answer(machine: Machine) -> None:
    for words in (["printer..lan", "192.168.188.1", "10.0.0", "8.8.8.8"], ["8.8.8.8", "printer..lan"]):
        done = machine.fz_done("explain", *words)
        answered = [word for word in words if word.endswith((".1", ".8"))]
        assert answered == re.findall(r"^(\S+) (?:leaves|goes) ", done.stdout, re.MULTILINE), done
        named = [next(word for word in words if word in line) for line in done.stderr.splitlines()]
        assert (2, [word for word in words if word not in answered]) == (done.returncode, named), done
        document = machine.fz_done("explain", "--json", *words)
        assert answered == list(dict.fromkeys(answer["address"] for answer in json.loads(document.stdout)["answers"]))
        assert (2, done.stderr) == (document.returncode, document.stderr)
    done = machine.fz_done("explain", "8.8.8.8", "192.168.188.1", "--iif", "nope", "--from", "192.168.188.2")
    assert (2, "", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines())), "one line for all"


def test_several_addresses_are_answered_and_the_marked_packet_only_if_asked_for(machine: Machine) -> None:
    said = machine.fz("explain", "192.168.188.1", "8.8.8.8")
    assert ["192.168.188.1", "8.8.8.8"] == [line.split()[0] for line in said.splitlines() if line[:1].isdigit()]
    assert f"{MARK:#x}, leaves" not in said
    done = machine.fz_done("explain", "8.8.8.8", "-v")
    assert f"8.8.8.8, with the VPN's mark {MARK:#x}, leaves by" in done.stdout
    assert "" == done.stderr
    answers = json.loads(machine.fz("explain", "192.168.188.1", "8.8.8.8", "--json"))["answers"]
    assert [("192.168.188.1", 0), ("192.168.188.1", MARK), ("8.8.8.8", 0), ("8.8.8.8", MARK)] == [
        (answer["address"], answer["mark"]) for answer in answers
    ]
