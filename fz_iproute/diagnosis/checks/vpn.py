"""Checks of the VPN: its tunnel, the rules to its tables, and the mark that keeps its own packets out of the tunnel."""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from fz_iproute.diagnosis.checks.cures import additions
from fz_iproute.diagnosis.checks.finding import Found, Level, or_ok
from fz_iproute.diagnosis.detect import Vpn, differences
from fz_iproute.diagnosis.lookup import Decision
from fz_iproute.diagnosis.machine import Machine, shown
from fz_iproute.diagnosis.remedy import Remedy, Setting, Step, Sync, advice, in_force, written
from fz_iproute.diagnosis.served import followed
from fz_iproute.diagnosis.simulated import RouteStep, RuleStep
from fz_iproute.mirror.config import FIREZONE_MARK
from fz_iproute.mirror.model import Rule
from fz_iproute.mirror.prefix import FAMILY_NAMES, Family, Prefix
from fz_iproute.mirror.words import LOCAL, MAIN, some, table_name


def tunnel(machine: Machine) -> Iterator[Found]:
    """Check that the configured interface exists and is up."""
    name = machine.config.tunnel.interface
    link = machine.snapshot.links.get(name)
    if machine.config.is_auto:
        is_cut = any(vpn.cut for vpn in machine.vpns)
        yield Found("failure" if is_cut else "info", followed(machine.config, machine.vpns).said)
    elif link and machine.other_tunnels:
        here = [vpn for vpn in machine.vpns if vpn.table in machine.goal.layout.tables and vpn.interface != name]
        start = f"{name} is {'up' if link.up else 'down'}"
        yield from (_another_vpn(machine, vpn, start) for vpn in here) if here else [_no_tunnel(machine, start)]
    elif machine.is_dead:
        why = "no program reads it, and its packets are lost"
        remedies = advice("reconnect the VPN's client, which has probably ended")
        yield Found("failure", f"{name} is up, but has no carrier", why, remedies)
    elif link and link.up:
        moved = [vpn for vpn in machine.vpns if vpn.interface == name] if machine.is_emptied else []
        yield from (_another_vpn(machine, vpn, f"no route of the configured tables leads into {name}") for vpn in moved)
        if not moved:
            yield _emptied(machine) if machine.is_emptied else Found("ok", f"{name} is up")
    elif link:
        settings = machine.config.tunnel
        is_full = settings.internet or not machine.config.manages
        outside = machine.outside(*machine.families) if is_full else ""
        why = outside or "packets for the VPN go elsewhere or nowhere"
        remedies = advice(f"reconnect the VPN's client: setting {name} up again does not bring back its routes")
        if machine.config.manages:
            sync = machine.fz_iproute("sync")
            up = machine.as_root(machine.ip("inet", f"link set {shlex.quote(name)} up"))
            has_ipv6 = settings.internet or any(prefix.family == "inet6" for prefix in settings.routes)
            words = f"{up} && {sync}"
            if has_ipv6:
                words = f"`{up}`, add its IPv6 address again if it had one (the kernel has removed it), then {sync}"
            remedies = (Remedy((Sync(),)), *advice(words))  # alone, `sync` does not help, but says if it refuses to run
        yield Found("failure", f"{name} is down", f"the kernel has removed its routes; {why}", remedies)
    elif machine.vpns:
        yield from (_another_vpn(machine, vpn, f"there is no {name}") for vpn in machine.vpns)
    elif not any(rule.table in machine.goal.layout.tables for rule in machine.then.rules):
        yield from map(partial(_tap, machine), machine.taps) if machine.taps else [_off(name)]
    else:
        yield _no_tunnel(machine, f"there is no {name}")


def _off(name: str) -> Found:
    return Found("info", f"the VPN is off: no {name} here, no rule for it, and no other VPN takes all traffic")


def _tap(machine: Machine, vpn: Vpn) -> Found:
    """The finding if the configured VPN is off, and a device takes all traffic that may be the tap of another one."""
    families = " and ".join(FAMILY_NAMES[family] for family in vpn.families)
    taken = f"{families} to the internet {'leaves' if len(vpn.families) == 1 else 'leave'} by {vpn.interface}"
    start = f"no {machine.config.tunnel.interface} here, and no rule for it"
    seen = f"{start}; {taken} (rule {vpn.priority}, table {table_name(vpn.table)})"
    words = f"if {vpn.interface} is the tap of a VPN, {machine.shows(vpn)} shows what to do"
    return Found("info", seen, "a tap looks like a network card", advice(words))


def _emptied(machine: Machine) -> Found:
    """The finding if the VPN's rules lead to tables that have no route into the tunnel."""
    name, tables = machine.config.tunnel.interface, machine.goal.layout.tables
    seen = f"{name} is up, but no route in table {' or '.join(map(str, tables))} leads into it"
    why = "; ".join(filter(None, ["the VPN carries nothing", machine.outside(*machine.families)]))
    words = f"reconnect the VPN's client, which adds its routes again: the kernel removes them when {name} goes down"
    if any(rule.mark == FIREZONE_MARK for rule in machine.snapshot.rules if rule.table in tables):
        return Found("failure", seen, why, advice(words))  # Firezone's client always has some routes
    return Found("warning", seen, why, advice(f"if the client has been connected for a while, {words}"))


def _no_tunnel(machine: Machine, seen: str) -> Found:
    """The finding if the VPN does not use the configured interface, and no other VPN takes all traffic."""
    if others := machine.other_tunnels:
        led = " and ".join(f"table {table} leads into {device}" for device, table in others.items())
        settings = {device: Setting("tunnel", "interface", device) for device in others}
        remedies = [Remedy((setting, *then)) for then in ((), (Sync(),)) for setting in settings.values()]
        # With the right interface, `doctor` may find more problems. Then the trial rejects the remedies, and this
        # advice remains.
        words = "; ".join(f"if {device} is the VPN's, {in_force(machine, it)}" for device, it in settings.items())
        return Found("failure", f"{seen}, but {led}", _ELSEWHERE, (*remedies, *advice(words)))
    setting = in_force(machine, Setting("tunnel", "interface", "NAME"))
    why = "the VPN is not running, or its interface has another name"
    words = f"start the VPN's client, or, if its interface has another name, {setting}"
    return Found("failure", seen, why, advice(words))


_ELSEWHERE = "the VPN's table leads into another interface than the configured one"


def _another_vpn(machine: Machine, vpn: Vpn, start: str) -> Found:
    """The finding if another VPN than the configured one takes all traffic.

    That alone is no fault, but perhaps fz-iproute should be configured for that VPN.
    """
    if vpn.table in machine.goal.layout.tables:
        seen = f"{start}, but {vpn.interface} carries the VPN"
        remedies = [Remedy((step, Sync())) for step in written(machine, vpn)]
        remedies.append(Remedy((Setting("tunnel", "interface", vpn.interface),)))
        return Found("failure", seen, _ELSEWHERE, tuple(remedies))
    seen = f"{start}, but {vpn.headline} by rule {vpn.priority}, table {table_name(vpn.table)}"
    if vpn.advice == "nothing":  # what else cuts a LAN has a finding of its own
        return Found("info" if vpn.cut or vpn.holes else "ok", f"{seen}; {vpn.why}")
    why = f"the LAN is {vpn.lan}: {vpn.by}"
    level: Level = "failure" if vpn.cut else "warning"
    if vpn.advice != "mirror" or vpn.config is None:
        is_kept = vpn.advice == "refuse" and not (vpn.cut or vpn.holes)
        return Found(level, seen, why, advice(f"nothing: the LAN is kept; {vpn.why}" if is_kept else vpn.why))
    steps: list[Step] = [*written(machine, vpn)]
    # With the new configuration, `doctor` may find more problems of that VPN. Then the trial rejects the remedy, and
    # this advice remains.
    how = f"with `{Remedy(tuple(steps)).text(machine)}`" if steps else f"as `{machine.fz_iproute('detect')}` shows"
    words = f"make a configuration for {vpn.interface} {how}, then see `{machine.fz_iproute('doctor')}`"
    steps = steps or [Setting(*key) for key in differences(machine.config, vpn.config)]
    return Found(level, seen, why, (Remedy((*steps, Sync())), *advice(words)))


def rules(machine: Machine) -> Iterator[Found]:
    """Check that the VPN's rules exist, and are in the right order."""
    leading = [rule for rule in machine.snapshot.rules if rule.table in machine.goal.layout.tables]
    if not leading and machine.config.tunnel.interface not in machine.snapshot.links:
        seen = f"no rule leads to the VPN's table, and there is no {machine.config.tunnel.interface}"
        yield Found("info", "`auto` serves no VPN now" if machine.config.is_auto else seen)
        return
    found = [_unused(machine, family, table) for family, table in machine.unused_tables()]
    found += [each for family in machine.families for each in _rule_problems(machine, family)]
    found += [_no_main(machine, family) for family in machine.families if not machine.reaches_main(family)]
    if leading or found:
        yield from or_ok(found, ", ".join(f"{rule.family} {shown(rule)}" for rule in leading))
    else:
        # The VPN's routes may be in main. Then packets do not leave outside of it.
        why = machine.outside(*machine.families)
        remedies = advice("if the VPN should be on, reconnect its client, which adds its rules and routes")
        remedies = (Remedy((Sync(),)),) if machine.config.manages else remedies
        yield Found("warning" if why else "info", "no rule leads to the VPN's table", why, remedies if why else ())


def _no_main(machine: Machine, family: Family) -> Found:
    remedies = (_main_again(family),)
    if any((rule.family, rule.table) == (family, MAIN) for rule in machine.snapshot.rules):
        why = "packets that no other rule takes find no way"
        return Found("warning", f"no rule looks up main for all packets ({family})", why, remedies)
    why = "no packet that stays out of the tunnel finds a way, the VPN's own included"
    return Found("failure", f"no rule looks up main ({family})", why, remedies)


def _main_again(family: Family) -> Remedy:
    """Add the kernel's rule to main."""
    return Remedy((RuleStep("add", Rule(family, 32766, "lookup", MAIN, protocol="kernel")),))


def _rule_problems(machine: Machine, family: Family) -> Iterator[Found]:
    tables, leading = machine.goal.layout.tables, machine.leading(family)
    rules = [rule for rule in machine.snapshot.rules if rule.family == family]
    yield from _repeated(machine, family, rules)
    yield from _wrong_order(machine, family, [leading[table][0] for table in tables if table in leading])
    yield from _late_local(machine, rules)


def _unused(machine: Machine, family: Family, table: int) -> Found:
    outside = machine.outside(family) if machine.has_default(table, family) else ""
    why = f"no packet uses the routes in there{outside and ': '}{outside}"
    return Found("failure", f"no rule looks up table {table} ({family})", why, additions(machine, family, table))


def _repeated(machine: Machine, family: Family, rules: Iterable[Rule]) -> Iterator[Found]:
    """Rules to the VPN's tables that differ only in their priority, or in the program that made them."""
    alike: dict[Rule, list[Rule]] = defaultdict(list)
    for rule in rules:
        if rule.table in machine.goal.layout.tables:
            alike[rule._replace(priority=0, protocol="")].append(rule)
    for content, same in alike.items():
        if len(same) > 1:
            why = "when the VPN's client deletes the rule that it has made, the others stay in force"
            seen = (
                f"{len(same)} rules ({family}) say the same, with priority {some(str(rule.priority) for rule in same)}"
            )
            yield Found("warning", f"{seen}: {content}", why, _deletions(machine, same))


def _deletions(machine: Machine, same: Sequence[Rule]) -> tuple[Remedy, ...]:
    """Delete all equal rules but one.

    The one to keep is probably the client's, with the usual priority; or else the first one, which the kernel uses.
    """
    if machine.config.manages:
        return (Remedy((Sync(),)),)
    usual = machine.usual_priority(same[0].table)
    place = next((place for place, rule in enumerate(same) if rule.priority == usual), 0)
    kept = dict.fromkeys([place, 0])
    return tuple(Remedy(tuple(RuleStep("del", rule) for rule in (*same[:at], *same[at + 1 :]))) for at in kept)


def _wrong_order(machine: Machine, family: Family, leading: list[Rule]) -> Iterator[Found]:
    """The finding if the VPN's rules are in the wrong order. `leading`: a rule for each table, in the right order."""
    if [rule.priority for rule in leading] == sorted(rule.priority for rule in leading):
        return
    moves: list[Step] = []
    for rule, priority in zip(leading, machine.config.rules.tiered, strict=False):
        if rule.priority != priority:
            moves += [RuleStep("add", rule._replace(priority=priority, protocol="boot")), RuleStep("del", rule)]
    steps = (Sync(),) if machine.config.manages else tuple(moves)
    why = "the kernel must ask the VPN's own routes first, then the LAN, then the default route into the tunnel"
    yield Found("failure", f"out of order ({family}): {', '.join(map(shown, leading))}", why, (Remedy(steps),))


def _late_local(machine: Machine, rules: list[Rule]) -> Iterator[Found]:
    """The finding if table local, which has the machine's own addresses, is looked up after one of the VPN's tables."""
    places = {rule.table: place for place, rule in reversed(list(enumerate(rules)))}
    late = [table for table in machine.goal.layout.tables if places.get(table, len(rules)) < places.get(LOCAL, -1)]
    if late:
        rule = rules[places[LOCAL]]
        family = rule.family
        why = "packets to the machine's own addresses may go into the tunnel"
        steps = (RuleStep("add", rule._replace(priority=0)), RuleStep("del", rule))
        seen = f"{shown(rule)} ({family}) comes after the rule to table {late[0]}"
        yield Found("warning", seen, why, (Remedy(steps),))


def mark(machine: Machine) -> Iterator[Found]:
    """Check that packets with the VPN's mark reach the internet outside the tunnel."""
    if machine.has_no_mark:
        yield Found("ok", f"no rule keeps marked packets out of {machine.config.tunnel.interface}")
        return
    found = {each.seen: each for family in machine.families for each in _mark_problems(machine, family)}
    seen = f"packets that the VPN's client marks {machine.config.tunnel.fwmark} stay out of the tunnel"
    yield from or_ok(found.values() or _offline(machine), seen)


def _offline(machine: Machine) -> Iterator[Found]:
    """The finding if the tunnel takes all traffic, but the VPN's own packets have no route to the internet.

    One family is enough for the VPN, because many networks have only one.
    """
    mark = machine.config.tunnel.fwmark
    if machine.is_offline:
        seen = f"packets marked {mark} have no route to the internet"
        ask = machine.ip("inet", "route show table main")
        words = f"connect this machine to a network, or find out why main has no default route: `{ask}`"
        routed = [family for family in machine.families if _is_routed(machine, family)]
        if routed:
            words = f"find out which rule keeps them from main's default route: `{machine.ip(routed[0], 'rule show')}`"
        again = [_main_again(family) for family in routed if not machine.reaches_main(family)]
        yield Found("warning", seen, "the VPN's client cannot reach its servers", (*again, *advice(words)))


def _is_routed(machine: Machine, family: Family) -> bool:
    """True if main has a default route."""
    return any(route.attributes.type == "unicast" for route in machine.main(family).to(Prefix(family, 0, 0)))


def _mark_problems(machine: Machine, family: Family) -> Iterator[Found]:
    mark, misled = machine.config.tunnel.fwmark, machine.misled(family)
    decision = misled or machine.own_ways(family)[0].decision
    rule = decision.steps[-1].rule
    if machine.is_tunnelled(decision):
        why = "the VPN's own packets go into the VPN, unless the client keeps them out in another way"
        if rule.inverted and rule.mark:
            why = f"this rule keeps packets out that are marked {rule.mark}: tunnel.fwmark is probably wrong"
        seen = f"{shown(rule)} sends packets marked {mark} into the tunnel"
        yield Found("failure", seen, why, _unmarked(machine, decision))
    elif misled:
        where = "to this machine itself" if decision.outcome == "local" else f"nowhere ({decision.outcome})"
        seen = f"{shown(rule)} ({family}) sends packets marked {mark} {where}"
        words = f"decide whether rule {rule.priority} should hold for the VPN's client too"
        yield Found("failure", seen, "the VPN's client cannot reach its servers", advice(words))
    elif rule.mark and not rule.inverted and rule.mark != mark:
        seen = f"{shown(rule)} ({family}) takes packets marked {mark} too: the marks of two VPNs overlap"
        why = "packets of this VPN's client go where the other one wants its own to go"
        yield Found("warning", seen, why, advice("give one of the two VPNs another mark (here: tunnel.fwmark)"))


def _unmarked(machine: Machine, decision: Decision) -> tuple[Remedy, ...]:
    """Remedies that may keep marked packets out of the tunnel."""
    rule = decision.steps[-1].rule
    found = []
    if rule.inverted and rule.mark and not machine.config.manages:
        found.append(Remedy((Setting("tunnel", "fwmark", rule.mark),)))
    if rule.table not in machine.goal.layout.tables and decision.route:
        found.append(Remedy((RouteStep("del", rule.table, decision.route),)))
    words = "find out how this VPN keeps its own packets out of its tunnel; if by a mark, set tunnel.fwmark"
    return (*found, Remedy((RuleStep("del", rule),)), *advice(words))
