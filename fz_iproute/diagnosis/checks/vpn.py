"""Checks of the VPN: its tunnel, the rules that lead there, and the mark that keeps its own packets out of it."""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator

from fz_iproute.diagnosis.checks.finding import Finding, or_ok, some
from fz_iproute.diagnosis.checks.others import KNOWN_VPNS
from fz_iproute.diagnosis.lookup import Decision
from fz_iproute.diagnosis.machine import Machine, host_in, shown
from fz_iproute.mirror.model import Rule
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.mirror.words import DEFAULT, LOCAL, MAIN


def tunnel(machine: Machine) -> Iterator[Finding]:
    """The configured interface exists and is up."""
    name = machine.config.tunnel.interface
    link = machine.seen.links.get(name)
    if link and link.up:
        yield Finding("ok", f"{name} is up")
    elif link:
        why = "the kernel has removed its routes: packets for the VPN go elsewhere or nowhere"
        yield Finding("failure", f"{name} is down", why, machine.ip("inet", f"link set {shlex.quote(name)} up"))
    elif others := sorted(machine.goal.tunnels & machine.seen.links.keys()):
        why = "the VPN's table leads into another interface than the configured one"
        remedy = machine.setting("tunnel", f'interface = "{others[0]}"')
        yield Finding("failure", f"there is no {name}, but {others[0]} carries the VPN", why, remedy)
    else:
        why = "the VPN is not running, or its interface has another name"
        setting = machine.setting("tunnel", 'interface = "NAME"')
        remedy = f"start the VPN's client, or {setting}"
        yield Finding("failure", f"there is no {name}", why, remedy)


def rules(machine: Machine) -> Iterator[Finding]:
    """Each table of the VPN has one rule, in the right order, and no other rule takes its packets."""
    leading = [rule for rule in machine.seen.rules if rule.table in machine.goal.layout.tables]
    if not leading and machine.config.tunnel.interface not in machine.seen.links:
        yield Finding("info", "no rule leads to the VPN's table, and there is no tunnel")
        return
    found = (each for family in machine.families for each in _rule_problems(machine, family))
    yield from or_ok(found, ", ".join(f"{rule.family} {shown(rule)}" for rule in leading))


def _rule_problems(machine: Machine, family: Family) -> Iterator[Finding]:
    tables = machine.goal.layout.tables
    rules = [rule for rule in machine.seen.rules if rule.family == family]
    first = {rule.table: rule for rule in reversed(rules) if rule.table in tables}
    is_used = any(
        not machine.goal.tunnels.isdisjoint(route.attributes.devices)
        for table in tables
        for route in machine.routes(table, family)
    )
    # A VPN may leave out the rules of a family for which it has no routes.
    is_needed = is_used or (family == "inet" and not any(rule.table in tables for rule in machine.seen.rules))
    for table in tables:
        if is_needed and table not in first:
            remedy = machine.fz_iproute("sync") if machine.config.manages else machine.addition(family, table)
            why = "no packet uses the routes in there"
            yield Finding("failure", f"no rule looks up table {table} ({family})", why, remedy)
    for rule in _repeated(rules, tables):
        why = "if somebody deletes one of them, the other one stays in force"
        yield Finding("warning", f"{shown(rule)} ({family}) is there twice", why, machine.deletion(rule))
    yield from _wrong_order(machine, family, [first[table] for table in tables if table in first])
    for table in tables:
        if table in first:
            yield from _taken_before(machine, family, table)


def _repeated(rules: Iterable[Rule], tables: Iterable[int]) -> Iterator[Rule]:
    """The rules that repeat an earlier one."""
    known = set()
    for rule in rules:
        content = rule._replace(priority=0, protocol="")
        if rule.table in tables and content in known:
            yield rule
        known.add(content)


def _wrong_order(machine: Machine, family: Family, leading: list[Rule]) -> Iterator[Finding]:
    """`leading` is the first rule to each table of the VPN, in the order that the layout wants."""
    if [rule.priority for rule in leading] == sorted(rule.priority for rule in leading):
        return
    moves = [
        f"{machine.addition(family, rule.table)} && {machine.deletion(rule)}"
        for rule, priority in zip(leading, machine.config.rules.tiered, strict=False)
        if rule.priority != priority
    ]
    remedy = machine.fz_iproute("sync") if machine.config.manages else " && ".join(moves)
    why = "the kernel must ask the VPN's own routes first, then the LAN, then the default route into the tunnel"
    yield Finding("failure", f"out of order ({family}): {', '.join(map(shown, leading))}", why, remedy)


_LINK_LOCAL = Prefix.parse("fe80::/10")


def _taken_before(machine: Machine, family: Family, table: int) -> Iterator[Finding]:
    """Routes in a table of the VPN whose packets an earlier rule takes."""
    taken: dict[Rule, list[str]] = defaultdict(list)
    for route in machine.routes(table, family):
        attributes = route.attributes
        # Programs that use link-local addresses name the interface themselves.
        is_link_local = _LINK_LOCAL.covers(Prefix.of_route(route.dst, family))
        if attributes.type != "unicast" or not attributes.devices or is_link_local:
            continue
        decision = machine.way(family, None if route.dst == "default" else host_in(route, family))
        rule = rule_in_front(machine, decision, table)
        if rule and set(decision.devices).isdisjoint(attributes.devices):
            taken[rule].append(route.dst)
    for rule, destinations in taken.items():
        takes_all = "default" in destinations or not (rule.dst or rule.mark or rule.src)
        seen = f"{shown(rule)} ({family}) takes packets to {some(destinations)}, which table {table} has routes for"
        why = "the kernel asks this rule before the VPN's, so the packets never get there"
        yield Finding("failure" if takes_all else "warning", seen, why, way_past(machine, rule, table))


def rule_in_front(machine: Machine, decision: Decision, table: int) -> Rule | None:
    """The foreign rule that keeps the kernel from asking a table of the VPN."""
    if not decision.steps or any(step.rule.table == table for step in decision.steps):
        return None
    jump = next((step.rule for step in decision.steps if step.result == "goto"), None)
    rule = jump or decision.steps[-1].rule
    # `local` comes first, as it should, and so may another table of the VPN.
    return None if rule.table in (LOCAL, *machine.goal.layout.tables) else rule


def way_past(machine: Machine, rule: Rule, table: int) -> str:
    """The remedy for a rule in front of those of the VPN."""
    if (rule.priority, rule.table) not in ((32766, MAIN), (32767, DEFAULT)):
        return machine.deletion(rule)
    # Without the kernel's own rules there is no network: the VPN's rule has to move.
    late = next(each for each in machine.seen.rules if each.family == rule.family and each.table == table)
    return f"{machine.addition(rule.family, table)} && {machine.deletion(late)}"


def mark(machine: Machine) -> Iterator[Finding]:
    """Packets with the VPN's mark do not go into the tunnel."""
    found = (each for family in machine.families for each in _mark_problems(machine, family))
    yield from or_ok(
        found, f"packets that the VPN's client marks {machine.config.tunnel.fwmark} stay out of the tunnel"
    )


def _mark_problems(machine: Machine, family: Family) -> Iterator[Finding]:
    mark = machine.config.tunnel.fwmark
    decision = machine.way(family, mark=mark.value)
    if not decision.steps or decision.steps[-1].result != "decides":
        return
    rule = decision.steps[-1].rule
    if machine.is_tunnelled(decision):
        why = "the VPN's own packets go into the VPN: it cannot reach its gateway, or they circle"
        if rule.table not in machine.goal.layout.tables and decision.route:
            words = shlex.join(decision.route.words)
            remedy = machine.ip(family, f"route del table {rule.table} {words}")
        elif rule.inverted and rule.mark and not machine.config.manages:
            remedy = machine.setting("tunnel", f'fwmark = "{rule.mark}"')
        else:
            remedy = machine.deletion(rule)
        yield Finding("failure", f"{shown(rule)} sends packets marked {mark} into the tunnel", why, remedy)
    elif rule.mark and not rule.inverted and rule.table in KNOWN_VPNS:
        why = "the bits of the two marks overlap, so the other VPN takes the packets of this one"
        other = KNOWN_VPNS[rule.table]
        seen = f"{shown(rule)} ({family}) of {other.name} takes packets marked {mark}"
        yield Finding("warning", seen, why, other.end(machine))
