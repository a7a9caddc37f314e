"""`lab`: rebuilds a recorded machine in a disposable network namespace, and runs a command or a shell there."""

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import as_file, files
from pathlib import Path

from fz_iproute.files.config_file import VARIABLE
from fz_iproute.ip.answers import answer
from fz_iproute.ip.apply import Refusal
from fz_iproute.ip.ip import Ip
from fz_iproute.lab import namespace
from fz_iproute.lab.addresses import addresses, missing_sources, routers
from fz_iproute.lab.devices import FAR, cables_and_bridges, devices, far_states, link_states, stand_in
from fz_iproute.lab.printed import Lost, Printed
from fz_iproute.lab.routes import nexthops, routes
from fz_iproute.lab.rules import rules
from fz_iproute.log import Log
from fz_iproute.mirror import config as core_config
from fz_iproute.mirror import config_text, parse
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Command, Link
from fz_iproute.mirror.prefix import FAMILIES
from fz_iproute.mirror.words import LOCAL, RULES_IN_DETAIL
from fz_iproute.record import sysctl
from fz_iproute.record.recorded_ip import RecordedIp, blamed_on, load_recording
from fz_iproute.record.recording import Recording, question_key, recorded_tables
from fz_iproute.service.program import running_program

_FOLDER = Path("/run/fz-iproute")  # in the lab's own /run; the locks of fz-iproute are there, too

# A snapshot of a laptop with a LAN, an uplink, Firezone's tunnel and an active Internet Resource, but no copies. In a
# single-file program, it is no file of its own.
DEMO = files("fz_iproute").joinpath("data", "demo.json")

# Environment variables that name sockets and folders outside of the lab.
_NOT_HERE = ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "NOTIFY_SOCKET", "WATCHDOG_USEC")


class Lab:
    """A lab for the machine in the file `snapshot`, or for the demo."""

    def __init__(
        self, snapshot: Path | None, config: Config | None, log: Log, trace: Callable[[str], None] | None = None
    ) -> None:
        self._log = log
        self._trace = trace  # called for each `ip` that builds the lab
        self._path = snapshot or Path(DEMO.name)
        with as_file(DEMO) as demo:
            recorded = load_recording(snapshot or demo)
        config = config or config_text.parse(recorded.config, f"{self._path}: config")
        # A `watch` in the lab would write to the disk of this machine.
        self._config = core_config.replace(config, watch={"journal": ""})
        self._sysctls = recorded.sysctls
        with blamed_on(self._path):
            self._printed = _printed(recorded)
            self._devices, self._lost = devices(self._printed.links)
            self._tuns: list[int] = []  # descriptors; while they are open, the tunnels have a carrier

    def run(self, command: Sequence[str]) -> int:
        """Build the lab and run the command in it. Returns its exit code. Then the namespace disappears."""
        return namespace.apart(lambda: self._inside(command))

    def _inside(self, command: Sequence[str]) -> int:
        with blamed_on(self._path):
            lost = self._build()
        if lost:
            self._log.warning("\n".join(f"not rebuilt: {line}" for line in lost))
        self._set_environment()
        if not command:
            self._log.info("# you are in a lab: its network is private; files and services are those of this machine")
            self._log.info("# try `fz-iproute status`; `exit` ends the lab")
            command = [os.environ.get("SHELL") or "/bin/sh"]
        try:
            return namespace.run(list(command))
        except FileNotFoundError:
            self._log.error(f"{command[0]}: no such program")
            return namespace.NOT_FOUND
        except OSError as error:
            self._log.error(f"{command[0]}: {error.strerror}")
            return namespace.NOT_EXECUTABLE

    def _build(self) -> list[Lost | str]:
        """Rebuild the machine: first what other parts need. Returns what could not be rebuilt."""
        printed, site = self._printed, _Site(self._trace)
        lost: list[Lost | str] = [*self._lost, *sysctl.prepare_lab(self._sysctls)]
        links = self._make_links(site)
        lost += sysctl.set_of_devices(self._sysctls, [device.name for device in self._devices if device.name in links])
        # Refusals in FAR are not reported: only this namespace stands for the recorded machine.
        namespace.one_by_one(site.far, far_states(self._devices))
        site.run(link_states(self._devices, links), namespace.one_by_one)
        namespace.carry_out(site.far, routers(printed, self._devices))
        site.run(addresses(printed, links))
        early, late = routes(printed, links)
        # The kernel has made routes for the new addresses. Only the recorded routes must remain.
        site.run(Command(family, "route flush table main", "") for family in FAMILIES)
        sources = missing_sources(printed)
        site.loopback("add", sources)
        site.run(early)
        site.run(nexthops(printed, links), namespace.one_by_one)
        site.run(late)
        site.loopback("del", sources)
        site.run(rules(printed), namespace.one_by_one)
        return lost + site.lost

    def _make_links(self, site: "_Site") -> dict[str, Link]:
        """Make all links that can be made. Returns the links that exist then."""
        refused: dict[str, str] = {}
        for place, device in enumerate(self._devices):
            if device.kind == "tun":
                try:
                    self._tuns.append(namespace.open_tun(device.name, device.ifindex))
                except OSError as error:
                    site.lost.append(
                        Lost(f"link {device.name}", f"/dev/net/tun: {error.strerror}; a cable replaces it")
                    )
                    self._devices[place] = stand_in(device)
        # Some kernel modules make a device in every new namespace, and it may have the index of a recorded link. Then
        # that link is made with another index.
        for numbered in (True, False):
            links = site.links()
            missing = [device for device in self._devices if device.name not in links]
            by_command = {command: device for device, command in cables_and_bridges(missing, numbered)}
            for command, words, _ in namespace.one_by_one(site.ip, by_command):
                refused[by_command[command].name] = words
        links = site.links()
        for device in self._devices:
            if device.name not in links:
                site.lost.append(Lost(f"link {device.name}", refused.get(device.name, "it disappeared at once")))
            elif links[device.name].ifindex != device.ifindex:
                site.lost.append(Lost(f"the index {device.ifindex} of the link {device.name}", "it is taken here"))
        return links

    def _set_environment(self) -> None:
        """Set up files and variables, so that `fz-iproute` in the lab uses the recorded configuration."""
        _FOLDER.mkdir(mode=0o711)  # as outside of a lab: other users may look at the locks
        path = _FOLDER / "config.toml"
        path.write_text(config_text.dump(self._config), "utf-8")
        path.chmod(0o644)
        for name in _NOT_HERE:
            os.environ.pop(name, None)
        os.environ[VARIABLE] = str(path)
        own = Path(sys.argv[0]).absolute()
        folders = [str(own.parent)] if own.name == "fz-iproute" else []
        if own.suffix == ".pyz":
            folders = [str(_FOLDER)]
            program = _FOLDER / "fz-iproute"
            program.write_text(f'#!/bin/sh\nexec {shlex.join(running_program())} "$@"\n')
            program.chmod(0o755)
        os.environ["PATH"] = ":".join([*folders, os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


CarryOut = Callable[[Ip, Sequence[Command]], Sequence[Refusal]]


class _Site:
    """Runs commands in the lab, and collects refusals in `lost`."""

    def __init__(self, trace: Callable[[str], None] | None) -> None:
        self.ip = Ip(trace=trace)
        self.lost: list[Lost] = []
        self.ip.start("netns", "add", FAR).answer()
        self.far = Ip(FAR, trace)

    def links(self) -> dict[str, Link]:
        """The links that exist now."""
        return parse.links(answer(self.ip, None, "link show"))

    def run(self, found: Iterable[Command | Lost], carry_out: CarryOut = namespace.carry_out) -> None:
        """Run the commands, and note the parts that are lost."""
        parts = list(found)
        self.lost += [part for part in parts if isinstance(part, Lost)]
        refusals = carry_out(self.ip, [part for part in parts if isinstance(part, Command)])
        self.lost += [Lost(f"ip {refusal.command.line}", refusal.words) for refusal in refusals]

    def loopback(self, verb: str, sources: Iterable[str]) -> None:
        """`add` these addresses to the loopback device, or `del` them."""
        lines = (("address", verb, f"{source}/32", "dev", "lo") for source in sources)
        namespace.carry_out(self.ip, [Command.of("inet", words) for words in lines])


def _printed(recorded: Recording) -> Printed:
    source = RecordedIp(recorded)
    return Printed(
        links=answer(source, None, "link show"),
        addresses=answer(source, None, "address show"),
        nexthops=answer(source, None, "nexthop show"),
        rules={family: answer(source, family, RULES_IN_DETAIL) for family in FAMILIES},
        routes={
            (family, table): answer(source, family, question)
            for family, table, question in recorded_tables(recorded.outputs)
            if table != LOCAL  # the kernel itself fills table local
        },
        lines={
            family: [
                line
                for key, text in recorded.outputs.items()
                if key.startswith(question_key(family, "route show table main", "-oneline"))
                for line in text.split("\n")
            ]
            for family in FAMILIES
        },
    )
