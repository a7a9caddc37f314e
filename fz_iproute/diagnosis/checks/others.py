"""Checks of other programs on the machine that change rules and routes."""

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fz_iproute.diagnosis.checks.finding import Found, count, or_ok, some
from fz_iproute.diagnosis.machine import Machine, protocol_of, shown
from fz_iproute.diagnosis.remedy import advice
from fz_iproute.mirror.desired import explicit
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.prefix import Family


def networkd(machine: Machine) -> Iterator[Found]:
    """systemd-networkd does not delete rules and routes that it did not make."""
    if machine.netns or machine.facts.get("networkd") != "in use":
        yield Found("ok", "systemd-networkd does not run here")
        return
    tables = machine.goal.layout.tables
    wanted = [route for judged in machine.goal.judged.values() for route in judged.wanted]
    copies = [route for route in wanted if protocol_of(route) != "kernel"]
    rules = [rule for rule in machine.seen.rules if rule.table in tables and rule.protocol != "kernel"]
    at_risk = []
    if copies and _networkd_manages(machine.facts, _FOREIGN_ROUTES):
        at_risk.append(f"{count(len(copies), 'copy', 'copies')} such as {copies[0].dst}")
    if rules and _networkd_manages(machine.facts, _FOREIGN_RULES):
        at_risk.append(f"{count(len(rules), 'rule', 'rules')} such as {shown(rules[0])}")
    if not at_risk:
        yield Found("ok", "systemd-networkd leaves rules and routes alone")
        return
    why = "whenever it configures a link, it deletes what others have made: the LAN or the VPN is cut off"
    lines = "\\n".join(["[Network]", f"{_FOREIGN_ROUTES}=no", f"{_FOREIGN_RULES}=no"])
    folder = "/etc/systemd/networkd.conf.d"
    remedy = (
        f"mkdir -p {folder} && printf '{lines}\\n' > {folder}/zz-fz-iproute.conf && systemctl restart systemd-networkd"
    )
    yield Found("warning", f"systemd-networkd may delete {' and '.join(at_risk)}", why, advice(remedy))


_FOREIGN_ROUTES, _FOREIGN_RULES = "ManageForeignRoutes", "ManageForeignRoutingPolicyRules"


def _networkd_manages(facts: Mapping[str, str], key: str) -> bool:
    """Whether a switch of networkd.conf(5) is on. The default is on; drop-ins count in the order of their names."""
    folders = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")
    main = next((facts[path] for folder in folders if (path := f"{folder}/networkd.conf") in facts), "")
    drop_ins: dict[str, str] = {}
    for folder in folders:
        start = f"{folder}/networkd.conf.d/"
        for path in facts:
            if path.startswith(start):
                drop_ins.setdefault(path.removeprefix(start), facts[path])  # a file in /etc hides its namesake in /usr
    state = True
    for text in (main, *(text for _, text in sorted(drop_ins.items()))):
        section = ""
        for line in map(str.strip, text.splitlines()):
            if line.startswith("["):
                section = line
            name, _, value = line.partition("=")
            if section == "[Network]" and name.strip() == key:
                state = _BOOLEANS.get(value.strip().lower(), state)
    return state


_BOOLEANS = dict.fromkeys(("1", "yes", "y", "true", "t", "on"), True)
_BOOLEANS |= dict.fromkeys(("0", "no", "n", "false", "f", "off"), False)


class KnownVpn(NamedTuple):
    """A VPN that always uses the same table; `command` disconnects it."""

    name: str
    command: str

    def end(self, machine: Machine, device: str = "INTERFACE") -> str:
        """The remedy: disconnect it."""
        return machine.inside(self.command.format(device))


# By table. NetworkManager counts up from wg-quick's number.
KNOWN_VPNS = {
    52: KnownVpn("Tailscale", "tailscale down"),
    7120: KnownVpn("NetBird", "netbird down"),
    51820: KnownVpn("wg-quick", "wg-quick down {}"),
    1836018789: KnownVpn("Mullvad", "mullvad disconnect"),
}


def other_vpn(machine: Machine) -> Iterator[Found]:
    """No other VPN takes the packets of this one or loses its own."""
    found = (each for family in machine.families for each in _vpn_problems(machine, family))
    yield from or_ok(found, "no rule leads to a table of another known VPN")


def _vpn_problems(machine: Machine, family: Family) -> Iterator[Found]:
    tables = machine.goal.layout.tables
    rules = [rule for rule in machine.seen.rules if rule.family == family]
    ours = next((place for place, rule in enumerate(rules) if rule.table in tables), len(rules))
    for table in sorted(KNOWN_VPNS.keys() - tables):
        place = next((place for place, rule in enumerate(rules) if rule.table == table), None)
        if place is None:
            continue
        found = machine.tables.get(table, {}).get(family, ())
        routes = [route for route in found if route.attributes.type == "unicast"]
        common = _common(machine, family, routes)
        name = f"{KNOWN_VPNS[table].name} ({shown(rules[place])}, {family})"
        remedy = KNOWN_VPNS[table].end(machine, *(routes[0].attributes.devices[:1] if routes else ()))
        if place < ours and common:
            why = "its tunnel takes packets that belong to this VPN or to the LAN"
            yield Found("warning", f"{name} is asked before this VPN, and has {some(common)}", why, advice(remedy))
        elif place > ours and routes and machine.has_internet(family):
            why = "the Internet Resource takes all packets before it: nothing behind the other VPN can be reached"
            yield Found("warning", f"{name} is asked after this VPN, so never", why, advice(remedy))
        else:
            yield Found("info", f"{name} is here too, and does not interfere")


def _common(machine: Machine, family: Family, routes: Sequence[Route]) -> list[str]:
    """The destinations of another VPN that this one routes too."""
    own = explicit((route for table in machine.goal.layout.tables for route in machine.routes(table, family)), family)
    theirs = explicit(routes, family)
    common = sorted(str(each) for each in theirs if any(each.covers(other) or other.covers(each) for other in own))
    return ["default", *common] if any(route.dst == "default" for route in routes) else common


_OFTEN = 5
_SHORT = timedelta(minutes=10)
_RECENT = timedelta(hours=1)


def fight(machine: Machine) -> Iterator[Found]:
    """`watch` does not repeat a command because somebody undoes it."""
    path = machine.config.watch.journal
    if not path:
        yield Found("info", "could not look: no journal is kept (watch.journal)")
    elif "journal" not in machine.facts:
        yield Found("info", f"could not look: {path} cannot be read")
    else:
        yield from or_ok(_fights(machine, path), f"{path}: no command was repeated often")


def _fights(machine: Machine, path: str) -> Iterator[Found]:
    now = datetime.fromisoformat(machine.recording.taken)
    times: dict[str, list[datetime]] = defaultdict(list)
    stamp = None
    for line in machine.facts["journal"].splitlines():
        if line.startswith("#"):
            try:
                stamp = datetime.fromisoformat(line.split()[1])
            except (ValueError, IndexError):
                stamp = None
        elif stamp and stamp.tzinfo and now - stamp < _RECENT:
            times[line].append(stamp)
    for command, stamps in times.items():
        if any(last - first < _SHORT for first, last in zip(stamps, stamps[_OFTEN - 1 :], strict=False)):
            seen = f"{len(stamps)} times within the hour: {command}"
            monitor = machine.ip("inet", "-timestamp monitor label link address route rule")
            why = f"somebody undoes it each time, or its interface comes and goes: `{monitor}` shows which"
            remedy = f"truncate -s 0 {shlex.quote(path)}  # after that has ended"
            yield Found("warning", seen, why, advice(remedy))
