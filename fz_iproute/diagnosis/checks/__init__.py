"""The checks of `doctor`, by subject. Each is a function of a recorded machine; none relies on another one."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from fz_iproute.diagnosis.checks import lan, leaks, others, tool, vpn
from fz_iproute.diagnosis.checks.finding import Finding
from fz_iproute.diagnosis.machine import Machine


class Check(NamedTuple):
    """`look` yields at least one finding: that all is well, if so."""

    name: str
    look: Callable[[Machine], Iterator[Finding]]
    needs_ip: bool = True


# In the order in which they are printed.
CHECKS = (
    Check("ip", tool.ip, needs_ip=False),
    Check("permission", tool.permission, needs_ip=False),
    Check("config", tool.config, needs_ip=False),
    Check("tunnel", vpn.tunnel),
    Check("rules", vpn.rules),
    Check("mark", vpn.mark),
    Check("mirror", lan.mirror),
    Check("prefixes", lan.prefixes),
    Check("shadows", lan.shadowed),
    Check("ipv6-leak", leaks.ipv6_leak),
    Check("rp_filter", leaks.rp_filter),
    Check("dns", leaks.dns),
    Check("multicast", lan.multicast),
    Check("networkd", others.networkd),
    Check("other-vpn", others.other_vpn),
    Check("rt_tables", tool.rt_tables, needs_ip=False),
    Check("fight", others.fight, needs_ip=False),
)


def examine(machine: Machine) -> list[Finding]:
    """Run every check."""
    return [found._replace(name=check.name) for check in CHECKS for found in _findings(check, machine)]


def _findings(check: Check, machine: Machine) -> list[Finding]:
    if check.needs_ip and machine.snapshot is None:
        return [Finding("info", "could not look: ip does not answer")]
    try:
        return list(check.look(machine))
    except (ValueError, TypeError) as error:  # somebody may have edited the snapshot
        return [Finding("info", f"could not look: {error}")]
