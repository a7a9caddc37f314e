"""Checks for packets that bypass the tunnel, and for packets to this machine that rp_filter drops."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from fz_iproute.diagnosis.checks.cures import rule_in_front, ways_past
from fz_iproute.diagnosis.checks.finding import Found, Level, or_ok
from fz_iproute.diagnosis.internet import becomes, is_large, joined
from fz_iproute.diagnosis.internet import leak as around
from fz_iproute.diagnosis.lans import decided_by
from fz_iproute.diagnosis.lookup import Decision, matching, usual
from fz_iproute.diagnosis.machine import Machine
from fz_iproute.diagnosis.reach import Way, size
from fz_iproute.diagnosis.received import in_force
from fz_iproute.diagnosis.remedy import Remedy, Setting, Sync, Sysctl, advice, perhaps_synced
from fz_iproute.diagnosis.short_rules import short_rules
from fz_iproute.diagnosis.simulated import RouteStep, RuleStep
from fz_iproute.mirror.desired import explicit
from fz_iproute.mirror.model import Route, Rule
from fz_iproute.mirror.prefix import BITS, FAMILY_NAMES, Family, Prefix, PrefixSet
from fz_iproute.mirror.split_default import INTERNET
from fz_iproute.mirror.tunnel import BACKSTOP_METRIC, link_state
from fz_iproute.mirror.words import some


def leak(machine: Machine) -> Iterator[Found]:
    """Check that no packets that the VPN should carry get around the tunnel."""
    found = [
        each for family in machine.families for each in (*_around(machine, family), *_selected_around(machine, family))
    ]
    for other in sorted({form.interface for form in machine.forms} - machine.goal.tunnels):
        if said := around(machine.network, other):
            remedies = advice(_in_settings(other))
            found.append(Found("warning", f"{other}: {said}", "the network sees this traffic", remedies))
    for family, each in machine.internet.items():
        is_by_vpn = each.decision and each.decision.table in machine.goal.layout.tables
        if each.decision and each.state == "blocked" and is_by_vpn and not machine.config.manages:
            seen = f"{FAMILY_NAMES[family]} to the internet is refused: {decided_by([each.decision])}"
            found.append(Found("info", seen, "no host there can be reached"))
    seen = "no packets to the internet get around the tunnel"
    if not any(map(machine.has_internet, machine.families)):
        ways = {family: each for family, each in machine.internet.items() if each.decision}
        said = joined({family: each.words(machine.network) for family, each in ways.items()})
        seen = f"packets to the internet do not enter {machine.config.tunnel.interface}"
        seen = ": ".join(filter(None, [seen, said]))
        tunnel, is_up = machine.config.tunnel, link_state(machine.config, machine.snapshot) == "up"
        if machine.config.manages and is_up and not tunnel.internet and machine.outside(*machine.families):
            steps = Setting("tunnel", "internet", True), Sync()
            remedy = Remedy(steps, effect=f"if {tunnel.interface} should carry them")
            found.append(Found("info", seen, "tunnel.internet is false", (remedy,)))
    yield from or_ok(found, seen)


class _Group(NamedTuple):
    """Why packets get around the tunnel."""

    rule: Rule  # the one to blame
    is_in_front: bool  # it comes before the VPN's rules
    source: int  # 0: from all


def _around(machine: Machine, family: Family) -> Iterator[Found]:
    """What gets around the tunnel of all that the VPN should carry, by the rule, and by the source that rules name."""
    groups: dict[_Group, list[Way]] = defaultdict(list)
    for group, way in _ways_around(machine, family):
        if not group.source or group._replace(source=0) not in groups:
            groups[group].append(way)
    narrower = explicit(route for table in machine.goal.layout.tables for route in machine.tunnel_routes(table, family))
    claims = PrefixSet(narrower - machine.goal.split[family])
    for group, ways in groups.items():
        rule, is_in_front, source = group
        parts, decisions = [way.part for way in ways], [way.decision for way in ways]
        chosen = PrefixSet(part.prefix for part in parts)
        outer = [way for way in ways if chosen.covering(way.part.prefix) == way.part.prefix]
        is_all = machine.internet[family].decision in decisions and not source
        is_explicit = any(claims.overlapping(part.prefix) for part in parts)
        is_whole = any(part.prefix in narrower for part in parts) and not (source or rule.dst or rule.mark or rule.src)
        has_many = is_large(ways, machine.ways_to_internet(family))
        level: Level = "warning" if is_in_front or has_many else "info"
        why, remedies = "the kernel asks this rule before the VPN's", ways_past(machine, rule)
        if is_all or is_whole:
            level = "failure" if is_in_front or not machine.config.allows_leak else "info"
        elif is_in_front and not is_explicit and machine.is_of_another_vpn(rule):
            level, why, remedies = "info", "that VPN has routes for these hosts, and its rule comes first", ()
        if not is_in_front:
            why = "hosts there see this machine's own address, and the network sees the traffic"
            remedies = _without(machine, family, decisions) if has_many else ()
            if is_all:
                short = short_rules(machine, family)
                why, remedies = "; ".join((*short, why)), tuple(_leak_remedies(machine, family, is_known=bool(short)))
        whose = f" from {rule.src or Prefix.of_host(family, source)}" if source else ""
        internet = "the internet" if is_all or source else "the rest of the internet"
        names = (internet if part.prefix == INTERNET[family] else str(part.prefix) for part, _ in outer)
        to = some(names, is_sample=any(part.is_sample for part, _ in outer))
        seen = f"{FAMILY_NAMES[family]}{whose} to {to} {_becomes(machine, outer[0].decision)}"
        yield Found(level, f"{seen}: {decided_by(way.decision for way in outer)}", why, remedies)


def _becomes(machine: Machine, decision: Decision) -> str:
    outside = ", outside the tunnel" if machine.gets_out(decision) else ""
    return f"{becomes(machine.network, decision, machine.goal.tunnels)}{outside}"


def _ways_around(machine: Machine, family: Family) -> Iterator[tuple[_Group, Way]]:
    leading, layout = machine.leading(family), machine.goal.layout
    wanted = {*machine.goal.judged[family].wanted, *(each.copy for each in machine.lost_routes)}
    lans = PrefixSet(machine.accepted(family))  # the check `shadows` is about them
    claims = [(table, prefix) for table, prefix in machine.tunnel_prefixes(family) if table in leading]
    if machine.is_claimed(family) or any(map(machine.has_internet, machine.families)):
        whole = INTERNET[family]
        claims = [each for each in claims if not (each[1].covers(whole) or whole.covers(each[1]))]
        claims.append((layout.internet, whole))
    for source in machine.sources(family):
        for table, prefix in claims:
            for way in machine.ways(prefix, src=source):
                part, decision = way
                # By a rule or a route for this one host, a VPN without a mark reaches its server.
                is_server = machine.has_no_mark and part.prefix.length == BITS[family]
                if is_server or decision.route in wanted or lans.covers(part.prefix):
                    continue
                rule = rule_in_front(machine, decision, leading[table]) if table in leading else None
                if machine.is_around_tunnel(way) and (rule or machine.gets_out(decision)):
                    yield _Group(rule or decision.steps[-1].rule, bool(rule), source), way


def _without(machine: Machine, family: Family, decisions: Sequence[Decision]) -> tuple[Remedy, ...]:
    """Delete those of the deciding routes that are in the VPN's tables. Perhaps a route is missing there."""
    routes = dict.fromkeys((each.table, each.route) for each in decisions if each.route)
    own = tuple(RouteStep("del", table, route) for table, route in routes if table in machine.goal.layout.tables)
    passed = {step.rule.table for each in decisions for step in each.steps if step.result == "no route"}
    empty = [table for table in machine.goal.layout.tables if table in passed]
    ask = machine.ip(family, f"route show table {empty[-1]}" if empty else "rule show")
    why = f"why table {empty[-1]} has no route to them" if empty else "who has made it"
    words = f"if you do not want that, find out {why}: `{ask}`"
    return (*([Remedy(own)] if own else []), *advice(words))


def _selected_around(machine: Machine, family: Family) -> Iterator[Found]:
    """Rules that send only some packets around the tunnel: those of a port or a user. Perhaps that is intended."""
    for rule in (rule for rule in machine.snapshot.rules if rule.family == family and not rule.dst):
        like = matching(rule)
        if like is None or like == usual(family) or not machine.has_internet(family):
            continue
        ways = machine.network.internet(like)
        around = [way for way in ways if machine.gets_out(way.decision) and way.decision.steps[-1].rule == rule]
        if 2 * size(around) > size(ways):
            decision = around[0].decision
            seen = (
                f"some {FAMILY_NAMES[family]} to the internet {_becomes(machine, decision)}: {decided_by([decision])}"
            )
            yield Found("info", seen, "the kernel asks this rule before the VPN's")


def _in_settings(interface: str) -> str:
    return f"let {interface} carry all traffic, or block the rest, in the settings of this VPN"


def _leak_remedies(machine: Machine, family: Family, *, is_known: bool) -> Iterator[Remedy]:
    """What to do about all packets of a family that get around the tunnel. `is_known`: it was said which rule it is."""
    name, table = FAMILY_NAMES[family], machine.goal.layout.internet
    if machine.config.manages:
        block = (Setting("tunnel", "internet_leak", "block"),) if machine.config.allows_leak else ()
        yield Remedy((*block, Sync()))
        return
    led: list[RuleStep] = []
    if table not in machine.leading(family):
        rule = machine.own_rule(family, table)
        if rule is None:
            yield from advice(_in_settings(machine.config.tunnel.interface))
            return
        led = [RuleStep("add", rule)]
    for effect, default in _defaults(machine, family, table):
        steps: list[RouteStep | RuleStep] = [*(RouteStep("add", table, route) for route in default), *led]
        for remedy in perhaps_synced(steps) if steps else ():
            yield remedy._replace(effect=effect)
    if is_known:
        yield from advice(_in_settings(machine.config.tunnel.interface))
        return
    asked = " and ".join(f"`{machine.ip(family, what)}`" for what in ("rule show", f"route show table {table}"))
    yield from advice(f"find out why {name} does not go into the tunnel: {asked}")


def _defaults(machine: Machine, family: Family, table: int) -> Iterator[tuple[str, list[Route]]]:
    """Which default route to add to the VPN's table, and what it does, the better one first."""
    name = FAMILY_NAMES[family]
    if any(route.dst == "default" for route in machine.network.table(table, family)):
        yield "", []
        return
    for device in sorted(machine.network.numbered(family) & machine.goal.tunnels):
        if (link := machine.snapshot.links[device]).word:
            yield f"sends {name} into the tunnel", [Route.make(family, "default", link)]
    yield f"blocks {name} to the internet", [Route.make(family, "default", None, metric=BACKSTOP_METRIC)]


def rp_filter(machine: Machine) -> Iterator[Found]:
    """Check that strict rp_filter drops no packets that the VPN's client or a LAN sends to this machine.

    Strict rp_filter drops a packet if the answer to its source would leave by another interface.
    """
    if not any(name.endswith("/rp_filter") for name in machine.recording.sysctls):
        yield Found("info", "could not look: the sysctls cannot be read")
        return
    uplinks = _cut_off_uplinks(machine)
    found = [*_cut_off_client(machine, uplinks), *_cut_off_lans(machine, uplinks)]
    yield from or_ok(found, "no strict rp_filter cuts off the VPN's client or a LAN")


def _cut_off_uplinks(machine: Machine) -> set[str]:
    """The interfaces that drop packets to the VPN's client.

    The client sends by them, they have strict rp_filter, and unmarked packets to the same hosts enter the tunnel.
    """
    if not machine.has_internet("inet"):
        return set()
    return {
        device
        for way in machine.own_ways("inet")
        for device in set(way.decision.devices) - machine.goal.tunnels
        if _is_strict(machine, device) and _is_answered_by_tunnel(machine, way.part.address, way.decision.route)
    }


def _is_answered_by_tunnel(machine: Machine, host: int, route: Route | None) -> bool:
    """True if this machine would send its answer to a packet from this host into the tunnel.

    Rules may select by the source of the answer, which is the address that `route` gives to packets to the host.
    """
    shapes = [route.attributes] if route else []
    router = route.attributes.value("via") if route else ""
    if router and ":" not in router:
        on_link = machine.main("inet").covering(Prefix.of_route(router, "inet"))
        shapes += [other.attributes for routes in on_link for other in routes]
    source = next((shape.source for shape in shapes if shape.source), 0)
    return machine.is_tunnelled(machine.way("inet", host, src=source))


def _cut_off_client(machine: Machine, uplinks: Collection[str]) -> Iterator[Found]:
    for device in sorted(uplinks):
        seen = f"{device}, by which the VPN's client sends, has strict rp_filter"
        level: Level = "failure"
        why = "it drops the answers of the VPN's servers: unmarked packets to them would go into the tunnel"
        if in_force(machine.recording.sysctls, device, "src_valid_mark"):
            level = "warning"
            why = "src_valid_mark = 1 helps only if a firewall restores the mark of packets that arrive"
        yield Found(level, seen, why, _loosened(device))


def _cut_off_lans(machine: Machine, uplinks: Collection[str]) -> Iterator[Found]:
    lost: dict[str, list[str]] = defaultdict(list)
    others = machine.goal.tunnels.union(uplinks)
    for route in machine.main("inet"):
        for device in route.attributes.devices if route.attributes.on_link else ():
            if device not in others and _is_strict(machine, device):
                # The largest part stands for the hosts of the LAN; smaller parts may be this machine's own address.
                largest = max(machine.ways(route.prefix), key=lambda way: way.part.size)
                if _is_answered_by_tunnel(machine, largest.part.address, route):
                    lost[device].append(route.dst)
    for device, destinations in lost.items():
        why = "the answers to hosts there go into the tunnel, so the kernel drops what these hosts send"
        seen = f"{device} has strict rp_filter, and {some(destinations)} is not copied"
        yield Found("warning", seen, why, _loosened(device))


def _is_strict(machine: Machine, device: str) -> bool:
    return in_force(machine.recording.sysctls, device, "rp_filter") == 1


def _loosened(device: str) -> tuple[Remedy, ...]:
    # To set it for the device is enough: of this value and that of `all`, the larger one counts.
    return (Remedy((Sysctl(f"ipv4/conf/{device}/rp_filter", "2"),), effect="until the next boot"),)
