"""A failure is put down to the right cause, whatever names `ip` quotes in its words."""

from types import SimpleNamespace

import pytest

from fz_iproute.errors import IpUnusable
from fz_iproute.ip.ip import Asked, Ip
from fz_iproute.ip.process import Answer
from fz_iproute.ip.version import is_too_old

BUSYBOX = "BusyBox v1.35.0 (Debian 1:1.35.0-4+deb12u1+b1) multi-call binary.\n\nUsage: ip [OPTIONS] address|route|link"
OLD_BUSYBOX = "ip: invalid option -- 'j'\nBusyBox v1.22.1 (2014-09-13 22:07:32) multi-call binary.\n\nUsage: ip"
# A device name can hold everything but white space and slashes; the name of a table, spaces too.
QUOTED = [
    'Cannot find device "busybox0"',
    'Cannot find device "BusyBoxv1.35.0"',
    'Cannot find device "unrecognized"',
    'Error: argument "BusyBox v1.35.0 multi-call binary" is wrong: table id value is invalid',
    'Error: argument "invalid option" is wrong: invalid table ID',
    "Error: either \"to\" is duplicate, or \"Option\" is a garbage.",
]  # fmt: skip


def asked(questions: tuple[str, ...], stderr: str) -> Asked:
    """What was asked of an `ip` that has ended with this on stderr."""
    ended = SimpleNamespace(answer=lambda: Answer(("ip", "route"), 1, b"", stderr))
    return Asked("inet", 0 if questions else 1, questions, ended)


@pytest.mark.parametrize("words", QUOTED)
def test_no_name_that_ip_quotes_makes_it_busyboxs_or_too_old(words: str) -> None:
    reply = Ip().reply(asked((), f"{words}\nCommand failed -:1\n"))
    assert ({0: words}, "") == (reply.failures, reply.doubt)


@pytest.mark.parametrize("usage", [BUSYBOX, OLD_BUSYBOX])
def test_busyboxs_ip_is_named_and_iproute2_advised(usage: str) -> None:
    with pytest.raises(IpUnusable, match=r"this ip is BusyBox's.* install iproute2"):
        Ip().reply(asked(("rule show",), usage))


def test_a_line_with_an_endless_number_is_no_traceback() -> None:
    reply = Ip().reply(asked((), f"Command failed -:{'1' * 5000}\nCommand failed -:1\n"))
    assert [0] == list(reply.failures)


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (["ss170905", "ss180129", "ss190708", "4.20.0", "5.2.0"], True),
        (["ss200127", "5.3.0", "6.1.0, libbpf 1.1.2", f"{'6' * 5000}.1", "?"], False),
    ],
)
def test_an_ip_older_than_5_3_is_too_old(versions: list[str], expected: bool) -> None:
    assert {expected} == {is_too_old(f"ip utility, iproute2-{version}") for version in versions}
