"""The commands that turn what is in the VPN's tables into what should be there, in an order that is safe.

At every step the LAN stays reachable and the VPN's packets stay in the tunnel. Additions come before deletions, and a
table is filled before a rule leads to it.

`ip` may refuse an addition. So a deletion that could open a way around the tunnel `waits` until a new reading shows
that everything is there which keeps packets in. (A shell simply runs the printed plan from top to bottom.)
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from typing import NamedTuple

from fz_iproute.errors import UsageError
from fz_iproute.mirror.desired import Contents, Desired
from fz_iproute.mirror.model import Attributes, Command, Route, Rule, by_destination, has_numbers, in_rows
from fz_iproute.mirror.placeholder import is_placeholder
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix
from fz_iproute.mirror.tunnel import is_backstop, is_tunnel_route

_HIGHEST_METRIC = 2**32 - 1
_MISSING = "missing"


class Phase(IntEnum):
    """When a command runs. The kernel accepts a route through a router only while the router is reachable."""

    ADD = 0
    ADD_GATEWAYED = 1
    ADD_RULE = 2
    ADD_DEFAULT = 3  # takes all that nothing else takes, so the LAN's routes and rules must be there
    DELETE = 4
    ADD_BACK = 5  # what could not be added before a deletion
    CLEAN_UP = 6


class Change(NamedTuple):
    """One change of a table: add, append, replace or del, and why."""

    phase: Phase
    verb: str
    routes: Sequence[Route]  # one; many only for new routes that differ in nothing but their destination
    reason: str  # "" for a deletion that only the contents explain


_Order = tuple[int, ...]  # sorts the commands of one phase
_Due = tuple[Phase, _Order, list[Command]]


def plan(desired: Desired, *, prune: bool = True) -> list[Command]:
    """The commands that make what is there what should be there; none if nothing differs."""
    commands: list[Command] = []
    for family in FAMILIES:
        due: dict[tuple[Phase, _Order], list[Command]] = defaultdict(list)
        incomplete = _is_incomplete(family, desired)
        for phase, order, found in (
            *_route_commands(family, desired, prune, incomplete),
            *_rule_commands(family, desired, incomplete),
        ):
            due[phase, order] += found
        commands += [command for place in sorted(due) for command in due[place]]
    return commands


def new_copy(route: Route, desired: Desired) -> Command:
    """The command that copies a plain new route of main."""
    (command,) = _commands(desired.layout.mirror, _addition("add", route), _MISSING, waits=False)
    return command


def take_out(desired: Desired) -> list[Command]:
    """The commands that remove everything of ours."""
    return [command._replace(reason="ours") for command in plan(desired.wanting(None))]


def leftovers(old: Desired, new: Desired, *, prune: bool = True) -> list[Command] | None:
    """The commands that remove what the old configuration added and the new one does not want.

    While rules or tunnel routes of the new configuration are missing in a family, packets still need the old ones. So
    that family is left out; the answer is None if there is nothing to do but wait.
    """
    complete = [family for family in FAMILIES if not _is_incomplete(family, new)]
    commands = [
        command._replace(reason="no longer wanted", waits=False)
        for command in plan((old if prune else _without_strays(old)).wanting(new))
        if command.words[1] == "del" and command.family in complete
    ]
    return commands if commands or len(complete) == len(FAMILIES) else None


def check_parts(desired: Desired) -> None:
    """UsageError if a table that our rules lead to would have to play another part.

    Filled for its new part, it would send packets the wrong way while rules still use it for the old one.
    """
    wanted = set(desired.rules.wanted)
    layout = desired.layout
    for family in FAMILIES:
        rules = [rule for rule in desired.rules.ours if rule.family == family]
        in_use = list(dict.fromkeys(rule.table for rule in rules))
        settled = {rule.table for rule in rules if rule in wanted}
        for part, table in enumerate(layout.tables):
            if table not in in_use:
                continue
            # An interrupted move leaves rules of both configurations, so the former part may be one of several.
            before = in_use[: in_use.index(table)]
            least = sum(other not in settled for other in before)
            has_moved = table not in settled and not least <= part <= len(before)
            was_vpns = (layout.name, table) == ("tiered", layout.mirror) and any(
                route.dst != "default" and is_tunnel_route(route) and not _is_copy(route, desired.tunnels)
                for route in desired.contents[family][table].ours
            )
            if has_moved or was_vpns:
                raise UsageError(
                    f"table {table} is in use for another part than the configuration now gives it; "
                    "stop its `watch` and run `fz-iproute down` with this configuration first"
                )


def _is_incomplete(family: Family, desired: Desired) -> bool:
    """True if a rule or route is missing that keeps packets in the tunnel.

    A backstop makes up for missing routes. IPv6 may be off on the tunnel, and then its routes never come.
    """
    rules = {rule for rule in desired.rules.wanted if rule.family == family}
    if not rules <= set(desired.rules.ours):
        return True
    tables = desired.contents[family].values() if rules else ()
    is_missing = any(
        not _is_copy(route, desired.tunnels) and route not in found.ours
        for found in tables
        if found.wanted != found.ours
        for route in found.wanted
    )
    return is_missing and not any(
        route.dst == "default" and is_backstop(route) and route in found.wanted
        for found in tables
        for route in found.ours
    )


def _without_strays(desired: Desired) -> Desired:
    """As if the copies in the mirror table that only pruning would remove were somebody else's."""
    contents = {family: dict(tables) for family, tables in desired.contents.items()}
    for tables in contents.values():
        if found := tables.get(desired.layout.mirror):
            strays = {route for route in set(found.ours) - set(found.wanted) if _is_copy(route, desired.tunnels)}
            tables[desired.layout.mirror] = found._replace(
                ours=tuple(route for route in found.ours if route not in strays), others=(*found.others, *strays)
            )
    return replace(desired, contents=contents)


def unpruned(wanted: Iterable[Route], ours: Iterable[Route], tunnels: Collection[str]) -> Iterator[Route]:
    """The copies that only pruning would remove: no wanted route to the same destination takes their place."""
    reached = {route.dst for route in wanted}
    return (route for route in ours if route.dst not in reached and _is_copy(route, tunnels))


def _is_copy(route: Route, tunnels: Collection[str]) -> bool:
    """Of our routes: no default route, no backstop, and none into the tunnel."""
    dst, attributes = route
    is_unicast = dst != "default" and attributes.type == "unicast"
    return is_unicast and not any(device in tunnels for device in attributes.devices)


# Routes as commands


def _route_commands(family: Family, desired: Desired, prune: bool, incomplete: bool) -> Iterator[_Due]:
    refused: dict[Route, str] = {}
    mirror = desired.layout.mirror
    ranks = _ranks(family, desired)
    for table, contents in desired.contents[family].items():
        if contents.wanted == contents.ours:
            continue
        refused = refused or {
            verdict.route.as_copied: verdict.refusal for verdict in desired.verdicts if verdict.refusal
        }
        # `prune = false` keeps copies in the mirror table only: in another one they could hide the tunnel's routes.
        for change in _changes(family, contents, prune or table != mirror, desired.tunnels):
            route = change.routes[0]
            why = change.reason or f"stale: {refused.get(route) or _staleness(route, table, desired)}"
            if verdict := desired.placeholders.get(route):
                why = f"{verdict.refusal}; in place of a copy, which the VPN's client would add again"
            opens = not change.reason and (table != mirror or is_tunnel_route(route))
            commands = _commands(table, change, why, waits=incomplete and opens)
            yield change.phase, _order(change, ranks.get(table, (0, 0)), desired.tunnels), commands


def _commands(table: int, change: Change, why: str, *, waits: bool) -> list[Command]:
    """One for each route of the change."""
    attributes = change.routes[0].attributes
    start = f"route {change.verb} table {table}"
    if attributes.type != "unicast":
        start += f" {attributes.type}"
    rest = " ".join(attributes.words)
    numeric = has_numbers(f" {rest}")
    return [Command(attributes.family, f"{start} {dst} {rest}", why, waits, numeric) for dst, _ in change.routes]


def _order(change: Change, rank: tuple[int, int], tunnels: frozenset[str]) -> _Order:
    """The place of a change in its phase; `rank` is that of its table."""
    route = change.routes[0]
    attributes = route.attributes
    match change.phase:
        case Phase.ADD:
            # What the VPN routes inside of a LAN comes before the LAN, and the backstop of that comes last.
            # A copy may look like a route of ours into the tunnel, but leaves by another device.
            is_copy = bool(attributes.devices) and tunnels.isdisjoint(attributes.devices)
            return (is_copy or not is_tunnel_route(route), attributes.type != "unicast")
        case Phase.ADD_DEFAULT:
            return (attributes.metric,)  # a backstop last
        case Phase.DELETE:
            # The widest route goes first, or it would take the packets of the narrower ones. A backstop goes before
            # the routes that it stands behind, or it would block what the next table takes.
            return (*rank, Prefix.of_route(route.dst, attributes.family).length, attributes.type == "unicast")
    return ()


def _staleness(route: Route, table: int, desired: Desired) -> str:
    if is_placeholder(route):
        return "nothing is refused here any more"
    if table == desired.layout.mirror and route.attributes.on_link:
        return "main has no such route"
    return "the configuration has no such route here"


def _ranks(family: Family, desired: Desired) -> Mapping[int, tuple[int, int]]:
    """When each table is cleared: the one that is looked up last goes first, since packets fall through to the next.

    A table's last rule goes after its routes: if we are interrupted, the rule shows that the table is ours. If another
    rule leads to the table, the stale rule goes first.
    """
    kept = {rule.table for rule in desired.rules.wanted}
    ranks: dict[int, tuple[int, int]] = {}
    for rule in desired.rules.ours:
        if rule.family == family:
            ranks.setdefault(rule.table, (-rule.priority, 2 if rule.table in kept else 0))
    return ranks


# What changes in one table


# The kernel keeps routes of equal destination, tos and metric in a list, and uses the first.
_Key = tuple[str, str, int]


def _changes(family: Family, contents: Contents, prune: bool, tunnels: Collection[str]) -> Iterator[Change]:
    """What makes the contents of a table the wanted ones. Without `prune`, copies stay."""
    alone, (wanted, ours, others) = _differing(contents)
    yield from (_addition("add", *row) for row in in_rows(alone))
    want, have, alien = _grouped(wanted), _grouped(ours), _grouped(others)
    kept = frozenset() if prune else frozenset(unpruned(wanted, ours, tunnels))
    taken: dict[str, set[int]] = defaultdict(set)  # the metrics of each destination
    for dst, _, metric in (*want, *have, *alien):
        taken[dst].add(metric)
    # IPv4: `del` matches any route that has all given attributes, so it could delete a twin that has more of them.
    at_risk: dict[object, list[Attributes]] = defaultdict(list)
    for dst, attributes in others if family == "inet" else ():
        at_risk[dst, attributes.tos, attributes.devices[:1]].append(attributes)
    # IPv6: `del` without nhid matches a route by a nexthop object, whatever its path.
    objects = {(route.dst, route.attributes.metric) for route in others if route.attributes.path[:1] == ("nhid",)}
    for key in want | have:
        group = want.get(key, []), have.get(key, []), alien.get(key, [])
        if group[0] == group[1]:
            continue
        if family == "inet":
            found = _inet_group(*group)
        else:
            free = next(metric for metric in range(_HIGHEST_METRIC, 0, -1) if metric not in taken[key[0]])
            found = _inet6_group(*group, free_metric=free)
        for change in found:
            (route,) = change.routes
            if change.verb == "del" and _could_hit(route, at_risk, objects):
                continue
            if change.verb != "del" or route not in kept:
                yield change


def _differing(contents: Contents) -> tuple[list[Route], Contents]:
    """Wanted routes that are alone with their destination; and all routes to the other destinations that differ."""
    want, have = by_destination(contents.wanted), by_destination(contents.ours)
    taken = have.keys() | {route.dst for route in contents.others}
    alone = {dst: routes[0] for dst, routes in want.items() if dst not in taken and len(routes) == 1}
    settled = alone.keys() | {dst for dst, routes in have.items() if routes == want.get(dst)}
    rest = (tuple(route for route in routes if route.dst not in settled) for routes in contents)
    return list(alone.values()), Contents(*rest)


def _could_hit(route: Route, twins: Mapping[object, Iterable[Attributes]], objects: Container[object]) -> bool:
    """True if the deletion of this route could delete somebody else's instead."""
    dst, attributes = route
    if attributes.family == "inet":
        given = set(attributes.words)
        if "nexthop" in attributes.path:
            given -= set(attributes.path)  # of several next hops, the kernel compares as many as the twin has
        return any(
            twin.inexpressible or given.issubset(twin.words)
            for twin in twins.get((dst, attributes.tos, attributes.devices[:1]), ())
        )
    return attributes.path[:1] != ("nhid",) and (dst, attributes.metric) in objects


def _grouped(routes: Iterable[Route]) -> dict[_Key, list[Route]]:
    groups: dict[_Key, list[Route]] = defaultdict(list)
    for route in routes:
        groups[route.dst, route.attributes.tos, route.attributes.metric].append(route)
    return groups


def _inet_group(want: Sequence[Route], have: Sequence[Route], alien: Sequence[Route]) -> Iterator[Change]:
    """IPv4: twins may differ in any attribute, and `append` puts one behind all others."""
    if len(want) == len(have) == 1 and not alien:
        yield _replacement(want[0], have[0])
        return
    kept = _kept_in_place(want, have)
    blocked = False
    for position, route in enumerate(want[kept:], start=kept):
        # The kernel refuses an identical route. So one in the wrong place must go before it is added again, and the
        # ones behind it are added after it.
        blocked = blocked or route in have
        verb = "append" if position or have or alien else "add"
        yield Change(Phase.ADD_BACK, verb, [route], "out of order") if blocked else _addition(verb, route)
    yield from (_deletion(route) for route in have if route not in want[:kept])


def _kept_in_place(want: Sequence[Route], have: Sequence[Route]) -> int:
    """How many routes at the head of `want` already stand in `have`, in this order."""
    rest = iter(have)
    for count, route in enumerate(want):
        if route not in rest:  # consumes `rest` up to the route
            return count
    return len(want)


def _inet6_group(
    want: Sequence[Route], have: Sequence[Route], alien: Sequence[Route], free_metric: int
) -> Iterator[Change]:
    """IPv6: one route for each path, in the kernel's own order. `replace` hits the first one, whatever its device.

    No route to this destination has `free_metric`.
    """
    if len(want) == len(have) == 1 and not alien:
        yield _replacement(want[0], have[0])
        return
    replaced: list[Route] = []
    for position, route in enumerate(route for route in want if route not in have):
        rival = next((old for old in have if old.attributes.path == route.attributes.path and old not in want), None)
        if rival is None:
            yield _addition("append" if position or have or alien else "add", route)
            continue
        # The kernel refuses a second route with this path. A stand-in with another metric takes the packets while the
        # old route is exchanged for the new one.
        stand_in = _with_metric(route, free_metric)
        replaced.append(rival)
        yield Change(Phase.ADD, "append", [stand_in], "holds the place while its original changes")
        yield Change(Phase.DELETE, "del", [rival], "changed")
        yield Change(Phase.ADD_BACK, "append", [route], f"changed, was {route.changed_from(rival)}")
        yield Change(Phase.CLEAN_UP, "del", [stand_in], "held the place")
    yield from (_deletion(route) for route in have if route not in want and route not in replaced)


def _with_metric(route: Route, metric: int) -> Route:
    words = list(route.attributes.words)
    # In IPv6, only pairs of words stand before the metric.
    position = next(index for index in range(0, len(words), 2) if words[index] == "metric")
    words[position + 1] = str(metric)
    return Route(route.dst, route.attributes._replace(words=tuple(words), metric=metric))


def _addition(verb: str, *row: Route) -> Change:
    return Change(_phase(row[0]), verb, row, _MISSING)


def _replacement(new: Route, old: Route) -> Change:
    return Change(_phase(new), "replace", [new], f"changed, was {new.changed_from(old)}")


def _phase(added: Route) -> Phase:
    if added.dst == "default":
        return Phase.ADD_DEFAULT
    return Phase.ADD_GATEWAYED if added.attributes.gatewayed else Phase.ADD


def _deletion(route: Route) -> Change:
    return Change(Phase.DELETE, "del", [route], "")


# Rules as commands


def _rule_commands(family: Family, desired: Desired, incomplete: bool) -> Iterator[_Due]:
    wanted = [rule for rule in desired.rules.wanted if rule.family == family]
    surplus = Counter(rule for rule in desired.rules.ours if rule.family == family)
    for rule in wanted:
        if surplus[rule]:
            surplus[rule] -= 1
        else:
            # The VPN's explicit routes first, then the LAN, then the internet, which must never stand alone.
            yield Phase.ADD_RULE, (rule.priority,), [_rule_command("add", rule, "missing")]
    for rule in surplus.elements():
        why = "stale: the configuration has no such rule" if rule not in wanted else "it is there twice"
        gone = _rule_command("del", rule, why)._replace(waits=incomplete)
        yield Phase.DELETE, (-rule.priority, 1), [gone]


def _rule_command(verb: str, rule: Rule, why: str) -> Command:
    """For a rule of ours. `del` takes the first rule that matches, and any protocol if none is given."""
    words = ("rule", verb, "priority", str(rule.priority), "not", "fwmark", str(rule.mark), "lookup", str(rule.table))
    protocol = () if rule.protocol in ("", "unspec") else ("protocol", rule.protocol)
    return Command.of(rule.family, (*words, *protocol), why)
