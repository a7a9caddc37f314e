"""Finds LANs that the VPN takes, in whole or in part, by what it routes explicitly."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from fz_iproute.diagnosis.lookup import Decision, within_link
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.simulated import rank
from fz_iproute.mirror.desired import Desired, explicit
from fz_iproute.mirror.placeholder import is_placeholder
from fz_iproute.mirror.plan import unpruned
from fz_iproute.mirror.prefix import Family, Prefix, PrefixSet


class Shadow(NamedTuple):
    """A LAN, and a prefix of the VPN that takes addresses of it; `whole` if the VPN takes all of them."""

    lan: Prefix
    tunnel: Prefix
    whole: bool


def in_step(network: Network, goal: Desired, *, prune: bool = True) -> Network:
    """The network after a `sync`: what others have, and what is wanted; without `prune`, also copies that stay."""
    tables = {table: dict(families) for table, families in network.tables.items()}
    for family, contents in goal.contents.items():
        for table, (wanted, ours, others) in contents.items():
            strays = () if prune or table != goal.layout.mirror else unpruned(wanted, ours, goal.tunnels)
            tables.setdefault(table, {})[family] = tuple(sorted((*others, *strays, *wanted), key=rank))
    rules = [rule for rule in network.rules if rule not in goal.rules.ours]
    rules = sorted((*rules, *goal.rules.wanted), key=lambda rule: rule.priority)
    return replace(network, rules=tuple(rules), tables=tables)


def other_tunnels(network: Network, goal: Desired) -> dict[str, int]:
    """The devices that may be tunnels, into which the VPN's tables lead by routes that are no copies; the tables."""
    return {
        device: table
        for contents in goal.contents.values()
        for table, here in contents.items()
        for route in here.others
        for device in filter(network.may_be_tunnel, route.attributes.devices)
    }


def shadows(network: Network, goal: Desired, family: Family) -> Iterator[Shadow]:
    """For each LAN, the explicit routes of the VPN by which packets to it enter the tunnel."""
    into_tunnel = (
        route
        for families in network.tables.values()
        for route in families.get(family, ())
        if route.attributes.type == "unicast" and not goal.tunnels.isdisjoint(route.attributes.devices)
    )
    claims = PrefixSet(explicit(into_tunnel, family) - goal.split[family])
    lans = dict.fromkeys(
        Prefix.of_route(verdict.route.dst, family)
        for verdict in goal.judged[family].verdicts
        if not verdict.refusal or verdict.explicit
    )
    for lan in lans:
        if claims.overlapping(lan) and not within_link(family, lan.address):
            ways = [way.decision for way in network.ways(lan)]
            # The addresses of this machine and of everybody belong to no host of the LAN.
            takers = [_taker(way, goal, family) for way in ways if way.outcome not in ("local", "broadcast", "anycast")]
            yield from (Shadow(lan, taker, all(takers)) for taker in dict.fromkeys(takers) if taker)


def _taker(decision: Decision, goal: Desired, family: Family) -> Prefix | None:
    """What the VPN routes explicitly, if the packet takes it."""
    route = decision.route
    if route is None or route.dst == "default" or goal.tunnels.isdisjoint(decision.devices) or is_held(decision):
        return None
    prefix = Prefix.of_route(route.dst, family)
    return None if prefix in goal.split[family] else prefix


def is_held(decision: Decision) -> bool:
    """True if a placeholder of ours keeps the packet from the LAN: the settings refuse that part of it."""
    return any(step.route is not None and is_placeholder(step.route) for step in decision.steps)
