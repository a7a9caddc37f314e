"""`lab`: rebuilds a recorded machine in a disposable network namespace, and runs a command or a shell there."""

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import as_file, files
from pathlib import Path

from fz_iproute.files.config_file import VARIABLE
from fz_iproute.ip.answers import answer
from fz_iproute.ip.apply import Refusal
from fz_iproute.ip.ip import Ip
from fz_iproute.ip.reader import with_locks_marked
from fz_iproute.lab import namespace
from fz_iproute.lab.addresses import addresses, missing_sources, routers
from fz_iproute.lab.devices import FAR, Device, cables_and_bridges, devices, far_states, link_states, stand_in
from fz_iproute.lab.printed import Lost, Printed
from fz_iproute.lab.routes import nexthops, routes, rules
from fz_iproute.log import Log
from fz_iproute.mirror import config as core_config
from fz_iproute.mirror import config_text, parse_links
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import LOCAL, RULES_IN_DETAIL
from fz_iproute.record import sysctl
from fz_iproute.record.recorded_ip import RecordedIp, blamed_on, load_recording
from fz_iproute.record.recording import Recording, question_key, recorded_tables
from fz_iproute.service.program import running_program

_FOLDER = Path("/run/fz-iproute")  # in the lab's own /run; the locks of fz-iproute are there, too
_RESOLVERS = "/etc/resolv.conf"

# A snapshot of a laptop with a LAN, an uplink, Firezone's tunnel and an active Internet Resource, but no copies. In a
# single-file program, it is no file of its own.
DEMO = files("fz_iproute").joinpath("data", "demo.json")

# Environment variables that name sockets and folders outside of the lab.
_NOT_HERE = ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "NOTIFY_SOCKET", "WATCHDOG_USEC")


def lab(
    snapshot: Path | None, config: Config | None, command: Sequence[str], log: Log, trace: Callable[[str], None] | None
) -> int:
    """Rebuild the machine in the file `snapshot`, or the demo, run the command in it, and return its exit code.

    `config` replaces the recorded configuration. `trace` is called for each `ip` that builds the lab.
    """
    path = snapshot or Path(DEMO.name)
    with as_file(DEMO) as demo:
        recorded = load_recording(snapshot or demo)
    config = config or config_text.parse(recorded.config, f"{path}: config")

    def inside() -> int:
        with blamed_on(path):
            lost = _build(recorded, trace)
        if lost:
            log.warning("\n".join(f"not rebuilt: {line}" for line in lost))
        _set_environment(config, recorded.facts.get(_RESOLVERS, ""))
        return _run(command, log)

    return namespace.apart(inside)


def _run(command: Sequence[str], log: Log) -> int:
    if not command:
        log.info("# you are in a lab: its network is private; files and services are those of this machine")
        log.info("# try `fz-iproute status`; `exit` ends the lab")
        command = [os.environ.get("SHELL") or "/bin/sh"]
    try:
        return namespace.run(list(command))
    except OSError as error:
        is_line = len(command) == 1 and " " in command[0]
        advice = f"; for a line of a shell, use `fz-iproute lab sh -c {shlex.quote(command[0])}`" if is_line else ""
        log.error(f"{command[0]}: {error.strerror}{advice}")
        return 127 if isinstance(error, FileNotFoundError) else 126  # as in a shell


def _build(recorded: Recording, trace: Callable[[str], None] | None) -> list[Lost | str]:
    """Rebuild the machine: first what other parts need. Returns what could not be rebuilt."""
    printed = printed_of(recorded)
    wanted, impossible = devices(printed.links)
    site = _Site(trace)
    sysctl.prepare_lab()
    wanted = _with_tuns(wanted, site)
    site.run(cables_and_bridges(wanted), namespace.one_by_one)
    links = parse_links.links(answer(site.ip, None, "link show"))
    untuned = sysctl.restore(recorded.sysctls, [device.name for device in wanted if device.name in links])
    # Refusals in FAR are not reported: only this namespace stands for the recorded machine.
    namespace.one_by_one(site.far, far_states(wanted))
    site.run(link_states(wanted, links), namespace.one_by_one)
    namespace.carry_out(site.far, routers(printed, wanted))
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
    return [*impossible, *untuned, *site.lost]


def _with_tuns(wanted: Sequence[Device], site: "_Site") -> list[Device]:
    """Make the tunnels. Returns the devices; a cable replaces each tunnel that cannot be made."""
    found = []
    for device in wanted:
        if device.kind == "tun":
            try:
                namespace.open_tun(device.name)
            except OSError as error:
                site.lost.append(Lost(f"link {device.name}", f"/dev/net/tun: {error.strerror}; a cable replaces it"))
                device = stand_in(device)  # noqa: PLW2901
        found.append(device)
    return found


def _set_environment(config: Config, resolvers: str) -> None:
    """Set up files and variables, so that `fz-iproute` in the lab uses the recorded configuration."""
    _FOLDER.mkdir(mode=0o711)
    # A `watch` in the lab would write its journal to the disk of this machine.
    path = _written("config.toml", config_text.dump(core_config.replace(config, watch={"journal": ""})))
    _written("fz-iproute", f'#!/bin/sh\nexec {shlex.join(running_program())} "$@"\n').chmod(0o755)
    namespace.cover(Path(_RESOLVERS), _written("resolv.conf", resolvers))
    for name in _NOT_HERE:
        os.environ.pop(name, None)
    os.environ[VARIABLE] = str(path)
    os.environ["PATH"] = f"{_FOLDER}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _written(name: str, text: str) -> Path:
    path = _FOLDER / name
    path.write_text(text, "utf-8")
    path.chmod(0o644)
    return path


CarryOut = Callable[[Ip, Sequence[Command]], Sequence[Refusal]]


class _Site:
    """Runs commands in the lab, and collects refusals in `lost`."""

    def __init__(self, trace: Callable[[str], None] | None) -> None:
        self.ip = Ip(trace=trace)
        self.lost: list[Lost] = []
        self.ip.start("netns", "add", FAR).answer()
        self.far = Ip(FAR, trace)

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


def printed_of(recorded: Recording) -> Printed:
    """What `ip` printed on the recorded machine."""
    source = RecordedIp(recorded)
    return Printed(
        links=answer(source, None, "link show"),
        addresses=answer(source, None, "address show"),
        nexthops=answer(source, None, "nexthop show"),
        rules={family: answer(source, family, RULES_IN_DETAIL) for family in FAMILIES},
        routes={
            (family, table): with_locks_marked(answer(source, family, question), _lines(recorded, family, question))
            for family, table, question in recorded_tables(recorded.outputs)
            if table != LOCAL  # the kernel itself fills table local
        },
    )


def _lines(recorded: Recording, family: Family, question: str) -> list[str]:
    """The recorded routes of a table as text. Of table main only, and only if it may have locked metrics."""
    start = question_key(family, question, "-oneline")
    return [line for key, text in recorded.outputs.items() if key.startswith(start) for line in text.split("\n")]
