"""Whatever `ip` does wrong: no route is lost, one line reports it, and afterwards the mirror is in step again."""

import os
import random
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path

import pytest

from tests.netns.namespace import LAN, Machine, wait_until
from tests.netns.rtnetlink import FAMILIES
from tests.watch import oracle
from tests.watch.broken_ip import BrokenIp
from tests.watch.conftest import Watch
from tests.watch.daemon import Daemon

SOON = "[watch]\nresync = 1\n"
NEWCOMER = "10.5.0.0/24"


@contextmanager
def nothing_lost(machine: Machine) -> Iterator[None]:
    """What was in the mirror before is still there after."""
    before = {family: set(machine.raw(family)) for family in FAMILIES}
    yield
    assert {} == {family: gone for family in FAMILIES if (gone := before[family] - set(machine.raw(family)))}


def stir(machine: Machine) -> None:
    """Change the links: the daemon then has to begin new coprocesses."""
    machine.ip("link", "add", "name", f"stir{random.randrange(2**32):x}", "type", "bridge")


def newcomer(machine: Machine, device: str = LAN) -> None:
    machine.ip("route", "add", NEWCOMER, "dev", device)


def patience_with(fault: str) -> float | None:
    """Seconds that an `ip` may take. A busy machine can need long, so few seconds are enough only where one hangs."""
    return 1.0 if fault == "hang" else None


# Faults of an `ip` that answers and ends, and words of the message.
WORDS = {
    "garbage": "trying again",
    "half": "trying again",
    "nothing": "trying again",
    "exit": "something is wrong",
    "old": "newer is needed",
    "hang": "no answer within",
    "missing": "cannot be started",
}


@pytest.mark.parametrize("fault", WORDS)
def test_an_ip_with_wrong_answers_costs_no_route_and_one_line(
    fault: str, machine: Machine, broken_ip: BrokenIp, watch: Watch
) -> None:
    daemon = watch(path=broken_ip.folder, patience=patience_with(fault))
    with nothing_lost(machine):
        broken_ip.breaks(fault)
        stir(machine)
        newcomer(machine)
        daemon.wait_for(WORDS[fault])
        broken_ip.mends()
        daemon.wait_in_step()
    assert machine.route(NEWCOMER)
    assert 1 == len(daemon.complaints), daemon.complaints
    assert daemon.complaints[0].startswith("error: ip")


def test_a_failure_that_comes_back_is_reported_again(machine: Machine, broken_ip: BrokenIp, watch: Watch) -> None:
    daemon = watch(path=broken_ip.folder)
    for count in (1, 2):
        broken_ip.breaks("exit")
        stir(machine)
        daemon.wait_for("something is wrong", count)
        broken_ip.mends()
        passes = daemon.counters()["passes"]
        wait_until(lambda passes=passes: daemon.counters()["passes"] > passes, "it has tried again")


@pytest.mark.parametrize("fault", ["garbage", "half-line", "nothing", "exit", "hang"])
def test_a_coprocess_that_fails_is_replaced_by_single_processes(
    fault: str, machine: Machine, broken_ip: BrokenIp, watch: Watch
) -> None:
    daemon = watch(path=broken_ip.folder, patience=patience_with(fault))
    with nothing_lost(machine):
        broken_ip.breaks(fault, "coprocess")
        stir(machine)
        wait_until(lambda: broken_ip.failed("coprocess"), "a coprocess fails")
        newcomer(machine)
        daemon.wait_in_step()
    assert machine.route(NEWCOMER)
    assert [] == daemon.complaints
    daemon.stop()


def test_refused_writes_are_reported_once_and_done_when_they_are_allowed(
    machine: Machine, broken_ip: BrokenIp, watch: Watch
) -> None:
    daemon = watch(SOON, path=broken_ip.folder)
    with nothing_lost(machine):
        broken_ip.breaks("refuse")
        stir(machine)
        wait_until(lambda: broken_ip.failed("coprocess") >= 2, "it talks to those that may not write")
        newcomer(machine)
        daemon.wait_for("Operation not permitted")
        refused = daemon.counters()["passes"]
        wait_until(lambda: daemon.counters()["passes"] >= refused + 3, "it has tried again")
        broken_ip.mends()
        daemon.wait_in_step()
    assert machine.route(NEWCOMER)
    assert 1 == len(daemon.complaints), daemon.complaints


@pytest.mark.parametrize("fault", ["killed", "killed-early"])
def test_a_batch_that_is_killed_is_finished_later(
    fault: str, machine: Machine, broken_ip: BrokenIp, daemon: Watch
) -> None:
    """Even if it has written nothing, so that no event wakes the daemon."""
    broken_ip.breaks(fault, "oneshot")
    made = daemon(path=broken_ip.folder).start(ready=False)
    wait_until(lambda: broken_ip.failed("oneshot"), "an ip is killed")
    made.wait_for("killed by signal 9")
    broken_ip.mends()
    made.wait_in_step()


def test_a_coprocess_that_is_killed_in_the_middle_of_a_batch_loses_nothing(
    machine: Machine, broken_ip: BrokenIp, watch: Watch
) -> None:
    daemon = watch(path=broken_ip.folder)
    with nothing_lost(machine):
        broken_ip.breaks("killed", "coprocess")  # after the second of six routes
        stir(machine)
        wait_until(lambda: broken_ip.failed("coprocess") >= 2, "it talks to those that will die")
        machine.batch(f"route add 10.5.{i}.0/24 dev {LAN}" for i in range(6))
        wait_until(lambda: daemon.says("10.5.5.0/24"), "it has tried to add the last")
        broken_ip.mends()
        daemon.wait_in_step()
    assert len(daemon.complaints) <= 1, daemon.complaints
    assert [] == daemon.says("no answer within")


@pytest.mark.parametrize(("fault", "code"), [("old", 6), ("refuse", 4)])
def test_at_the_start_what_only_a_user_can_mend_is_fatal(
    fault: str, code: int, broken_ip: BrokenIp, machine: Machine
) -> None:
    broken_ip.breaks(fault)
    assert code == machine.fz_done("watch", path=str(broken_ip.folder)).returncode


# The monitor


def kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def test_a_change_while_there_is_no_monitor_is_found_later(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    for count in (2, 3):
        kill(daemon.monitor(), signal.SIGKILL)
        machine.ip("route", "add", f"10.5.{count}.0/24", "dev", LAN)
        wait_until(lambda count=count: daemon.counters()["monitors"] == count, "there is another monitor")
        daemon.wait_in_step()
        assert machine.route(f"10.5.{count}.0/24")
    assert 1 == len(daemon.complaints)
    assert "killed by signal 9" in daemon.complaints[0]


@pytest.mark.parametrize("fault", ["exit", "garbage", "babble", "lossy", "hang"])
def test_with_a_monitor_that_fails_resync_repairs(
    fault: str, machine: Machine, broken_ip: BrokenIp, daemon: Watch
) -> None:
    broken_ip.breaks(fault, "monitor")
    made = daemon(SOON, path=broken_ip.folder).start()
    with nothing_lost(machine):
        newcomer(machine)
        made.wait_in_step()
    assert machine.route(NEWCOMER)
    assert len(made.complaints) <= 1, made.complaints
    if fault == "hang":
        broken_ip.mends()
        made.wait_for("it did not report a change")
        wait_until(lambda: made.counters()["monitors"] == 2, "there is a second monitor")


@pytest.mark.long
def test_after_an_overflow_of_the_receive_buffer_the_mirror_is_in_step(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    monitor = daemon.monitor()
    os.kill(monitor, signal.SIGSTOP)
    # The last one is what gets lost.
    machine.batch(f"route add 10.{100 + i // 250}.{i % 250}.0/24 via 10.77.0.1" for i in range(20000))
    machine.address(LAN, "10.5.0.2/24", "metric", "600")
    machine.ip("addr", "del", "192.168.188.112/24", "dev", LAN)
    os.kill(monitor, signal.SIGCONT)
    daemon.wait_in_step()
    assert daemon.counters()["lost"] >= 1
    assert monitor == daemon.monitor()


def test_what_changes_before_a_slow_monitor_listens_is_found(machine: Machine, tmp_path: Path, watch: Watch) -> None:
    """Long before the next resync."""
    (tmp_path / "ip").write_text(f"""#!/bin/sh
case " $* " in *" monitor "*) sleep 0.5 ;; esac
exec {shutil.which("ip")} "$@"
""")
    (tmp_path / "ip").chmod(0o755)
    watch(path=tmp_path)
    machine.ip("route", "add", NEWCOMER, "dev", LAN)
    wait_until(lambda: machine.route(NEWCOMER), "the copy is there")


# The coprocesses


def test_coprocesses_that_were_killed_are_not_reported(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    for number in range(3):
        for pid in daemon.coprocesses():
            kill(pid, signal.SIGKILL)
        machine.ip("route", "add", f"10.5.{number}.0/24", "dev", LAN)
        daemon.wait_in_step()
        wait_until(lambda number=number: machine.route(f"10.5.{number}.0/24"), "the copy is there")
    assert [] == daemon.complaints


def serve_their_time(machine: Machine, daemon: Daemon) -> None:
    """Make changes, with a pass for each, until a coprocess has ended because of its age: `ip -batch` leaks memory."""
    first = set(daemon.coprocesses())
    protocols = cycle(["static", "kernel"])  # no number, and no mtu: it would take an `ip` of its own to tell them

    def over() -> bool:
        machine.ip("route", "replace", NEWCOMER, "dev", LAN, "proto", next(protocols))
        daemon.counters()
        return not first <= set(daemon.children())

    wait_until(over, "a coprocess has ended")


def test_coprocesses_are_renewed_and_while_they_cannot_be_it_goes_on(
    machine: Machine, broken_ip: BrokenIp, watch: Watch
) -> None:
    daemon = watch(path=broken_ip.folder, most_lines=40)
    daemon.wait_in_step()
    broken_ip.breaks("missing")
    with nothing_lost(machine):
        serve_their_time(machine, daemon)
        machine.ip("route", "add", "10.6.0.0/24", "dev", LAN)
        daemon.wait_for("cannot be started")
        broken_ip.mends()
        daemon.wait_in_step()
    assert 2 == len(daemon.coprocesses())
    assert 1 == len(daemon.complaints), daemon.complaints


def test_without_a_free_descriptor_it_goes_on(machine: Machine, watch: Watch) -> None:
    """Only new processes need descriptors."""
    daemon = watch(most_lines=40)
    daemon.wait_in_step()
    _, most = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (3, most))
    serve_their_time(machine, daemon)
    kill(daemon.monitor(), signal.SIGKILL)
    daemon.wait_for("ip monitor has ended")
    daemon.wait_for("the machine refuses")
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (most, most))
    daemon.wait_in_step()
    wait_until(lambda: daemon.counters()["monitors"] == 2, "there is a second monitor")
    assert 2 == len(daemon.coprocesses())
    for words in ("ip monitor has ended", "the machine refuses"):
        assert 1 == len(daemon.says(words)), daemon.log


def test_without_a_free_descriptor_a_changed_file_takes_effect_later(machine: Machine, watch: Watch) -> None:
    daemon = watch(SOON)
    _, most = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (3, most))
    assert "Too many open files" in daemon.wait_for("changes cannot be watched for now")
    daemon.configure(f'{SOON}[lan]\nexclude_interfaces = ["uplink0"]\n')
    daemon.wait_for("the last good configuration stays in force")
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (most, most))
    daemon.wait_in_step(lambda: "10.77.0.0/24" not in oracle.destinations(machine))
    daemon.configure(SOON)
    daemon.wait_in_step(lambda: "10.77.0.0/24" in oracle.destinations(machine))
    assert 1 == len(daemon.says("changes cannot be watched for now"))
    assert 1 == len(daemon.says("the last good configuration stays in force"))
