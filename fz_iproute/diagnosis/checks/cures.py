"""What may mend a wrong decision about packets: rules to add, to move or to delete, routes to delete, and settings."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain

from fz_iproute.diagnosis.detect import differences
from fz_iproute.diagnosis.lans import Fate, Lan, Loss, fates
from fz_iproute.diagnosis.lookup import Decision
from fz_iproute.diagnosis.machine import Machine, shown
from fz_iproute.diagnosis.remedy import (
    Remedy,
    Setting,
    Step,
    Sync,
    added,
    advice,
    in_force,
    perhaps_synced,
    written,
)
from fz_iproute.diagnosis.simulated import RouteStep, RuleStep, after
from fz_iproute.mirror.model import Rule
from fz_iproute.mirror.prefix import PRIVATE, Family, Prefix, PrefixSet
from fz_iproute.mirror.words import DEFAULT, LOCAL, MAIN, REFUSALS, some, table_name


def rule_in_front(machine: Machine, decision: Decision, rules: Collection[Rule]) -> Rule | None:
    """The rule of another program that decides before the kernel reaches any of these rules; None if there is none."""
    if not decision.steps or any(step.rule in rules for step in decision.steps):
        return None
    jump = next((step.rule for step in decision.steps if step.result == "goto"), None)
    rule = jump or decision.steps[-1].rule
    # Table local should come first, and another table of the VPN may come first.
    return None if rule.table in (LOCAL, *machine.goal.layout.tables) else rule


def ways_past(machine: Machine, rule: Rule) -> tuple[Remedy, ...]:
    """Remedies for a rule that comes before the VPN's rules: delete it, or move the VPN's rules before it.

    A rule that selects by source may send the answers to connections from outside. It stays, behind one for the LAN.
    """
    words = f"decide which of the two should win; `ip rule` shows both, {shown(rule)} comes first"
    if machine.is_of_another_vpn(rule):
        words = f"decide which VPN should carry these packets: rule {rule.priority} belongs to another one"
        for vpn in (vpn for vpn in machine.vpns if vpn.table == rule.table):
            shows = f"{machine.shows(vpn)} shows the configuration that keeps its LAN"
            words += f"; {shows if vpn.config else f'{vpn.interface}: {vpn.why}'}"
        return advice(words)
    if rule.src and not rule.inverted:
        near = Rule(rule.family, rule.priority - 1, "lookup", MAIN, src=rule.src, options=_NO_DEFAULT, protocol="boot")
        gone = Remedy((RuleStep("del", rule),)).command(machine)
        words = f"keep rule {rule.priority} if hosts outside connect to this one: their answers need it; else `{gone}`"
        return (*(perhaps_synced([RuleStep("add", near)]) if rule.priority else ()), *advice(words))
    first = [same[0] for same in machine.leading(rule.family).values()]
    late = [each for each in first if each.priority >= rule.priority]
    moves: list[Step] = []
    for number, each in enumerate(late):
        priority = rule.priority - len(late) + number
        if priority > 0:
            moves += [RuleStep("add", each._replace(priority=priority)), RuleStep("del", each)]
    is_kernels = (rule.priority, rule.table) in ((32766, MAIN), (32767, DEFAULT))
    changes: list[list[Step]] = [] if is_kernels else [[RuleStep("del", rule)]]
    changes += [moves] if moves else []
    return (*perhaps_synced(*changes), *advice(words))


# What main has, except for its default route.
_NO_DEFAULT = (("suppress_prefixlen", "0"),)


def additions(machine: Machine, family: Family, table: int) -> tuple[Remedy, ...]:
    """Add the missing rule to one of the VPN's tables: with its usual priority, or else before all other rules."""
    if machine.config.manages:
        return (Remedy((Sync(),)),)
    rule = machine.own_rule(family, table)
    if rule is None:
        return advice("reconnect the VPN's client, which adds its rules")
    in_front = [each.priority for each in machine.network.rules if each.family == family and each.priority]
    priorities = [rule.priority, *([min(in_front) - 1] if in_front else [])]
    return perhaps_synced(*([RuleStep("add", rule._replace(priority=each))] for each in priorities if each > 0))


def removals(machine: Machine, lans: Sequence[Lan], parts: Iterable[Prefix]) -> tuple[RouteStep | RuleStep, ...]:
    """The deletion of each rule and route that only refuses packets to these parts of LANs, or diverts them.

    What another one would do after the first is gone, the model of the kernel tells.
    """
    steps: list[RouteStep | RuleStep] = []
    network, chosen = machine.then, PrefixSet(parts)
    while len(steps) < _MOST:
        found = (fate for lan in lans for fate in fates(network, lan.routes))
        missed = [fate for fate in found if fate.lost and chosen.covers(fate.part.prefix)]
        if not (possible := [step for fate in missed if (step := _removal(machine, fate))]):
            break
        step = possible[0]
        steps.append(step)
        network = after(network, [step])
    return tuple(steps)


_MOST = 6  # a person should look at more of them first


def _removal(machine: Machine, fate: Fate) -> RouteStep | RuleStep | None:
    decision = fate.decision
    if not decision.steps:
        return None
    rule, route = decision.steps[-1].rule, decision.route
    if rule.table not in machine.goal.layout.tables and (rule.dst or rule.action in REFUSALS.values()):
        return RuleStep("del", rule)
    is_refusal = route and route.dst != "default" and route.attributes.type in REFUSALS.values()
    tables = machine.goal.contents[rule.family].values()
    if not route or not is_refusal or any(route in (*found.ours, *found.wanted) for found in tables):
        return None
    return RouteStep("del", decision.table, route)


def of_loss(machine: Machine, loss: Loss) -> Iterator[Remedy]:
    """What may bring back the LANs of this loss, the most likely first; at last, what to do in words."""
    leading, mirror = machine.leading(loss.family), machine.goal.layout.mirror
    if machine.config.manages or (leading and mirror not in leading):
        yield from additions(machine, loss.family, mirror)
    if removed := removals(machine, loss.lans, loss.prefixes):
        yield from (Remedy(removed), Remedy((*removed, Sync())))
    decision, route = loss.decision, loss.decision.route
    if leading and (rule := rule_in_front(machine, decision, [*chain.from_iterable(leading.values())])):
        yield from ways_past(machine, rule)
        return
    is_tunnelled = machine.is_tunnelled(decision)
    lans = [lan.prefix for lan in loss.lans]
    if is_tunnelled and route and route.dst != "default" and route.prefix not in machine.goal.split[loss.family]:
        yield from as_default(machine)
        deny = in_force(machine, added(machine, "deny", *lans))
        claimed = machine.goal.by_family[loss.family].claimed
        is_all = all(claimed.covers(each) for each in PRIVATE if each.family == loss.family)
        yield from advice(f"{'' if is_all else 'renumber the LAN, or, '}if you don't need it, {deny}")
    elif inexpressible := [lan.routes[0] for lan in loss.lans if lan.routes[0].attributes.inexpressible]:
        why = some(each.attributes.inexpressible for each in inexpressible)
        which = some(each.dst for each in inexpressible)
        yield from advice(f"replace the route of {which} in main by one that can be copied: {why}")
    elif is_tunnelled:
        yield from settings(machine, decision.table)
        yield from advice(f"find out which table the VPN's rules lead to, {decision.table} or {mirror}")
    else:
        table = f"route show table {table_name(decision.table)}" if route else "rule show"
        by = decision.table, decision.devices
        for vpn in machine.vpns:
            if vpn.config and by == (vpn.table, (vpn.interface,)):
                yield from advice(f"make a configuration for {vpn.interface} as {machine.shows(vpn)} shows")
        taps = [vpn for vpn in machine.taps if by == (vpn.table, (vpn.interface,))]
        shown = [f"if {vpn.interface} is the tap of a VPN, see {machine.shows(vpn)}; else " for vpn in taps]
        yield from advice(f"{''.join(shown)}find out who has made that: `{machine.ip(loss.family, table)}`")


def as_default(machine: Machine) -> tuple[Remedy, ...]:
    """Take the VPN's widest routes for parts of its default route, so that LANs inside them are copied."""
    step = Setting("tunnel", "split_default", "auto")
    return (Remedy((step, Sync())),) if machine.config.tunnel.split_default != step.value else ()


def settings(machine: Machine, table: int) -> Iterator[Remedy]:
    """Configurations by which the copies may get into the table that takes the packets, or before it."""
    takers = [(vpn, vpn.config) for vpn in machine.vpns if vpn.config and vpn.table == table]
    for vpn, _ in takers:
        yield from (Remedy((step, Sync())) for step in written(machine, vpn))
    layouts = [name for name in ("auto", "single") if name != machine.config.tables.layout]
    changes = [[Setting("tables", "layout", name)] for name in layouts]
    changes += [[Setting(*key) for key in differences(machine.config, config)] for _, config in takers]
    yield from (Remedy((*change, Sync())) for change in changes if change)
