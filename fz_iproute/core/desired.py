"""What should be in the mirror table: configuration and snapshot in, a verdict on every LAN route out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fz_iproute.core.config import Config, Tables
from fz_iproute.core.model import Route, Rule, Snapshot
from fz_iproute.core.policy import Policy
from fz_iproute.core.prefix import FAMILIES, Family, Prefix, PrefixSet


class Layout(NamedTuple):
    """Which table gets the copies and which has the default route into the tunnel."""

    name: str
    mirror: int
    internet: int


def layout(tables: Tables, rules: Iterable[Rule]) -> Layout:
    """The configured layout; `auto` is tiered where a rule of either family looks up `tables.lan`."""
    name = tables.layout
    if name == "auto":
        name = "tiered" if any(rule.table == tables.lan for rule in rules) else "single"
    if name == "tiered":
        return Layout(name, mirror=tables.lan, internet=tables.internet)
    return Layout(name, mirror=tables.single, internet=tables.single)


class Verdict(NamedTuple):
    """A LAN route of main: copied if `refusal` is empty. `warning` is what its owner should know."""

    route: Route
    refusal: str
    warning: str


@dataclass(frozen=True)
class Desired:
    """What there should be beside what there is, by family, in the kernel's order."""

    layout: Layout
    verdicts: tuple[Verdict, ...]
    wanted: Mapping[Family, tuple[Route, ...]]
    ours: Mapping[Family, tuple[Route, ...]]
    others: Mapping[Family, tuple[Route, ...]]


def desired(config: Config, snapshot: Snapshot) -> Desired:
    """Apply the policy to the snapshot."""
    plane = layout(config.tables, snapshot.rules)
    policy = Policy(config.lan, snapshot.links, tunnels(config, snapshot))
    ours: dict[Family, tuple[Route, ...]] = {}
    others: dict[Family, tuple[Route, ...]] = {}
    wanted: dict[Family, tuple[Route, ...]] = {}
    verdicts: list[Verdict] = []
    for family in FAMILIES:
        existing = snapshot.mirror.get(family, ())
        ours[family] = tuple(route for route in existing if policy.owns(route))
        others[family] = tuple(route for route in existing if not policy.owns(route))
        # A tier of its own is asked after the VPN's; in a single table the longest prefix would win instead.
        claimed = _claimed(others[family], family) if plane.name == "single" else PrefixSet()
        found = [_verdict(route, policy, claimed) for route in snapshot.main.get(family, ()) if policy.concerns(route)]
        wanted[family] = tuple(verdict.route for verdict in found if not verdict.refusal)
        verdicts += found
    return Desired(plane, tuple(verdicts), wanted, ours, others)


def tunnels(config: Config, snapshot: Snapshot) -> frozenset[str]:
    """The configured interface, and whatever else the default route of the VPN's table leaves by.

    The second keeps a wrong `tunnel.interface` from turning the VPN's own routes into stale copies.
    """
    return frozenset(
        [config.tunnel.interface]
        + [
            device
            for routes in snapshot.internet.values()
            for route in routes
            if route.dst == "default" and route.attributes.type == "unicast"
            for device in route.attributes.devices
        ]
    )


def _claimed(others: Iterable[Route], family: Family) -> PrefixSet:
    return PrefixSet(Prefix.of_route(route.dst, family) for route in others if route.dst != "default")


def _verdict(route: Route, policy: Policy, claimed: PrefixSet) -> Verdict:
    if refusal := policy.refusal(route):
        return Verdict(route, refusal, refusal if route.attributes.inexpressible else "")
    if claim := claimed.covering(Prefix.of_route(route.dst, route.attributes.family)):
        return Verdict(route, f"the VPN routes {claim} explicitly", "")
    return Verdict(route, "", policy.suspicion(route))
