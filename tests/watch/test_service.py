"""Under systemd: what it reports, and what its unit allows."""

import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from fz_iproute.files.data import texts
from tests.netns.namespace import LAN, TUNNEL, Machine, run, wait_until
from tests.starter import starter
from tests.watch import oracle
from tests.watch.broken_ip import BrokenIp
from tests.watch.conftest import Watch
from tests.watch.daemon import Daemon

# What it tells


def test_it_tells_when_it_is_ready_how_many_copies_there_are_and_when_it_stops(machine: Machine, watch: Watch) -> None:
    """It is ready when the first pass is over."""
    daemon = watch()
    assert oracle.in_step(machine)
    assert 1 == daemon.told.count("READY=1")
    wait_until(lambda: f"STATUS={TUNNEL} is up; 6 copies" in daemon.told, "the status is told")
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    wait_until(lambda: f"STATUS={TUNNEL} is up; 7 copies" in daemon.told, "the status is new")
    daemon.stop()
    wait_until(lambda: daemon.told[-1] == "STOPPING=1", "STOPPING=1")


def test_it_is_ready_even_if_the_first_pass_has_failed(machine: Machine, daemon: Watch, broken_ip: BrokenIp) -> None:
    broken_ip.breaks("exit")
    made: Daemon = daemon(path=broken_ip.folder).start()
    made.wait_for("something is wrong")
    broken_ip.mends()
    made.wait_in_step()


def test_a_reload_is_announced_with_its_time_and_answered_with_ready(watch: Watch) -> None:
    """A service manager that asks for a reload waits for its end, whether or not the file has changed."""
    daemon = watch()
    daemon.told.clear()
    daemon.send(signal.SIGHUP)
    wait_until(lambda: "READY=1" in daemon.told, "READY=1")
    assert ["RELOADING=1"] == [words for words in daemon.told if not words.startswith("STATUS=")][:1]
    daemon.told.clear()
    daemon.configure("[lan]\nnonsense = 1\n")
    daemon.wait_for("the last good configuration stays in force")
    daemon.counters()
    assert [] == [words for words in daemon.told if not words.startswith("STATUS=")]
    before = time.monotonic_ns() // 1000
    daemon.configure("[lan]\nprune = false\n")
    daemon.send(signal.SIGHUP)
    wait_until(lambda: "READY=1" in daemon.told, "READY=1")
    told = [words for words in daemon.told if not words.startswith("STATUS=")]
    assert ["RELOADING=1", "READY=1"] == [told[0], told[-1]]
    assert before <= int(told[1].removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_it_feeds_no_watchdog_that_is_not_its_own(daemon: Watch) -> None:
    made: Daemon = daemon(environment={"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}).start()
    with pytest.raises(AssertionError, match="not within"):
        wait_until(lambda: "WATCHDOG=1" in made.told, "it feeds the watchdog", 0.3)


def test_the_watchdog_is_fed_and_while_ip_hangs_within_the_units_patience(
    machine: Machine, watch: Watch, broken_ip: BrokenIp
) -> None:
    """An `ip` may take 10 s, and systemd waits for 60."""
    assert "\nWatchdogSec=60\n" in texts("units")["fz-iproute.service"]
    daemon = watch(environment={"WATCHDOG_USEC": "400000"}, path=broken_ip.folder, patience=0.5)
    fed = daemon.told.count("WATCHDOG=1")
    wait_until(lambda: daemon.told.count("WATCHDOG=1") >= fed + 5, "it feeds the watchdog every 0.2 s", 5)
    broken_ip.breaks("hang")
    machine.bridge("br0")
    daemon.wait_for("no answer within")
    fed = daemon.told.count("WATCHDOG=1")
    wait_until(lambda: daemon.told.count("WATCHDOG=1") >= fed + 2, "it feeds the watchdog")
    daemon.stop()


def test_without_a_service_manager_it_works_too(machine: Machine, watch: Watch, daemon: Watch) -> None:
    made: Daemon = daemon(environment={"NOTIFY_SOCKET": ""}).start(ready=False)
    wait_until(lambda: oracle.in_step(machine), "in step")
    assert [] == made.told
    assert 0 == made.stop()
    left = watch()
    left.socket.unlink()
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    left.wait_in_step()
    assert [] == left.complaints


# Its unit


@pytest.fixture(scope="module")
def analyze() -> str:
    return shutil.which("systemd-analyze") or pytest.skip("UNIT NOT CHECKED: there is no systemd-analyze here")


# systemd looks whether the program is there.
PROGRAM = "/bin/true"
KINDS = {
    "systemd": "fz-iproute.service",
    "systemd --instance home": "fz-iproute@home.service",
    "systemd --netns blue": "fz-iproute.service",
    "timer": "fz-iproute-sync.timer",
    "timer --instance home": "fz-iproute-sync@home.timer",
}


@pytest.fixture(scope="module", params=KINDS)
def units(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The printed units, in files of their names; the last one is to be enabled."""
    folder = tmp_path_factory.mktemp("units")
    text = starter().run(["unit", *request.param.split(), "--program", PROGRAM], {}, 60).stdout
    parts = re.split(r"(?m)^# (/etc/systemd/system/\S+)\n", text)[1:] or [KINDS[request.param], text]
    for path, content in zip(parts[::2], parts[1::2], strict=True):
        (folder / Path(path).name.replace("@.", "@home.")).write_text(content)
    made = sorted(folder.iterdir())
    assert KINDS[request.param] == made[-1].name
    return made


def test_systemd_finds_nothing_wrong_with_a_unit(analyze: str, units: list[Path]) -> None:
    done = run(analyze, "verify", "--man=no", *map(str, units), check=False)
    assert (0, "") == (done.returncode, done.stderr)


def test_systemd_finds_little_exposure(analyze: str, units: list[Path]) -> None:
    done = run(analyze, "security", "--offline=true", "--no-pager", str(units[0]))
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) <= 1.2
