"""Times `fz-iproute` beside yardsticks, in network namespaces of its own that end with this process.

`sync` and the verbs that only look are timed here, `watch` in bench_watch.py.

It reports and never judges: the exit code does not depend on any figure. Whatever is compared runs in turns
(A B A B), as a child that is already inside the namespace, so that no `ip netns exec` adds its noise.
"""

import argparse
import ctypes
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import bench_watch

PROGRAM = str(Path(sys.executable).with_name("fz-iproute"))
SYNC = [PROGRAM, "sync"]
BATCH = Path("/run/bench.batch")
TABLE = "539098368"

# How much a row may take: this many times its yardstick and, but for the cold no-op itself, a cold no-op on top.
COLD_LIMIT = 0.7
COPY_LIMIT = {10_000: 1.75}  # by the number of routes
DUMP_LIMIT = {1_000_000: 1.3}
PEAK_LIMIT_MB = {1_000_000: 60.0}
DOCTOR_LIMIT_MS = 250.0

# `ip -batch` 6.1 leaks about 4 KB a line.
LINES_A_PROCESS = 10_000

Machine = dict[str, str | int]

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000


class Contender(NamedTuple):
    """A command to be timed, and what has to happen before each run of it. `label` is its name as a yardstick."""

    label: str
    argv: Sequence[str]
    prepare: Callable[[], object] = lambda: None


class Timing(NamedTuple):
    """The runs of a contender. The peak is that of the largest process among it and its children."""

    label: str
    runs_ms: list[float]
    peak_mb: float

    @property
    def ms(self) -> float:
        """The median."""
        return statistics.median(self.runs_ms)


@dataclass(frozen=True)
class Row:
    """A line of the report: the timing, that of the yardstick, and the limits."""

    name: str
    timing: Timing
    yardstick: Timing | None = None
    limit_ms: float | None = None
    limit_mb: float | None = None

    @property
    def ratio(self) -> float | None:
        """Of the medians."""
        return self.timing.ms / self.yardstick.ms if self.yardstick else None


def main() -> None:
    """Measure, then print what was measured: the report on stdout, progress on stderr."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Time fz-iproute beside yardsticks.")
    parser.add_argument("--only", choices=("sync", "diagnosis", "watch", "reaction"), help="time only this part")
    parser.add_argument("-n", "--runs", type=int, default=5, help="runs of each command, for sync (default: 5)")
    parser.add_argument("--quick", action="store_true", help="no million routes; fewer reactions, a shorter idle time")
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("at least one run is needed")

    # As installed, and as pip has done for the yardstick: compiled once, and not in every run.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    leave_the_machine()
    origin = machine()
    rows: list[Row] = []
    figures: list[bench_watch.Figure] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("scripts/bench: it was asked to end"))
    try:
        for found in measured(arguments):
            if isinstance(found, Row):
                rows.append(found)
                print(f"{found.name}: {found.timing.ms:.1f} ms", file=sys.stderr, flush=True)
            else:
                figures.append(found)
                print(f"{found.name}: {found.value:.4g} {found.unit}", file=sys.stderr, flush=True)
    except bench_watch.Failed as failed:
        sys.exit(f"scripts/bench: {failed}")
    finally:  # what was measured counts, also if the rest was not
        print(as_json(origin, rows, figures) if arguments.json else as_text(origin, rows, figures))


def measured(arguments: argparse.Namespace) -> Iterator[Row | bench_watch.Figure]:
    """The parts that are asked for."""
    if arguments.only in (None, "sync"):
        yield from measure(arguments.runs, [0, 100_000] if arguments.quick else [0, 100_000, 1_000_000])
    if arguments.only in (None, "diagnosis"):
        yield from measure_diagnosis(arguments.runs)
    if arguments.only not in ("sync", "diagnosis"):
        part = bench_watch.measure_reaction if arguments.only == "reaction" else bench_watch.measure
        yield from part(lambda: build_lan(10), quick=arguments.quick)


def measure(runs: int, gatewayed: Iterable[int]) -> Iterator[Row]:
    """Every row, in the order of the report. The million comes last: its namespace takes long to go."""
    cold = yield from measure_cold(runs)
    for count in (10, 1_000, 10_000):
        yield from measure_on_link(runs, count, cold)
    yield measure_gatewayed(runs, 100_000, cold, "inet6")
    for count in gatewayed:
        yield measure_gatewayed(runs, count, cold, "inet")


def measure_cold(runs: int) -> Generator[Row, None, float]:
    """A cron job with nothing to do. Returns its median in ms."""
    build_lan(10)
    sync_until_idle()
    snippets = [Contender(code, [sys.executable, "-c", code]) for code in ("import pyroute2", "import sh", "pass")]
    sync, pyroute2, *others = race(runs, Contender("fz-iproute sync", SYNC), *snippets)
    yield Row("cold no-op, 10 routes", sync, pyroute2, COLD_LIMIT * pyroute2.ms)
    for other in others:
        yield Row(f"for comparison: {other.label}", other)
    return sync.ms


def measure_on_link(runs: int, count: int, cold: float) -> Iterator[Row]:
    """`count` routes to copy: all of them, then none."""
    build_lan(count)
    commands = run([*SYNC, "--dry-run"]).splitlines()
    BATCH.write_text("".join(f"{command.removeprefix('ip ')}\n" for command in commands))
    bare = ["ip", "-4", "-force", "-batch", str(BATCH)]
    copy, batch = race(
        runs, Contender("fz-iproute sync", SYNC, flush_copies), Contender("ip -batch", bare, flush_copies)
    )
    yield Row(f"copy {count:,} routes", copy, batch, limit(COPY_LIMIT, count, batch, cold))
    sync_until_idle()
    idle, dump = race(runs, Contender("fz-iproute sync", SYNC), DUMP["inet"])
    yield Row(f"no-op, {count:,} routes", idle, dump)


def measure_gatewayed(runs: int, count: int, cold: float, family: str) -> Row:
    """Nothing to do, while main has `count` routes through a router."""
    build_lan(10)
    add_gatewayed(count, family)
    sync_until_idle()
    idle, dump = race(runs, Contender("fz-iproute sync", SYNC), DUMP[family])
    name = f"no-op, {count:,} gatewayed {family}"
    if family == "inet6":  # no limit: IPv6 has no scope that the kernel could filter by
        return Row(name, idle, dump)
    return Row(name, idle, dump, limit(DUMP_LIMIT, count, dump, cold), PEAK_LIMIT_MB.get(count))


def measure_diagnosis(runs: int) -> Iterator[Row]:
    """What people ask of a machine with 30 links."""
    build_lan(10)
    ip(*(f"link add e{n} type veth peer name f{n}" for n in range(13)))
    ip(*(f"link set {end}{n} addrgenmode none up" for n in range(13) for end in "ef"))
    ip(*(f"address add 10.99.{n}.2/24 dev e{n}" for n in range(13)))
    sync_until_idle()
    verbs = ("status", "detect", "explain 192.168.188.1", "doctor")
    sync, *timings = race(
        runs, Contender("fz-iproute sync", SYNC), *(Contender(verb, [PROGRAM, *verb.split()]) for verb in verbs)
    )
    for timing in timings:
        limit_ms = DOCTOR_LIMIT_MS if timing.label == "doctor" else None
        yield Row(f"{timing.label.split()[0]}, 30 links", timing, sync, limit_ms)


# Every reader of the LAN's routes has to wait for this.
DUMP = {
    "inet": Contender("dump of scope link", ["ip", "-json", "-4", "route", "show", "table", "main", "scope", "link"]),
    "inet6": Contender("dump of main", ["ip", "-json", "-6", "route", "show", "table", "main"]),
}


def limit(factors: dict[int, float], count: int, yardstick: Timing, cold: float) -> float | None:
    """In ms, for those counts that have one."""
    return factors[count] * yardstick.ms + cold if count in factors else None


# --- Timing.


def race(runs: int, *contenders: Contender) -> list[Timing]:
    """Run all in turns, `runs` times, after one run of each that does not count."""
    found = [Timing(contender.label, [], 0.0) for contender in contenders]
    for turn in range(runs + 1):
        for index, contender in enumerate(contenders):
            contender.prepare()
            ms, mb = clock(contender.argv)
            if turn:
                found[index].runs_ms.append(ms)
                found[index] = found[index]._replace(peak_mb=max(mb, found[index].peak_mb))
    return found


def clock(argv: Sequence[str]) -> tuple[float, float]:
    """Wall time in ms and peak memory in MB of one run, from before the start to after the end.

    Until `exec`, the kernel counts the memory of this process (some 15 MB) as the child's, so no smaller peak can be
    seen. This process stays small for that reason.
    """
    with tempfile.TemporaryFile(dir="/run") as output:
        start = time.perf_counter()
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, usage = os.wait4(child.pid, 0)
        ms = (time.perf_counter() - start) * 1000
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            output.seek(0)
            words = output.read(2000).decode(errors="replace").strip()
            sys.exit(f"scripts/bench: {' '.join(argv)}: exit code {child.returncode}: {words}")
    return ms, usage.ru_maxrss / 1024


# --- The networks.


def leave_the_machine() -> None:
    """Into a mount namespace with a /run of its own, for the lock; build_lan() makes the networks."""
    unshare(CLONE_NEWNS | CLONE_NEWNET)
    run(["mount", "--make-rprivate", "/"])
    run(["mount", "-n", "-t", "tmpfs", "tmpfs", "/run"])
    if Path("/etc/fz-iproute").is_dir():  # nothing but the defaults
        run(["mount", "-n", "-t", "tmpfs", "tmpfs", "/etc/fz-iproute"])


def unshare(flags: int) -> None:
    """os.unshare() of Python 3.12."""
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        words = os.strerror(ctypes.get_errno())
        sys.exit(f"scripts/bench: cannot make a network namespace: {words}; run it as root")


def build_lan(count: int) -> None:
    """Go to a new network: `count` on-link routes, one of them of the kernel's making, and an active tunnel."""
    unshare(CLONE_NEWNET)
    ip(
        "link set lo up",
        *(
            line
            for name, peer in (("v0", "v1"), ("tun-firezone", "nowhere"))
            for line in (
                f"link add {name} type veth peer name {peer}",
                f"link set {name} addrgenmode none up",  # without a link-local address, IPv6 has nothing to copy
                f"link set {peer} addrgenmode none up",
            )
        ),
        "address add 192.168.188.112/24 dev v0",
        *(f"route add 10.{n >> 8}.{n & 255}.0/24 dev v0 proto static scope link" for n in range(count - 1)),
        *(
            f"route add {dst} dev tun-firezone table {TABLE} proto static scope global"
            for dst in ("default", "100.64.0.0/11", "100.96.0.0/11", "100.100.111.0/24")
        ),
        f"rule add not fwmark 0xfd002021 lookup {TABLE} priority 32765",
    )


def add_gatewayed(count: int, family: str) -> None:
    """Add routes through a router to main: /30s from 11.0.0.0 up, /64s from 2001:db8:: up."""
    if family == "inet6":
        ip("address add fd00:188::112/64 dev v0 nodad")
    for first in range(0, count, LINES_A_PROCESS):
        numbers = range(first, min(first + LINES_A_PROCESS, count))
        if family == "inet":
            ip(*(f"route add {ipv4((11 << 24) + 4 * n)}/30 via 192.168.188.1 dev v0 proto static" for n in numbers))
        else:
            hexes = (f"{n >> 16:x}:{n & 0xFFFF:x}" for n in numbers)
            ip(*(f"route add 2001:db8:{words}::/64 via fd00:188::1 dev v0 proto static" for words in hexes))


def ipv4(number: int) -> str:
    """As text; the ipaddress module would take longer than `ip`."""
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def sync_until_idle() -> None:
    """Sync, and make sure that what is timed afterwards has nothing to do."""
    run(SYNC)
    if left := run([*SYNC, "--dry-run"]):
        sys.exit(f"scripts/bench: a second sync still has something to do:\n{left[:2000]}")


def flush_copies() -> None:
    """Take out the copies as fast as `ip` can."""
    run(["ip", "-4", "route", "flush", "table", TABLE, "dev", "v0"])


def ip(*lines: str) -> None:
    """Run commands as one batch."""
    run(["ip", "-batch", "-"], "\n".join(lines))


def run(argv: Sequence[str], stdin: str = "") -> str:
    """Run a command that is not timed, and return what it says on stdout."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"scripts/bench: {' '.join(argv)}: exit code {done.returncode}: {done.stderr.strip()[:2000]}")
    return done.stdout


# --- The report.


def machine() -> Machine:
    """The machine that was measured. The figures mean little if its load is high."""
    return {
        "cores": os.cpu_count() or 0,
        "load": f"{os.getloadavg()[0]:.1f}",
        "kernel": platform.release(),
        "iproute2": run(["ip", "-V"]).partition("iproute2-")[2].partition(",")[0].strip(),
        "python": platform.python_version(),
    }


def as_text(origin: Machine, rows: Sequence[Row], figures: Sequence[bench_watch.Figure]) -> str:
    """A table for each of the two, for people."""
    parts = [", ".join(f"{name} {value}" for name, value in origin.items())]
    if rows:
        parts.append(sync_as_text(rows))
    if figures:
        parts.append(bench_watch.as_text(figures))
    return "\n\n".join(parts)


def sync_as_text(rows: Sequence[Row]) -> str:
    """A line for each row."""

    def figure(value: float | None, digits: int = 1) -> str:
        return "" if value is None else f"{value:,.{digits}f}"

    table = [("", "median ms", "peak MB", "yardstick", "its median", "ratio", "limit ms", "limit MB")]
    table += [
        (
            row.name,
            figure(row.timing.ms),
            figure(row.timing.peak_mb),
            row.yardstick.label if row.yardstick else "",
            figure(row.yardstick and row.yardstick.ms),
            figure(row.ratio, 2),
            figure(row.limit_ms),
            figure(row.limit_mb, 0),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    sides = "<>><>>>>"  # text to the left, figures to the right
    return "\n".join(
        [
            *(
                "  ".join(
                    f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)
                ).rstrip()
                for line in table
            ),
            "A limit is a multiple of the yardstick (scripts/bench.py) and, but in the first row, a cold no-op on top;",
            "that of doctor is the same everywhere.",
        ]
    )


def as_json(origin: Machine, rows: Sequence[Row], figures: Sequence[bench_watch.Figure]) -> str:
    """The same for programs, with every run."""

    def timing(found: Timing | None) -> dict[str, Any] | None:
        return found and {
            "label": found.label,
            "median_ms": found.ms,
            "runs_ms": found.runs_ms,
            "peak_mb": found.peak_mb,
        }

    document = {
        "schema": 1,
        "machine": origin,
        "rows": [
            {
                "name": row.name.strip(),
                **(timing(row.timing) or {}),
                "yardstick": timing(row.yardstick),
                "ratio": row.ratio,
                "limit_ms": row.limit_ms,
                "limit_mb": row.limit_mb,
            }
            for row in rows
        ],
        "watch": bench_watch.as_json(figures),
    }
    return json.dumps(document, indent=2)


if __name__ == "__main__":
    main()
