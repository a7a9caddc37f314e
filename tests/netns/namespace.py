"""Network namespaces for tests, with devices, neighbours and a tunnel. Nothing here uses the program's own parser."""

import fcntl
import itertools
import json
import os
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, TypeVar

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

# An idle machine needs milliseconds. A busy one may need much longer.
DEADLINE = 30.0

# Only a program that hangs takes longer.
_PATIENCE = 120.0

_SO_RCVBUFFORCE = 33
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_Result = TypeVar("_Result")
_Removable = TypeVar("_Removable", bound="Namespace")
_numbers = itertools.count(1)


def wait_until(condition: Callable[[], _Result | None], what: str, deadline: float = DEADLINE) -> _Result:
    """Return the first true answer of `condition`; AssertionError with `what` if there is none before the deadline."""
    end = time.monotonic() + deadline
    pause = 0.005  # it grows: a busy machine should not be kept busy with looking
    while True:
        if result := condition():
            return result
        assert time.monotonic() < end, f"not within {deadline:g} s: {what}"
        time.sleep(pause)
        pause = min(1.2 * pause, 0.05)


def run(*argv: str, stdin: str | None = None, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Text is surrogateescaped, because interface names may contain any byte."""
    done = subprocess.run(
        argv, input=stdin, capture_output=True, encoding="utf-8", errors="surrogateescape",
        timeout=_PATIENCE, check=False, **options,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"{argv} gave {done.returncode}: {done.stdout}{done.stderr}"
    return done


def enlarge(receiver: socket.socket, size: int) -> None:
    """Give a socket a receive buffer of `size` bytes, or the largest that is allowed without root."""
    try:
        receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def family_of(text: str) -> str:
    """The family of an address or prefix."""
    return "inet6" if ":" in text else "inet"


class Namespace:
    """A network namespace with loopback up and duplicate address detection off; `remove` deletes it."""

    def __init__(self, runtime: Path) -> None:
        """`runtime` is the folder for the program's locks and configuration files."""
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

    # Methods that change something

    def ip(self, *words: str, check: bool = True) -> str:
        """Run `ip`. Returns its stdout; with check=False its stderr if it fails."""
        done = run("ip", "-n", self.name, *words, check=check)
        return done.stderr if done.returncode else done.stdout

    def batch(self, lines: Iterable[str], *, force: bool = False) -> None:
        """Run lines of `ip`; IPv6 lines start with -6. With `force`, `ip` goes on after a refused line."""
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
        """Add a veth pair and set both ends up. The far end is `peer`, in the namespace `to` if given."""
        peer = peer or f"peer{next(_numbers)}"
        far = to or self
        self.ip("link", "add", "name", name, "type", "veth", "peer", "name", peer, "netns", far.name)
        far.ip("link", "set", "dev", peer, "up")
        self.ip("link", "set", "dev", name, "up")
        self._addresses(name, addresses)

    def odd_veth(self, name: str, peer: str, *addresses: str) -> str:
        """Add a veth pair of which one end has any name. Returns a word for it that `ip` cannot misread."""
        self.ip("link", "add", "name", "odd", "type", "veth", "peer", "name", peer)
        device = f"if{self.index('odd')}"
        self.ip("link", "set", "dev", "odd", "name", name)
        for end in (device, peer):
            self.ip("link", "set", "dev", end, "up")
        self._addresses(device, addresses)
        return device

    def bridge(self, name: str, *addresses: str) -> None:
        self.ip("link", "add", "name", name, "type", "bridge")
        self.ip("link", "set", "dev", name, "up")
        self._addresses(name, addresses)

    def tunnel(self, name: str = TUNNEL, *addresses: str) -> "Tunnel":
        """Add a TUN device, held open by this process: it is up, and its operstate is UNKNOWN."""
        tunnel = Tunnel(self.name, name)
        self._tunnels.append(tunnel)
        self.ip("link", "set", "dev", name, "up")
        self._addresses(name, addresses)
        return tunnel

    def _addresses(self, device: str, addresses: Iterable[str]) -> None:
        for address in addresses:
            self.address(device, *address.split())

    def address(self, device: str, *words: str) -> None:
        self.ip("addr", "add", *words, "dev", device, *(["nodad"] if ":" in words[0] else []))

    def config(self, text: str = "") -> Path:
        """Write a configuration file, so that no test reads the one of this machine."""
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
        """A clean environment for the program, with `path` in front of PATH."""
        inherited = os.environ.get("PATH", os.defpath)
        env = {
            "PATH": f"{path}:{inherited}" if path else inherited,
            "LC_ALL": "C.UTF-8",
            "RUNTIME_DIRECTORY": str(self.runtime),
        }
        return {"env": env, "cwd": PROJECT}

    def fz(self, *args: str, config: str = "", code: int = 0, path: str | None = None) -> str:
        """Run the program on this namespace and return its stdout. It must exit with `code`, without a traceback."""
        done = self.fz_done(*args, config=config, path=path)
        assert code == done.returncode, f"{args} gave {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def fz_done(self, *args: str, config: str = "", path: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the program on this namespace, with any exit code."""
        options = self.fz_options(path)
        return starter().run(self._fz_words(*args, config=config), options["env"], _PATIENCE)

    # Methods that only look

    def wait_for_carrier(self, count: int) -> None:
        """Wait until so many devices have the link-local route that the kernel adds when their carrier comes."""
        link_local = bytes.fromhex("fe80").ljust(16, b"\0").hex()
        wait_until(
            lambda: count <= len([route for route in self.raw("inet6", MAIN) if route.group[0] == link_local]),
            "the devices are ready",
        )

    def status(self, config: str = "") -> dict[str, Any]:
        """The document that `status --json` prints."""
        document: dict[str, Any] = json.loads(self.fz("status", "--json", config=config))
        return document

    def ip_json(self, *words: str) -> list[dict[str, Any]]:
        # `ip` prints control characters in interface names as they are, and 5.9 escapes single quotes.
        text = self.ip("-json", *words).replace("\\'", "'")
        found: list[dict[str, Any]] = json.loads(text or "[]", strict=False)
        return found

    def index(self, device: str) -> int:
        return int(next(link["ifindex"] for link in self.ip_json("link") if link.get("ifname") == device))

    def raw(self, family: str, table: int = MIRROR) -> list[RawRoute]:
        """The routes of a table, in the kernel's order."""
        return rtnetlink.routes(self._netlink, family, table)

    def raw_everything(self, *, but: int) -> dict[str, list[bytes] | list[RawRoute]]:
        """The rules, and the routes of all tables except one: what fz-iproute must not touch in observe mode."""
        found: dict[str, list[bytes] | list[RawRoute]] = {}
        for family in rtnetlink.FAMILIES:
            found[f"rules {family}"] = rtnetlink.dump(self._netlink, rtnetlink.RTM_GETRULE, family)
            for table in {MAIN, 255, 253, MIRROR, TIER_LAN, TIER_INTERNET} - {but}:
                # The kernel's own local IPv6 routes follow a carrier, and appear a little after a device is up.
                late = (family, table) == ("inet6", 255)
                routes = self.raw(family, table)
                found[f"table {table} {family}"] = [
                    route for route in routes if not late or route.protocol != rtnetlink.RTPROT_KERNEL
                ]
        return found

    def routes(self, family: str, table: int | str = MIRROR) -> list[str]:
        """The routes of a table as `ip` prints them, with single spaces; [] if there is no such table."""
        option = "-6" if family == "inet6" else "-4"
        done = run("ip", "-n", self.name, "-oneline", option, "route", "show", "table", str(table), check=False)
        assert done.returncode == 0 or "FIB table does not exist" in done.stderr, done.stderr
        return [" ".join(line.split()) for line in done.stdout.splitlines()]

    def route(self, dst: str, table: int | str = MIRROR) -> list[str]:
        """The routes of a table to exactly this destination."""
        return [line for line in self.routes(family_of(dst), table) if line.split()[0] == dst]

    def way(self, address: str, *, mark: int | None = None) -> str:
        """The device by which a packet to `address` leaves, or the kernel's refusal."""
        marked = ["mark", hex(mark)] if mark is not None else []
        done = run("ip", "-n", self.name, "-json", "route", "get", address, *marked, check=False)
        return json.loads(done.stdout, strict=False)[0]["dev"] if done.returncode == 0 else done.stderr.strip()

    def reaches(self, address: str) -> bool:
        """True if the host answers: it refuses a connection to a port where nobody listens."""
        with self._socket(address, socket.SOCK_STREAM) as probe:
            probe.settimeout(2)
            try:
                probe.connect((address, 9))
            except ConnectionRefusedError:
                return True
            except OSError:
                pass
            return False

    def _socket(self, address: str, kind: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return rtnetlink.inside(self.name, lambda: socket.socket(family, kind))

    def sender(self, address: str, mark: int = 0) -> socket.socket:
        """An unconnected UDP socket that can send to `address`, with this firewall mark."""
        made = self._socket(address, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
        return made

    def listener(self, port: int, buffer: int = 0) -> socket.socket:
        """A non-blocking UDP socket for both families; `buffer` bytes wait for a slow reader."""
        made = self._socket("::", socket.SOCK_DGRAM)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if buffer:
            enlarge(made, buffer)
        made.bind(("::", port))
        made.setblocking(False)
        return made


def mirrored(
    routes: Iterable[RawRoute],
    without: Iterable[int] = (1,),
    is_lan: Callable[[RawRoute], bool] = attrgetter("on_link"),
) -> list[RawRoute]:
    """The routes of LANs, except those by the devices `without`; by default, those that the default policy copies.

    IPv6 routes with the same path and metric are copied once, because the kernel refuses to add the second. Only
    `replace` makes such duplicates.
    """
    excluded = set(without)
    first: dict[object, RawRoute] = {}
    for number, route in enumerate(routes):
        if is_lan(route) and not route.devices & excluded:
            first.setdefault(route.path if route.family == socket.AF_INET6 else number, route)
    return list(first.values())


def comparable(routes: Sequence[RawRoute]) -> list[RawRoute]:
    """In an order that can be compared. IPv4 twins stay in the kernel's order, because the first one is used."""
    if any(route.family == socket.AF_INET6 for route in routes):
        return sorted(routes)
    return sorted(routes, key=lambda route: route.group)


class Tunnel:
    """A TUN device, and the packets that were sent into it."""

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
        """The packets since the last call, each from its IP header on."""
        with suppress(BlockingIOError):
            while self._fd >= 0 and (packet := os.read(self._fd, 65536)):
                yield packet

    def destinations(self) -> Iterator[str]:
        """The destinations of the packets since the last call."""
        for packet in self.packets():
            if packet[0] >> 4 == 4:
                yield socket.inet_ntop(socket.AF_INET, packet[16:20])
            else:
                yield socket.inet_ntop(socket.AF_INET6, packet[24:40])

    def close(self) -> None:
        """Close the device, which deletes it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _into_tunnel(prefix: str, table: int) -> str:
    option = "-6 " if ":" in prefix else ""
    scope = "" if option else " scope global"
    return f"{option}route add {prefix} dev {TUNNEL} proto static{scope} table {table}"


class Terrain(Namespace):
    """A machine with others around it, which go with it."""

    def __init__(self, runtime: Path) -> None:
        super().__init__(runtime)
        self._runtime = runtime
        self._others = ExitStack()
        try:
            self._furnish()
        except BaseException:
            self.remove()
            raise

    def _furnish(self) -> None:
        """Make the others and the links to them."""
        raise NotImplementedError

    def _place(self) -> Namespace:
        made = Namespace(self._runtime)
        self._others.callback(made.remove)
        return made

    def remove(self) -> None:
        self._others.close()
        super().remove()


_NEIGHBOUR = [
    *(f"link set dev {device} up" for device in ("lan0", "up0")),
    *("addr add 192.168.188.1/24 dev lan0", "addr add 10.77.0.1/24 dev up0"),
    *("-6 addr add fd00:188::1/64 dev lan0 nodad", "-6 addr add fd00:77::1/64 dev up0 nodad"),
]
_CABLES = [
    *(f"link set dev {device} up" for device in (LAN, "uplink0")),
    f"addr add 192.168.188.112/24 metric 600 dev {LAN}",
    f"-6 addr add fd00:188::112/64 dev {LAN} nodad",
    "addr add 10.77.0.2/24 dev uplink0",
    "-6 addr add fd00:77::2/64 dev uplink0 nodad",
    "route add default via 10.77.0.1",
    "-6 route add default via fd00:77::1",
]
TUNNEL_UP = [
    f"link set dev {TUNNEL} up",
    f"addr add 100.64.0.5/32 dev {TUNNEL}",
    f"-6 addr add fd00:2021:1111::5/128 dev {TUNNEL} nodad",
]
_VPN = [
    *TUNNEL_UP,
    *(_into_tunnel(prefix, MIRROR) for prefix in [*TUNNEL_ROUTES, "default", "::/0"]),
    *(f"{option}rule add not from all fwmark {MARK:#x} lookup {MIRROR} pref 32765" for option in ("", "-6 ")),
]


class Machine(Terrain):
    """A laptop with a LAN, an uplink, and Firezone's tunnel, rule and table, with the Internet Resource active."""

    vpn_lines: ClassVar = _VPN

    def _furnish(self) -> None:
        self.neighbour = self._place()
        self.sysctl("net.ipv4.conf.all.promote_secondaries", 1)  # as systemd does
        # Batches, because most tests make a new machine.
        cables = [(LAN, "lan0"), ("uplink0", "up0")]
        add = "link add name {} type veth peer name {} netns " + self.neighbour.name
        self.batch(add.format(*cable) for cable in cables)
        self.vpn = Tunnel(self.name, TUNNEL)
        self._tunnels.append(self.vpn)
        self.neighbour.batch(_NEIGHBOUR)
        self.batch(_CABLES)
        self.wait_for_carrier(len(cables))
        self.batch(self.vpn_lines)  # its link-local route comes last

    def tunnel_route(self, prefix: str, table: int) -> None:
        self.batch([_into_tunnel(prefix, table)])

    def tiers(self) -> None:
        """Change rules and tables to the tiered layout: a table each for the user, the LAN and the internet."""
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


@contextmanager
def removing(namespace: _Removable) -> Iterator[_Removable]:
    """Remove the namespace at the end, also after a failure."""
    try:
        yield namespace
    finally:
        namespace.remove()


@contextmanager
def repeating(act: Callable[[], object], pause: float) -> Iterator[None]:
    """Do this again and again in a thread, as another program would, with so many seconds in between."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(pause):
            act()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
