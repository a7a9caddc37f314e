"""How it ends, what it leaves behind, and how it shares the machine with other fz-iproute processes."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.netns.namespace import DEADLINE, LAN, Machine, wait_until
from tests.watch import oracle
from tests.watch.broken_ip import BrokenIp
from tests.watch.conftest import Watch

CLEANUP = "[watch]\ncleanup_on_exit = true\n"
COPIES = ["10.77.0.0/24", "192.168.188.0/24", "fd00:188::/64", "fd00:77::/64", "fe80::/64", "fe80::/64"]


@pytest.mark.parametrize("all_at_once", [False, True], ids=["alone", "with its children"])
@pytest.mark.parametrize("config", ["", CLEANUP], ids=["plain", "cleanup_on_exit"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_it_ends_soon_with_0_and_its_copies_stay_or_go(
    number: signal.Signals, config: str, all_at_once: bool, machine: Machine, watch: Watch
) -> None:
    """Ctrl-C, and systemd when it stops the service, end all its children, too: that is no complaint."""
    before = machine.routes("inet"), machine.routes("inet6")
    daemon = watch(config)
    assert COPIES == oracle.destinations(machine)
    daemon.send(signal.SIGSTOP)  # so that it gets its own signal together with the ends of the others
    for child in daemon.children() if all_at_once else ():
        os.kill(child, number)
        wait_until(lambda child=child: not daemon.children()[child], "the child has ended")
    lines, started = daemon.lines, time.monotonic()
    daemon.send(number)
    assert 0 == daemon.stop(signal.SIGCONT)
    assert time.monotonic() - started < 5
    assert [] == daemon.complaints
    if config:
        assert before == (machine.routes("inet"), machine.routes("inet6"))
        assert len(COPIES) == len(daemon.says(" route del "))
    else:
        assert [*lines, "# fz-iproute ends and leaves the copies in place"] == daemon.lines
        assert COPIES == oracle.destinations(machine)


def test_a_second_signal_does_not_hurt(watch: Watch) -> None:
    daemon = watch()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        daemon.send(number)
    assert 0 == daemon.process.wait(10)
    daemon.wait_for_no_child()


@pytest.mark.parametrize(("config", "when"), [("", "in the first pass"), (CLEANUP, "later")])
def test_sigterm_ends_it_while_ip_hangs(
    config: str, when: str, machine: Machine, broken_ip: BrokenIp, daemon: Watch
) -> None:
    made = daemon(config, path=broken_ip.folder, patience=10 * DEADLINE)
    if when == "later":
        made.start()
    broken_ip.breaks("hang")
    if when == "later":
        machine.bridge("br0")
    else:
        made.start(ready=False)
    wait_until(lambda: broken_ip.failed("oneshot"), "an ip hangs")
    assert 0 == made.stop()


def test_new_processes_read_what_changes_before_the_monitor_listens(
    machine: Machine, broken_ip: BrokenIp, daemon: Watch
) -> None:
    """A long-lived one would go on using the old names of links, and no event has ended it."""
    broken_ip.breaks("late", "monitor")
    made = daemon("", path=broken_ip.folder, patience=10 * DEADLINE)
    made.start()
    broken_ip.breaks("hang")
    machine.bridge("br0")
    wait_until(lambda: broken_ip.failed("oneshot"), "an ip hangs")
    assert 0 == made.stop()


def test_sigterm_ends_it_while_its_coprocess_hangs(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    for pid in daemon.coprocesses():
        subprocess.run(["kill", "-STOP", str(pid)], check=True)
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    assert 0 == daemon.stop()


@contextmanager
def storm(machine: Machine, dice: random.Random) -> Iterator[None]:
    """Another thread makes thousands of changes of main."""
    lines = []
    for number in range(2000):
        prefix = f"10.{dice.randrange(5, 8)}.{number % 50}.0/24"
        lines += [f"route replace {prefix} dev {LAN} proto {dice.randrange(5, 200)}"]
        if dice.random() < 0.3:
            lines += [f"route del {prefix}", f"route add 10.9.{number % 250}.0/24 via 10.77.0.1"]
    with ThreadPoolExecutor() as pool:
        running = pool.submit(machine.batch, lines, force=True)
        yield
        running.result()


def test_it_ends_with_0_at_any_moment(machine: Machine, watch: Watch) -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    daemon = watch()
    for number in [signal.SIGTERM, signal.SIGINT] * 3:
        with storm(machine, dice):
            time.sleep(dice.uniform(0, 0.05))  # any moment, not a certain one
            assert 0 == daemon.stop(number), f"seed {seed}: {daemon.log}"
        daemon.start()
    daemon.wait_in_step()
    # On a busy machine, an `ip` may need longer for its last answer than the daemon has for its end.
    assert [] == [line for line in daemon.complaints if "did not end within" not in line]


def test_after_sigkill_at_the_start_no_child_survives(daemon: Watch) -> None:
    made = daemon()
    made.start(ready=False)
    wait_until(made.children, "it has a child")
    made.kill()


_ORPHAN = """\
import os, sys, time
from fz_iproute.ip.monitor import die_with_parent
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:
    time.sleep(0.001)
die_with_parent(parent)
print("survived")
"""


def test_a_child_whose_parent_is_gone_before_it_could_follow_it_ends() -> None:
    done = subprocess.run([sys.executable, "-c", _ORPHAN], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert ("", "") == (done.stdout, done.stderr)


def test_after_sigkill_no_child_survives_and_the_next_start_is_right(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    children = [daemon.monitor(), *daemon.coprocesses()]
    daemon.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "its children have ended")
    machine.address(LAN, "192.168.188.113/24", "metric", "600")
    machine.ip("addr", "del", "192.168.188.112/24", "dev", LAN)
    machine.ip("addr", "del", "fd00:188::112/64", "dev", LAN)
    daemon.start()
    assert oracle.in_step(machine)


def test_sigusr1_logs_the_counters(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    daemon.wait_in_step()
    found = daemon.counters()
    assert {"monitors": 1, "lost": 0, "refused": 0, "reloads": 0, "changes": 2, "commands": len(COPIES) + 1} == {
        name: found[name] for name in ("monitors", "lost", "refused", "reloads", "changes", "commands")
    }
    assert found["events"] >= found["wakes"] >= 1
    assert found["passes"] >= 2


def test_a_second_watch_refuses_to_start_and_names_the_first(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    done = machine.fz_done("--wait", "0", "watch")
    assert 5 == done.returncode
    assert 1 == len(done.stderr.splitlines())
    assert f"(process {daemon.process.pid})" in done.stderr
    assert "one `watch` for a table is enough" in done.stderr
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    daemon.wait_in_step()
    assert [] == daemon.complaints


def test_a_second_watch_waits_for_the_end_of_the_first(watch: Watch, daemon: Watch) -> None:
    first = watch()
    second = daemon(options=["--wait", "60"]).start(ready=False)

    def waits() -> bool:
        with suppress(FileNotFoundError):  # closed between two looks
            fds = Path(f"/proc/{second.process.pid}/fd").iterdir()
            return any(fd.readlink().name == "locks" for fd in fds)
        return False

    wait_until(waits, "it waits for the lock")
    first.stop()
    wait_until(lambda: "READY=1" in second.told, "it is ready")


@pytest.mark.long
def test_sync_from_cron_beside_it_does_no_harm(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    dice = random.Random(1)
    said = []
    for number in range(4):
        with storm(machine, dice):
            said += machine.fz_done("-q", "sync").stderr.splitlines()
        machine.address(LAN, f"10.200.{number}.2/24")
        said += machine.fz_done("-q", "sync").stderr.splitlines()
    daemon.wait_in_step()
    assert [] == said
    assert [] == daemon.complaints


def test_sync_runs_while_a_quiet_watch_does(machine: Machine, watch: Watch) -> None:
    watch()
    # Perhaps not at once: the daemon looks again when it hears the echo of what it has done.
    wait_until(lambda: machine.fz_done("--wait", "0", "sync").returncode == 0, "nobody holds the lock")


def test_down_refuses_while_a_watch_would_undo_it(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    daemon.wait_in_step()
    done = machine.fz_done("-q", "down")
    assert (5, 1) == (done.returncode, len(done.stderr.splitlines())), done
    assert "it would put back what `down` removes, so stop that process first" in done.stderr
    assert COPIES == oracle.destinations(machine)
    assert "ip " in machine.fz("down", "--dry-run")
