"""Under systemd: what it reports, what its unit allows, and that it works with these rights alone."""

import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from fz_iproute.files.data import texts
from tests.netns.namespace import LAN, PROJECT, TUNNEL, Machine, run, wait_until
from tests.starter import starter
from tests.user_ids import need_user_ids
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


# With no more than the unit allows

NOBODY = 65534
_FENCED = """\
set -e
{openings}
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir {runtime}
chown {nobody}:{nobody} {runtime}
mount -o remount,bind,ro /
exec setpriv --reuid {nobody} --regid {nobody} --clear-groups --inh-caps -all,+net_admin \
    --ambient-caps -all,+net_admin --bounding-set -all,+net_admin --no-new-privs "$@"
"""


def openings() -> list[str]:
    """Commands that let everybody reach the interpreter and the project, in a mount namespace of its own."""
    needed = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), PROJECT.resolve()}
    commands = []
    for path in sorted(needed):
        closed = [parent for parent in reversed(path.parents) if not parent.stat().st_mode & 0o001]
        if closed:
            # Replace the closed folder by an empty one that contains only this path.
            commands += [
                "mount -t tmpfs tmpfs /mnt",
                "mkdir /mnt/kept",
                f"mount --bind {path} /mnt/kept",
                f"mount -t tmpfs -o mode=0755 tmpfs {closed[0]}",
                f"mkdir -p {path}",
                f"mount --bind /mnt/kept {path}",
            ]
    return commands


@pytest.fixture
def fenced(machine: Machine, daemon: Watch, tmp_path: Path) -> Daemon:
    """A daemon that runs as nobody, with one capability and a read-only file system."""
    need_user_ids()
    if not shutil.which("setpriv"):
        pytest.skip("NOT TRIED WITHOUT PRIVILEGES: it takes setpriv to give them up")
    runtime = Path("/run/fz-iproute")
    script = _FENCED.format(openings="\n".join(openings()), nobody=NOBODY, runtime=runtime)
    try_it = run("unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", "import sh, loguru", check=False)
    if try_it.returncode:
        pytest.skip(f"NOT TRIED WITHOUT PRIVILEGES: nobody cannot start Python here: {try_it.stderr}")
    made: Daemon = daemon(
        inside=["ip", "netns", "exec", machine.name, "unshare", "-m", "sh", "-c", script, "sh"],
        environment={"RUNTIME_DIRECTORY": str(runtime), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    # pytest makes its folders for its own user only.
    for folder in [made.config.parent, *made.config.parent.parents]:
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    made.config.chmod(0o644)
    return made


def test_without_privileges_it_follows_and_reloads(machine: Machine, fenced: Daemon) -> None:
    fenced.start()
    assert oracle.in_step(machine)
    wait_until(lambda: f"STATUS={TUNNEL} is up; 6 copies" in fenced.told, "the service manager hears it")
    machine.address(LAN, "192.168.188.113/24", "metric", "600")
    machine.ip("addr", "del", "192.168.188.112/24", "dev", LAN)
    fenced.wait_in_step()
    assert machine.reaches("192.168.188.1")
    fenced.configure('[lan]\nexclude_interfaces = ["uplink0"]\n')
    fenced.wait_for("there is a new configuration")  # it has noticed the file by itself
    fenced.wait_in_step(lambda: "10.77.0.0/24" not in oracle.destinations(machine))
    assert [] == fenced.complaints
    assert 0 == fenced.stop()


def test_without_privileges_it_can_do_no_more_than_the_unit_says(fenced: Daemon) -> None:
    fenced.start()
    process = Path(f"/proc/{fenced.process.pid}")
    mounts = (process / "mountinfo").read_text().splitlines()
    (root,) = [line.split()[5] for line in mounts if line.split()[4] == "/"]
    assert "ro" in root.split(",")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    admin = f"{1 << 12:016x}"
    uids = "\t".join([str(NOBODY)] * 4)
    wanted = {"CapEff": admin, "CapBnd": admin, "CapAmb": admin, "NoNewPrivs": "1", "Uid": uids}
    assert wanted == {name: status[name] for name in wanted}


def test_without_privileges_it_shares_its_locks_with_root(fenced: Daemon) -> None:
    fenced.start()
    options = fenced.namespace.fz_options()
    del options["env"]["RUNTIME_DIRECTORY"]
    inside = ("nsenter", "--mount", "--net", "--target", str(fenced.process.pid))
    done = run(*inside, *fenced.namespace.fz_argv("--wait", "0", "watch", netns=False), **options, check=False)
    assert 5 == done.returncode, done


def test_without_privileges_a_killed_monitor_is_replaced_and_no_child_survives_it(fenced: Daemon) -> None:
    fenced.start()
    os.kill(fenced.monitor(), signal.SIGKILL)
    wait_until(lambda: fenced.counters()["monitors"] == 2, "there is a second monitor")
    fenced.kill()
