"""What should be in the VPN's tables, next to what is there: made from the configuration and a snapshot."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from fz_iproute.mirror import tunnel
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import LOCKED, Attributes, Link, Route, Rule, Snapshot
from fz_iproute.mirror.placeholder import Table, is_placeholder, placeholders
from fz_iproute.mirror.policy import TO_ALL, Policy, Verdict
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix, PrefixSet
from fz_iproute.mirror.split_default import split_default, wide
from fz_iproute.mirror.tunnel import FamilyState, Layout
from fz_iproute.mirror.words import KERNEL_TABLES


def layout_of(config: Config, rules: Iterable[Rule]) -> Layout:
    """The configured layout. `auto` is tiered if a rule of either family looks up `tables.lan`.

    In manage mode that rule must have our mark: the layout of another tunnel does not matter.
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
    """True if no rule leads to the tunnel's tables: the VPN is off, or it has other names or another table."""
    tables = layout_of(config, snapshot.rules).tables
    return not config.manages and not config.follows and not any(rule.table in tables for rule in snapshot.rules)


def _single(config: Config) -> Layout:
    table = config.tables.single
    return Layout("single", table, table, table, (config.rules.single,))


def layout_in_use(config: Config, snapshot: Snapshot) -> Layout:
    """As `layout_of`, but rules may outlive a client that had used them: its default route tells which layout it has.

    If the first table has the default route and the last one has none, all of the VPN is in the first table.
    """
    layout = layout_of(config, snapshot.rules)
    is_open = config.tables.layout == "auto" and not config.manages and config.tables.single == layout.user
    if layout.name == "tiered" and is_open:
        user, internet = (any(_defaults(config, snapshot, table)) for table in (layout.user, layout.internet))
        return _single(config) if user and not internet else layout
    return layout


def _defaults(config: Config, snapshot: Snapshot, table: int) -> Iterator[Route]:
    """The default routes of a table into some device, or the parts of a split one, but no copies from main."""
    for family, routes in snapshot.tables.get(table, {}).items():
        possible = [*wide(routes, family), *(route for route in routes if route.dst == "default")]
        unicast = [route for route in possible if route.attributes.type == "unicast" and route.attributes.devices]
        names = {"default", *map(str, _split(config, unicast, family))}
        # Firezone's client copies whatever is link-scoped: wide prefixes that DHCP has pushed, too.
        copied = {route for route in snapshot.main.get(family, ()) if route.dst in names}
        # And `lan.multicast` leads a wide prefix to the LAN.
        own = [route for route in unicast if route not in copied and route.dst not in TO_ALL]
        parts = _split(config, own, family)
        for route in own:
            if route.dst == "default" or Prefix.of_route(route.dst, family) in parts:
                yield route


def _split(config: Config, routes: Iterable[Route], family: Family) -> frozenset[Prefix]:
    """The destinations that stand for a default route together."""
    if config.tunnel.split_default != "auto":
        return frozenset()
    return split_default([Prefix.of_route(route.dst, family) for route in wide(routes, family)], family)


def own_rules(config: Config, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules that manage mode has added, with this configuration or an earlier one."""
    if not config.manages:
        return ()
    tables = layout_of(config, rules).tables
    found = [rule for rule in rules if tunnel.is_own_rule(rule, config.tunnel.fwmark, tables)]
    # A mark that leads to one of our tables was ours. If the layout changed with the mark, the old mark leads to other
    # tables too.
    former = {rule.mark for rule in found if rule.mark}
    return tuple(
        rule
        for rule in rules
        if rule in found
        or (rule.protocol == "kernel" and any(tunnel.is_own_rule(rule, mark, tables) for mark in former))
    )


def own_tables(config: Config, rules: Sequence[Rule]) -> tuple[int, ...]:
    """The tables that may hold routes of ours: those of the layout, and those that our rules still lead to.

    Nothing is ever written to another table, and never to one of the kernel's.
    """
    former = (rule.table for rule in own_rules(config, rules))
    found = dict.fromkeys((*layout_of(config, rules).tables, *former))
    return tuple(table for table in found if table not in KERNEL_TABLES)


# Links, tunnels, and what the VPN routes explicitly in the table that gets the copies.
_Inputs = tuple[Mapping[str, Link], frozenset[str], frozenset[Prefix]]


class Judged(NamedTuple):
    """The verdicts on main, and all that they depend on: equal inputs give equal verdicts."""

    main: tuple[Route, ...]
    inputs: _Inputs
    verdicts: list[Verdict]
    wanted: tuple[Route, ...]


class Contents(NamedTuple):
    """One table in one family, in the kernel's order: what should be there, which routes are ours, and the rest."""

    wanted: tuple[Route, ...]
    ours: tuple[Route, ...]
    others: tuple[Route, ...]


@dataclass(frozen=True)
class RuleContents:
    """The rules that should be there, and those of the existing ones that are ours."""

    wanted: tuple[Rule, ...] = ()
    ours: tuple[Rule, ...] = ()


class _Given(NamedTuple):
    """All that decides what should be there in one family, besides the configuration."""

    family: Family
    layout: Layout
    links: Mapping[str, Link]
    tunnels: frozenset[str]
    is_known: bool  # that these are the VPN's devices
    state: FamilyState
    main: tuple[Route, ...]
    tables: Mapping[int, tuple[Route, ...]]
    former: Mapping[int, Contents]  # at the last look


class _Side(NamedTuple):
    """The part of `Desired` that is about one family. Equal origins give equal ones."""

    given: _Given
    judged: Judged
    contents: Mapping[int, Contents]
    split: frozenset[Prefix]
    placeholders: Mapping[Route, Verdict]
    policy: Policy
    claimed: PrefixSet  # what the VPN routes explicitly in the table that gets the copies


@dataclass(frozen=True)
class Desired:
    """What should be there, next to what is there."""

    layout: Layout
    judged: Mapping[Family, Judged]
    contents: Mapping[Family, Mapping[int, Contents]]
    rules: RuleContents
    tunnels: frozenset[str]  # the interfaces that carry the VPN
    states: Mapping[Family, FamilyState]  # whether the tunnel takes packets of the family
    split: Mapping[Family, frozenset[Prefix]]  # the wide prefixes that stand for the VPN's default route
    placeholders: Mapping[Route, Verdict]  # wanted in the place of refused copies
    sides: Mapping[Family, _Side]  # for the next look

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts of both families."""
        return tuple(verdict for judged in self.judged.values() for verdict in judged.verdicts)

    @property
    def warnings(self) -> dict[Verdict, None]:
        """Those of the verdicts that the owner of the machine should know, each once."""
        return dict.fromkeys(verdict for verdict in self.verdicts if verdict.warning)

    def wanting(self, other: "Desired | None") -> "Desired":
        """What is there, next to what `other` wants; None wants nothing."""
        contents = {
            family: {
                table: found._replace(
                    wanted=other.contents[family][table].wanted if other and table in other.contents[family] else ()
                )
                for table, found in tables.items()
            }
            for family, tables in self.contents.items()
        }
        return replace(self, contents=contents, rules=replace(self.rules, wanted=other.rules.wanted if other else ()))

    def sparing(self, found: "Desired") -> "Desired":
        """As if the rules and tunnel routes that were ours at an earlier look were somebody else's."""
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
    """Apply the policy to the snapshot.

    `last` is the previous answer for the same configuration. It saves judging again what has not changed, and it knows
    which devices were tunnels and which routes were ours.
    """
    layout = layout_in_use(config, snapshot)
    tunnels = _tunnels(config, snapshot, layout, last)
    is_known = _is_known(snapshot, layout, tunnels)
    states = {family: tunnel.family_state(config, snapshot, family) for family in FAMILIES}
    sides: dict[Family, _Side] = {}
    for family, state in states.items():
        main = snapshot.main.get(family, ())
        tables = {table: routes.get(family, ()) for table, routes in snapshot.tables.items()}
        former = last.contents[family] if last else {}
        given = _Given(family, layout, snapshot.links, tunnels, is_known, state, main, tables, former)
        side = last.sides[family] if last else None
        sides[family] = side if side and side.given == given else _side(config, given, side)
    return Desired(
        layout=layout,
        judged={family: side.judged for family, side in sides.items()},
        contents={family: side.contents for family, side in sides.items()},
        rules=RuleContents(
            wanted=tuple(tunnel.wanted_rules(config, layout, snapshot)), ours=own_rules(config, snapshot.rules)
        ),
        tunnels=tunnels,
        states=states,
        split={family: side.split for family, side in sides.items()},
        placeholders=sides["inet"].placeholders,
        sides=sides,
    )


def _side(config: Config, given: _Given, last: _Side | None) -> _Side:
    family, layout, links, tunnels, is_known, state, main, tables, _ = given
    policy = Policy(config.lan, links, tunnels, idle=config.follows)
    also = (lambda route: is_placeholder(route) or tunnel.is_tunnel_route(route)) if config.manages else is_placeholder
    into_tunnel = tunnel.explicit_routes(config, links, family, state)
    is_copy = _proof(config, given, policy)
    # In observe mode a table without copies may still have some, if it got them in another layout.
    found = {
        table: policy.ours_and_others(
            routes, is_copy, also, is_mirror=config.manages or (table == layout.mirror and is_known)
        )
        for table, routes in tables.items()
    }
    # In a single table the longest prefix wins, so a LAN inside of what the VPN routes must stay out. A LAN table
    # of its own is looked up after the VPN's.
    is_shared = layout.name == "single" and layout.mirror in found
    of_vpn = (*found[layout.mirror][1], *into_tunnel) if is_shared else ()
    vpns = explicit(of_vpn, family) - _split(config, of_vpn, family)
    judged = _judged(policy, main, (links, tunnels, vpns), last.judged if last else None)
    verdicts = judged.verdicts
    copies = (*judged.wanted, *policy.multicast(main, judged.wanted, vpns))
    copies += _others_copies(verdicts, found[layout.mirror][0]) if layout.mirror in found else ()
    held: Mapping[Route, Verdict] = {}
    if family == "inet" and layout.mirror in found and config.lan.prune and not config.manages:
        up = {name: link for name, link in links.items() if name in tunnels and link.up}
        held = placeholders(verdicts, Table(*found[layout.mirror], copies, is_shared), up)
    placed = {layout.mirror: (*copies, *held)}
    internet = tunnel.internet_routes(config, links, family, state)
    for table, routes in (layout.user, into_tunnel), (layout.internet, internet):
        _, others = found.get(table, ((), ()))
        placed[table] = (*placed.get(table, ()), *tunnel.unmet(routes, others))
    contents = {table: Contents(placed.get(table, ()), *both) for table, both in found.items()}
    # Copies are too narrow to matter for a split default.
    in_use = (route for table in layout.tables for route in tables.get(table, ()))
    return _Side(given, judged, contents, _split(config, in_use, family), held, policy, PrefixSet(vpns))


def is_plain(route: Route, last: Desired) -> bool:
    """True if a new route of main is to be copied, and the VPN's table has no route to its destination.

    `last` is the answer for the moment before.
    """
    side = last.sides[route.attributes.family]
    if last.layout.mirror not in side.contents or not side.policy.is_plain(route, side.claimed):
        return False
    wanted, _, others = side.contents[last.layout.mirror]
    return all(route.dst != dst for routes in (wanted, others) for dst, _ in routes)


def _judged(policy: Policy, main: tuple[Route, ...], inputs: _Inputs, last: Judged | None) -> Judged:
    if last and main is last.main and inputs == last.inputs:
        return last
    verdicts = policy.verdicts(main, PrefixSet(inputs[2]))
    return Judged(main, inputs, verdicts, tuple(verdict.route for verdict in verdicts if not verdict.refusal))


def _others_copies(verdicts: Iterable[Verdict], ours: Iterable[Route]) -> tuple[Route, ...]:
    """What somebody else has copied of routes that we cannot copy: it stays."""
    locked = {
        verdict.route.as_copied
        for verdict in verdicts
        if verdict.warning and verdict.route.attributes.inexpressible == LOCKED
    }
    return tuple(route for route in ours if route in locked) if locked else ()


def _tunnels(config: Config, snapshot: Snapshot, layout: Layout, last: Desired | None) -> frozenset[str]:
    """The configured interface. In observe mode also each device that the VPN's default route uses, or has used.

    That keeps a wrong `tunnel.interface` from making LANs of the VPN's devices, also when its default route has gone.
    """
    configured = frozenset([config.tunnel.interface])
    if config.manages:
        return configured
    defaults = _defaults(config, snapshot, layout.internet)
    found = frozenset(device for route in defaults for device in route.attributes.devices)
    return configured | found | (last.tunnels if last else frozenset())


def _is_known(snapshot: Snapshot, layout: Layout, tunnels: Collection[str]) -> bool:
    """False if rules lead to the VPN's tables, but no route there into one of these tunnels.

    Then `tunnel.interface` is wrong, and any device may be the VPN's: a tap looks like an Ethernet.
    """
    tables = [snapshot.tables.get(table, {}).values() for table in layout.tables]
    routes = (route for families in tables for routes in families for route in routes)
    return not any(rule.table in layout.tables for rule in snapshot.rules) or any(
        device in tunnels for route in routes for device in route.attributes.devices
    )


def _proof(config: Config, given: _Given, policy: Policy) -> Callable[[Route], bool]:
    """A test whether a route in one of the VPN's tables is certainly a copy, where it could be the VPN's own."""

    @cache
    def known() -> set[Route]:
        """What main has, and what was a copy at the last look."""
        present = {route.dst for routes in given.tables.values() for route in routes}
        copies = (route for found in given.former.values() for route in (*found.wanted, *found.ours))
        return {route for routes in (given.main, copies) for route in routes if route.dst in present}

    def is_copy(route: Route) -> bool:
        attributes = route.attributes
        if not config.manages and policy.is_by_tunnel(attributes):
            return False
        if route in known() or policy.is_multicast(route):
            return True
        # The kernel makes the routes for addresses in main. A VPN client may put the like into a table of its own, but
        # then main has no route with another source by the same device. Two of these three are proof.
        is_connected, is_by_lan = attributes.is_of("kernel"), not policy.may_be_by_tunnel(attributes)
        return attributes.on_link and (
            (is_connected and is_by_lan) or ((is_connected or is_by_lan) and _source_is_gone(attributes, given.main))
        )

    return is_copy


def _source_is_gone(attributes: Attributes, main: Iterable[Route]) -> bool:
    """The device has connected routes in main, but no connected route has this source address."""
    connected = [other for _, other in main if other.on_link and other.is_of("kernel") and other.value("src")]
    has_some = any(other.devices == attributes.devices for other in connected)
    source = attributes.value("src")
    return has_some and bool(source) and source not in {other.value("src") for other in connected}


def explicit(routes: Iterable[Route], family: Family) -> frozenset[Prefix]:
    """The destinations of routes, without the default."""
    return frozenset(Prefix.of_route(route.dst, family) for route in routes if route.dst != "default")
