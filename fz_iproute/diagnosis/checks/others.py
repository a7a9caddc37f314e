"""Checks for other programs on the machine that change rules and routes."""

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from fz_iproute.diagnosis.checks.finding import Found, or_ok
from fz_iproute.diagnosis.internet import all_traffic
from fz_iproute.diagnosis.machine import Machine, shown
from fz_iproute.diagnosis.products import UNKNOWN, Form, product_of
from fz_iproute.diagnosis.remedy import advice
from fz_iproute.mirror.words import count


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
    """Check that no other VPN waits behind this one. If it comes first, the check `leak` names its rule."""
    others = (form for form in machine.forms if form.interface not in machine.goal.tunnels)
    idle = [form for form in others if not all_traffic(machine.network, form.interface)]
    first = {(form.interface, form.rule.table): form for form in reversed(idle)}  # without its rules behind that one
    is_there = machine.config.tunnel.interface in machine.snapshot.links  # else the check `tunnel` names them all
    yield from or_ok(
        (_waiting(machine, form) for form in first.values() if is_there), "no other VPN waits behind this one"
    )


def _waiting(machine: Machine, form: Form) -> Found:
    product, rule = product_of(form), form.rule
    name = form.interface if product == UNKNOWN else f"{form.interface} ({product.name})"
    decision = machine.internet[rule.family].decision
    before = decision.steps[-1].rule.priority if decision and decision.steps else "another one"
    seen = f"{name} is never asked (table {rule.table}, rule {rule.priority}), because rule {before} comes first"
    words = "decide which VPN should carry all packets, and disconnect the other one"
    return Found("warning", seen, f"nothing behind {form.interface} can be reached", advice(words))


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
