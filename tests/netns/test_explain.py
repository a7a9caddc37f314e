"""`explain` says in a sentence where a packet goes and why; the kernel agrees, and what is advised helps."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.netns.laptop import Laptop
from tests.netns.namespace import LAN, MARK, Machine, Namespace
from tests.netns.wiretap import fake_ip
from tests.unit.diagnosis.test_sentence import SAID

ACTIVE = "goes into the tunnel, because all traffic goes into tun-firezone"


def answers(machine: Namespace, *argv: str, config: str = "") -> list[dict[str, Any]]:
    """The answers of `explain --json`. The kernel must agree with all of them."""
    found: list[dict[str, Any]] = json.loads(machine.fz("explain", *argv, "--json", config=config))["answers"]
    assert all(answer["kernel"]["agrees"] and not answer["doubts"] for answer in found), found
    return found


def sentences(machine: Namespace, *argv: str) -> dict[str, str]:
    """Of each address the first sentence, which is about a packet without a mark unless --mark is given."""
    found: dict[str, str] = {}
    for answer in answers(machine, *argv):
        found.setdefault(answer["address"], neutral(machine, answer["sentence"]))
    return found


def neutral(machine: Namespace, text: str) -> str:
    """Without the configuration and the namespace, which the advised command has to name, and the kernel's weights."""
    text = text.replace(" weight 1", "")
    return re.sub(rf"fz-iproute -c \S+\.toml --netns {machine.name} sync", "fz-iproute sync", text)


# What a test cannot bring a kernel to: a route that stays expired, and a program that listens.
NOT_HERE = {"fd00:9::7", "fd00:8::7", "224.0.0.251 iif=eth0 src=192.168.1.9"}
HOSTS = {"192.168.1.7", "fd00:1::7"}
ALLOW = re.compile(r"main has (\S+) .*lan.allow = \[\S+\] would copy it$")


@pytest.mark.parametrize(("lines", "answers"), SAID, ids=[next(iter(answers)) for _, answers in SAID])
def test_the_way_is_said_with_its_reason(lines: Sequence[str], answers: Mapping[str, str], laptop: Laptop) -> None:
    laptop.equip([line for line in lines if "expires" not in line])
    asked: dict[tuple[str, ...], list[str]] = {}  # the addresses by their options, so that few processes answer
    for question in answers.keys() - NOT_HERE:
        address, *words = question.replace("src=", "from=").split()
        asked.setdefault(tuple(f"--{word}" for word in words), []).append(address)
    for options, addresses in asked.items():
        said_of = sentences(laptop, *addresses, *options)
        for address in addresses:
            question = " ".join([address, *options]).replace("--from=", "src=").replace("--", "")
            assert answers[question] == said_of[address], question
    for host in HOSTS & answers.keys():
        assert laptop.reaches(host) == ("to the LAN" in answers[host] and "but " not in answers[host]), host
    allowed = {found[1]: question for question, said in answers.items() if (found := ALLOW.search(said))}
    laptop.fz("sync", config=f"[lan]\nallow = {json.dumps([*allowed])}\n" if allowed else "")
    advised = [host for host in HOSTS if answers.get(host, "").endswith("run `fz-iproute sync`")]
    assert [] == [host for host in advised if not laptop.reaches(host)]
    assert "tun-firezone" not in [laptop.way(question.split()[0]) for question in allowed.values()]


def test_a_route_that_cannot_be_copied_is_named(machine: Machine) -> None:
    machine.batch([f"route add 203.0.113.0/24 dev {LAN} scope link mtu lock 1400"])
    said = sentences(machine, "203.0.113.7")["203.0.113.7"]
    assert f"{ACTIVE}; 203.0.113.0/24 is not copied: cannot be copied exactly: " in said


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


def test_a_wrong_mark_is_refused(machine: Machine) -> None:
    for mark in ("x", "-1", "0x100000000", "1/2", ""):
        done = machine.fz_done("explain", "8.8.8.8", f"--mark={mark}")
        assert 2 == done.returncode and "is not a mark" in done.stderr.splitlines()[-1]


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
