"""`explain` says in a sentence where a packet goes and why; the kernel agrees, and what is advised helps."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.netns.laptop import Laptop
from tests.netns.namespace import LAN, MARK, MIRROR, TUNNEL, Machine, Namespace, wait_until
from tests.netns.wiretap import fake_ip
from tests.unit.diagnosis.test_sentence import SAID

ACTIVE = "goes into the tunnel, because all traffic goes into tun-firezone"
MIRRORED = "leaves by wlp192s0 to the LAN, because {} is mirrored into the VPN's table"


def answers(machine: Namespace, *argv: str, config: str = "") -> list[dict[str, Any]]:
    """The answers of `explain --json`. The kernel must agree with all of them."""
    found: list[dict[str, Any]] = json.loads(machine.fz("explain", *argv, "--json", config=config))["answers"]
    assert all(answer["kernel"]["agrees"] and not answer["doubts"] for answer in found), found
    return found


def sentence(machine: Namespace, *argv: str, config: str = "") -> str:
    """The sentence of the first answer, which is about a packet without a mark unless --mark is given."""
    said = neutral(machine, answers(machine, *argv, config=config)[0]["sentence"])
    assert said in neutral(machine, machine.fz("explain", *argv, config=config))
    return said


def neutral(machine: Namespace, text: str) -> str:
    """Without the configuration and the namespace, which the advised command has to name."""
    return re.sub(rf"fz-iproute -c \S+\.toml --netns {machine.name} sync", "fz-iproute sync", text)


# What a test cannot bring a kernel to: a route that stays expired, and a program that listens.
NOT_HERE = ("fd00:9::7", "fd00:8::7", "224.0.0.251 iif=eth0 src=192.168.1.9")
HOSTS = ("192.168.1.7", "fd00:1::7")
ALLOW = re.compile(r"main has (\S+) .*lan.allow would mirror it$")


@pytest.mark.parametrize(("lines", "answers"), SAID, ids=[next(iter(answers)) for _, answers in SAID])
def test_the_way_is_said_with_its_reason(lines: Sequence[str], answers: Mapping[str, str], laptop: Laptop) -> None:
    laptop.equip([line for line in lines if "expires" not in line])
    for question, said in answers.items():
        if question not in NOT_HERE:
            address, *words = question.replace("src=", "from=").split()
            assert said == sentence(laptop, address, *(f"--{word}" for word in words)), question
        if question in HOSTS:
            assert laptop.reaches(question) == ("to the LAN" in said and "but " not in said), question
    allowed = {found[1]: question for question, said in answers.items() if (found := ALLOW.search(said))}
    laptop.fz("sync", config=f"[lan]\nallow = {json.dumps([*allowed])}\n" if allowed else "")
    advised = [host for host in HOSTS if answers.get(host, "").endswith("run `fz-iproute sync`")]
    assert [] == [host for host in advised if not laptop.reaches(host)]
    assert "tun-firezone" not in [laptop.way(question.split()[0]) for question in allowed.values()]


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
