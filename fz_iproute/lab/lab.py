"""`lab`: a disposable network namespace like a recorded machine, with a command or a shell in it."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fz_iproute.errors import ReadFailed, UsageError
from fz_iproute.files.config_file import VARIABLE
from fz_iproute.ip.apply import Refusal
from fz_iproute.ip.ip import Ip
from fz_iproute.ip.reader import answer
from fz_iproute.lab import namespace, rebuild
from fz_iproute.lab.rebuild import FAR, Lost, Record
from fz_iproute.log import Log
from fz_iproute.mirror import config as core_config
from fz_iproute.mirror import parse
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Command, Link
from fz_iproute.mirror.parse import Document
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import MAIN, RULES_IN_DETAIL, of_table
from fz_iproute.record import sysctl
from fz_iproute.record.recorded_ip import RecordedIp, load_recording
from fz_iproute.record.recording import Recording, question_key

_FOLDER = Path("/run/fz-iproute")  # of the lab's own /run; our lock lives there too

# They lead to places in a /run that is not here, or to somebody who wants to hear of us.
_NOT_HERE = ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "NOTIFY_SOCKET", "WATCHDOG_USEC")


class Lab:
    """The namespace to be, like the machine in the file `snapshot`, or like that of the demo."""

    def __init__(
        self, snapshot: Path | None, config: Config | None, log: Log, trace: Callable[[str], None] | None = None
    ) -> None:
        self._log = log
        self._trace = trace  # is told each `ip` that builds it
        self._place = str(snapshot) if snapshot else "the built-in snapshot"
        recorded = load_recording(snapshot) if snapshot else demo()
        config = config or core_config.parse(recorded.config, f"{self._place}: config")
        # A `watch` in the lab would write on the disk of the machine, where somebody else says.
        self._config = core_config.replace(config, watch={"journal": ""})
        self._sysctls = recorded.sysctls
        with self._shape_is_known():
            self._record = _record(recorded)
            self._devices, self._lost = rebuild.devices(self._record.links)
            self._tuns: list[int] = []  # as long as they are open, the tunnels have a carrier

    def run(self, command: Sequence[str]) -> int:
        """Build it and run the command in it; its exit code. The namespace is gone when this returns."""
        return namespace.apart(lambda: self._inside(command or [os.environ.get("SHELL") or "/bin/sh"]))

    def _inside(self, command: Sequence[str]) -> int:
        with self._shape_is_known():
            lost = self._build()
        if lost:
            self._log.warning("\n".join(f"not rebuilt: {line}" for line in lost))
        self._set_environment()
        try:
            return namespace.run(list(command))
        except FileNotFoundError:
            self._log.error(f"{command[0]}: no such program")
            return namespace.NOT_FOUND
        except OSError as error:
            self._log.error(f"{command[0]}: {error.strerror}")
            return namespace.NOT_EXECUTABLE

    @contextmanager
    def _shape_is_known(self) -> Iterator[None]:
        try:
            yield
        except ReadFailed as error:
            raise UsageError(f"{self._place}: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise UsageError(f"{self._place}: it holds JSON of a shape that `ip` does not print: {error!r}") from None

    def _build(self) -> list[Lost | str]:
        """In the order in which things need each other; what was lost on the way."""
        site = _Site(self._trace)
        lost: list[Lost | str] = [*self._lost, *sysctl.prepare_lab(self._sysctls)]
        links = self._make_links(site)
        lost += sysctl.set_of_devices(self._sysctls, [device.name for device in self._devices if device.name in links])
        site.far(rebuild.far_states(self._devices))
        site.do(rebuild.link_states(self._devices, links))
        site.far(rebuild.routers(self._record, self._devices))
        site.do(rebuild.addresses(self._record.addresses, links))
        early, late = rebuild.routes(self._record, links)
        objects = list(rebuild.nexthops(self._record, links))
        # The kernel has made routes of its own for the addresses.
        site.do(Command(family, "route flush table main", "") for family in FAMILIES)
        with site.meanwhile(rebuild.lost_sources(self._record)):
            site.do(early)
            site.do(objects)
            site.do(late)
            site.do(rebuild.rules(self._record))
            return lost + site.lost()

    def _make_links(self, site: "_Site") -> dict[str, Link]:
        """All that can be; those that exist."""
        refused: dict[str, str] = {}
        for place, device in enumerate(self._devices):
            if device.kind == "tun":
                try:
                    self._tuns.append(namespace.open_tun(device.name, device.ifindex))
                except OSError as error:
                    site.lose(f"link {device.name}", f"/dev/net/tun: {error.strerror}; a cable plays the tunnel")
                    self._devices[place] = rebuild.stand_in(device)
        # An index may be taken by something with which the kernel furnishes each namespace.
        for numbered in (True, False):
            links = site.links()
            made = rebuild.cables_and_bridges(
                [device for device in self._devices if device.name not in links], numbered
            )
            by_command = {command: device for device, command in made}
            refused |= {by_command[command].name: words for command, words, _ in site.attempt(by_command)}
        links = site.links()
        for device in self._devices:
            if device.name not in links:
                site.lose(f"link {device.name}", refused.get(device.name, "it came and went"))
            elif links[device.name].ifindex != device.ifindex:
                site.lose(f"the index {device.ifindex} of the link {device.name}", "it is taken here")
        return links

    def _set_environment(self) -> None:
        """So that our own verbs answer here as on the recorded machine."""
        _FOLDER.mkdir(mode=0o700)
        path = _FOLDER / "config.toml"
        path.write_text(core_config.dump(self._config), "utf-8")
        path.chmod(0o600)
        for name in _NOT_HERE:
            os.environ.pop(name, None)
        os.environ[VARIABLE] = str(path)
        own = Path(sys.argv[0]).absolute()
        folders = [str(own.parent)] if own.name == "fz-iproute" else []
        os.environ["PATH"] = ":".join([*folders, os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


class _Site:
    """Carries out what there is to do, and remembers what was refused."""

    def __init__(self, trace: Callable[[str], None] | None) -> None:
        self._ip = Ip(trace=trace)
        self._lost: list[Lost] = []
        self._refused: list[Refusal] = []
        self._ip.start("netns", "add", FAR).answer()
        self._far = Ip(FAR, trace)

    def links(self) -> dict[str, Link]:
        """Those that exist."""
        return parse.links(answer(self._ip, None, "link show"))

    def attempt(self, commands: Iterable[Command]) -> list[Refusal]:
        """Carry them out; those that were refused."""
        return namespace.carry_out(self._ip, list(commands))

    def do(self, found: Iterable[Command | Lost]) -> None:
        """Carry out the commands."""
        found = list(found)
        self._lost += [part for part in found if isinstance(part, Lost)]
        self._refused += self.attempt(part for part in found if isinstance(part, Command))

    def lose(self, what: str, why: str) -> None:
        """Remember what cannot be."""
        self._lost.append(Lost(what, why))

    def far(self, commands: Iterable[Command]) -> None:
        """In FAR, which is nobody's record: no harm in a refusal."""
        namespace.carry_out(self._far, list(commands))

    @contextmanager
    def meanwhile(self, scaffold: Sequence[Command]) -> Iterator[None]:
        """What these commands add stands while the block runs; no harm in a refusal."""
        self.attempt(scaffold)
        yield
        self.attempt(rebuild.undone(scaffold))

    def lost(self) -> list[Lost]:
        """All that could not be: what was refused is tried once more, now that everything else is there."""
        due = [refusal.command for refusal in self._refused]
        with self.meanwhile(rebuild.lost_ways(due)):
            refusals = self.attempt(due)
        return self._lost + [Lost(f"ip {refusal.command.line}", refusal.words) for refusal in refusals]


def _record(recorded: Recording) -> Record:
    source = RecordedIp(recorded)
    return Record(
        links=answer(source, None, "link show"),
        addresses=answer(source, None, "address show"),
        nexthops=answer(source, None, "nexthop show"),
        rules={family: answer(source, family, RULES_IN_DETAIL) for family in FAMILIES},
        routes={
            (family, table): answer(source, family, question)
            for family, table, question in rebuild.recorded_tables(recorded.outputs)
        },
        words={
            family: [
                line
                for key, text in recorded.outputs.items()
                if key.startswith(question_key(family, "route show table main", "-oneline"))
                for line in text.splitlines()
            ]
            for family in FAMILIES
        },
    )


def demo() -> Recording:
    """A laptop in a LAN, on an uplink, with Firezone's tunnel and an active Internet Resource; nothing is copied."""
    cable = {"link_type": "ether", "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"]}
    tunnel = {"link_type": "none", "flags": ["POINTOPOINT", "MULTICAST", "NOARP", "UP", "LOWER_UP"], "mtu": 1280}
    links: list[Document] = [
        {"ifindex": 1, "ifname": "lo", "link_type": "loopback", "flags": ["LOOPBACK", "UP", "LOWER_UP"]},
        {"ifindex": 2, "ifname": "enp1s0", **cable},
        {"ifindex": 3, "ifname": "wlp192s0", **cable},
        {"ifindex": 4, "ifname": "tun-firezone", **tunnel},
    ]
    numbers = {
        "lo": [_address("127.0.0.1", 8, scope="host"), _address("::1", 128, scope="host")],
        "enp1s0": [_address("10.77.0.2", 24, metric=100), _address("fd00:77::2", 64)],
        "wlp192s0": [_address("192.168.188.112", 24, metric=600), _address("fd00:188::112", 64)],
        "tun-firezone": [_address("100.82.44.7", 32), _address("fd00:2021:1111::4407", 128)],
    }
    kernel, kernel6 = {"protocol": "kernel", "scope": "link"}, {"protocol": "kernel", "metric": 256}
    main: dict[Family, list[Document]] = {
        "inet": [
            {"dst": "default", "gateway": "10.77.0.1", "dev": "enp1s0", "protocol": "dhcp", "metric": 100},
            {"dst": "default", "gateway": "192.168.188.1", "dev": "wlp192s0", "protocol": "dhcp", "metric": 600},
            {"dst": "10.77.0.0/24", "dev": "enp1s0", **kernel, "prefsrc": "10.77.0.2", "metric": 100},
            {"dst": "192.168.188.0/24", "dev": "wlp192s0", **kernel, "prefsrc": "192.168.188.112", "metric": 600},
        ],
        "inet6": [
            {"dst": "fd00:77::/64", "dev": "enp1s0", **kernel6},
            {"dst": "fd00:188::/64", "dev": "wlp192s0", **kernel6},
            {"dst": "fd00:2021:1111::4407", "dev": "tun-firezone", **kernel6},
            {"dst": "default", "gateway": "fd00:77::1", "dev": "enp1s0", "protocol": "static", "metric": 1024},
        ],
    }
    vpn: dict[Family, tuple[str, ...]] = {
        "inet": ("default", "100.64.0.0/11", "100.96.0.0/11", "100.100.111.0/24"),
        "inet6": ("fd00:2021:1111::/48", "default"),
    }
    addresses: list[Document] = [{"ifname": name, "addr_info": numbers[name]} for name in numbers]
    config = Config()
    table = config.tables.single
    rules: list[Document] = [
        {"priority": 0, "src": "all", "table": "local", "protocol": "kernel"},
        {"priority": 32765, "not": None, "src": "all", "fwmark": str(config.tunnel.fwmark), "table": str(table)},
        {"priority": 32766, "src": "all", "table": "main", "protocol": "kernel"},
        {"priority": 32767, "src": "all", "table": "default", "protocol": "kernel"},  # only IPv4 has it
    ]
    printed: dict[str, list[Document]] = {
        question_key(None, "link show", "-json"): links,
        question_key(None, "address show", "-json"): addresses,
        question_key(None, "nexthop show", "-json"): [],
    }
    for family in FAMILIES:
        printed |= {
            question_key(family, RULES_IN_DETAIL, "-json"): rules if family == "inet" else rules[:-1],
            question_key(family, of_table(MAIN), "-json"): main[family],
            question_key(family, of_table(table), "-json"): [
                {"dst": prefix, "dev": "tun-firezone", "protocol": "static"} for prefix in vpn[family]
            ],
        }
    return Recording(
        taken="",
        versions={},
        config=core_config.dump(config),
        sysctls={"ipv4/conf/all/promote_secondaries": "1"},  # as systemd sets it
        outputs={key: json.dumps(documents) for key, documents in printed.items()},
    )


def _address(local: str, length: int, **rest: object) -> Document:
    family = "inet6" if ":" in local else "inet"
    return {"family": family, "local": local, "prefixlen": length, "scope": "global", **rest}
