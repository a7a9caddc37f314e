"""A machine for one test: a fake `ip` at the front of PATH, with its state in a file."""

import marshal
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.starter import starter

MAIN, TABLE, LAN_TABLE, INTERNET_TABLE = 254, 539098368, 539098369, 539098370
PROGRAM = [sys.executable, "-m", "fz_iproute"]
REPOSITORY = Path(__file__).parents[2]

# Seconds. Only a program that hangs takes longer.
DEADLINE = 120

Document = dict[str, Any]

_STUB = f"""#!{sys.executable} -IS
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from fake_ip import main
sys.exit(main({{folder!r}}, sys.argv[1:]))
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


class World:
    """A laptop with a LAN, Firezone's tunnel and an active Internet Resource.

    The mirror table contains the tunnel's routes, a correct copy and a stale one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.locks = folder / "run"
        self.locks.mkdir(mode=0o700)
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.install(_STUB.format(folder=str(folder)))
        self.environment = {
            **os.environ,
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "RUNTIME_DIRECTORY": str(self.locks),
        }
        self.state: dict[str, Any] = {
            "links": [
                link(1, "lo", "LOOPBACK", "UP"),
                link(2, "eth0", "UP"),
                link(3, "wlan0", "UP"),
                link(4, "eth1"),
                link(5, "tun-firezone", "UP"),
            ],
            "rules": {family: rules() for family in ("inet", "inet6")},
            "nexthops": [],
            "netns": ["lab"],
            "routes": {
                "inet": {
                    str(MAIN): [
                        gatewayed("default", "192.168.1.1", protocol="dhcp", metric=100),
                        lan("192.168.1.0/24", prefsrc="192.168.1.2", metric=100),
                        lan("10.20.0.0/16", "wlan0", prefsrc="10.20.0.5"),
                    ],
                    str(TABLE): [
                        tunnel("default"),
                        tunnel("100.64.0.0/11"),
                        lan("192.168.1.0/24", prefsrc="192.168.1.2", metric=100),
                        lan("192.168.77.0/24"),
                    ],
                },
                "inet6": {
                    str(MAIN): [lan("fd00:1::/64"), lan("fe80::/64"), lan("fe80::/64", "wlan0")],
                    str(TABLE): [tunnel("default"), lan("fe80::/64"), lan("fd00:77::/64")],
                },
            },
            "batches": [],
            "faults": [],
        }
        self.save()

    def install(self, text: str) -> None:
        """Make `text` the `ip` of this machine."""
        program = self.bin / "ip"
        program.write_text(text)
        program.chmod(0o755)

    def save(self) -> None:
        """Write `state` to the file that the fake `ip` reads."""
        (self.folder / "state").write_bytes(marshal.dumps(self.state))

    def load(self) -> None:
        self.state = marshal.loads((self.folder / "state").read_bytes())

    def fails(self, match: str, **fault: Any) -> None:
        """Add a fault to the fake `ip`; see fake_ip.py."""
        if "signal" in fault:
            fault["signal"] = int(fault["signal"])
        self.state["faults"].append({"match": match, **fault})
        self.save()

    def heals(self) -> None:
        """Remove all faults."""
        self.load()
        self.state["faults"] = []
        self.save()

    def main(self, family: str, *routes: Document) -> None:
        """Replace the routes of table main."""
        self.state["routes"][family][str(MAIN)] = list(routes)
        self.save()

    def mirror(self, family: str, *routes: Document) -> None:
        """Replace the routes of the mirror table."""
        self.state["routes"][family][str(TABLE)] = list(routes)
        self.save()

    def table(self, family: str, number: int = TABLE) -> list[Document]:
        """The present routes of a table."""
        self.load()
        return self.state["routes"][family].get(str(number), [])

    def tables(self) -> dict[str, dict[str, list[Document]]]:
        """The present routes of all tables."""
        self.load()
        return self.state["routes"]

    def copies(self, family: str) -> list[str]:
        """The destinations of the routes in the mirror table, except those by the tunnel."""
        return sorted(route["dst"] for route in self.table(family) if route.get("dev") != "tun-firezone")

    def batches(self) -> list[int]:
        """For each batch so far that wrote, the number of lines that write."""
        self.load()
        return self.state["batches"]

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

    def shell(self, line: str) -> None:
        """Run a line of the log in a shell."""
        subprocess.run(["sh", "-c", line], env=self.environment, cwd=self.folder, check=True, timeout=DEADLINE)

    def hanging(self) -> list[int]:
        """The process ids of all fake `ip` that were told to hang, also after their end."""
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


def link(index: int, name: str, *flags: str) -> Document:
    return {"ifindex": index, "ifname": name, "flags": list(flags), "mtu": 1500, "operstate": "UNKNOWN"}


def rules(*more: Document) -> list[Document]:
    """The kernel's rules, Firezone's rule, and `more`."""
    return [
        {"priority": 0, "src": "all", "table": "255"},
        *more,
        {"priority": 32765, "not": None, "src": "all", "fwmark": "0xfd002021", "table": str(TABLE)},
        {"priority": 32766, "src": "all", "table": "254"},
        {"priority": 32767, "src": "all", "table": "253"},
    ]


def lan(dst: str, dev: str = "eth0", **keys: Any) -> Document:
    """A connected route as the kernel adds it for an address. A key with the value None is left out."""
    usual: Document = {"dst": dst, "dev": dev, "protocol": "kernel", "flags": []}
    usual |= {"metric": 256, "pref": "medium"} if ":" in dst else {"scope": "link"}
    return {key: value for key, value in {**usual, **keys}.items() if value is not None}


def gatewayed(dst: str, gateway: str, dev: str = "eth0", **keys: Any) -> Document:
    """A route through a router."""
    return lan(dst, dev, **{"gateway": gateway, "scope": None, **keys})


def tunnel(dst: str) -> Document:
    """A route into the VPN."""
    return lan(dst, "tun-firezone", scope=None, protocol="static")
