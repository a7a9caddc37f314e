"""A failed read is never taken for an empty table: nothing is deleted, and one line on stderr says why."""

import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from tests.cli.world import PROGRAM, TABLE, World, alive, gatewayed, lan
from tests.netns.namespace import wait_until

# The questions of a sync, as patterns of their lines.
READS = {
    "rules4": r"-json.* -4 .*rule show",
    "rules6": r"-json.* -6 .*rule show",
    "links": r"-json.* link show",
    "main4": r"-json.* -4 .*route show table main scope link",
    "allowed": r"-json.* -4 .*route show table main root",
    "main6": r"-json.* -6 .*route show table main",
    "mirror4": rf"-json.* -4 .*route show table {TABLE}",
    "mirror6": rf"-json.* -6 .*route show table {TABLE}",
    "nexthops": r"-json.* nexthop show",
    "locked metrics": r"-oneline.* -4 .*route show table main",
}

UNKNOWN = 'Option "-json" is unknown, try "ip -help".'
BUSYBOX = "BusyBox v1.36.1 (2024-05-23 21:10:34 UTC) multi-call binary.\n\nUsage: ip [OPTIONS] address|route|link\n"
NO_SOCKET = "Cannot open netlink socket: Address family not supported by protocol"

ROUTE = '[{"dst": "DST", "dev": "eth0", "protocol": "kernel", "scope": "link", "flags": []}]\n'
# Each fault, with the exit code and the words of the message that it must lead to.
FAULTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "a dump that the kernel breaks off": (
        {"exit": 2, "stdout": "[", "stderr": "RTNETLINK answers: Cannot allocate memory\nDump terminated"},
        3,
        "RTNETLINK answers: Cannot allocate memory / Dump terminated",
    ),
    "a failure without a message": ({"exit": 7}, 3, ""),
    "no netlink socket": ({"exit": 1, "ends": True, "stderr": NO_SOCKET}, 3, NO_SOCKET),
    "a kill": ({"signal": signal.SIGKILL}, 3, "killed by signal 9"),
    "a dump that is always interrupted": ({"interrupted": True}, 3, "Dump was interrupted"),
    "half an answer": ({"cut": 0.5}, 3, ""),
    "half an answer and a kill": ({"cut": 0.5, "signal": signal.SIGSEGV}, 3, "killed by signal 11"),
    "no answer at all": ({"exit": 0}, 3, ""),
    "garbage": ({"exit": 0, "stdout": "\x00\x1b\udcff [{]"}, 3, ""),
    "an object": ({"exit": 0, "stdout": '{"dst": "default"}\n'}, 3, ""),
    "a list of numbers": ({"exit": 0, "stdout": "[1, 2]\n"}, 3, ""),
    "a destination that is none": ({"exit": 0, "stdout": ROUTE.replace("DST", "printer")}, 3, ""),
    "an address that is none": ({"exit": 0, "stdout": ROUTE.replace("DST", "300.1.2.0/24")}, 3, ""),
    "a length that is none": ({"exit": 0, "stdout": ROUTE.replace("DST", "10.1.0.0/33")}, 3, ""),
    "no newline at the end": ({"exit": 0, "stdout": ROUTE.replace("DST", "10.1.0.0/16").strip()}, 3, ""),
    "objects of another shape": ({"exit": 0, "stdout": '[{"colour": "red"}]\n'}, 3, ""),
    "brackets without an end": ({"exit": 0, "stdout": "[" * 100_000}, 3, ""),
    "an option that is too new": ({"exit": 255, "ends": True, "stderr": UNKNOWN}, 6, UNKNOWN),
    "BusyBox": ({"exit": 1, "ends": True, "stderr": BUSYBOX}, 6, "this ip is BusyBox's"),
}


def everything(world: World) -> list[str]:
    """Make a machine whose sync needs every kind of read. Returns the options of that sync."""
    world.land.sysctl("net.ipv4.nexthop_compat_mode", 0)  # `ip` shows routes by nexthop objects without their paths
    world.land.ip("nexthop", "add", "id", "7", "dev", "eth0")
    world.main(
        "inet",
        lan("192.168.1.0/24", src="192.168.1.2", metric=100),
        lan("10.30.0.0/24", mtu=1400),
        "10.31.0.0/24 nhid 7 proto static scope link",
        gatewayed("10.90.0.0/16", "192.168.1.9"),
    )
    return ["-c", world.config('[lan]\nallow = ["10.90.0.0/16"]\n')]


# These are tried on every read, the others on one: all reads share the judging.
OFTEN = {"a dump that the kernel breaks off", "half an answer", "no answer at all"}


@pytest.mark.parametrize(
    ("read", "fault"), [(read, fault) for fault in FAULTS for read in (READS if fault in OFTEN else ["mirror4"])]
)
def test_a_failed_read_is_reported_in_one_line_and_nothing_changes(world: World, read: str, fault: str) -> None:
    options = everything(world)
    how, code, words = FAULTS[fault]
    world.fails(READS[read], **how)
    before = world.tables()
    done = world.run("sync", *options)
    assert (code, "") == (done.code, done.out), done
    assert 1 == len(done.lines) == len(done.errors), done.lines
    assert done.errors[0].startswith("ip ")
    assert words in done.errors[0]
    assert before == world.tables()
    assert [] == world.batches()


@pytest.mark.parametrize("read", ["links", "mirror6"])
def test_an_interrupted_dump_is_asked_for_again(world: World, read: str) -> None:
    options = everything(world)
    expected = world.run("plan", *options)
    world.fails(READS[read], interrupted=True, times=2)
    assert expected == world.run("plan", *options)


@pytest.mark.parametrize("verb", ["plan", "status", "down"])
def test_every_verb_says_so_when_a_read_fails(world: World, verb: str) -> None:
    how, code, words = FAULTS["BusyBox"]
    world.fails(READS["mirror4"], **how)
    before = world.tables()
    done = world.run(verb)
    assert (code, "", 1) == (done.code, done.out, len(done.lines)), done
    assert words in done.errors[0]
    assert before == world.tables()


@pytest.mark.parametrize(("family", "table"), [("inet", TABLE), ("inet6", TABLE), ("inet", 254)])
def test_a_table_that_does_not_exist_is_empty(world: World, family: str, table: int) -> None:
    world.land.ip("-6" if family == "inet6" else "-4", "route", "flush", "table", str(table))
    assert 0 == world.run("sync").code
    expected = {"inet": ["10.20.0.0/16", "192.168.1.0/24"], "inet6": ["fd00:1::/64", "fe80::/64", "fe80::/64"]}
    assert ([] if table == 254 else expected[family]) == world.copies(family)


def test_a_kernel_without_ipv6_still_has_its_ipv4_mirrored(world: World) -> None:
    """Reading its rules fails with the kernel's words for that, and its tables are empty."""
    words = "RTNETLINK answers: Address family not supported by protocol\nDump terminated"
    world.fails(READS["rules6"], exit=2, stdout="[", stderr=words)
    world.main("inet6")
    world.mirror("inet6")
    done = world.run("sync")
    assert (0, []) == (done.code, done.errors), done
    assert ["10.20.0.0/16", "192.168.1.0/24"] == world.copies("inet")


@pytest.mark.parametrize(("version", "code"), [("5.2.0", 6), ("ss200127", 3)])
def test_text_instead_of_json_from_an_old_ip_means_that_it_is_too_old(world: World, version: str, code: int) -> None:
    world.fails(r"^-V$", exit=0, stdout=f"ip utility, iproute2-{version}\n")
    world.fails(r"-json .*show", exit=0, stdout="default via 192.168.1.1 dev eth0\n")
    before = world.tables()
    done = world.run("sync")
    assert (code, 1) == (done.code, len(done.errors)), done
    assert (code == 6) == ("or newer is needed" in done.errors[0])
    assert before == world.tables()


def missing(world: World) -> None:
    world.environment["PATH"] = str(world.folder / "nowhere")


def without_an_interpreter(world: World) -> None:
    world.install("#!/nowhere/python\n")


def for_another_machine(world: World) -> None:
    (world.bin / "ip").write_bytes(b"\x7fELF for another machine")


# The program also looks into the administrator's folders; a test must not find the real one there.
_WITHOUT_SBIN = """
import sys
from fz_iproute.ip import process
process.SBIN = "/nowhere"
from fz_iproute import cli
sys.exit(cli.main(["sync"]))
"""


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (missing, "ip: not found in PATH; install iproute2"),
        (without_an_interpreter, "ip: cannot be started: "),
        (for_another_machine, "ip: cannot be started: "),
    ],
)
def test_an_ip_that_cannot_be_used_is_one_line(world: World, spoil: Callable[[World], None], words: str) -> None:
    spoil(world)
    done = world.run(program=[sys.executable, "-c", _WITHOUT_SBIN])
    assert (6, 1) == (done.code, len(done.lines)), done
    assert done.errors[0].startswith(words)


HANGING = {**READS, "write": r"-4 .*route (add|del)"}


def hang(what: str, world: World) -> None:
    options = everything(world)
    world.fails(HANGING[what], hang=True)
    before = world.tables()
    done = world.run("sync", *options, program=PROGRAM)  # the starter would run one after the other
    assert 3 == done.code, done
    assert done.errors
    assert all("no answer within 10 s" in error for error in done.errors)
    assert world.hanging()
    wait_until(lambda: not any(map(alive, world.hanging())), "the child is gone")
    if what != "write":
        assert 1 == len(done.lines)
        assert before == world.tables()
    assert "default" in [route["dst"] for route in world.table("inet")]


@pytest.mark.long
def test_an_ip_that_hangs_is_given_up_after_ten_seconds_and_killed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One test for all kinds of `ip`: each waits for ten seconds, so they wait at the same time."""
    with ExitStack() as stack, ThreadPoolExecutor(len(HANGING)) as threads:
        worlds = {}
        for what in HANGING:
            worlds[what] = World(tmp_path_factory.mktemp(what))
            stack.callback(worlds[what].land.remove)
        tried = {what: threads.submit(hang, what, world) for what, world in worlds.items()}
        assert {} == {what: error for what, each in tried.items() if (error := each.exception())}
