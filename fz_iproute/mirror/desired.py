"""What should be in the VPN's tables: configuration and snapshot in, a verdict on every LAN route out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from fz_iproute.mirror import tunnel
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Route, Rule, Snapshot
from fz_iproute.mirror.policy import Policy, Verdict
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix, PrefixSet
from fz_iproute.mirror.tunnel import Layout
from fz_iproute.mirror.words import KERNEL_TABLES


def layout(config: Config, rules: Sequence[Rule]) -> Layout:
    """The layout to bring about: the configured one, or a detour that must come before it."""
    plane = _configured(config, rules)
    return _detour(config, plane, own_rules(config, rules), rules) or plane if config.manages else plane


def _configured(config: Config, rules: Iterable[Rule]) -> Layout:
    """The configured layout; `auto` is tiered where a rule of either family looks up `tables.lan`.

    In manage mode that must be a rule with our mark: another tunnel's layout is not ours.
    """
    tables = config.tables
    name = tables.layout
    if name == "auto":
        tiered = any(
            rule.table == tables.lan and (rule.mark == config.tunnel.fwmark or not config.manages) for rule in rules
        )
        name = "tiered" if tiered else "single"
    if name == "tiered":
        return Layout(name, tables.user, tables.lan, tables.internet, config.rules.tiered)
    return Layout(name, tables.single, tables.single, tables.single, (config.rules.single,))


def _detour(config: Config, plane: Layout, ours: Sequence[Rule], rules: Sequence[Rule]) -> Layout | None:
    """Where a table is to play another part than it does, everything moves into a spare table in front first.

    It could not be filled for the one part without being wrong for the other. The next pass moves on from there.
    """
    spare = _spare_table(config, ours, rules)
    wanted = dict(zip(plane.tables, plane.priorities, strict=True))
    for family in FAMILIES:
        leading = [rule for rule in ours if rule.family == family and rule.table != spare]
        settled = {rule.table for rule in leading if rule.priority == wanted.get(rule.table)}
        parts = enumerate(dict.fromkeys(rule.table for rule in leading))
        if any(plane.tables.index(t) != part for part, t in parts if t in wanted and t not in settled):
            known = [rule.priority for rule in ours if rule.table == spare]
            priority = min(known or [rule.priority - 1 for rule in ours])
            return Layout("single", spare, spare, spare, (priority,)) if priority > 0 else None
    return None


def _spare_table(config: Config, ours: Sequence[Rule], rules: Sequence[Rule]) -> int:
    """The first table from `_SPARES` on that nobody looks up, or that our own first rule does already."""
    first = {family: next((rule.table for rule in ours if rule.family == family), 0) for family in FAMILIES}
    return next(
        number
        for number in range(_SPARES, 2**31)
        if number not in config.tables.ids
        and all(rule in ours and first[rule.family] == number for rule in rules if rule.table == number)
    )


_SPARES = 0x20FFFF00  # by its number, a table of a detour is known again


def own_rules(config: Config, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Those that manage mode has put in place, now or with another configuration."""
    if not config.manages:
        return ()
    tables = _configured(config, rules).tables
    found = [rule for rule in rules if tunnel.is_own_rule(rule, config.tunnel.fwmark, tables)]
    # A mark that leads to a table of ours has been ours: where the layout has changed with it, it leads to others too.
    former = {rule.mark for rule in found if rule.mark and rule.mark != config.tunnel.fwmark}
    return tuple(
        rule
        for rule in rules
        if rule in found
        or (rule.protocol == "kernel" and any(tunnel.is_own_rule(rule, mark, tables) for mark in former))
    )


def own_tables(config: Config, rules: Sequence[Rule]) -> tuple[int, ...]:
    """The tables that may hold something of ours: those of the layout, and those that rules of ours still lead to.

    Only to these is anything written. Whatever else may go wrong, the kernel's own are never among them.
    """
    former = (rule.table for rule in own_rules(config, rules))
    found = dict.fromkeys((*_configured(config, rules).tables, *layout(config, rules).tables, *former))
    return tuple(table for table in found if table not in KERNEL_TABLES)


class Judged(NamedTuple):
    """The verdicts on main, and all that they rest on: the same grounds give the same verdicts."""

    main: tuple[Route, ...]
    grounds: tuple[object, ...]
    verdicts: list[Verdict]
    wanted: tuple[Route, ...]


class Contents(NamedTuple):
    """Of one table and family, in the kernel's order: what should be there, what of it is ours, and the rest."""

    wanted: tuple[Route, ...]
    ours: tuple[Route, ...]
    others: tuple[Route, ...]


@dataclass(frozen=True)
class Rules:
    """Which rules there should be, and which of the existing ones are ours."""

    wanted: tuple[Rule, ...] = ()
    ours: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Desired:
    """What there should be beside what there is."""

    layout: Layout
    judged: Mapping[Family, Judged]
    contents: Mapping[Family, Mapping[int, Contents]]
    rules: Rules
    tunnels: frozenset[str]  # the interfaces that carry the VPN

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Those of both families."""
        return tuple(verdict for judged in self.judged.values() for verdict in judged.verdicts)

    def wanting(self, other: "Desired | None") -> "Desired":
        """What there is, beside what `other` wants: nothing, if it is None."""
        contents = {
            family: {
                table: found._replace(wanted=other.contents[family][table].wanted)
                if other and table in other.contents[family]
                else found._replace(wanted=())
                for table, found in tables.items()
            }
            for family, tables in self.contents.items()
        }
        judged = {family: judged._replace(verdicts=[], wanted=()) for family, judged in self.judged.items()}
        rules = replace(self.rules, wanted=other.rules.wanted if other else ())
        return replace(self, judged=judged, contents=contents, rules=rules)


def desired(config: Config, snapshot: Snapshot, last: Desired | None = None) -> Desired:
    """Apply the policy to the snapshot. `last`, of the same configuration, saves judging an unchanged main again."""
    plane = layout(config, snapshot.rules)
    carriers = _tunnels(config, snapshot, plane)
    policy = Policy(config.lan, snapshot.links, carriers)
    judged: dict[Family, Judged] = {}
    contents: dict[Family, dict[int, Contents]] = {}
    for family in FAMILIES:
        main = snapshot.main.get(family, ())
        into_tunnel = tunnel.explicit_routes(config, snapshot, family) if config.manages else ()
        parted = {
            table: _parted(config, policy, table == plane.mirror, routes.get(family, ()), main)
            for table, routes in snapshot.tables.items()
        }
        # A tier of its own is asked after the VPN's; in a single table the longest prefix would win instead.
        claims = (*parted[plane.mirror][1], *into_tunnel) if plane.name == "single" and plane.mirror in parted else ()
        claimed = explicit(claims, family)
        grounds = (snapshot.links, carriers, claimed)
        if last and main is last.judged[family].main and grounds == last.judged[family].grounds:
            judged[family] = last.judged[family]
        else:
            verdicts = policy.verdicts(main, PrefixSet(claimed))
            wanted = tuple(verdict.route for verdict in verdicts if not verdict.refusal)
            judged[family] = Judged(main, grounds, verdicts, wanted)
        mirrored = judged[family].wanted
        copies = (*mirrored, *policy.multicast(main, mirrored, claimed))
        placed: dict[int, tuple[Route, ...]] = {plane.mirror: copies}
        if config.manages:
            internet = tunnel.internet_routes(config, snapshot, family)
            for table, routes in (plane.user, into_tunnel), (plane.internet, internet):
                _, others = parted.get(table, ((), ()))
                placed[table] = (*placed.get(table, ()), *tunnel.unmet(routes, others))
        contents[family] = {table: Contents(placed.get(table, ()), *found) for table, found in parted.items()}
    return Desired(plane, judged, contents, _rules(config, plane, snapshot), carriers)


def _parted(
    config: Config, policy: Policy, is_mirror: bool, existing: tuple[Route, ...], main: tuple[Route, ...]
) -> tuple[tuple[Route, ...], tuple[Route, ...]]:
    """Ours and others' of one table."""
    if config.manages:
        carriers = {config.tunnel.interface}
        # What is now the tunnel may have been a LAN: nobody but us has copied its routes.
        return policy.parted(
            existing,
            also=lambda route: (
                tunnel.is_tunnel_route(route)
                or (route.attributes.on_link and not carriers.isdisjoint(route.attributes.devices) and route in main)
            ),
        )
    ours, others = policy.parted(existing)
    if is_mirror or not ours:
        return ours, others
    # A table that gets no copies, but may have got some in another layout. Ours beyond doubt is what main has, and what
    # the kernel makes for an address, the stale one too: nobody but us puts such a route into the VPN's tables.
    copies = set(ours).intersection(main)
    copies.update(route for route in ours if route.attributes.on_link and route.attributes.is_of("kernel"))
    return tuple(route for route in ours if route in copies), tuple(route for route in existing if route not in copies)


def _rules(config: Config, plane: Layout, snapshot: Snapshot) -> Rules:
    if not config.manages:
        return Rules()
    return Rules(
        wanted=tuple(tunnel.wanted_rules(config, plane, snapshot)),
        ours=own_rules(config, snapshot.rules),
    )


def _tunnels(config: Config, snapshot: Snapshot, plane: Layout) -> frozenset[str]:
    """The configured interface, and in observe mode whatever else the default route of the VPN's table leaves by.

    The second keeps a wrong `tunnel.interface` from turning the VPN's own routes into stale copies.
    """
    if config.manages:
        return frozenset([config.tunnel.interface])
    internet = snapshot.tables.get(plane.internet, {})
    return frozenset(
        [config.tunnel.interface]
        + [
            device
            for routes in internet.values()
            for route in routes
            if route.dst == "default" and route.attributes.type == "unicast"
            for device in route.attributes.devices
        ]
    )


def explicit(routes: Iterable[Route], family: Family) -> frozenset[Prefix]:
    """The destinations of routes, the default aside."""
    return frozenset(Prefix.of_route(route.dst, family) for route in routes if route.dst != "default")
