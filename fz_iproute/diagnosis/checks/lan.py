"""Checks of the LAN: its copies, suspicious prefixes, overlaps with the VPN, and discovery."""

import shlex
from collections import defaultdict
from collections.abc import Iterator

from fz_iproute.diagnosis.checks.finding import Finding, count, or_ok
from fz_iproute.diagnosis.machine import Machine, protocol_of
from fz_iproute.diagnosis.shadow import shadows
from fz_iproute.mirror.plan import plan
from fz_iproute.mirror.policy import PRIVATE
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix, PrefixSet


def mirror(machine: Machine) -> Iterator[Finding]:
    """`sync` has nothing to do."""
    due = plan(machine.goal, prune=machine.config.lan.prune)
    if not due:
        copies = sum(len(judged.wanted) for judged in machine.goal.judged.values())
        yield Finding("ok", f"{count(copies, 'copy', 'copies')}, in step")
        return
    first = f"{machine.ip(due[0].family, shlex.join(due[0].words))} ({due[0].reason})"
    more = f", and {len(due) - 1} more" if len(due) > 1 else ""
    why = "parts of the LAN cannot be reached; `fz-iproute watch` would keep the copies in step"
    yield Finding("failure", f"due: {first}{more}", why, machine.fz_iproute("sync"))


def prefixes(machine: Machine) -> Iterator[Finding]:
    """No mirrored prefix looks like one that a hostile network hands out."""
    found = (each for family in FAMILIES for each in _suspicious(machine, family))
    yield from or_ok(found, "no LAN is public, huge, or pushed by DHCP alone")


def _suspicious(machine: Machine, family: Family) -> Iterator[Finding]:
    allowed = PrefixSet(machine.config.lan.allow)
    judged = machine.goal.judged[family]
    connected = defaultdict(list)
    for route in judged.main:
        if protocol_of(route) == "kernel" and route.attributes.on_link:
            connected[route.attributes.devices].append(Prefix.of_route(route.dst, family))
    for route, refusal, *_ in judged.verdicts:
        prefix = Prefix.of_route(route.dst, family)
        deny = machine.lan_setting("deny", prefix)
        allow = machine.lan_setting("allow", prefix)
        if refusal.startswith("wider than"):
            why = "a hostile DHCP server can hand out such a prefix to pull traffic out of the tunnel"
            yield Finding("warning", f"{route}: {refusal}, so not mirrored", why, deny)
        elif refusal or allowed.covers(prefix):
            continue
        elif not PRIVATE.covers(prefix):
            why = "a hostile access point can hand out public addresses of somebody else as local"
            strict = machine.setting("lan", 'trust = "private"')
            remedy = f"{allow}; or, if this network is not yours, {strict}"
            yield Finding("warning", f"{route}: a public prefix, and mirrored", why, remedy)
        # networkd adds such a route to a router by itself; that one is inside the LAN.
        elif protocol_of(route) == "dhcp" and not PrefixSet(connected[route.attributes.devices]).covers(prefix):
            why = "DHCP (option 121) has pushed it as local: packets leave the tunnel for whoever answers there"
            remedy = f"{deny}; or, if you want it, {allow}"
            yield Finding("warning", f"{route}: pushed by DHCP, and mirrored", why, remedy)


def shadowed(machine: Machine) -> Iterator[Finding]:
    """No LAN overlaps with what the VPN routes explicitly."""
    found = (each for family in FAMILIES for each in _overlaps(machine, family))
    yield from or_ok(found, "no LAN overlaps with a route of the VPN")


def _overlaps(machine: Machine, family: Family) -> Iterator[Finding]:
    for lan, tunnel, whole in shadows(machine.goal, family):
        if whole:
            why = "what the VPN routes explicitly wins: this LAN cannot be reached"
            remedy = f"renumber the LAN, or, if you don't need it, {machine.lan_setting('deny', lan)}"
            yield Finding("warning", f"{tunnel} of the VPN takes all of the LAN {lan}", why, remedy)
        else:
            why = "hosts of the LAN with these addresses cannot be reached; those of the VPN can"
            yield Finding("info", f"{tunnel} of the VPN is inside the LAN {lan}", why)


_MDNS = Prefix.parse("224.0.0.251/32").address


def multicast(machine: Machine) -> Iterator[Finding]:
    """Discovery of devices in the LAN works."""
    if "inet" in machine.families and machine.is_tunnelled(machine.way("inet", _MDNS)):
        why = "mDNS and SSDP do not find printers, speakers and the like, though their addresses can be reached"
        remedy = f"{machine.setting('lan', 'multicast = true')}, then {machine.fz_iproute('sync')}"
        yield Finding("info", "discovery (224.0.0.251) goes into the tunnel", why, remedy)
    else:
        yield Finding("ok", "discovery (224.0.0.251) stays out of the tunnel")
