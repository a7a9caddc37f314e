"""A machine for one test: a namespace, and at the front of PATH an `ip` for it that fails on demand."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.netns.namespace import Namespace
from tests.starter import starter

OPTION = {"inet": "", "inet6": "-6 "}
MAIN, TABLE = 254, 539098368
PROGRAM = [sys.executable, "-m", "fz_iproute"]
REPOSITORY = Path(__file__).parents[2]

# Seconds. Only a program that hangs takes longer.
DEADLINE = 120

Document = dict[str, Any]

_HEALTHY = """#!/bin/sh
case " $* " in *" -n "*) exec {real} "$@" ;; esac
exec {real} -n {namespace} "$@"
"""
_STUB = f"""#!{sys.executable} -IS
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from faulty_ip import FaultyIp
command = [{{real!r}}] if "-n" in sys.argv else [{{real!r}}, "-n", {{namespace!r}}]
sys.exit(FaultyIp({{folder!r}}, command, sys.argv[1:]).run())
"""


class Done(NamedTuple):
    """The results of a program that has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of stderr, which must not contain a traceback."""
        assert "Traceback" not in self.err, self.err
        return self.err.splitlines()

    @property
    def errors(self) -> list[str]:
        return [line.removeprefix("error: ") for line in self.lines if line.startswith("error: ")]


def lan(dst: str, dev: str = "eth0", words: str = "", **options: object) -> str:
    """A connected route as the kernel adds it for an address, in words."""
    usual: dict[str, object] = {"proto": "kernel", **({"metric": 256} if ":" in dst else {"scope": "link"})}
    return " ".join([dst, "dev", dev, words, *(f"{key} {value}" for key, value in {**usual, **options}.items())])


def gatewayed(dst: str, gateway: str, **options: object) -> str:
    """A route through a router."""
    return lan(dst, **{"scope": "global", "via": gateway, **options})


def tunnel(dst: str, dev: str = "tun-firezone") -> str:
    """A route into the VPN."""
    return f"{dst} dev {dev} proto static"


_HERE = lan("192.168.1.0/24", src="192.168.1.2", metric=100)
_ROUTES = {
    ("inet", MAIN): [
        _HERE,
        lan("10.20.0.0/16", "wlan0", src="10.20.0.5"),
        "default via 192.168.1.1 dev eth0 proto dhcp metric 100",
    ],
    ("inet", TABLE): [tunnel("default"), tunnel("100.64.0.0/11"), _HERE, lan("192.168.77.0/24")],
    ("inet6", MAIN): [lan("fd00:1::/64"), lan("fe80::/64"), lan("fe80::/64", "wlan0")],
    ("inet6", TABLE): [tunnel("default"), lan("fe80::/64"), lan("fd00:77::/64")],
}
_DEVICES = ["eth0", "wlan0", "eth1"]
_FURNITURE = [
    *(f"link add name {device} type veth peer name far-{device}" for device in _DEVICES),
    *(f"link set dev {end} up" for device in _DEVICES[:2] for end in (f"far-{device}", device)),
    *("addr add 192.168.1.2/32 dev eth0", "addr add 10.20.0.5/32 dev wlan0"),
    *(f"{option}rule add not fwmark 0xfd002021 lookup {TABLE} pref 32765" for option in ("", "-6 ")),
    *(
        f"{OPTION[family]}route append {route} table {table}"
        for (family, table), routes in _ROUTES.items()
        for route in routes
    ),
]


class Program:
    """The program with folders of its own. There is no `ip` until one is installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.locks = folder / "run"
        self.locks.mkdir(mode=0o700)
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.environment = {
            **os.environ,
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "RUNTIME_DIRECTORY": str(self.locks),
        }

    def install(self, text: str) -> None:
        """Make `text` the `ip`."""
        program = self.bin / "ip"
        program.write_text(text)
        program.chmod(0o755)

    def config(self, text: str) -> str:
        """Write a configuration file. Returns its path."""
        path = self.folder / "config.toml"
        path.write_text(text)
        path.chmod(0o644)
        return str(path)

    def start(self, *argv: str, program: Sequence[str] = PROGRAM, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*program, *argv], env=self.environment, cwd=self.folder, **{**pipes, **options})

    def run(self, *argv: str, **options: Any) -> Done:
        """Run the program to its end. With options, it is started; otherwise it is forked, which is faster."""
        if options:
            return finish(self.start(*argv, **options))
        done = starter().run(argv, self.environment, DEADLINE)
        return Done(done.returncode, done.stdout, done.stderr)


class World(Program):
    """A laptop with a LAN, Firezone's tunnel and an active Internet Resource. Its `ip` fails on demand.

    The mirror table contains the tunnel's routes, a correct copy and a stale one.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.land = Namespace(self.locks)
        self._names = {"folder": str(folder), "real": shutil.which("ip"), "namespace": self.land.name}
        self._faults: list[dict[str, Any]] = []
        self.heals()
        try:
            self.land.sysctl("net.ipv6.conf.default.addr_gen_mode", 1)
            self.vpn = self.land.tunnel("tun-firezone")
            self.land.batch(_FURNITURE)  # one batch, because each test makes a new machine
        except BaseException:
            self.land.remove()
            raise

    def batch(self, *lines: str) -> None:
        """Run lines of `ip` for both families."""
        self.land.batch(f"{option}{line}" for line in lines for option in ("", "-6 "))

    def fails(self, match: str, **fault: Any) -> None:
        """Add a fault to the `ip`; see faulty_ip.py."""
        self._faults.append({"match": match, **fault})
        (self.folder / "faults").write_text(json.dumps(self._faults))
        self.install(_STUB.format(**self._names))

    def heals(self) -> None:
        """Remove all faults."""
        self._faults.clear()
        self.install(_HEALTHY.format(**self._names))

    def main(self, family: str, *routes: str) -> None:
        """Replace the routes of table main."""
        self._fill(family, MAIN, routes)

    def mirror(self, family: str, *routes: str) -> None:
        """Replace the routes of the mirror table."""
        self._fill(family, TABLE, routes)

    def _fill(self, family: str, table: int, routes: Sequence[str]) -> None:
        self.land.batch([f"{OPTION[family]}route flush table {table}"], force=True)
        self.add(family, *routes, table=table)

    def add(self, family: str, *routes: str, table: int = MAIN) -> None:
        """Add routes to a table, behind their twins."""
        self.land.batch(f"{OPTION[family]}route append {route} table {table}" for route in routes)

    def table(self, family: str, number: int = TABLE) -> list[Document]:
        """The present routes of a table."""
        words = ["-6" if family == "inet6" else "-4", "route", "show", "table", str(number)]
        there = self.land.routes(family, number)
        return self.land.ip_json(*words) if there else []

    def tables(self) -> list[str]:
        """The present routes of all tables but local, which the kernel fills."""
        found = [self.land.ip(option, "route", "show", "table", "all") for option in ("-4", "-6")]
        return [line for text in found for line in text.splitlines() if " table local " not in line]

    def copies(self, family: str) -> list[str]:
        """The destinations of the routes in the mirror table, except those by the tunnel."""
        return sorted(route["dst"] for route in self.table(family) if route.get("dev") != "tun-firezone")

    def batches(self) -> list[int]:
        """For each batch so far that wrote to a faulty `ip`, the number of lines that write."""
        path = self.folder / "batches"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def shell(self, line: str) -> None:
        """Run a line of the log in a shell."""
        subprocess.run(["sh", "-c", line], env=self.environment, cwd=self.folder, check=True, timeout=DEADLINE)

    def hanging(self) -> list[int]:
        """The process ids of all `ip` that were told to hang, also after their end."""
        return [int(path.stem) for path in self.folder.glob("*.pid")]

    def in_step(self) -> bool:
        """True if `plan` prints nothing."""
        done = self.run("plan", "--exit-code")
        assert done.code in (0, 1), done
        return done.code == 0


def finish(process: subprocess.Popen[str]) -> Done:
    """Wait for the end of the program, and return its results."""
    try:
        out, err = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Done(process.returncode, out or "", err or "")


def alive(pid: int) -> bool:
    """True if the process runs and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
