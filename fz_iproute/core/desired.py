"""What should be in the mirror table: configuration and snapshot in, a verdict on every LAN route out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fz_iproute.core.config import Config, Tables
from fz_iproute.core.model import Route, Rule, Snapshot
from fz_iproute.core.policy import Policy, Verdict
from fz_iproute.core.prefix import FAMILIES, Family, Prefix, PrefixSet


def mirror_tables(tables: Tables) -> frozenset[int]:
    """Which tables may get the copies: both candidates, where it depends on the rules."""
    return frozenset(
        {"single": [tables.single], "tiered": [tables.lan], "auto": [tables.single, tables.lan]}[tables.layout]
    )


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


class Judged(NamedTuple):
    """The verdicts on main, and all that they rest on: the same grounds give the same verdicts."""

    main: tuple[Route, ...]
    grounds: tuple[object, ...]
    verdicts: list[Verdict]
    wanted: tuple[Route, ...]


@dataclass(frozen=True)
class Desired:
    """What there should be beside what there is, by family, in the kernel's order."""

    layout: Layout
    judged: Mapping[Family, Judged]
    ours: Mapping[Family, tuple[Route, ...]]
    others: Mapping[Family, tuple[Route, ...]]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Those of both families."""
        return tuple(verdict for judged in self.judged.values() for verdict in judged.verdicts)


def desired(config: Config, snapshot: Snapshot, last: Desired | None = None) -> Desired:
    """Apply the policy to the snapshot. `last`, of the same configuration, saves judging an unchanged main again."""
    plane = layout(config.tables, snapshot.rules)
    carriers = tunnels(config, snapshot)
    policy = Policy(config.lan, snapshot.links, carriers)
    judged: dict[Family, Judged] = {}
    ours: dict[Family, tuple[Route, ...]] = {}
    others: dict[Family, tuple[Route, ...]] = {}
    for family in FAMILIES:
        main, existing = snapshot.main.get(family, ()), snapshot.mirror.get(family, ())
        ours[family], others[family] = policy.parted(existing)
        # A tier of its own is asked after the VPN's; in a single table the longest prefix would win instead.
        claimed = _claimed(others[family], family) if plane.name == "single" else frozenset()
        grounds = (snapshot.links, carriers, claimed)
        if last and main is last.judged[family].main and grounds == last.judged[family].grounds:
            judged[family] = last.judged[family]
        else:
            verdicts = policy.verdicts(main, PrefixSet(claimed))
            wanted = tuple(verdict.route for verdict in verdicts if not verdict.refusal)
            judged[family] = Judged(main, grounds, verdicts, wanted)
    return Desired(plane, judged, ours, others)


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


def _claimed(others: Iterable[Route], family: Family) -> frozenset[Prefix]:
    return frozenset(Prefix.of_route(route.dst, family) for route in others if route.dst != "default")
