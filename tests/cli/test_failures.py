"""A failed read is never taken for an empty table: nothing is deleted, and one line on stderr says why."""

import json
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cli.world import LAN_TABLE, TABLE, World, alive, gatewayed, lan, tunnel, wait_until

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
}
TEXT = r"-oneline.* -4 .*route show table main"

UNKNOWN = 'Option "-json" is unknown, try "ip -help".'
BUSYBOX = """BusyBox v1.36.1 (2024-05-23 21:10:34 UTC) multi-call binary.

Usage: ip [OPTIONS] address|route|link|neigh|rule [ARGS]

OPTIONS := -f[amily] inet|inet6|link | -o[neline]

ip route list|flush|add|del|change|append|replace|test ROUTE
"""
NO_SOCKET = "Cannot open netlink socket: Address family not supported by protocol"

# Each fault, with the exit code and the words of the message that it must lead to.
FAULTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "a dump that the kernel breaks off": (
        {"exit": 2, "stdout": "[", "stderr": "RTNETLINK answers: Cannot allocate memory\nDump terminated"},
        3,
        "RTNETLINK answers: Cannot allocate memory / Dump terminated",
    ),
    "a failure without a word": ({"exit": 7}, 3, ""),
    "no netlink socket": ({"exit": 1, "ends": True, "stderr": NO_SOCKET}, 3, NO_SOCKET),
    "a kill": ({"signal": signal.SIGKILL}, 3, "killed by signal 9"),
    "half an answer": ({"cut": 0.5}, 3, ""),
    "half an answer and a kill": ({"cut": 0.5, "signal": signal.SIGSEGV}, 3, "killed by signal 11"),
    "no answer at all": ({"exit": 0}, 3, ""),
    "garbage": ({"exit": 0, "stdout": "\x00\x1b\udcff [{]"}, 3, ""),
    "an object": ({"exit": 0, "stdout": '{"dst": "default"}\n'}, 3, ""),
    "a list of numbers": ({"exit": 0, "stdout": "[1, 2]\n"}, 3, ""),
    "objects of another shape": ({"exit": 0, "stdout": '[{"colour": "red"}]\n'}, 3, ""),
    "brackets without an end": ({"exit": 0, "stdout": "[" * 100_000}, 3, ""),
    "an option that is too new": ({"exit": 255, "ends": True, "stderr": UNKNOWN}, 6, UNKNOWN),
    "BusyBox": ({"exit": 1, "ends": True, "stderr": BUSYBOX}, 6, "this ip is BusyBox's"),
}


def everything(world: World) -> list[str]:
    """Make a machine whose sync needs every kind of read. Returns the options of that sync."""
    world.main(
        "inet",
        lan("192.168.1.0/24", prefsrc="192.168.1.2", metric=100),
        lan("10.30.0.0/24", metrics=[{"mtu": 1400}]),
        {"dst": "10.31.0.0/24", "nhid": 7, "protocol": "static", "scope": "link", "flags": []},
        gatewayed("10.90.0.0/16", "192.168.1.9"),
    )
    world.state["nexthops"] = [{"id": 7, "dev": "eth0", "scope": "link", "flags": []}]
    world.save()
    return ["-c", world.config('[lan]\nallow = ["10.90.0.0/16"]\n')]


# These are tried on every read. The others are tried on one read of each kind, because all reads share the judging.
OFTEN = {"a dump that the kernel breaks off", "a kill", "half an answer", "no answer at all"}


@pytest.mark.parametrize(
    ("read", "fault"),
    [(read, fault) for fault in FAULTS for read in (READS if fault in OFTEN else ("rules4", "main4", "mirror6"))],
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


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"exit": 2, "stderr": "RTNETLINK answers: No buffer space available"}, "No buffer space available"),
        ({"signal": signal.SIGKILL}, "killed by signal 9"),
        ({"exit": 0, "stdout": ""}, ""),
        ({"exit": 0, "stdout": "10.30.0.0/24 dev eth0 proto kernel scope link mtu lo"}, ""),
    ],
    ids=["refused", "killed", "empty", "cut"],
)
def test_without_the_text_that_shows_locked_metrics_nothing_changes(
    world: World, how: dict[str, Any], words: str
) -> None:
    options = everything(world)
    world.fails(TEXT, **how)
    before = world.tables()
    done = world.run("sync", *options)
    assert (3, 1, 1) == (done.code, len(done.lines), len(done.errors)), done
    assert words in done.errors[0]
    assert before == world.tables()


@pytest.mark.parametrize("read", ["links", "main4", "main6", "mirror4", "mirror6", "nexthops"])
def test_an_interrupted_dump_is_asked_for_again(world: World, read: str) -> None:
    options = everything(world)
    expected = world.run("plan", *options)
    world.fails(READS[read], interrupted=True, times=2)
    assert expected == world.run("plan", *options)


@pytest.mark.parametrize("read", ["links", "main4", "mirror6"])
def test_a_dump_that_is_always_interrupted_is_a_failed_read(world: World, read: str) -> None:
    options = everything(world)
    world.fails(READS[read], interrupted=True)
    before = world.tables()
    done = world.run("sync", *options)
    assert (3, 1) == (done.code, len(done.lines)), done
    assert "Dump was interrupted" in done.errors[0]
    assert before == world.tables()


@pytest.mark.parametrize("verb", ["plan", "status", "down"])
@pytest.mark.parametrize("fault", ["a dump that the kernel breaks off", "half an answer", "BusyBox"])
def test_every_verb_says_so_when_a_read_fails(world: World, verb: str, fault: str) -> None:
    how, code, words = FAULTS[fault]
    world.fails(READS["mirror4"], **how)
    before = world.tables()
    done = world.run(verb)
    assert (code, "", 1) == (done.code, done.out, len(done.lines)), done
    assert words in done.errors[0]
    assert before == world.tables()


@pytest.mark.parametrize(("family", "table"), [("inet", TABLE), ("inet6", TABLE), ("inet", 254)])
def test_a_table_that_does_not_exist_is_empty(world: World, family: str, table: int) -> None:
    del world.state["routes"][family][str(table)]
    world.save()
    assert 0 == world.run("sync").code
    expected = {"inet": ["10.20.0.0/16", "192.168.1.0/24"], "inet6": ["fd00:1::/64", "fe80::/64", "fe80::/64"]}
    assert ([] if table == 254 else expected[family]) == world.copies(family)


def test_other_tables_may_be_missing_in_either_layout(world: World) -> None:
    world.state["rules"]["inet"].insert(1, {"priority": 200, "src": "all", "table": str(LAN_TABLE)})
    world.save()
    assert 0 == world.run("sync").code
    assert ["10.20.0.0/16", "192.168.1.0/24"] == sorted(route["dst"] for route in world.table("inet", LAN_TABLE))


def test_a_kernel_without_ipv6_still_has_its_ipv4_mirrored(world: World) -> None:
    """Reading its rules fails with the kernel's words for that, and its tables are empty."""
    words = "RTNETLINK answers: Address family not supported by protocol\nDump terminated"
    world.fails(READS["rules6"], exit=2, stdout="[", stderr=words)
    world.state["routes"]["inet6"] = {"254": []}
    world.save()
    done = world.run("sync")
    assert (0, []) == (done.code, done.errors), done
    assert ["10.20.0.0/16", "192.168.1.0/24"] == world.copies("inet")


def test_without_a_netlink_socket_no_table_is_taken_for_empty(world: World) -> None:
    """A sandbox without netlink refuses every read in nearly the words of a kernel without the family."""
    world.fails("", exit=1, ends=True, stderr=NO_SOCKET)
    for verb in ("sync", "plan", "status", "down"):
        done = world.run(verb)
        assert (3, "") == (done.code, done.out), (verb, done)
        assert NO_SOCKET in done.errors[0]


@pytest.mark.parametrize(
    ("version", "code"),
    [
        ("ip utility, iproute2-ss170905", 6),
        ("ip utility, iproute2-ss180129", 6),
        ("ip utility, iproute2-ss190708", 6),
        ("ip utility, iproute2-4.20.0", 6),
        ("ip utility, iproute2-5.2.0", 6),
        ("ip utility, iproute2-ss200127", 3),
        ("ip utility, iproute2-6.1.0, libbpf 1.1.2", 3),
        ("who is asking?", 3),
    ],
)
def test_text_instead_of_json_from_an_old_ip_means_that_it_is_too_old(world: World, version: str, code: int) -> None:
    world.fails(r"^-V$", exit=0, stdout=f"{version}\n")
    world.fails(r"-json .*show", exit=0, stdout="default via 192.168.1.1 dev eth0\n")
    before = world.tables()
    done = world.run("sync")
    assert (code, 1) == (done.code, len(done.errors)), done
    assert (code == 6) == ("or newer is needed" in done.errors[0])
    assert before == world.tables()


def test_a_machine_without_ip_is_told_what_to_install(world: World, tmp_path: Path) -> None:
    # The program also looks into the administrator's folders; a test must not find the real one there.
    world.environment["PATH"] = str(tmp_path / "nowhere")
    code = "import sys; from fz_iproute.ip import process; process._SBIN = '/nowhere'; from fz_iproute import cli; "
    done = world.run(program=[sys.executable, "-c", f"{code}sys.exit(cli.main(['sync']))"])
    assert (6, ["ip: not found in PATH; install iproute2"]) == (done.code, done.errors), done


@pytest.mark.parametrize(
    "spoil",
    [
        lambda world: world.install("#!/nowhere/python\n"),
        lambda world: (world.bin / "ip").write_bytes(b"\x7fELF for another machine"),
    ],
    ids=["no interpreter", "no program"],
)
def test_an_ip_that_cannot_be_started_is_reported_as_such(world: World, spoil: Callable[[World], object]) -> None:
    spoil(world)
    done = world.run("sync")
    assert (6, 1) == (done.code, len(done.lines)), done
    assert done.errors[0].startswith("ip: cannot be started: ")


def test_an_unknown_namespace_is_a_usage_error_in_ips_words(world: World) -> None:
    for verb in ("plan", "status"):
        done = world.run(verb, "--netns", "nowhere")
        assert (2, 1) == (done.code, len(done.lines)), done
        assert 'Cannot open network namespace "nowhere"' in done.errors[0]
    done = world.run("sync", "--netns", "nowhere")
    assert (2, 1) == (done.code, len(done.lines)), done
    assert "nowhere" in done.errors[0]


@pytest.mark.parametrize("dst", ["printer", "300.1.2.0/24"])
def test_a_destination_that_is_no_prefix_is_a_failed_read(world: World, dst: str) -> None:
    world.fails(READS["main4"], exit=0, stdout=json.dumps([lan(dst)]))
    before = world.tables()
    done = world.run("sync")
    assert (3, 1) == (done.code, len(done.errors)), done
    assert before == world.tables()


def test_an_interface_may_bear_any_name_that_the_kernel_allows(world: World) -> None:
    """`ip` prints control characters and bytes that are not UTF-8 raw."""
    names = ["\x01bell\x07", "\udcff\udcfe", "über", "a\\u0041"]
    for index, name in enumerate(names, start=20):
        world.state["links"].append({**world.state["links"][1], "ifindex": index, "ifname": name})
    world.main("inet", *(lan(f"10.{index}.0.0/16", name) for index, name in enumerate(names)))
    assert 0 == world.run("sync").code
    assert set(names) == {route["dev"] for route in world.table("inet")} - {"tun-firezone"}
    assert world.in_step()


HANGING = {**READS, "text": TEXT, "write": r"-4 .*route (add|del)"}


def hang(what: str, world: World) -> None:
    options = everything(world)
    world.fails(HANGING[what], hang=True)
    before = world.tables()
    done = world.run("sync", *options)
    assert 3 == done.code, done
    assert done.errors
    assert all("no answer within 10 s" in error for error in done.errors)
    assert world.hanging()
    wait_until(lambda: not any(map(alive, world.hanging())), "the child is gone")
    if what != "write":
        assert 1 == len(done.lines)
        assert before == world.tables()
    assert tunnel("default") in world.table("inet")


@pytest.mark.long
def test_an_ip_that_hangs_is_given_up_after_ten_seconds_and_killed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One test for all kinds of `ip`: each waits for ten seconds, so they wait at the same time."""
    with ThreadPoolExecutor(len(HANGING)) as threads:
        tried = {what: threads.submit(hang, what, World(tmp_path_factory.mktemp(what))) for what in HANGING}
    assert {} == {what: error for what, each in tried.items() if (error := each.exception())}
