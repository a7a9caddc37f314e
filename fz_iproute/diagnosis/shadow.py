"""Finds LANs that are shadowed: the VPN has an explicit route to all or some of their addresses."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from fz_iproute.diagnosis.lookup import Decision, within_link
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.simulated import rank
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import Desired, explicit, own_tables
from fz_iproute.mirror.model import Route, Snapshot
from fz_iproute.mirror.placeholder import is_placeholder
from fz_iproute.mirror.plan import unpruned
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix, PrefixSet
from fz_iproute.mirror.words import REFUSALS


class Shadow(NamedTuple):
    """A prefix that one of the VPN's tables routes explicitly and that takes addresses of a LAN."""

    lan: Prefix
    tunnel: Prefix  # the prefix of the VPN
    whole: bool  # the VPN takes all addresses of the LAN, by this prefix and perhaps others
    refused: bool = False  # its packets are refused (unreachable, blackhole, prohibit) and do not enter the tunnel


def in_step(network: Network, goal: Desired, *, prune: bool) -> Network:
    """The network after a `sync`. Without `prune`, stale copies remain."""
    tables = {table: dict(families) for table, families in network.tables.items()}
    for family, contents in goal.contents.items():
        for table, (wanted, ours, others) in contents.items():
            strays = () if prune or table != goal.layout.mirror else unpruned(wanted, ours, goal.tunnels)
            tables.setdefault(table, {})[family] = tuple(sorted((*others, *strays, *wanted), key=rank))
    rules = [rule for rule in network.rules if rule not in goal.rules.ours]
    rules = sorted((*rules, *goal.rules.wanted), key=lambda rule: rule.priority)
    return replace(network, rules=tuple(rules), tables=tables)


def as_read(config: Config, snapshot: Snapshot, network: Network) -> Snapshot:
    """The snapshot with the tables of the network that the planner would read with this configuration."""
    tables = {
        table: {family: network.table(table, family) for family in FAMILIES}
        for table in own_tables(config, network.rules)
    }
    return replace(snapshot, tables=tables)


def other_tunnels(network: Network, goal: Desired) -> dict[str, int]:
    """The devices that may be tunnels, to which other programs have made routes in the VPN's tables; and the table."""
    return {
        device: table
        for contents in goal.contents.values()
        for table, here in contents.items()
        for route in here.others
        for device in filter(network.may_be_tunnel, route.attributes.devices)
    }


def shadows(network: Network, goal: Desired, family: Family) -> Iterator[Shadow]:
    """Find the shadows of every LAN."""
    into_tunnel = (
        route
        for families in network.tables.values()
        for route in families.get(family, ())
        if route.attributes.type == "unicast" and goal.is_by_tunnel(route.attributes.devices)
    )
    refusing = [route for table in goal.layout.tables for route in network.table(table, family) if is_refusal(route)]
    claims = PrefixSet(explicit((*into_tunnel, *refusing)) - goal.split[family])
    lans = dict.fromkeys(verdict.route.prefix for verdict in goal.judged[family].verdicts if verdict.is_accepted)
    for lan in lans:
        if claims.overlapping(lan) and not within_link(family, lan.address):
            decisions = [way.decision for way in network.ways_to_hosts(lan)]
            takers = [taker(decision, goal) for decision in decisions]
            yield from (Shadow(lan, each, all(takers)) for each in dict.fromkeys(takers) if each)
            routes = (each.route for each in decisions if each.table in goal.layout.tables)
            parts = dict.fromkeys(route.prefix for route in routes if route and is_refusal(route))
            yield from (
                Shadow(lan, part, whole=False, refused=True) for part in parts if part != lan and lan.covers(part)
            )


def is_refusal(route: Route) -> bool:
    """True if the route refuses packets, and is not a default route."""
    return route.dst != "default" and route.attributes.type in REFUSALS.values()


def taker(decision: Decision, goal: Desired) -> Prefix | None:
    """The prefix of the explicit route by which the packet enters the tunnel; None if it does not, or by another."""
    route = decision.route
    if route is None or route.dst == "default" or not goal.is_by_tunnel(decision.devices) or is_held(decision):
        return None
    return None if route.prefix in goal.split[route.attributes.family] else route.prefix


def is_held(decision: Decision) -> bool:
    """True if a placeholder of fz-iproute keeps the packet in the tunnel, because the policy refuses that LAN route."""
    return any(step.route is not None and is_placeholder(step.route) for step in decision.steps)
