"""Network namespaces to test in, and what stands in them: devices, neighbours, a tunnel."""

import fcntl
import itertools
import json
import os
import secrets
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from fz_iproute.mirror.parse import documents_of
from tests.netns import rtnetlink
from tests.netns.rtnetlink import RawRoute
from tests.starter import starter

PROJECT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "fz_iproute"]
MAIN = 254
MIRROR, TIER_LAN, TIER_INTERNET = 539098368, 539098369, 539098370
MARK = 0xFD002021
TUNNEL = "tun-firezone"
LAN = "wlp192s0"
TUNNEL_ROUTES = ["100.64.0.0/11", "100.96.0.0/11", "100.100.111.0/24", "fd00:2021:1111::/48"]

# An idle machine answers in milliseconds; this is for one that is busy with something else.
DEADLINE = 30.0

# Only a hang takes longer.
_PATIENCE = 120.0

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_Result = TypeVar("_Result")
_Removable = TypeVar("_Removable", bound="Namespace")
_numbers = itertools.count(1)


def wait_until(condition: Callable[[], _Result], what: str, deadline: float = DEADLINE) -> _Result:
    """The first true answer of `condition`; AssertionError with `what` if there is none in time."""
    end = time.monotonic() + deadline
    while True:
        if result := condition():
            return result
        assert time.monotonic() < end, f"not within {deadline:g} s: {what}"
        time.sleep(0.01)


def run(*argv: str, stdin: str | None = None, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Names of interfaces may hold any byte, so text is surrogateescaped."""
    done = subprocess.run(
        argv, input=stdin, capture_output=True, encoding="utf-8", errors="surrogateescape",
        timeout=_PATIENCE, check=False, **options,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"{argv} gave {done.returncode}: {done.stdout}{done.stderr}"
    return done


def family_of(text: str) -> str:
    """`inet6` for an address or prefix with a colon."""
    return "inet6" if ":" in text else "inet"


class Namespace:
    """A network namespace with loopback up and without duplicate address detection; `remove` takes it away."""

    def __init__(self, runtime: Path) -> None:
        """`runtime` takes the locks of the program and the configuration files."""
        self.name = f"fz-{os.getpid()}-{next(_numbers)}-{secrets.token_hex(2)}"
        self.runtime = runtime
        run("ip", "netns", "add", self.name)
        self._tunnels: list[Tunnel] = []
        try:
            self._netlink = rtnetlink.connect(self.name)
            self.sysctl("net.ipv6.conf.all.accept_dad", 0)
            self.sysctl("net.ipv6.conf.default.accept_dad", 0)
            self.ip("link", "set", "lo", "up")
        except BaseException:
            run("ip", "netns", "del", self.name)
            raise

    def remove(self) -> None:
        for tunnel in self._tunnels:
            tunnel.close()
        self._netlink.close()
        run("ip", "netns", "del", self.name)

    # Doing something

    def ip(self, *words: str, check: bool = True) -> str:
        """What `ip` prints, on stdout if it succeeds, on stderr if it may fail and does."""
        done = run("ip", "-n", self.name, *words, check=check)
        return done.stderr if done.returncode else done.stdout

    def batch(self, lines: Iterable[str], *, force: bool = False) -> None:
        """Run lines of `ip`, those of IPv6 with -6 in front; with `force`, refused ones are passed over."""
        chunks: dict[str, list[str]] = {}
        for line in lines:
            words = line.split()
            chunks.setdefault("-6" if words[0] == "-6" else "-4", []).append(line.removeprefix("-6 ") + "\n")
        for option, chunk in chunks.items():
            argv = ("ip", "-n", self.name, option, *(["-force"] if force else []), "-batch", "-")
            run(*argv, stdin="".join(chunk), check=not force)

    def sysctl(self, key: str, value: object) -> None:
        path = Path("/proc/sys") / key.replace(".", "/")
        rtnetlink.inside(self.name, lambda: path.write_text(str(value)))

    def exec(self, *argv: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the namespace."""
        return run("ip", "netns", "exec", self.name, *argv, check=check, **options)

    def veth(self, name: str, *addresses: str, peer: str = "", to: "Namespace | None" = None) -> None:
        """A cable with both ends up; the far one is `peer`, here or in the namespace `to`."""
        peer = peer or f"peer{next(_numbers)}"
        far = to or self
        self.ip("link", "add", "name", name, "type", "veth", "peer", "name", peer, "netns", far.name)
        far.ip("link", "set", "dev", peer, "up")
        self.ip("link", "set", "dev", name, "up")
        for address in addresses:
            self.address(name, *address.split())

    def bridge(self, name: str, *addresses: str) -> None:
        self.ip("link", "add", "name", name, "type", "bridge")
        self.ip("link", "set", "dev", name, "up")
        for address in addresses:
            self.address(name, *address.split())

    def tunnel(self, name: str = TUNNEL, *addresses: str) -> "Tunnel":
        """A TUN device with a program behind it, us: it is up, and its operstate is UNKNOWN."""
        tunnel = Tunnel(self.name, name)
        self._tunnels.append(tunnel)
        self.ip("link", "set", "dev", name, "up")
        for address in addresses:
            self.address(name, *address.split())
        return tunnel

    def address(self, device: str, *words: str) -> None:
        self.ip("addr", "add", *words, "dev", device, *(["nodad"] if ":" in words[0] else []))

    def config(self, text: str = "") -> Path:
        """A configuration file: never the one that this machine may have."""
        path = self.runtime / f"{self.name}-{next(_numbers)}.toml"
        path.write_text(text or f'[tunnel]\ninterface = "{TUNNEL}"\n')
        path.chmod(0o600)
        return path

    def fz_argv(self, *args: str, config: str = "", netns: bool = True) -> list[str]:
        return [*PROGRAM, *self._fz_words(*args, config=config, netns=netns)]

    def _fz_words(self, *args: str, config: str = "", netns: bool = True) -> list[str]:
        where = ["--netns", self.name] if netns else []
        return [*where, "-c", str(self.config(config)), *args]

    def fz_options(self, path: str | None = None) -> dict[str, Any]:
        """The environment of the program: clean, with `path` in front of PATH."""
        inherited = os.environ.get("PATH", os.defpath)
        env = {
            "PATH": f"{path}:{inherited}" if path else inherited,
            "LC_ALL": "C.UTF-8",
            "RUNTIME_DIRECTORY": str(self.runtime),
        }
        return {"env": env, "cwd": PROJECT}

    def fz(self, *args: str, config: str = "", code: int = 0, path: str | None = None) -> str:
        """Run the program on this namespace; its stdout. It must exit with `code` and never with a traceback."""
        done = self.fz_done(*args, config=config, path=path)
        assert code == done.returncode, f"{args} gave {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def fz_done(self, *args: str, config: str = "", path: str | None = None) -> subprocess.CompletedProcess[str]:
        """The same for those who want to see stderr or do not know the exit code."""
        options = self.fz_options(path)
        return starter().run(self._fz_words(*args, config=config), options["env"], _PATIENCE)

    # Looking

    def status(self, config: str = "") -> dict[str, Any]:
        """What `status` says of it."""
        document: dict[str, Any] = json.loads(self.fz("status", "--json", config=config))
        return document

    def ip_json(self, *words: str) -> list[dict[str, Any]]:
        return documents_of(self.ip("-json", *words).encode("utf-8", "surrogateescape") or b"[]")

    def index(self, device: str) -> int:
        return int(next(link["ifindex"] for link in self.ip_json("link") if link.get("ifname") == device))

    def raw(self, family: str, table: int = MIRROR) -> list[RawRoute]:
        """The routes of a table, in the kernel's order."""
        return rtnetlink.routes(self._netlink, family, table)

    def raw_everything(self, *, but: int) -> dict[str, list[bytes] | list[RawRoute]]:
        """Rules, addresses, nexthop objects, and the routes of all tables but one: what a mirror must not touch."""
        found: dict[str, list[bytes] | list[RawRoute]] = {}
        for family in rtnetlink.FAMILIES:
            found[f"rules {family}"] = rtnetlink.dump(self._netlink, rtnetlink.RTM_GETRULE, family)
            for table in {MAIN, 255, 253, MIRROR, TIER_LAN, TIER_INTERNET} - {but}:
                found[f"table {table} {family}"] = self.raw(family, table)
        return found

    def routes(self, family: str, table: int | str = MIRROR) -> list[str]:
        """The routes of a table as `ip` prints them, without padding; none if there is no such table."""
        option = "-6" if family == "inet6" else "-4"
        done = run("ip", "-n", self.name, "-oneline", option, "route", "show", "table", str(table), check=False)
        assert done.returncode == 0 or "FIB table does not exist" in done.stderr, done.stderr
        return [" ".join(line.split()) for line in done.stdout.splitlines()]

    def route(self, dst: str, table: int | str = MIRROR) -> list[str]:
        """The routes of a table to exactly this destination."""
        return [line for line in self.routes(family_of(dst), table) if line.split()[0] == dst]

    def way(self, address: str, *, mark: int | None = None) -> str:
        """The device by which a packet to `address` leaves, or the kernel's words if there is none."""
        marked = ["mark", hex(mark)] if mark is not None else []
        done = run("ip", "-n", self.name, "-json", "route", "get", address, *marked, check=False)
        return json.loads(done.stdout, strict=False)[0]["dev"] if done.returncode == 0 else done.stderr.strip()

    def ways(self, family: str, questions: Sequence[str]) -> list[str]:
        """The devices for many `ADDRESS [mark MARK]` at once; each must have one."""
        option = "-6" if family == "inet6" else "-4"
        lines = "".join(f"route get {question}\n" for question in questions)
        printed = run("ip", "-n", self.name, option, "-json", "-batch", "-", stdin=lines).stdout.strip()
        devices: list[str] = []
        position = 0
        while position < len(printed):
            answer, position = json.JSONDecoder().raw_decode(printed, position)
            devices.append(answer[0]["dev"])
            position += len(printed[position:]) - len(printed[position:].lstrip())
        return devices

    def reaches(self, address: str) -> bool:
        """True if the host `address` answers: it refuses a connection to a port where nobody listens."""
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        with rtnetlink.inside(self.name, lambda: socket.socket(kind, socket.SOCK_STREAM)) as probe:
            probe.settimeout(2)
            try:
                probe.connect((address, 9))
            except ConnectionRefusedError:
                return True
            except OSError:
                return False
            return False

    def in_step(self, *, without: Iterable[str] = (TUNNEL,)) -> bool:
        """True if the mirror table holds exactly the on-link routes of main, but those by devices in `without`."""
        indexes = {1, *(self.index(device) for device in without)}
        return all(
            comparable(mirrored(self.raw(family, MAIN), indexes))
            == comparable(mirrored(self.raw(family, MIRROR), indexes))
            for family in rtnetlink.FAMILIES
        )


def mirrored(routes: Iterable[RawRoute], without: Iterable[int] = (1,)) -> list[RawRoute]:
    """Those routes that a policy without wishes copies; `without` are the devices that do not count.

    Of IPv6 routes by the same path with the same metric, which only `replace` can bring about, the first.
    """
    excluded = set(without)
    first: dict[object, RawRoute] = {}
    for number, route in enumerate(routes):
        if route.on_link and not route.devices & excluded:
            first.setdefault(route.path if route.family == socket.AF_INET6 else number, route)
    return list(first.values())


def comparable(routes: Sequence[RawRoute]) -> list[RawRoute]:
    """IPv4: sorted by destination, tos and metric, in the kernel's order among equals. IPv6: sorted."""
    if any(route.family == socket.AF_INET6 for route in routes):
        return sorted(routes)
    return sorted(routes, key=lambda route: route.group)


class Tunnel:
    """A TUN device and the packets that went into it."""

    def __init__(self, namespace: str, name: str) -> None:
        self.name = name
        self._fd = rtnetlink.inside(namespace, self._open)

    def _open(self) -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        request = struct.pack("16sH22x", os.fsencode(self.name), _IFF_TUN | _IFF_NO_PI)
        try:
            fcntl.ioctl(fd, _TUNSETIFF, request)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def packets(self) -> Iterator[bytes]:
        """Those that came since the last question, from the IP header on."""
        with suppress(BlockingIOError):
            while self._fd >= 0 and (packet := os.read(self._fd, 65536)):
                yield packet

    def destinations(self) -> Iterator[str]:
        """Where they wanted to go."""
        for packet in self.packets():
            if packet[0] >> 4 == 4:
                yield socket.inet_ntop(socket.AF_INET, packet[16:20])
            else:
                yield socket.inet_ntop(socket.AF_INET6, packet[24:40])

    def close(self) -> None:
        """End the program behind it; the device goes with it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Machine(Namespace):
    """A laptop with a LAN, an uplink, and a Firezone tunnel with its rule, its table and the Internet Resource."""

    def __init__(self, runtime: Path) -> None:
        super().__init__(runtime)
        try:
            self.neighbour = Namespace(runtime)
        except BaseException:
            super().remove()
            raise
        try:
            self._furnish()
        except BaseException:
            self.remove()
            raise

    def _furnish(self) -> None:
        self.sysctl("net.ipv4.conf.all.promote_secondaries", 1)  # as systemd does
        self.veth(LAN, "192.168.188.112/24 metric 600", "fd00:188::112/64", peer="lan0", to=self.neighbour)
        self.veth("uplink0", "10.77.0.2/24", "fd00:77::2/64", peer="up0", to=self.neighbour)
        far = {"lan0": ["192.168.188.1/24", "fd00:188::1/64"], "up0": ["10.77.0.1/24", "fd00:77::1/64"]}
        for device, addresses in far.items():
            for address in addresses:
                self.neighbour.address(device, address)
        self.vpn = self.tunnel(TUNNEL, "100.64.0.5/32", "fd00:2021:1111::5/128")
        self.batch(["route add default via 10.77.0.1", "-6 route add default via fd00:77::1"])
        for prefix in [*TUNNEL_ROUTES, "default", "::/0"]:
            self.tunnel_route(prefix, MIRROR)
        rule = f"rule add not from all fwmark {MARK:#x} lookup {MIRROR} pref 32765"
        self.batch([rule, f"-6 {rule}"])

    def tunnel_route(self, prefix: str, table: int) -> None:
        option = "-6 " if ":" in prefix else ""
        scope = "" if option else " scope global"
        self.batch([f"{option}route add {prefix} dev {TUNNEL} proto static{scope} table {table}"])

    def tiers(self) -> None:
        """Rebuild rules and tables in the tiered layout: what the user asked for, the LAN, the internet."""
        for option in ("", "-6 "):
            self.batch([f"{option}rule del pref 32765", f"{option}route flush table {MIRROR}"])
            self.batch(
                f"{option}rule add not from all fwmark {MARK:#x} lookup {table} pref {priority}"
                for priority, table in ((100, MIRROR), (200, TIER_LAN), (300, TIER_INTERNET))
            )
        for prefix in TUNNEL_ROUTES:
            self.tunnel_route(prefix, MIRROR)
        for prefix in ("default", "::/0"):
            self.tunnel_route(prefix, TIER_INTERNET)

    def remove(self) -> None:
        self.neighbour.remove()
        super().remove()


@contextmanager
def removing(namespace: _Removable) -> Iterator[_Removable]:
    """Remove the namespace in the end, whatever happened."""
    try:
        yield namespace
    finally:
        namespace.remove()
