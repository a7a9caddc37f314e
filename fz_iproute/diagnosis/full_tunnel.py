"""Finds the rules and routes that lead all traffic into a tunnel, without knowing the names or numbers of the VPN."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fz_iproute.diagnosis.lookup import Decision, usual
from fz_iproute.diagnosis.products import Form
from fz_iproute.diagnosis.reach import Network, Way, size
from fz_iproute.mirror.model import Mark, Route, Rule
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import KERNEL_TABLES, MAIN, MODEMS


def to_internet(network: Network, family: Family, mark: int = 0) -> Decision | None:
    """The decision about most packets that this machine sends to the internet. None if no majority shares one."""
    ways = network.internet(usual(family, mark=mark))
    groups: dict[object, list[Way]] = defaultdict(list)
    for way in ways:
        groups[way.decision.outcome, way.decision.devices].append(way)
    largest = max(groups.values(), key=size, default=[])
    return largest[0].decision if 2 * size(largest) > size(ways) else None


def forms(network: Network, family: Family) -> Iterator[Form]:
    """The VPNs that take all traffic of the family, or would do so if no rule came first. In the order of the rules."""
    decision = to_internet(network, family)
    if decision is None:
        return
    if network.gets_out(decision) and not network.may_be_tunnelled(decision):
        yield from _policies(network, family, decision)
        return
    rules = [rule for rule in network.rules if rule.family == family]
    for place, rule in enumerate(rules):
        route = _into_tunnel(network, rule)
        device = next(filter(network.may_be_tunnel, route.attributes.devices), "") if route else ""
        if route and not is_uplink(network, device):
            before = rules[:place]
            yield Form(device, _mark_past(network, rule, before), rule, route, tuple(before))


def _into_tunnel(network: Network, rule: Rule) -> Route | None:
    """The route into a tunnel that most packets to the internet would take if this were the only rule."""
    devices = network.table(rule.table, rule.family).devices
    if rule.action != "lookup" or not network.may_be_by_tunnel(devices):
        return None
    decision = to_internet(_alone(network, rule), rule.family)
    return decision.route if decision and network.may_be_tunnelled(decision) else None


def _alone(network: Network, rule: Rule) -> Network:
    return replace(network, rules=(rule,), tables={rule.table: network.tables.get(rule.table, {})})


def is_uplink(network: Network, device: str) -> bool:
    """True if the device is a modem and no tunnel.

    A modem has a default route in main. A tunnel may have one, too, but then the packets of the VPN itself must take
    another route: a host route to its server, another default route, or the one that a rule for marked packets finds.
    """
    main = [route for family in FAMILIES for route in network.tables.get(MAIN, {}).get(family, ())]
    if not any(route.dst == "default" and device in route.attributes.devices for route in main):
        return False
    routed = (route for route in main if route.attributes.gatewayed)
    others = [route for route in routed if not network.may_be_by_tunnel(route.attributes.devices)]
    if any("/" not in route.dst and route.dst != "default" for route in others):
        return False  # a host route to the VPN's server
    if any(route.dst == "default" for route in others):
        return device.startswith(MODEMS)
    marks = {(rule.family, rule.mark) for rule in network.rules if rule.mark and not rule.inverted}
    return not any(_leaves(network, family, mark) for family, mark in marks)


def _leaves(network: Network, family: Family, mark: Mark) -> bool:
    """True if packets with this mark reach the internet outside any tunnel."""
    decision = to_internet(network, family, mark.value)
    return decision is not None and network.gets_out(decision)


def _mark_past(network: Network, rule: Rule, before: Sequence[Rule]) -> Mark | None:
    """The mark of packets that stay out of the tunnel, by this rule or by one before it."""
    if rule.mark and rule.inverted:
        return rule.mark
    marks = dict.fromkeys(each.mark for each in before if each.mark and not each.inverted)
    return next((mark for mark in marks if _leaves(network, rule.family, mark)), None)


def _policies(network: Network, family: Family, decision: Decision) -> Iterator[Form]:
    """A VPN without a tunnel device, whose packets are selected by IPsec policies.

    It shows by a default route that leaves by the same device as main's, but with another source address.
    """
    rule, route = decision.steps[-1].rule, decision.route
    if route is None or decision.table in KERNEL_TABLES or not route.attributes.source:
        return
    by_main = to_internet(_alone(network, Rule(family, 0, "lookup", MAIN)), family)
    connected = {other.attributes.source for other in network.table(MAIN, family) if other.attributes.on_link}
    if by_main and by_main.devices == decision.devices and route.attributes.source not in connected:
        before = tuple(step.rule for step in decision.steps[:-1])
        yield Form(decision.devices[0], _mark_past(network, rule, before), rule, route, before, has_device=False)
