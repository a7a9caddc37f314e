"""Plans the commands that turn what is in the VPN's tables into what should be there, in a safe order.

At each step, the LAN stays reachable and the VPN's packets stay in the tunnel. So additions come before deletions, and
a table is filled before a rule looks it up.

`ip` may refuse an addition. So a deletion that could open a way around the tunnel `waits`: it runs only after a new
reading has shown that all rules and routes that keep packets in the tunnel are there. (A shell that runs a printed
plan does not wait. It runs the commands from top to bottom.)
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from typing import NamedTuple

from fz_iproute.errors import UsageError
from fz_iproute.mirror.desired import Contents, Desired
from fz_iproute.mirror.model import Attributes, Command, Route, Rule, by_destination, has_numbers, in_rows
from fz_iproute.mirror.placeholder import HELD, is_placeholder
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.tunnel import is_backstop, is_tunnel_route

_HIGHEST_METRIC = 2**32 - 1
MISSING = "missing"
NO_ORIGINAL = "main has no such route"


class Phase(IntEnum):
    """The phases of a plan, in the order in which they run."""

    ADD = 0
    ADD_GATEWAYED = 1  # the kernel refuses a route through a router that no other route reaches yet
    ADD_RULE = 2
    ADD_DEFAULT = 3  # it takes all packets that nothing else takes, so routes and rules for the LAN go first
    DELETE = 4
    ADD_BACK = 5  # additions that the kernel refuses before a certain deletion
    CLEAN_UP = 6  # deletions of temporary routes


class Change(NamedTuple):
    """One change of a table."""

    phase: Phase
    verb: str  # add, append, replace or del
    routes: Sequence[Route]  # one route, or several new ones that differ only in their destination
    reason: str  # "" for a deletion, whose reason depends on more than the table's contents


_Order = tuple[int, ...]  # sorts the commands within one phase
_Due = tuple[Phase, _Order, list[Command]]


def plan(desired: Desired, *, prune: bool = True) -> list[Command]:
    """The commands that make the difference between what should be there and what is there; none if nothing differs.

    Without `prune`, copies that are no longer wanted stay in the mirror.
    """
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


def remove_all(desired: Desired) -> list[Command]:
    """The commands that remove all routes and rules that are ours."""
    return [command._replace(reason="ours") for command in plan(desired.with_wanted_of(None))]


def leftovers(old: Desired, new: Desired, *, prune: bool = True) -> list[Command] | None:
    """The commands that remove what the old configuration added and the new one does not want.

    Packets need the old rules and tunnel routes until those of the new configuration are there. A family in which some
    are missing is left out. None means that nothing can be removed yet.
    """
    complete = [family for family in FAMILIES if not _is_incomplete(family, new)]
    commands = [
        command._replace(reason="no longer wanted", waits=False)
        for command in plan((old if prune else _without_strays(old)).with_wanted_of(new))
        if command.words[1] == "del" and command.family in complete
    ]
    return commands if commands or len(complete) == len(FAMILIES) else None


def check_roles(desired: Desired) -> None:
    """UsageError if the configuration gives a new role (user, lan or internet) to a table that our rules look up.

    Once filled for the new role, the table would misdirect packets as long as rules use it in the old role.
    """
    wanted = set(desired.rules.wanted)
    layout = desired.layout
    for family in FAMILIES:
        rules = [rule for rule in desired.rules.ours if rule.family == family]
        in_use = list(dict.fromkeys(rule.table for rule in rules))
        settled = {rule.table for rule in rules if rule in wanted}
        for role, table in enumerate(layout.tables):
            if table not in in_use:
                continue
            # A table's old role is its place among the old tables. If a change of configuration was interrupted, some
            # of the tables before it may be new, so the old role is only known to be in a range.
            before = in_use[: in_use.index(table)]
            least = sum(other not in settled for other in before)
            has_moved = table not in settled and not least <= role <= len(before)
            was_vpns = (layout.name, table) == ("tiered", layout.mirror) and _has_tunnel_routes(family, desired)
            if has_moved or was_vpns:
                raise UsageError(
                    f"table {table} is in use, and the configuration now gives it another role; "
                    "stop the `watch` of the table, if any, and run `fz-iproute down` with this configuration first"
                )


def _has_tunnel_routes(family: Family, desired: Desired) -> bool:
    """True if the table that gets the copies has routes into the tunnel, so it had another role."""
    wanted, ours, _ = desired.contents[family][desired.layout.mirror]
    of_form = [route for route in ours if route.dst != "default" and is_tunnel_route(route)]
    if any(not _is_copy(route, desired.tunnels) for route in of_form):
        return True
    if set(desired.rules.ours) == set(desired.rules.wanted):
        return False  # no rule changes, so no table gets another role
    # The routes may lead into a former tunnel. An IPv6 route has no scope that tells, so its device decides.
    policy = desired.by_family[family].policy
    return any(
        route not in wanted and (family == "inet" or policy.may_be_by_tunnel(route.attributes)) for route in of_form
    )


def _is_incomplete(family: Family, desired: Desired) -> bool:
    """True if a rule or route that keeps packets in the tunnel is missing.

    If the default route's backstop is there, missing routes do not matter: packets are blocked, and do not leak. Where
    IPv6 is off on the tunnel, the kernel never accepts the routes, so nobody should wait for them.
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
    """Treat unwanted copies in the mirror as another program's, as `prune = false` asks for."""
    contents = {family: dict(tables) for family, tables in desired.contents.items()}
    for tables in contents.values():
        if found := tables.get(desired.layout.mirror):
            strays = {route for route in set(found.ours) - set(found.wanted) if _is_copy(route, desired.tunnels)}
            tables[desired.layout.mirror] = found._replace(
                ours=tuple(route for route in found.ours if route not in strays), others=(*found.others, *strays)
            )
    return replace(desired, contents=contents)


def unpruned(wanted: Iterable[Route], ours: Iterable[Route], tunnels: Collection[str]) -> Iterator[Route]:
    """Our unwanted copies that stay if pruning is off. A copy goes anyway if another route to its destination comes."""
    reached = {route.dst for route in wanted}
    return (route for route in ours if route.dst not in reached and _is_copy(route, tunnels))


def _is_copy(route: Route, tunnels: Collection[str]) -> bool:
    """True for one of our routes that is no default route, no backstop, and does not lead into the tunnel."""
    dst, attributes = route
    is_unicast = dst != "default" and attributes.type == "unicast"
    return is_unicast and not any(device in tunnels for device in attributes.devices)


# Routes as commands


def _route_commands(family: Family, desired: Desired, prune: bool, incomplete: bool) -> Iterator[_Due]:
    mirror = desired.layout.mirror
    ranks = _ranks(family, desired)
    for table, contents in desired.contents[family].items():
        if contents.wanted == contents.ours:
            continue
        # `prune = false` keeps copies only in the mirror. In another table, they could hide tunnel routes.
        for change in _changes(family, contents, prune or table != mirror, desired.tunnels):
            route = change.routes[0]
            why = change.reason or f"stale: {staleness(route, table, desired)}"
            if verdict := desired.placeholders.get(route):
                why = f"{verdict.refusal}; {HELD}"
            may_leak = not change.reason and (table != mirror or is_tunnel_route(route))
            commands = _commands(table, change, why, waits=incomplete and may_leak)
            yield change.phase, _order(change, ranks.get(table, (0, 0)), desired.tunnels), commands


def _commands(table: int, change: Change, why: str, *, waits: bool) -> list[Command]:
    """The commands of a change, one for each of its routes."""
    attributes = change.routes[0].attributes
    start = f"route {change.verb} table {table}"
    if attributes.type != "unicast":
        start += f" {attributes.type}"
    rest = " ".join(attributes.words)
    numeric = has_numbers(f" {rest}")
    return [Command(attributes.family, f"{start} {dst} {rest}", why, waits, numeric) for dst, _ in change.routes]


def _order(change: Change, rank: tuple[int, int], tunnels: frozenset[str]) -> _Order:
    """The position of a change within its phase. `rank` is that of its table, by `_ranks`."""
    route = change.routes[0]
    attributes = route.attributes
    match change.phase:
        case Phase.ADD:
            # Tunnel routes come before copies, because the VPN may route a prefix inside a LAN. A backstop comes after
            # the other routes to its destination. Some copies look like tunnel routes, except for their device.
            is_copy = bool(attributes.devices) and tunnels.isdisjoint(attributes.devices)
            return (is_copy or not is_tunnel_route(route), attributes.type != "unicast")
        case Phase.ADD_DEFAULT:
            return (attributes.metric,)  # a backstop has the highest metric
        case Phase.DELETE:
            # The widest route is deleted first. Otherwise, it would take the packets of narrower routes that are gone
            # already. A backstop is deleted before the other routes to its destination. Otherwise, it would block
            # packets that the next table should take.
            return (*rank, route.prefix.length, attributes.type == "unicast")
    return ()


def staleness(route: Route, table: int, desired: Desired) -> str:
    """Why one of our routes should not be in this table."""
    if is_placeholder(route):
        return "no copy is refused here any more"
    if not route.attributes.on_link or not _is_copy(route, desired.tunnels):
        return "the configuration has no such route here"
    if table != desired.layout.mirror:
        return f"copies belong in table {desired.layout.mirror} now"
    verdict = desired.refused(route)
    return verdict.refusal if verdict else NO_ORIGINAL


def _ranks(family: Family, desired: Desired) -> Mapping[int, tuple[int, int]]:
    """The order in which tables are cleared: the table that is looked up last is cleared first.

    Otherwise, packets whose route in an earlier table is gone could take a route in a later one.

    A table's last rule is deleted after the table's routes: if fz-iproute is interrupted, that rule still shows that
    the table is ours. A stale rule is deleted before the routes if the table keeps another rule.
    """
    kept = {rule.table for rule in desired.rules.wanted}
    ranks: dict[int, tuple[int, int]] = {}
    for rule in desired.rules.ours:
        if rule.family == family:
            ranks.setdefault(rule.table, (-rule.priority, 2 if rule.table in kept else 0))
    return ranks


# What changes in one table


# Destination, tos and metric. The kernel keeps the routes with the same three in a list, and uses the first.
_Key = tuple[str, str, int]


def _changes(family: Family, contents: Contents, prune: bool, tunnels: Collection[str]) -> Iterator[Change]:
    """The changes that turn the routes of a table into the wanted ones. Without `prune`, unwanted copies stay."""
    alone, (wanted, ours, others) = _differing(contents)
    yield from (_addition("add", *row) for row in in_rows(alone))
    want, have, alien = _grouped(wanted), _grouped(ours), _grouped(others)
    kept = frozenset() if prune else frozenset(unpruned(wanted, ours, tunnels))
    taken: dict[str, set[int]] = defaultdict(set)  # the metrics in use for each destination
    for dst, _, metric in (*want, *have, *alien):
        taken[dst].add(metric)
    # IPv4: `del` deletes the first route that has all given attributes. It may have more, and be another program's.
    at_risk: dict[object, list[Attributes]] = defaultdict(list)
    for dst, attributes in others if family == "inet" else ():
        at_risk[dst, attributes.tos, attributes.devices[:1]].append(attributes)
    # IPv6: `del` without nhid also matches a route with a nexthop object, whatever the object's path.
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
    """Split off the simple cases: they are most of a large table.

    Returns the wanted routes whose destination has no other route, wanted or there. They only have to be added. Also
    returns the routes to all other destinations at which the table differs from what is wanted.
    """
    want, have = by_destination(contents.wanted), by_destination(contents.ours)
    taken = have.keys() | {route.dst for route in contents.others}
    alone = {dst: routes[0] for dst, routes in want.items() if dst not in taken and len(routes) == 1}
    settled = alone.keys() | {dst for dst, routes in have.items() if routes == want.get(dst)}
    rest = (tuple(route for route in routes if route.dst not in settled) for routes in contents)
    return list(alone.values()), Contents(*rest)


def _could_hit(route: Route, twins: Mapping[object, Iterable[Attributes]], objects: Container[object]) -> bool:
    """True if a command that deletes this route could delete another program's route instead."""
    dst, attributes = route
    if attributes.family == "inet":
        given = set(attributes.words)
        if "nexthop" in attributes.path:
            given -= set(attributes.path)  # a twin with fewer nexthops matches, too: the kernel compares only as many
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
    """The changes for the IPv4 routes with one destination, tos and metric.

    They may differ in any other attribute. Their order matters, and `append` adds one behind all others.
    """
    if len(want) == len(have) == 1 and not alien:
        yield _replacement(want[0], have[0])
        return
    kept = _kept_in_place(want, have)
    blocked = False
    for position, route in enumerate(want[kept:], start=kept):
        # The kernel refuses a second identical route. So a route in the wrong place must be deleted before it is added
        # again. The routes after it must be added later still.
        blocked = blocked or route in have
        verb = "append" if position or have or alien else "add"
        yield Change(Phase.ADD_BACK, verb, [route], "out of order") if blocked else _addition(verb, route)
    yield from (_deletion(route) for route in have if route not in want[:kept])


def _kept_in_place(want: Sequence[Route], have: Sequence[Route]) -> int:
    """How many of the first routes of `want` are in `have`, in the same order."""
    rest = iter(have)
    for count, route in enumerate(want):
        if route not in rest:  # this consumes `rest` up to and including the route
            return count
    return len(want)


def _inet6_group(
    want: Sequence[Route], have: Sequence[Route], alien: Sequence[Route], free_metric: int
) -> Iterator[Change]:
    """The changes for the IPv6 routes with one destination and metric.

    There is at most one for each path, and the kernel decides their order. `replace` would replace the first of them,
    whatever its device. `free_metric` is a metric that no route to this destination has.
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
        # The kernel refuses a second route with this path. So the old route must go first, and a stand-in with another
        # metric takes the packets until the new route is there.
        stand_in = _with_metric(route, free_metric)
        replaced.append(rival)
        yield Change(Phase.ADD, "append", [stand_in], "temporary, while the route with the right metric changes")
        yield Change(Phase.DELETE, "del", [rival], "changed")
        yield Change(Phase.ADD_BACK, "append", [route], f"changed, was {route.changed_from(rival)}")
        yield Change(Phase.CLEAN_UP, "del", [stand_in], "was temporary")
    yield from (_deletion(route) for route in have if route not in want and route not in replaced)


def _with_metric(route: Route, metric: int) -> Route:
    words = list(route.attributes.words)
    # Before the metric, the words of an IPv6 route are pairs of option and value.
    position = next(index for index in range(0, len(words), 2) if words[index] == "metric")
    words[position + 1] = str(metric)
    return Route(route.dst, route.attributes._replace(words=tuple(words), metric=metric))


def _addition(verb: str, *row: Route) -> Change:
    return Change(_phase(row[0]), verb, row, MISSING)


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
            # In lookup order. The rule for the internet comes last, or it would take the packets of the LAN.
            yield Phase.ADD_RULE, (rule.priority,), [_rule_command("add", rule, "missing")]
    for rule in surplus.elements():
        why = "stale: the configuration has no such rule" if rule not in wanted else "a duplicate"
        gone = _rule_command("del", rule, why)._replace(waits=incomplete)
        yield Phase.DELETE, (-rule.priority, 1), [gone]


def _rule_command(verb: str, rule: Rule, why: str) -> Command:
    """The command for one of our rules. It names the protocol: without one, `del` deletes a rule of any protocol."""
    words = ("rule", verb, "priority", str(rule.priority), "not", "fwmark", str(rule.mark), "lookup", str(rule.table))
    protocol = () if rule.protocol in ("", "unspec") else ("protocol", rule.protocol)
    return Command.of(rule.family, (*words, *protocol), why)
