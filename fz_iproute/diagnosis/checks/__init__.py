"""The checks of `doctor`, one module for each subject.

Each check is a function of a recorded machine, and none depends on another one.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fz_iproute.diagnosis.checks import copies, dns, firewall, lan, leaks, others, tool, vpn
from fz_iproute.diagnosis.checks.finding import Finding, Found
from fz_iproute.diagnosis.machine import Machine
from fz_iproute.diagnosis.remedy import Remedy, Sync, config_refusal, sync_refusal, tried
from fz_iproute.diagnosis.simulated import Refused
from fz_iproute.diagnosis.trial import harm
from fz_iproute.mirror.ip_json import form_fault


class Check(NamedTuple):
    """A check and its name. `look` always yields at least one finding; the finding is ok if there is no problem."""

    name: str
    look: Callable[[Machine], Iterator[Found]]
    needs_ip: bool = True


# In the order in which they are printed.
CHECKS = (
    Check("ip", tool.ip, needs_ip=False),
    Check("permission", tool.permission, needs_ip=False),
    Check("config", tool.config, needs_ip=False),
    Check("tunnel", vpn.tunnel),
    Check("rules", vpn.rules),
    Check("mark", vpn.mark),
    Check("mirror", copies.mirror),
    Check("prefixes", lan.prefixes),
    Check("shadows", lan.shadowed),
    Check("overrides", lan.overrides),
    Check("leak", leaks.leak),
    Check("rp_filter", leaks.rp_filter),
    Check("dns", dns.dns),
    Check("dhcp", lan.dhcp),
    Check("multicast", lan.multicast),
    Check("firewall", firewall.firewall),
    Check("networkd", others.networkd),
    Check("other-vpn", others.other_vpn),
    Check("rt_tables", tool.rt_tables, needs_ip=False),
    Check("repeats", others.repeats, needs_ip=False),
)


# Their remedies make the configuration readable, so they must not wait until it is.
_OF_CONFIG = ("permission", "config")


def examine(machine: Machine) -> list[Finding]:
    """Run every check. Each finding gets the first of its remedies that helps and does no harm."""
    found = [(check.name, each) for check in CHECKS for each in _findings(check, machine)]
    known = _problems(found)
    return [Finding(name, each.level, each.seen, each.why, _proven(machine, name, each, known)) for name, each in found]


def _problems(found: Iterable[tuple[str, Found]]) -> set[tuple[str, str]]:
    return {(name, each.seen) for name, each in found if each.level in ("warning", "failure")}


def _proven(machine: Machine, name: str, found: Found, known: set[tuple[str, str]]) -> str:
    """The text of the first remedy that removes the finding, causes no new one, and does no harm when it is tried.

    If something must be done before any remedy can work, the text says that instead.
    """
    objections = []
    for remedy in found.remedies:
        if name not in _OF_CONFIG and remedy.needs_config(machine) and (refusal := config_refusal(machine)):
            return refusal
        if Sync() in remedy.steps and (refusal := sync_refusal(machine)):
            return refusal
        objection = _objection(machine, remedy, (name, found.seen), known) if remedy.steps else ""
        if not objection:
            return remedy.text(machine)
        if objection != _USELESS or found.level != "info":
            objections.append(f"no safe remedy is known: if you did this ({remedy.command(machine)}), {objection}")
    return next(iter(objections), "")


_USELESS = "this problem would remain"


def _objection(machine: Machine, remedy: Remedy, finding: tuple[str, str], known: set[tuple[str, str]]) -> str:
    """Why the remedy is not good, according to its trial; "" if it is good."""
    try:
        after = tried(machine, remedy.steps)
    except Refused as refused:
        return f"a command would be refused ({refused})"
    if harmful := harm(machine, after):
        return harmful
    then = [(check.name, each) for check in CHECKS for each in _findings(check, after)]
    if finding in {(name, each.seen) for name, each in then if each.level != "ok"}:
        return _USELESS
    new = _problems(then) - known
    is_taken = any(after.has_internet(family) > machine.has_internet(family) for family in machine.families)
    if is_taken or machine.blocked:
        new = {(name, seen) for name, seen in new if name not in _OF_TAKEN}
    return next((f"`doctor` would say: {seen}" for name, seen in sorted(new)), "")


# What they find has been outside before, as `harm` proves. It is a problem only since the tunnel takes the rest.
_OF_TAKEN = ("leak", "dns")


def _findings(check: Check, machine: Machine) -> list[Found]:
    if check.needs_ip and not machine.is_read:
        return [Found("info", "could not look: ip does not answer")]
    try:
        return list(check.look(machine))
    except (ValueError, TypeError) as error:  # a snapshot may have been edited by hand
        return [Found("info", f"could not look: {form_fault(error)}")]
