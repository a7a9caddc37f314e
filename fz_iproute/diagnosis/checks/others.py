"""Checks for other programs on the machine that change rules and routes."""

import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from fz_iproute.diagnosis.checks.finding import Found, or_ok
from fz_iproute.diagnosis.machine import Machine, shown
from fz_iproute.diagnosis.products import BY_TABLE
from fz_iproute.diagnosis.reach import Way, size
from fz_iproute.diagnosis.remedy import advice
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.mirror.words import count, some


def networkd(machine: Machine) -> Iterator[Found]:
    """Check that systemd-networkd does not delete rules and routes of other programs."""
    if machine.netns or machine.facts.get("networkd") != "in use":
        yield Found("ok", "systemd-networkd does not run here")
        return
    tables = machine.goal.layout.tables
    wanted = [route for judged in machine.goal.judged.values() for route in judged.wanted]
    copies = [route for route in wanted if not route.attributes.is_of("kernel")]
    rules = [rule for rule in machine.snapshot.rules if rule.table in tables and rule.protocol != "kernel"]
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
    script = (
        f"mkdir -p {folder} && printf '{lines}\\n' > {folder}/zz-fz-iproute.conf && systemctl restart systemd-networkd"
    )
    remedies = advice(machine.as_root(script, is_script=True))
    yield Found("warning", f"systemd-networkd may delete {' and '.join(at_risk)}", why, remedies)


_FOREIGN_ROUTES, _FOREIGN_RULES = "ManageForeignRoutes", "ManageForeignRoutingPolicyRules"


def _networkd_manages(facts: Mapping[str, str], key: str) -> bool:
    """True if a switch of networkd.conf(5) is on, as it is by default. Drop-ins are read in order of their names."""
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


def other_vpn(machine: Machine) -> Iterator[Found]:
    """Check that this VPN and another known one do not take each other's packets."""
    found = (each for family in machine.families for each in _vpn_problems(machine, family))
    yield from or_ok(found, "no rule leads to a table of another known VPN")


def _vpn_problems(machine: Machine, family: Family) -> Iterator[Found]:
    tables = machine.goal.layout.tables
    # If the configured tunnel is missing, the check `tunnel` already names the VPNs that are there instead.
    named = set() if machine.config.tunnel.interface in machine.snapshot.links else {vpn.table for vpn in machine.vpns}
    for table in sorted(BY_TABLE.keys() - named - set(tables)):
        rule = next((rule for rule in machine.snapshot.rules if (rule.family, rule.table) == (family, table)), None)
        devices = machine.network.table(table, family).devices
        # A table that leads into the configured tunnel belongs to this VPN, even if the configuration does not name it.
        if rule is None or not any(map(machine.network.may_be_tunnel, devices - machine.goal.tunnels)):
            continue
        name = f"{BY_TABLE[table]} ({shown(rule)}, {family})"
        own = [route.prefix for each in tables for route in machine.tunnel_routes(each, family)]
        own += machine.accepted(family)
        taken = [prefix for prefix in own if _is_taken(machine, table, prefix)]
        routes = [route for route in machine.network.table(table, family) if route.attributes.type == "unicast"]
        ways = [way for route in routes for way in machine.ways(route.prefix)]
        words = f"decide which VPN these packets belong to; the other one is {BY_TABLE[table]}, by rule {rule.priority}"
        if taken:
            why = "its tunnel takes packets that belong to this VPN or to the LAN"
            spelled = some(str(prefix) if prefix.length else "default" for prefix in taken)
            yield Found("warning", f"{name} is asked before this VPN, and has {spelled}", why, advice(words))
        elif any(machine.is_tunnelled(way.decision) for way in ways) and not any(map(_by(table), ways)):
            why = "this VPN takes all packets before it: nothing behind the other one can be reached"
            yield Found("warning", f"{name} is asked after this VPN, so never", why, advice(words))
        else:
            yield Found("info", f"{name} is here too, and does not interfere")


def _by(table: int) -> Callable[[Way], bool]:
    """A function that tells whether packets leave by a route of this table."""
    return lambda way: way.decision.outcome == "unicast" and way.decision.table == table


def _is_taken(machine: Machine, table: int, prefix: Prefix) -> bool:
    """True if packets to the prefix leave by a route of this table, not into the tunnel.

    For the default route, it must be most of the packets; for any other prefix, a part is enough.
    """
    ways = machine.ways(prefix)
    taken = size(way for way in ways if _by(table)(way) and machine.is_around_tunnel(way))
    return taken > 0 if prefix.length else 2 * taken > size(ways)


# A command that ran so often within a short time is reported. Older entries of the journal do not count.
_OFTEN = 5
_SHORT = timedelta(minutes=10)
_RECENT = timedelta(hours=1)


def repeats(machine: Machine) -> Iterator[Found]:
    """Check that `watch` does not repeat a command again and again, because another program undoes it."""
    path = machine.config.watch.journal
    if not path:
        yield Found("ok", "no journal is kept (watch.journal)")  # as by default, so it is not worth a line
    elif "journal" not in machine.facts:
        yield Found("info", f"could not look: {path} cannot be read")
    else:
        yield from or_ok(_repeats(machine, path), f"{path}: no command was repeated often")


def _repeats(machine: Machine, path: str) -> Iterator[Found]:
    now = datetime.fromisoformat(machine.recording.taken)
    times: dict[str, list[datetime]] = defaultdict(list)
    stamp = None
    for line in machine.facts["journal"].splitlines():
        if line.startswith("#"):
            with suppress(ValueError, IndexError):  # other comments say that the command before was refused
                stamp = datetime.fromisoformat(line.split()[1])
        elif stamp and stamp.tzinfo and now - stamp < _RECENT:
            times[line].append(stamp)
    for command, stamps in times.items():
        if any(last - first < _SHORT for first, last in zip(stamps, stamps[_OFTEN - 1 :], strict=False)):
            seen = f"{len(stamps)} times within the hour: {command}"
            monitor = machine.ip("inet", "-timestamp monitor label link address route rule")
            why = f"another program undoes it each time, or its interface comes and goes: `{monitor}` shows which"
            remedy = f"truncate -s 0 {shlex.quote(path)}  # after that has ended"
            yield Found("warning", seen, why, advice(machine.as_root(remedy)))
