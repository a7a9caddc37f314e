"""The answer of `explain` beside that of the kernel: whether the two agree, and what is printed."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fz_iproute.diagnosis.answer import Answer, Question, answered, as_document, as_text, packets, route_get
from fz_iproute.errors import UsageError
from fz_iproute.mirror.config import Config
from tests.unit.diagnosis.machines import FIREZONE, SERVED
from tests.unit.diagnosis.test_sentence import asked

INTO = {"dev": "tun-firezone"}
UNREACHABLE = "RTNETLINK answers: Network is unreachable"
SSH = "rule add pref 50 dport 9 lookup main"
RECEIVED = "8.8.8.8 iif=eth0 src=192.168.1.9"
HERE = "192.168.1.5 iif=eth0"
DROP = "is dropped: "
LOOSE = f"{DROP}eth0 has a strict rp_filter"
DROPPED = f"{DROP}this machine does not forward what eth0 receives (net.ipv4.conf.eth0.forwarding = 0)"
CLOSED = {"ipv4/conf/eth0/forwarding": "0"}
CLOSED_6 = {"ipv6/conf/all/forwarding": "0"}
STRICT = {"ipv4/conf/eth0/rp_filter": "1", "ipv4/conf/all/rp_filter": "0"}


def answer(lines: Sequence[str], question: str, said: Any = None, sysctls: Mapping[str, str] | None = None) -> Answer:
    return answered(asked(lines, question), sysctls or {}, said)


@pytest.mark.parametrize(
    ("lines", "question", "said", "objection"),
    [
        (FIREZONE, "8.8.8.8", None, ""),
        (FIREZONE, "8.8.8.8", INTO, ""),
        (FIREZONE, "8.8.8.8", {"dev": "eth0"}, "unicast dev eth0"),
        (FIREZONE, "8.8.8.8", {"type": "local", "dev": "lo"}, "local dev lo"),
        (FIREZONE, "8.8.8.8", UNREACHABLE, UNREACHABLE),
        (FIREZONE, "192.168.1.5", {"type": "local", "dev": "lo"}, ""),
        (FIREZONE, "192.168.1.5", {"type": "local", "dev": "docker0"}, "local dev docker0"),
        (FIREZONE, "192.168.1.5", {"dev": "eth0"}, "unicast dev eth0"),
        (FIREZONE, "8.8.8.8 src=10.3.3.3", UNREACHABLE, ""),
        (FIREZONE, "8.8.8.8 src=10.3.3.3", "RTNETLINK answers: Invalid argument", ""),  # of older kernels
        (
            FIREZONE,
            "8.8.8.8 src=10.3.3.3",
            "RTNETLINK answers: Permission denied",
            "RTNETLINK answers: Permission denied",
        ),
        ([*FIREZONE, SSH], "8.8.8.8", {"dev": "eth0"}, ""),  # in doubt
    ],
)
def test_the_kernel_agrees_or_objects(lines: list[str], question: str, said: Any, objection: str) -> None:
    assert objection == answer(lines, question, said).objection


@pytest.mark.parametrize(
    ("question", "sysctls", "said", "start"),
    [
        (RECEIVED, CLOSED, None, f"{DROPPED}; by rules and routes, it goes into the tunnel"),
        (RECEIVED, CLOSED, "RTNETLINK answers: No route to host", f"{DROPPED}; "),
        (RECEIVED, CLOSED, INTO, "goes into the tunnel"),  # the sysctl has changed since
        (RECEIVED, {}, None, "goes into the tunnel"),
        (RECEIVED, {}, "RTNETLINK answers: Invalid cross-device link", f"{DROP}the kernel does not accept it by eth0"),
        ("8.8.8.8 iif=eth0 src=192.168.1.5", {}, None, f"{DROP}its source is an address of this machine; "),
        ("8.8.8.8 iif=eth0 src=224.0.0.9", {}, None, f"{DROP}its source is a multicast address; "),
        (f"{HERE} src=9.9.9.9", STRICT, None, f"{LOOSE}, and the answer to its source would leave by tun-firezone"),
        (f"{HERE} src=9.9.9.9 mark=0xfd002021", STRICT, None, LOOSE),
        (f"{HERE} src=9.9.9.9 mark=0xfd002021", {**STRICT, "ipv4/conf/all/src_valid_mark": "1"}, None, "stays on"),
        (f"{HERE} src=9.9.9.9", {"ipv4/conf/eth0/rp_filter": "2"}, None, "stays on this machine"),
        (f"{HERE} src=192.168.1.9", STRICT, None, "stays on this machine"),
        ("2600::1 iif=eth0 src=fd00:1::9", CLOSED_6, INTO, f"{DROP}this machine does not forward IPv6"),
        ("fd00:1::5 iif=eth0 src=fd00:1::9", CLOSED_6, None, "stays on this machine"),
    ],
)  # fmt: skip
def test_why_a_received_packet_is_dropped(question: str, sysctls: dict[str, str], said: Any, start: str) -> None:
    found = answer(SERVED, question, said, sysctls)
    assert found.sentence.startswith(start)
    assert not found.objection


PRINTED = """
dns.google (8.8.8.8) goes into the tunnel, because all traffic goes into tun-firezone
  0: from all lookup local                                no route to the address
  50: from all dport 9 lookup main                        assumed not to match: unknown whether it is of dport 9
  32765: not from all fwmark 0xfd002021 lookup 539098368  default dev tun-firezone proto static scope global
  in doubt: rule 50: cannot tell whether the packet is of dport 9; assumed: no
  not compared with the kernel, which says: unicast dev tun-firezone
dns.google (8.8.8.8), with the VPN's mark 0xfd002021, stays on this machine, because the address is its own
  0: from all lookup local  local 192.168.1.5 dev eth0 proto boot scope host
  the kernel agrees
dns.google (8.8.8.8), with the mark 0x7, stays on this machine, because the address is its own
  0: from all lookup local  local 192.168.1.5 dev eth0 proto boot scope host
  the kernel says otherwise: unicast dev eth0
"""
ANSWERS = [
    answer([*FIREZONE, SSH], "8.8.8.8", INTO),
    answer(FIREZONE, "192.168.1.5 mark=0xfd002021", {"type": "local", "dev": "lo"}),
    answer(FIREZONE, "192.168.1.5 mark=7", {"dev": "eth0"}),
]


def test_results_stand_beside_their_rules_where_there_is_room() -> None:
    def printed(width: int | None) -> list[str]:
        return as_text(ANSWERS, Question("8.8.8.8"), Config(), "dns.google", width).splitlines()

    wide = max(len(line) for line in PRINTED.splitlines() if "lookup" in line)
    assert PRINTED.strip("\n").splitlines() == printed(None) == printed(wide)
    below = printed(wide - 1)
    assert "      default dev tun-firezone proto static scope global" in below
    assert "  0: from all lookup local  local 192.168.1.5 dev eth0 proto boot scope host" in below


def test_a_program_is_told_the_same() -> None:
    found = as_document([*ANSWERS, answer(["rule add pref 5 blackhole"], "8.8.8.8")], Question("8.8.8.8"))["answers"]
    assert [0, 0xFD002021, 7, 0] == [each["mark"] for each in found]
    assert [539098368, 255, 255, None] == [each["table"] for each in found]
    agrees = [each["kernel"] and each["kernel"]["agrees"] for each in found]
    assert [None, True, False, None] == agrees and found[-1]["kernel"] is None
    assert ["tun-firezone"] == found[0]["dev"] and 1 == len(found[0]["doubts"])
    assert [None, None, "default dev tun-firezone proto static scope global"] == [
        step["route"] for step in found[0]["steps"]
    ]


@pytest.mark.parametrize(
    "question",
    [
        Question("nonsense"), Question(""), Question("10.0.0.0/8"), Question("10.0.0"), Question("10.0.0.1\x1b[31m"),
        Question("fe80::1%eth0"), Question("8.8.8.8", src="x"), Question("8.8.8.8", src="::1"),
        Question("8.8.8.8", iif="eth0"), Question("8.8.8.8", src="9.9.9.9", iif="eth0", oif="eth0"),
    ],
    ids=ascii,
)  # fmt: skip
def test_a_senseless_question_is_refused_in_one_line(question: Question) -> None:
    with pytest.raises(UsageError) as error:
        packets(question, Config(), None)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(("iif", "uid"), [("", 1000), ("eth0", 0)])
def test_the_packet_is_of_who_asks_and_a_received_one_counts_as_that_of_root(iif: str, uid: int) -> None:
    found = packets(Question("8.8.8.8", src="192.168.1.9", iif=iif), Config(), 1000)
    assert [(0, uid), (0xFD002021, uid)] == [(packet.mark, packet.uid) for packet in found]


def test_the_kernel_is_asked_the_same() -> None:
    (found,) = packets(question := Question("FD00::1", src="fd00:1::5", oif="eth0", mark=7), Config(), None)
    assert "fd00::1 from fd00:1::5 oif eth0 mark 0x7" == " ".join(route_get(question, found))


def test_what_only_a_packet_can_suffer_is_said_of_a_packet() -> None:
    for question, start in (
        ("192.0.3.7", "a packet to 192.0.3.7 is refused: "),
        ("8.8.8.8 src=10.3.3.3", "a packet to 8.8.8.8 cannot be sent: "),
        ("8.8.8.8", "8.8.8.8 goes into the tunnel"),
    ):
        address = question.split()[0]
        found = answer([*FIREZONE, "rule add pref 54 to 192.0.3.0/24 prohibit"], question, None)
        assert as_text([found], Question(address), Config()).startswith(start)
