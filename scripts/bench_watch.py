"""Times `fz-iproute watch`: how soon a copy follows a new address, and what the daemon costs.

The reaction stands beside that of BIRD, and beside that of a bare sketch of the same form, which is the floor.

A netlink socket of the benchmark hears from the kernel when the copy has arrived. Everything runs in the network
namespace of this process at the time of `measure`.
"""

import ctypes
import os
import random
import re
import select
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain, count, cycle
from pathlib import Path
from typing import NamedTuple

WATCH = [str(Path(sys.executable).with_name("fz-iproute")), "watch"]
SKETCH = Path(__file__).with_name("bench_sketch.py")
LAN = "v0"
TABLE = 539098368
RUN = Path("/run")

REACTION_MS = 0.9
REACTION_TO_FLOOR = 2.0  # of the medians
REACTION_P99_MS = 3.0
WHOLE_TO_BIRD = 1.15  # with `ip address add`
STORM_REACTION_MS = 600.0  # max_wait and 100 ms
STORM_CPU_PERCENT = 4.0
IDLE_CPU_PERCENT = 0.05
RSS_MB = 45.0
# What an allocator keeps, and what the two coprocesses may leak before they are renewed.
GROWTH_MB = {"resident memory": 2.0, "its children's": 20.0}

STORM_RATE = 1_000
STORM_SECONDS = 10.0
EVENTS, EVENTS_RATE = 100_000, 5_000

# How long to wait for anything, in seconds.
PATIENCE = 20.0
# `ip -batch` 6.1 leaks about 4 KB a line.
LINES_A_PROCESS = 10_000

BIRD = """\
log "{folder}/bird.log" {{ warning, error, fatal, bug }};
router id 192.0.2.1;
protocol device {{ scan time 10; }}
protocol direct {{ ipv4; interface "{lan}"; }}
protocol kernel {{ kernel table {table}; learn off; ipv4 {{ import none; export all; }}; }}
"""
US, FLOOR, BIRD_2 = "fz-iproute watch", "the bare sketch", "BIRD 2"

# Lines for `ip -batch`, each added and deleted in turn; `{n}` is 0 to 255. `watch` can drop the events of the first
# storm at a glance, but not those of the second.
STORMS = {
    "storm of routers' routes and other tables": [
        "route {verb} 11.0.{n}.0/24 via 192.168.188.1 dev v0 proto bird",
        "route {verb} 11.1.{n}.0/24 dev v0 scope link table 4242",
        "route {verb} 11.2.{n}.0/24 via 192.168.188.1 dev v0 proto static metric 7",
        "route {verb} blackhole 11.3.{n}.0/24 table 4243",
    ],
    "storm of blackholes in main": [
        "route {verb} blackhole 11.4.{n}.0/24",
        "route {verb} unreachable 11.5.{n}.0/24 metric 9",
    ],
}
# Here routes that are to be copied come and go too.
WILD = [*chain.from_iterable(STORMS.values()), "route {verb} 11.6.{n}.0/24 dev v0 proto static scope link"]


class Failed(Exception):
    """A contender has ended, or did not do what it is there for. What was measured before still counts."""


@dataclass(frozen=True)
class Figure:
    """A line of the report: the value, that of the yardstick, and the limit."""

    name: str
    unit: str
    value: float
    limit: float | None = None
    yardstick: str = ""
    yardstick_value: float | None = None
    runs: Sequence[float] = field(default=(), repr=False)
    yardstick_runs: Sequence[float] = field(default=(), repr=False)

    @property
    def ratio(self) -> float | None:
        """To the yardstick."""
        return self.value / self.yardstick_value if self.yardstick_value else None


def measure(build_lan: Callable[[], object], *, quick: bool) -> Iterator[Figure]:
    """Every figure, in the order of the report. `build_lan` goes to a new network, which has the interface v0."""
    yield from measure_reaction(build_lan, quick=quick)
    for name, lines in STORMS.items():
        build_lan()
        yield from measure_storm(name, lines, 15 if quick else 40)
    build_lan()
    yield from measure_idle(15.0 if quick else 60.0)
    yield from measure_endurance()


def measure_reaction(build_lan: Callable[[], object], *, quick: bool) -> Iterator[Figure]:
    """The time from an address to its copy, after quiet.

    Once from the moment when the kernel has the address, and once from the start of `ip address add`. Each contender
    runs in a network of its own all the time, and they are timed in turns, because the pace of a shared machine
    changes. If it has two paces, the medians of two contenders may belong to different ones. The ratio inside a turn
    does not suffer from that. A yardstick that fails is left out.
    """
    runs = 60 if quick else 200
    contenders = {US: fz_iproute, FLOOR: sketch} | ({BIRD_2: bird} if bird_program() else {})
    with ExitStack() as stack:
        judges: dict[str, Judge] = {}
        for contender, daemon in contenders.items():
            build_lan()
            stack.enter_context(daemon())
            judges[contender] = stack.enter_context(Judge())
        judges[US].rest(_UNTIL_IT_LISTENS)
        for name, whole in (("reaction after quiet", False), ("reaction with `ip address add`", True)):
            found = timed_in_turns(judges, runs, whole=whole)
            yield from _compared(name, found, runs, whole=whole)


def timed_in_turns(judges: dict[str, "Judge"], runs: int, *, whole: bool) -> dict[str, list[float]]:
    """So many reactions of each contender, in ms, after three that do not count. One that fails is removed."""
    found: dict[str, list[float]] = {contender: [] for contender in judges}
    for _ in range(3 + runs):
        for contender in random.sample(list(judges), len(judges)):
            try:
                found[contender].append(judges[contender].reaction(whole=whole))
            except Failed as failed:
                if contender == US:
                    raise
                print(f"scripts/bench: {contender} is left out: {failed}", file=sys.stderr)
                del found[contender], judges[contender]
    return {contender: reactions[3:] for contender, reactions in found.items()}


def _compared(name: str, found: dict[str, list[float]], runs: int, *, whole: bool) -> Iterator[Figure]:
    for what, summary in (("median", statistics.median), ("99th percentile", percentile_99)):
        for yardstick in (FLOOR, BIRD_2):
            theirs = summary(found[yardstick]) if yardstick in found else None
            yield Figure(
                f"{name}: {what} of {runs}", "ms", summary(found[US]), _limit(what, yardstick, theirs, whole=whole),
                yardstick if theirs else f"{yardstick} is missing", theirs, found[US], found.get(yardstick, []),
            )  # fmt: skip
    for yardstick in sorted(found.keys() - {US}):
        ratios = [ours / theirs for ours, theirs in zip(found[US], found[yardstick], strict=True)]
        limit = WHOLE_TO_BIRD if whole and yardstick == BIRD_2 else None
        yield Figure(f"{name}: ratio to {yardstick}, median of {runs} turns", "x", statistics.median(ratios), limit)


def _limit(what: str, yardstick: str, theirs: float | None, *, whole: bool) -> float | None:
    """How many ms the figure may be. Of the `whole`, only the ratio is limited."""
    if whole:
        return None
    if what != "median":
        return REACTION_P99_MS
    return theirs and min(REACTION_MS, REACTION_TO_FLOOR * theirs) if yardstick == FLOOR else None


def measure_storm(name: str, lines: Sequence[str], runs: int) -> Iterator[Figure]:
    """CPU in a storm of unrelated changes, and the reaction to an address during and after the storm."""
    with fz_iproute() as daemon:
        with Storm(lines, STORM_RATE) as storm:
            storm.until(STORM_RATE)
            yield Figure(f"{name}: CPU", "%", cpu_percent(daemon.pid, STORM_SECONDS), STORM_CPU_PERCENT)
            found = react(runs, quiet=(0.05, 0.5))
            yield Figure(f"{name}: reaction, longest of {runs}", "ms", max(found), STORM_REACTION_MS, runs=found)
            yield Figure(f"{name}: reaction, median of {runs}", "ms", statistics.median(found))
            yield Figure(f"{name}: changes really made", "1/s", storm.rate)
        behind = react(runs)
        yield Figure(
            f"{name}: reaction when it is over, median of {runs}", "ms", statistics.median(behind), runs=behind
        )


def measure_idle(seconds: float) -> Iterator[Figure]:
    """In a network where nothing happens."""
    with fz_iproute() as daemon:
        react(5)
        yield Figure(f"idle for {seconds:.0f} s: CPU", "%", cpu_percent(daemon.pid, seconds), IDLE_CPU_PERCENT)
        yield Figure("idle: resident memory", "MB", possessions(daemon.pid)["resident memory"], RSS_MB)


def measure_endurance() -> Iterator[Figure]:
    """The memory and descriptors of the daemon before and after many events."""
    with fz_iproute() as daemon:
        react(20)
        before, heard_before = possessions(daemon.pid), events_heard(daemon)
        with Storm(WILD, EVENTS_RATE) as storm:
            storm.until(EVENTS)
        settle(daemon.pid)
        react(5)
        settle(daemon.pid)
        heard, lost = (after - earlier for after, earlier in zip(events_heard(daemon), heard_before, strict=True))
        later = f"{EVENTS:,} events later"
        yield Figure(f"{later}: events heard, with its own", "", heard)
        yield Figure(f"{later}: receive buffer overflows", "", lost)
        for name, value in possessions(daemon.pid).items():
            slack = GROWTH_MB.get(name, 0.0)
            limit = before[name] + slack
            yield Figure(f"{later}: {name}", "MB" if slack else "", value, limit, "before them", before[name])


# --- The contenders.


@contextmanager
def fz_iproute() -> Iterator[subprocess.Popen[bytes]]:
    """The daemon, with the defaults."""
    log = RUN / "watch.log"
    with running(WATCH, log) as daemon:
        yield daemon
        if daemon.poll() is not None:
            raise Failed(f"{' '.join(WATCH)} has ended: {log.read_text(errors='replace')[-2000:].strip()}")


@contextmanager
def sketch() -> Iterator[subprocess.Popen[bytes]]:
    """The least that a program of this form has to do."""
    with running([sys.executable, str(SKETCH), str(TABLE)], RUN / "sketch.log") as daemon:
        yield daemon


def bird_program() -> str | None:
    """BIRD as it is installed, or as scripts/bench has unpacked it."""
    return shutil.which("bird", path=f"{os.environ['PATH']}:/usr/sbin:{Path(sys.executable).parent}")


@contextmanager
def bird() -> Iterator[subprocess.Popen[bytes]]:
    """BIRD, configured to mirror the interface and nothing else."""
    config = RUN / "bird.conf"
    config.write_text(BIRD.format(folder=RUN, lan=LAN, table=TABLE))
    argv = [bird_program() or "", "-f", "-c", str(config), "-s", str(RUN / "bird.ctl"), "-P", str(RUN / "bird.pid")]
    with running(argv, RUN / "bird.out") as daemon:
        yield daemon


@contextmanager
def running(argv: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon. At the end it gets SIGTERM, and its routes are removed from the table."""
    log.unlink(missing_ok=True)
    with log.open("wb") as output:
        # The daemon ends even if the benchmark is killed.
        words = ["setpriv", "--pdeathsig", "KILL", *argv]
        daemon = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield daemon
    finally:
        daemon.terminate()
        try:
            daemon.wait(5)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        subprocess.run(["ip", "-4", "route", "flush", "table", str(TABLE), "dev", LAN], check=False)


# --- Reactions.


# In seconds after the start of a daemon: then it listens, and has looked once more for what it had missed before.
_UNTIL_IT_LISTENS = 2.5
_QUIET = (0.03, 0.1)


def react(runs: int, quiet: tuple[float, float] = _QUIET) -> list[float]:
    """So many reactions, in ms, after three that do not count; see Judge."""
    with Judge() as judge:
        judge.rest(_UNTIL_IT_LISTENS)
        return [judge.reaction(quiet) for _ in range(3 + runs)][3:]


class Judge:
    """Adds an address, and hears from the kernel when its copy has come, without starting a process.

    It stays with the network in which it was made.
    """

    _NEWADDR, _DELADDR, _NEWROUTE, _DELROUTE = 20, 21, 24, 25
    _REQUEST, _ACK, _EXCL, _CREATE = 0x1, 0x4, 0x200, 0x400
    _IPV4_ROUTE = 1 << 6  # the group, as a bit
    _HEADER = struct.Struct("=IHHII")
    _RCVBUFFORCE, _ATTACH_FILTER = 33, 26
    # A socket filter: load rtm_table, which is byte 20; accept the message if that is RT_TABLE_COMPAT, as it is for
    # all tables above 255; otherwise drop it. Without this, the route of main would wake the judge, too, and the judge
    # would take a CPU just when a contender needs it.
    _COPIES_ONLY = ((0x30, 0, 0, 20), (0x15, 0, 1, 252), (0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0))

    def __init__(self) -> None:
        self._network = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._speaker = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._listener.setsockopt(socket.SOL_SOCKET, self._RCVBUFFORCE, 1 << 25)
        program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in self._COPIES_ONLY))
        pointed = struct.pack("HP", len(self._COPIES_ONLY), ctypes.addressof(program))
        self._listener.setsockopt(socket.SOL_SOCKET, self._ATTACH_FILTER, pointed)
        self._listener.bind((0, self._IPV4_ROUTE))
        self._index = socket.if_nametoindex(LAN)
        self._numbers = cycle(range(1, 255))

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, *_: object) -> None:
        self._speaker.close()
        self._listener.close()
        set_network(self._network)
        os.close(self._network)
        subprocess.run(["ip", "address", "flush", "dev", LAN, "to", "10.200.0.0/16"], check=False)

    def reaction(self, quiet: tuple[float, float] = _QUIET, *, whole: bool = False) -> float:
        """In ms; before the address comes, and before it goes again, `quiet` seconds pass, by chance from a range.

        The `whole` begins with the start of an `ip` that adds the address.
        """
        number = next(self._numbers)
        set_network(self._network)  # for the new process
        self.rest(random.uniform(*quiet))
        start = time.perf_counter()
        if whole:
            ip = os.posix_spawnp("ip", f"ip address add 10.200.{number}.1/24 dev {LAN}".split(), os.environ)
        else:
            self._change(self._NEWADDR, self._CREATE | self._EXCL, number)
        self._wait_for(self._NEWROUTE, number)
        ms = (time.perf_counter() - start) * 1000
        if whole:
            os.waitpid(ip, 0)
        self.rest(random.uniform(*quiet))
        self._change(self._DELADDR, 0, number)
        self._wait_for(self._DELROUTE, number)
        return ms

    def _change(self, kind: int, flags: int, number: int) -> None:
        """Address 10.200.NUMBER.1/24 of v0. The kernel has done it when `send` returns."""
        address = bytes((10, 200, number, 1))
        body = struct.pack("=BBBBI", socket.AF_INET, 24, 0, 0, self._index)
        body += b"".join(struct.pack("=HH4s", 8, attribute, address) for attribute in (1, 2))  # IFA_ADDRESS, IFA_LOCAL
        flags |= self._REQUEST | self._ACK
        self._speaker.send(self._HEADER.pack(self._HEADER.size + len(body), kind, flags, 1, 0) + body)
        (error,) = struct.unpack_from("=i", self._speaker.recv(4096), self._HEADER.size)
        if error:
            raise Failed(f"10.200.{number}.1/24: {os.strerror(-error)}")

    def _wait_for(self, kind: int, number: int) -> None:
        """The notification that the copy has come or gone."""
        table = struct.pack("=HHI", 8, 15, TABLE)  # RTA_TABLE
        network = struct.pack("=HH4B", 8, 1, 10, 200, number, 0)  # RTA_DST
        self._listener.settimeout(PATIENCE)
        while True:
            try:
                event = self._listener.recv(1 << 16)  # the kernel puts one into each
            except TimeoutError:
                raise Failed(f"nobody copied 10.200.{number}.0/24 within {PATIENCE:.0f} s") from None
            if event[4:6] == kind.to_bytes(2, sys.byteorder) and table in event and network in event:
                return

    def rest(self, seconds: float) -> None:
        """Let time pass, and forget what happened meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self._listener], [], [], left)[0]:
                self._listener.recv(1 << 16)


def set_network(fd: int) -> None:
    """os.setns() of Python 3.12, with a network namespace."""
    if ctypes.CDLL(None, use_errno=True).setns(fd, 0):
        raise Failed(f"setns: {os.strerror(ctypes.get_errno())}")


class Storm:
    """Changes routes at a steady rate, a few each millisecond, from a thread; `ip` does the work."""

    def __init__(self, lines: Sequence[str], rate: int) -> None:
        self._lines = self._endless(lines)
        self._rate = rate
        self._done = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._blow, daemon=True)

    def __enter__(self) -> "Storm":
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def rate(self) -> float:
        """Changes a second, until now."""
        return self._done / (time.monotonic() - self._started)

    def until(self, changes: int) -> None:
        """Let it make so many."""
        while self._done < changes:
            time.sleep(0.01)

    @staticmethod
    def _endless(lines: Sequence[str]) -> Iterator[str]:
        """All of them added, then all of them deleted, for each number in turn."""
        for number in count():
            for verb in ("add", "del"):
                for line in lines:
                    yield f"{line.format(verb=verb, n=number % 256)}\n"

    def _blow(self) -> None:
        while not self._stop.is_set():
            with subprocess.Popen(["ip", "-batch", "-"], stdin=subprocess.PIPE, bufsize=0) as ip:
                assert ip.stdin
                last = self._done + LINES_A_PROCESS
                while self._done < last and not self._stop.is_set():
                    due = int((time.monotonic() - self._started) * self._rate) - self._done
                    ip.stdin.write("".join(next(self._lines) for _ in range(due)).encode())
                    self._done += due
                    time.sleep(0.001)


# --- Costs of a process.


def cpu_percent(pid: int, seconds: float) -> float:
    """Of one core, over so many seconds from now, with all children, also those that have ended."""
    started, before = time.monotonic(), cpu_seconds(pid)
    time.sleep(seconds)
    return 100 * (cpu_seconds(pid) - before) / (time.monotonic() - started)


def cpu_seconds(pid: int) -> float:
    """Used by a process and its children. What an ended child has used is among its parent's figures."""
    own = stat(pid)[11:15]  # utime, stime, cutime, cstime
    return sum(map(int, own)) / os.sysconf("SC_CLK_TCK") + sum(map(cpu_seconds, children(pid)))


def stat(pid: int) -> list[str]:
    """/proc/PID/stat from the third field on; zeros if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 50


def children(pid: int) -> list[int]:
    """Those that are alive."""
    found: list[int] = []
    for place in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, place.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def possessions(pid: int) -> dict[str, float]:
    """What a leak would make grow; memory in MB."""
    proc = Path(f"/proc/{pid}")
    return {
        "resident memory": resident(pid),
        "its children's": sum(map(resident, children(pid))),
        "threads": len(list((proc / "task").iterdir())),
        "file descriptors": len(list((proc / "fd").iterdir())),
        "children": len(children(pid)),
    }


def resident(pid: int) -> float:
    """In MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / (1 << 20)


class Heard(NamedTuple):
    """By its own account."""

    events: int
    lost: int


def events_heard(daemon: subprocess.Popen[bytes]) -> Heard:
    """What the daemon logs when it is asked for its counters."""
    log = RUN / "watch.log"
    known = log.stat().st_size
    daemon.send_signal(signal.SIGUSR1)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with log.open("rb") as file:
            file.seek(known)
            if found := re.search(rb"events=(\d+) .*lost=(\d+)", file.read()):
                return Heard(int(found[1]), int(found[2]))
        time.sleep(0.01)
    raise Failed("no counters in the log of fz-iproute watch")


def settle(pid: int) -> None:
    """Wait until a second has passed in which it did nothing to speak of."""
    end = time.monotonic() + 60
    while cpu_percent(pid, 1.0) > 2.0 and time.monotonic() < end:
        pass


def percentile_99(runs: Sequence[float]) -> float:
    """With 200 of them, the third-longest."""
    return statistics.quantiles(runs, n=100, method="inclusive")[98] if len(runs) > 1 else runs[0]


# --- The report.


def as_text(figures: Sequence[Figure]) -> str:
    """A table for people."""

    def text(value: float | None, unit: str) -> str:
        if value is None:
            return ""
        return f"{value:,.{2 if unit in ('%', 'x') else 1 if unit in ('ms', 'MB') else 0}f}"

    table = [("fz-iproute watch", "", "", "yardstick", "its figure", "ratio", "limit")]
    table += [
        (
            figure.name,
            text(figure.value, figure.unit),
            figure.unit,
            figure.yardstick,
            text(figure.yardstick_value, figure.unit),
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            text(figure.limit, figure.unit),
        )
        for figure in figures
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    sides = "<><<>>>"
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)).rstrip()
        for line in table
    )


def as_json(figures: Sequence[Figure]) -> list[dict[str, object]]:
    """The same for programs, with every run."""
    return [{**vars(figure), "ratio": figure.ratio} for figure in figures]
