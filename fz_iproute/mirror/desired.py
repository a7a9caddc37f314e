"""Computes which routes and rules should be in the VPN's tables, and pairs them with those that are there."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import NamedTuple

from fz_iproute.mirror import tunnel
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import LOCKED, Attributes, Link, Route, Rule, Snapshot
from fz_iproute.mirror.placeholder import Table, is_placeholder, placeholders
from fz_iproute.mirror.policy import TO_ALL, Policy, Verdict
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix, PrefixSet
from fz_iproute.mirror.split_default import split_default, wide
from fz_iproute.mirror.tunnel import FamilyState, Layout


def layout_of(config: Config, rules: Iterable[Rule]) -> Layout:
    """The configured layout. `auto` means tiered if a rule of either family looks up `tables.lan`, else single.

    In manage mode, only rules with our mark count, because another tunnel may have another layout.
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
    return _single(config)


def is_absent(config: Config, snapshot: Snapshot) -> bool:
    """True if no rule looks up the table of the copies: the VPN is off, or the settings name other tables."""
    table = layout_of(config, snapshot.rules).mirror
    return not config.manages and not config.is_auto and not any(rule.table == table for rule in snapshot.rules)


def _single(config: Config) -> Layout:
    table = config.tables.single
    return Layout("single", table, table, table, (config.rules.single,))


def layout_in_use(config: Config, snapshot: Snapshot) -> Layout:
    """The layout that the VPN's client really uses. With `layout = "auto"`, it may differ from that of the rules.

    Rules of the tiered layout may be left over from an earlier version of the client. Then the default route decides:
    if it is in the first table, and not in the last, all of the VPN's routes are in the first table.
    """
    layout = layout_of(config, snapshot.rules)
    is_undecided = config.tables.layout == "auto" and not config.manages and config.tables.single == layout.user
    if layout.name == "tiered" and is_undecided:
        in_first = any(_defaults(config, snapshot, layout.user))
        in_last = any(_defaults(config, snapshot, layout.internet))
        return _single(config) if in_first and not in_last else layout
    return layout


def _defaults(config: Config, snapshot: Snapshot, table: int) -> Iterator[Route]:
    """The default routes of a table, whole or split, that lead to a device. Copies of main's routes do not count."""
    for family, routes in snapshot.tables.get(table, {}).items():
        possible = [*wide(routes, family), *(route for route in routes if route.dst == "default")]
        unicast = [route for route in possible if route.attributes.type == "unicast" and route.attributes.devices]
        names = {"default", *map(str, _split(config, unicast, family))}
        # Firezone's client copies all link-scoped routes, also wide prefixes that DHCP has pushed.
        copied = {route for route in snapshot.main.get(family, ()) if route.dst in names}
        # The multicast route that `lan.multicast` adds has a wide prefix, too.
        own = [route for route in unicast if route not in copied and route.dst not in TO_ALL]
        parts = _split(config, own, family)
        for route in own:
            if route.dst == "default" or route.prefix in parts:
                yield route


def _split(config: Config, routes: Iterable[Route], family: Family) -> frozenset[Prefix]:
    """The destinations that together are a split default route; none with `split_default = "explicit"`."""
    if config.tunnel.split_default != "auto":
        return frozenset()
    return split_default([route.prefix for route in wide(routes, family)], family)


def own_rules(config: Config, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules that manage mode added, with this configuration or an earlier one."""
    if not config.manages:
        return ()
    tables = layout_of(config, rules).tables
    found = [rule for rule in rules if tunnel.is_own_rule(rule, config.tunnel.fwmark, tables)]
    # A rule found by its table may have the mark of an earlier configuration. That mark identifies further rules of
    # ours, which lead to tables of an earlier layout.
    marks = {rule.mark for rule in found if rule.mark}
    found += (
        rule
        for rule in rules
        if rule.protocol == "kernel" and any(tunnel.is_own_rule(rule, mark, tables) for mark in marks)
    )
    return tuple(rule for rule in rules if rule in found)


def own_tables(config: Config, rules: Sequence[Rule]) -> tuple[int, ...]:
    """The tables that may hold our routes: those of the layout, and those that our rules still look up.

    fz-iproute never writes to any other table. The kernel's tables are never among these: neither the configuration nor
    `is_own_rule` accepts them.
    """
    former = (rule.table for rule in own_rules(config, rules))
    return tuple(dict.fromkeys((*layout_of(config, rules).tables, *former)))


# The links, the tunnels, and the destinations of the VPN's explicit routes in tables that have copies.
_Inputs = tuple[Mapping[str, Link], frozenset[str], frozenset[Prefix]]


class Judged(NamedTuple):
    """The verdicts on the routes of main, and what they were computed from: equal inputs give equal verdicts."""

    main: tuple[Route, ...]
    inputs: _Inputs
    verdicts: list[Verdict]
    wanted: tuple[Route, ...]


class Contents(NamedTuple):
    """One table in one family: the routes that should be there, and those that are there (ours, and others').

    All are in the kernel's order.
    """

    wanted: tuple[Route, ...]
    ours: tuple[Route, ...]
    others: tuple[Route, ...]


@dataclass(frozen=True)
class RuleContents:
    """The rules that should be there, and the existing rules that are ours."""

    wanted: tuple[Rule, ...] = ()
    ours: tuple[Rule, ...] = ()


class _Given(NamedTuple):
    """Everything besides the configuration that decides what should be in the tables of one family."""

    family: Family
    layout: Layout
    links: Mapping[str, Link]
    tunnels: frozenset[str]
    tunnels_are_certain: bool
    state: FamilyState
    spared: frozenset[int]  # see Desired
    main: tuple[Route, ...]
    tables: Mapping[int, tuple[Route, ...]]
    former: Mapping[int, Contents]  # the contents that the previous call of `desired` returned


class _OneFamily(NamedTuple):
    """The part of `Desired` that is about one family. It depends on `given` and the configuration only."""

    given: _Given
    judged: Judged
    contents: Mapping[int, Contents]
    split: frozenset[Prefix]
    placeholders: Mapping[Route, Verdict]
    policy: Policy
    claimed: PrefixSet  # the destinations of the VPN's explicit routes in the tables that have copies


@dataclass(frozen=True)
class Desired:
    """What should be in the VPN's tables and rules, paired with what is there."""

    layout: Layout
    judged: Mapping[Family, Judged]
    contents: Mapping[Family, Mapping[int, Contents]]
    rules: RuleContents
    tunnels: frozenset[str]  # the interfaces that carry the VPN
    states: Mapping[Family, FamilyState]  # whether the tunnel takes packets of the family
    spared: Mapping[Family, frozenset[int]]  # the tables in which good copies stay: rules look these up, not the mirror
    split: Mapping[Family, frozenset[Prefix]]  # the parts of the VPN's default route, if it is split
    placeholders: Mapping[Route, Verdict]  # which placeholders should be there, each with the refusal that causes it
    by_family: Mapping[Family, _OneFamily]  # with the policy; the next call of `desired` needs it, too

    def is_by_tunnel(self, devices: Collection[str]) -> bool:
        """True if one of these devices carries the VPN."""
        return not self.tunnels.isdisjoint(devices)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts of both families."""
        return tuple(verdict for judged in self.judged.values() for verdict in judged.verdicts)

    @cached_property
    def _refused(self) -> dict[tuple[str, tuple[str, ...]], Verdict]:
        return {(each.route.dst, each.route.attributes.devices): each for each in self.verdicts if each.refusal}

    def refused(self, copy: Route) -> Verdict | None:
        """The refusal of the route of main that this may be a copy of. The copy may be older, and have another metric.

        None if there is no such route.
        """
        return self._refused.get((copy.dst, copy.attributes.devices))

    @property
    def warnings(self) -> dict[Verdict, None]:
        """The verdicts with a warning, each once, in order."""
        return dict.fromkeys(verdict for verdict in self.verdicts if verdict.warning)

    def with_wanted_of(self, other: "Desired | None") -> "Desired":
        """What is there, paired with what `other` wants; None wants nothing."""
        contents: dict[Family, dict[int, Contents]] = {}
        for family, tables in self.contents.items():
            theirs = other.contents[family] if other else {}
            wanted = {table: theirs[table].wanted if table in theirs else () for table in tables}
            if other:
                wanted |= other.spared_of(family, tables)
            contents[family] = {table: found._replace(wanted=wanted[table]) for table, found in tables.items()}
        return replace(self, contents=contents, rules=replace(self.rules, wanted=other.rules.wanted if other else ()))

    def spared_of(self, family: Family, tables: Mapping[int, Contents]) -> dict[int, tuple[Route, ...]]:
        """The copies that stay in these tables, by table."""
        there = {table: found.ours for table, found in tables.items()}
        return _spared_of(self.judged[family].wanted, self.spared[family], there)

    def disowning(self, found: "Desired") -> "Desired":
        """Treat rules and tunnel routes that were already `found` earlier as somebody else's."""
        contents = {family: dict(tables) for family, tables in self.contents.items()}
        for family, tables in contents.items():
            for table, earlier in found.contents[family].items():
                if here := tables.get(table):
                    spared = {route for route in earlier.ours if tunnel.is_tunnel_route(route)}.intersection(here.ours)
                    ours = tuple(route for route in here.ours if route not in spared)
                    tables[table] = here._replace(ours=ours, others=(*here.others, *spared))
        rules = tuple(rule for rule in self.rules.ours if rule not in found.rules.ours)
        return replace(self, contents=contents, rules=replace(self.rules, ours=rules))


def desired(config: Config, snapshot: Snapshot, last: Desired | None = None) -> Desired:
    """What should be in the VPN's tables and rules, by the configuration and the policy.

    `last` is the previous result for the same configuration. Families that have not changed are not computed again.
    `last` also tells which devices were tunnels, and which routes were ours.
    """
    layout = layout_in_use(config, snapshot)
    tunnels = _tunnels(config, snapshot, layout, last)
    are_certain = _are_certain(snapshot, layout, tunnels)
    states = {family: tunnel.family_state(config, snapshot, family) for family in FAMILIES}
    spared = {family: _spared(config, snapshot, layout, family) for family in FAMILIES}
    by_family: dict[Family, _OneFamily] = {}
    for family, state in states.items():
        main = snapshot.main.get(family, ())
        tables = {table: routes.get(family, ()) for table, routes in snapshot.tables.items()}
        former = last.contents[family] if last else {}
        given = _Given(
            family, layout, snapshot.links, tunnels, are_certain, state, spared[family], main, tables, former
        )
        before = last.by_family[family] if last else None
        by_family[family] = before if before and before.given == given else _one_family(config, given, before)
    return Desired(
        layout=layout,
        judged={family: found.judged for family, found in by_family.items()},
        contents={family: found.contents for family, found in by_family.items()},
        rules=RuleContents(
            wanted=tuple(tunnel.wanted_rules(config, layout, snapshot)), ours=own_rules(config, snapshot.rules)
        ),
        tunnels=tunnels,
        states=states,
        spared=spared,
        split={family: found.split for family, found in by_family.items()},
        placeholders=by_family["inet"].placeholders,
        by_family=by_family,
    )


def _one_family(config: Config, given: _Given, last: _OneFamily | None) -> _OneFamily:
    family, layout, links, tunnels, are_certain, state, spared, main, tables, _ = given
    if last and last.judged.inputs[:2] == (links, tunnels):
        policy = last.policy  # it remembers its verdicts on devices
    else:
        policy = Policy(config.lan, links, tunnels, idle=config.is_auto)
    also = (lambda route: is_placeholder(route) or tunnel.is_tunnel_route(route)) if config.manages else is_placeholder
    into_tunnel = tunnel.explicit_routes(config, links, family, state)
    is_copy = _proof(config, given, policy)
    # In observe mode, other tables than the mirror are searched too: another layout may have put copies there.
    found = {
        table: policy.ours_and_others(
            routes, is_copy, also, is_mirror=config.manages or (table == layout.mirror and are_certain)
        )
        for table, routes in tables.items()
    }
    # If the copies share the VPN's table, the longest prefix wins there, so a LAN inside a prefix of the VPN is not
    # copied. In the tiered layout that needs no check, because the VPN's table is looked up before the copies'.
    is_shared = layout.name == "single"
    shared = [table for table in found if table in spared or (is_shared and table == layout.mirror)]
    of_vpn = (*(route for table in shared for route in found[table][1]), *into_tunnel) if shared else ()
    vpns = explicit(of_vpn) - _split(config, of_vpn, family)
    judged = _judged(policy, main, (links, tunnels, vpns), last.judged if last else None)
    verdicts = judged.verdicts
    copies = (*judged.wanted, *policy.multicast(main, judged.wanted, vpns))
    copies += _others_copies(verdicts, found[layout.mirror][0]) if layout.mirror in found else ()
    held: Mapping[Route, Verdict] = {}
    if family == "inet" and layout.mirror in found and config.lan.prune and not config.manages:
        up = {name: link for name, link in links.items() if name in tunnels and link.up}
        held = placeholders(verdicts, Table(*found[layout.mirror], copies, is_shared), up)
    placed = _spared_of(judged.wanted, spared, {table: ours for table, (ours, _) in found.items()})
    placed[layout.mirror] = (*copies, *held)
    internet = tunnel.internet_routes(config, links, family, state)
    for table, routes in (layout.user, into_tunnel), (layout.internet, internet):
        _, others = found.get(table, ((), ()))
        placed[table] = (*placed.get(table, ()), *tunnel.without_duplicates(routes, others))
    contents = {table: Contents(placed.get(table, ()), *both) for table, both in found.items()}
    # Copies need not be excluded here: they are too narrow to be parts of a split default route.
    in_use = (route for table in layout.tables for route in tables.get(table, ()))
    return _OneFamily(given, judged, contents, _split(config, in_use, family), held, policy, PrefixSet(vpns))


def _spared(config: Config, snapshot: Snapshot, layout: Layout, family: Family) -> frozenset[int]:
    """The tables that rules look up, if none looks up the mirror. Copies there may be all that keeps the LAN.

    Rules for marked packets do not count. Those are the VPN's own.
    """
    used = frozenset(rule.table for rule in snapshot.rules if rule.family == family and not rule.is_for_marked)
    return frozenset() if config.manages or layout.mirror in used else used


def _spared_of(
    wanted: Iterable[Route], spared: frozenset[int], there: Mapping[int, Iterable[Route]]
) -> dict[int, tuple[Route, ...]]:
    """The routes in these tables that stay: they are as wanted in the mirror."""
    good = set(wanted) if spared else set()
    kept = {table: tuple(filter(good.__contains__, there[table])) for table in spared.intersection(there)}
    return {table: routes for table, routes in kept.items() if routes}


def _judged(policy: Policy, main: tuple[Route, ...], inputs: _Inputs, last: Judged | None) -> Judged:
    if last and main is last.main and inputs == last.inputs:
        return last
    verdicts = policy.verdicts(main, PrefixSet(inputs[2]))
    return Judged(main, inputs, verdicts, tuple(verdict.route for verdict in verdicts if not verdict.refusal))


def _others_copies(verdicts: Iterable[Verdict], ours: Iterable[Route]) -> tuple[Route, ...]:
    """Copies of routes with a locked metric, which `ip` cannot write. Another program made them, and they stay."""
    locked = {
        verdict.route.as_copied
        for verdict in verdicts
        if verdict.warning and verdict.route.attributes.inexpressible == LOCKED
    }
    return tuple(route for route in ours if route in locked) if locked else ()


def _tunnels(config: Config, snapshot: Snapshot, layout: Layout, last: Desired | None) -> frozenset[str]:
    """The devices that carry the VPN.

    They are the configured interface and, in observe mode, each device that the VPN's default route uses or has used.
    So a wrong `tunnel.interface` never turns the VPN's device into a LAN, even after the default route has gone. If the
    VPN's tables lead into the configured interface, it is not wrong, and a network card in such a route is no tunnel.
    If they lead into a tunnel instead, a network card that is configured is wrong: it is no tunnel, but leads to a LAN.
    """
    configured = frozenset([config.tunnel.interface])
    if config.manages:
        return configured
    defaults = _defaults(config, snapshot, layout.internet)
    found = frozenset(device for route in defaults for device in route.attributes.devices)
    used = [snapshot.links[device] for device in found if device in snapshot.links]
    if any(link.may_be_tunnel for link in used) and _is_card(config, snapshot, layout):
        configured = frozenset()
    found |= last.tunnels if last else frozenset()
    if _are_used(snapshot, layout, configured):
        links = snapshot.links
        found = frozenset(device for device in found if device not in links or links[device].may_be_tunnel)
    return configured | found


def _is_card(config: Config, snapshot: Snapshot, layout: Layout) -> bool:
    """True if the configured interface looks like a network card, and the VPN's tables have only copies by it."""
    link = snapshot.links.get(config.tunnel.interface)
    if link is None or link.may_be_tunnel:
        return False
    main = {route.as_copied for routes in snapshot.main.values() for route in routes}
    tables = (snapshot.tables.get(table, {}) for table in layout.tables)
    there = (route for families in tables for routes in families.values() for route in routes)
    return all(route in main for route in there if link.name in route.attributes.devices)


def _are_certain(snapshot: Snapshot, layout: Layout, tunnels: frozenset[str]) -> bool:
    """False if rules look up the VPN's tables, but no route there uses one of these tunnels.

    Then `tunnel.interface` is probably wrong, and any device may be the tunnel: a tap looks like an Ethernet.
    """
    is_asked = any(rule.table in layout.tables for rule in snapshot.rules)
    return not is_asked or _are_used(snapshot, layout, tunnels)


def _are_used(snapshot: Snapshot, layout: Layout, tunnels: frozenset[str]) -> bool:
    """True if a route of the VPN's tables uses one of these devices."""
    return any(
        not tunnels.isdisjoint(route.attributes.devices)
        for table in layout.tables
        for routes in snapshot.tables.get(table, {}).values()
        for route in routes
    )


def _proof(config: Config, given: _Given, policy: Policy) -> Callable[[Route], bool]:
    """A predicate: is a route that might be the VPN's own certainly a copy?"""

    @cache
    def known() -> set[Route]:
        """The routes that main has, and the copies of the previous result."""
        present = {route.dst for routes in given.tables.values() for route in routes}
        copies = (route for found in given.former.values() for route in (*found.wanted, *found.ours))
        return {route for routes in (given.main, copies) for route in routes if route.dst in present}

    def is_copy(route: Route) -> bool:
        attributes = route.attributes
        if not config.manages and policy.is_by_tunnel(attributes):
            return False
        if route in known() or policy.is_multicast(route):
            return True
        # Main no longer has the original of this route. Three signs tell that the route is a copy: it has protocol
        # kernel, as the routes that the kernel adds to main for each address; its device is no tunnel; its source
        # address is gone from the device. A VPN's own route may show one of these signs, so two are needed.
        is_connected, is_by_lan = attributes.is_of("kernel"), not policy.may_be_by_tunnel(attributes)
        return attributes.on_link and (
            (is_connected and is_by_lan) or ((is_connected or is_by_lan) and _source_is_gone(attributes, given.main))
        )

    return is_copy


def _source_is_gone(attributes: Attributes, main: Iterable[Route]) -> bool:
    """True if the device has connected routes in main, but no connected route in main has this source address."""
    connected = [other for _, other in main if other.on_link and other.is_of("kernel") and other.value("src")]
    has_some = any(other.devices == attributes.devices for other in connected)
    source = attributes.value("src")
    return has_some and bool(source) and source not in {other.value("src") for other in connected}


def explicit(routes: Iterable[Route]) -> frozenset[Prefix]:
    """The destinations of these routes, except the default route."""
    return frozenset(route.prefix for route in routes if route.dst != "default")
