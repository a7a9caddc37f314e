"""Lets one `watch` live through weeks of a laptop's life, compressed into some minutes.

After each event an oracle that shares no code with the program must find the copies in step. At the end, the process
must need no more descriptors, threads and children than after a third of the time, and hardly more memory than after
two thirds.
"""

import argparse
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.netns.namespace import LAN, MIRROR, PROJECT, TUNNEL, TUNNEL_ROUTES, Machine, removing, wait_until
from tests.watch import oracle
from tests.watch.broken_ip import BrokenIp
from tests.watch.daemon import Daemon
from tests.watch.test_random_walk import story

EVENTS_A_DAY = 40
INOTIFY = Path("/proc/sys/user/max_inotify_instances")
# Python reads this at its start. The clocks of a machine cannot be set for one process.
CLOCKS = """\
import os, time
def shifted(clock, name):
    file = os.open({folder!r} + "/" + name, os.O_RDONLY)  # later there may be no free descriptor
    return lambda *arguments: clock(*arguments) + float(os.pread(file, 99, 0))
wall, boot, real = shifted(time.time, "wall"), shifted(time.clock_gettime, "boot"), time.clock_gettime
time.time = wall
time.clock_gettime = lambda clock: (boot if clock == time.CLOCK_BOOTTIME else real)(clock)
"""
CONFIG = '[tunnel]\ninterface = "tun-firezone"\n[watch]\nmax_wait = 0.05\nresync = 5\njournal = "{journal}"\n{more}'
NETWORKS = [
    ("192.168.188.{}/24", "fd00:188::{}/64"),
    ("10.20.{}.7/16", "fd00:20::{}/64"),
    ("172.20.3.{}/28", "fd00:3::{}/64"),
]


class Needs(NamedTuple):
    """What a process holds: memory in KiB, descriptors, and counts."""

    memory: int
    descriptors: Counter[str]  # by what they are
    threads: int
    children: int


class Life:
    """The machine, its daemon, and the events. Each event leaves the machine whole, but perhaps different."""

    def __init__(self, machine: Machine, folder: Path, dice: random.Random) -> None:
        self.machine, self.dice = machine, dice
        self.ip = BrokenIp(folder)
        self.disk = folder / "disk"
        self.disk.mkdir()
        subprocess.run(["mount", "-n", "-t", "tmpfs", "-o", "size=256k", "tmpfs", self.disk], check=True)
        self.journal = self.disk / "journal"
        self.clocks = folder / "clocks"
        self.clocks.mkdir()
        (self.clocks / "sitecustomize.py").write_text(CLOCKS.format(folder=str(self.clocks)))
        self.offsets = {"wall": 0.0, "boot": 0.0}
        for clock in self.offsets:
            self.set_clock(clock, 0.0)
        search = os.pathsep.join([str(self.clocks), str(PROJECT)])
        self.daemon = Daemon(machine, self.config(), path=self.ip.folder, environment={"PYTHONPATH": search})
        self.complaints: Counter[str] = Counter()
        self.bridges: list[str] = []

    def config(self, more: str = "") -> str:
        """The text of the configuration file."""
        return CONFIG.format(journal=self.journal, more=more)

    def batch(self, *lines: str) -> None:
        """Run lines of `ip`; some may be refused."""
        self.machine.batch(lines, force=True)

    def set_clock(self, clock: str, seconds: float) -> None:
        """Move the wall clock, or the one that runs on in a suspend, for the daemon only."""
        self.offsets[clock] += seconds
        file = os.open(self.clocks / clock, os.O_CREAT | os.O_WRONLY)
        os.write(file, f"{self.offsets[clock]:30}".encode())
        os.close(file)

    # Events

    def roam(self) -> None:
        """Another network at the same interface."""
        host = self.dice.randrange(2, 14)
        self.batch(f"address flush dev {LAN} scope global", f"-6 address flush dev {LAN} scope global")
        v4, v6 = self.dice.choice(NETWORKS)
        self.batch(
            f"address add {v4.format(host)} dev {LAN} metric 600", f"-6 address add {v6.format(host)} dev {LAN} nodad"
        )

    def renew(self) -> None:
        """A lease with another address in the same network; the old address goes afterwards."""
        one, other = self.dice.sample(range(20, 60), 2)
        for host in (one, other):
            self.batch(f"address add 10.30.0.{host}/24 dev {LAN}")
        self.batch(f"address del 10.30.0.{one}/24 dev {LAN}", f"address del 10.30.0.{other}/24 dev {LAN}")

    def suspend(self) -> None:
        """The daemon sleeps while the network changes, with more events than the kernel keeps for it."""
        monitor = self.daemon.monitor()
        self.daemon.send(signal.SIGSTOP)
        with suppress(ProcessLookupError):
            os.kill(monitor, signal.SIGSTOP)
        for _ in range(self.dice.choice([1, 1, 3])):
            self.roam()
        count = self.dice.choice([10, 10, 3000])
        self.batch(*(f"route add 10.40.{n >> 8}.{n & 255} dev {LAN} scope link" for n in range(count)))
        self.batch(*(f"route del 10.40.{n >> 8}.{n & 255} dev {LAN} scope link" for n in range(count)))
        with suppress(ProcessLookupError):
            os.kill(monitor, signal.SIGCONT)
        self.set_clock("boot", self.dice.choice([1, 3600, 200_000]))
        self.daemon.send(signal.SIGCONT)

    def jump(self) -> None:
        """Somebody sets the clock, hours or decades back or on."""
        self.set_clock("wall", self.dice.choice([-1e9, -7200, -2, 2, 7200, 1e9]))
        self.roam()

    def bounce(self) -> None:
        """Wifi off and on."""
        self.batch(f"link set dev {LAN} down", f"link set dev {LAN} up")

    def docker(self) -> None:
        """Containers come, or all go."""
        if len(self.bridges) > 3:
            self.batch(*(f"link del dev {name}" for name in self.bridges))
            self.bridges.clear()
            return
        number = self.dice.randrange(100, 250)
        name = f"br-{number}"
        self.bridges.append(name)
        self.batch(
            *(f"link add name {name} type bridge", f"address add 172.{number % 15 + 16}.0.1/24 dev {name}"),
            *(f"link add name ve{number} type veth peer name vp{number}", f"link set dev ve{number} master {name}"),
            *(f"link set dev {device} up" for device in (f"ve{number}", f"vp{number}", name)),
        )
        self.bridges.append(f"ve{number}")

    def restart_vpn(self) -> None:
        """The tunnel goes with its routes, and comes again."""
        self.machine.vpn.close()
        wait_until(lambda: TUNNEL not in oracle.indexes(self.machine), "the tunnel is gone")
        self.machine.vpn = self.machine.tunnel(TUNNEL, "100.64.0.5/32", "fd00:2021:1111::5/128")
        for prefix in [*TUNNEL_ROUTES, "default", "::/0"]:
            self.machine.tunnel_route(prefix, MIRROR)

    def vpn_resource(self) -> None:
        """The VPN routes a part of a LAN explicitly, then no longer."""
        prefix = self.dice.choice(["10.20.0.0/16", "192.168.188.0/24", "172.0.0.0/8"])
        for verb in ("add", "del"):
            self.batch(f"route {verb} {prefix} dev {TUNNEL} proto static scope global table {MIRROR}")

    def storm(self) -> None:
        """Hundreds of routes, at once."""
        routes = [f"10.{self.dice.randrange(50, 60)}.{n}.0/24 dev {LAN} scope link" for n in range(200)]
        for verb in ("add", "del"):
            self.batch(*(f"route {verb} {route}" for route in routes))

    def kill_children(self) -> None:
        """Memory is short, and the kernel kills a child."""
        for pid in self.dice.sample(children := list(self.daemon.children()), min(len(children), 2)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def upgrade_ip(self) -> None:
        """`ip` is missing, or broken, for a moment."""
        self.ip.breaks(self.dice.choice(["missing", "fails"]))
        self.bounce()
        time.sleep(0.05)  # the daemon may notice it, or not
        self.ip.mends()

    def edit_config(self) -> None:
        """A good, a broken, an empty and no file, and at the end the first one."""
        path = self.daemon.config
        for text in self.dice.sample([self.config("settle = 0.003\n"), "[wat", "", self.config("resync = 30\n")], 2):
            path.write_text(text)
            self.daemon.send(signal.SIGHUP)
        path.write_text(self.config())
        self.daemon.send(signal.SIGHUP)

    def rotate(self) -> None:
        """As logrotate does it."""
        with suppress(FileNotFoundError):
            self.journal.rename(self.disk / "journal.1")
        self.daemon.send(signal.SIGHUP)

    def fill_disk(self) -> None:
        """The disk of the journal is full for a moment."""
        with suppress(OSError), (self.disk / "full").open("wb") as file:
            file.write(b"x" * (1 << 20))
        self.roam()
        self.daemon.wait_in_step()
        (self.disk / "full").unlink()
        self.rotate()

    def exhaust_descriptors(self) -> None:
        """There is no free descriptor for a moment."""
        pid = self.daemon.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (self.needs().descriptors.total(), hard))
        self.roam()
        self.edit_config()
        time.sleep(0.05)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        self.bounce()

    def exhaust_inotify(self) -> None:
        """No more inotify instances are allowed, and the configuration changes."""

        def copied() -> bool:
            return any(f" dev {LAN} " in line for line in self.machine.routes("inet"))

        self.roam()
        self.daemon.wait_in_step()
        most = INOTIFY.read_text()
        INOTIFY.write_text("0")
        # The first change is still seen by the instance that there was.
        for wanted, more in ((False, f'[lan]\nexclude_interfaces = ["{LAN}"]\n'), (True, "")):
            self.daemon.config.write_text(self.config(more))
            wait_until(partial(lambda wanted: copied() == wanted, wanted), "it reads its configuration by itself")
        INOTIFY.write_text(most)

    def restart(self) -> None:
        """`systemctl restart`, or a crash. Only in the first third: it would hide what grows."""
        self.daemon.stop(self.dice.choice([signal.SIGTERM, signal.SIGKILL]))
        self.roam()
        self.daemon.start()

    # Judgement

    def quiet(self) -> None:
        """The oracle looks, and the log is noted and emptied."""
        wait_until(lambda: self.daemon.children_like(" monitor "), "there is an ip monitor")
        self.daemon.wait_in_step()
        for line in self.daemon.complaints:
            self.complaints[line[:70]] += 1
        assert "Traceback" not in self.daemon.log, self.daemon.log
        os.truncate(self.daemon.log_file, 0)

    def needs(self) -> Needs:
        """Of the daemon, now."""
        process = Path(f"/proc/{self.daemon.process.pid}")
        status = dict(line.split(":\t") for line in (process / "status").read_text().splitlines())
        found: Counter[str] = Counter()
        for path in (process / "fd").iterdir():
            with suppress(FileNotFoundError):
                name = str(path.readlink())
                if "/journal" not in name:  # it is open from the first command on
                    found[re.sub(r"\d+", "N", name)] += 1
        return Needs(int(status["VmRSS"].split()[0]), found, int(status["Threads"]), len(self.daemon.children()))


# How often each event happens, in proportion.
EVENTS: dict[Callable[[Life], None], int] = {
    **dict.fromkeys([Life.roam, Life.renew, Life.bounce, Life.docker, Life.suspend], 8),
    **dict.fromkeys([Life.restart_vpn, Life.vpn_resource, Life.storm, Life.kill_children], 4),
    **dict.fromkeys(
        [Life.upgrade_ip, Life.edit_config, Life.rotate, Life.fill_disk, Life.exhaust_descriptors, Life.jump], 2
    ),
    Life.exhaust_inotify: 1,
}


def main() -> int:
    """1 if the copies were out of step, or if something had grown."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: 10)")
    parser.add_argument("--only", metavar="EVENT", help="no other event")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="start with the same random numbers")
    arguments = parser.parse_args()
    print(f"scripts/soak: seed {arguments.seed}", flush=True)
    if "4294967295" in Path("/proc/self/uid_map").read_text():
        print("no user namespace of our own: the limit of inotify instances stays as it is")
        del EVENTS[Life.exhaust_inotify]
    with tempfile.TemporaryDirectory(dir="/run", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o700)
        with removing(Machine(folder)) as machine:
            life = Life(machine, folder, random.Random(arguments.seed))
            try:
                return live(life, 60 * arguments.minutes, arguments.only)
            finally:
                life.daemon.end()


def live(life: Life, seconds: float, only: str | None) -> int:
    """Events until the time is over; each is followed by a quiet moment."""
    life.daemon.start()
    start = time.monotonic()
    counts: Counter[str] = Counter()
    before: Needs | None = None
    memories: list[int] = []  # ten, at equal intervals
    slowest = 0.0
    while (passed := time.monotonic() - start) < seconds or before is None:
        weights = {event: weight for event, weight in EVENTS.items() if only in (None, event.__name__)}
        if passed < seconds / 3 and not only:
            weights[Life.restart] = 2
        elif passed >= seconds / 3 and before is None:
            before = settled(life)
        if passed >= seconds * (len(memories) + 1) / 10:
            memories.append(life.needs().memory)
        (event,) = life.dice.choices(list(weights), list(weights.values()))
        counts[event.__name__] += 1
        try:
            event(life)
            moment = time.monotonic()
            life.quiet()
        except AssertionError as error:
            print(f"after {event.__name__} ({counts.total()} events): {error}")
            print(story(life.machine), *life.daemon.lines[-40:], sep="\n")
            return 1
        slowest = max(slowest, time.monotonic() - moment)
    after = settled(life)
    # A pass may be at work when we look; what has leaked stays.
    with suppress(AssertionError):
        wait_until(lambda: life.needs()[1:] == before[1:], "it needs as much as before", 10)
        after = life.needs()._replace(**{name: getattr(before, name) for name in Needs._fields[1:]})
    size = life.journal.stat().st_size if life.journal.exists() else 0
    print(f"{counts.total()} events ({counts.total() / EVENTS_A_DAY:.1f} days): {dict(counts)}")
    print("\n".join(f"{count} x {words}" for words, count in life.complaints.most_common(30)))
    print(f"in step after {slowest:.2f} s at most; the journal has {size} bytes")
    for name, one, other in zip(Needs._fields, before, after, strict=True):
        print(f"{name}: {_size(one)} after a third, {_size(other)} at the end")
    print(f"more: {dict(after.descriptors - before.descriptors)}; less: {dict(before.descriptors - after.descriptors)}")
    print(f"memory, ten times: {memories}")
    # A young process still fills its caches, and Python's memory is in pieces. After two thirds of the time, it has.
    grown = after.memory > memories[2 * len(memories) // 3] + 2048 or before[1:] != after[1:]
    print(f"{0 if grown else 1} passed, {int(grown)} failed")
    return int(grown)


def _size(need: object) -> object:
    return need.total() if isinstance(need, Counter) else need


def settled(life: Life) -> Needs:
    """What the daemon needs when nothing happens, with both coprocesses open, and while it watches its file."""
    life.rotate()
    life.bounce()
    life.quiet()
    # On a busy machine answers are slow, and no coprocess is kept until the next full pass.
    wait_until(lambda: len(life.daemon.children_like(" -batch ")) == 2, "there are two coprocesses", 60)
    life.daemon.coprocesses()

    def calm() -> Needs | None:
        first = life.needs()
        for _ in range(2):
            time.sleep(0.2)
            if life.needs()[1:] != first[1:]:
                return None
        return first if "anon_inode:inotify" in first.descriptors else None

    return wait_until(calm, "it needs always the same")


if __name__ == "__main__":
    sys.exit(main())
