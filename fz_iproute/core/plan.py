"""The difference between what should be in the VPN's tables and what is, as `ip` commands in a safe order.

Every step keeps the LAN reachable, and what goes into the tunnel in there: what is added stands before what it
replaces goes, and a table is complete before a rule leads to it.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from fz_iproute.core.desired import Contents, Desired, Rules
from fz_iproute.core.model import Command, Route, Rule
from fz_iproute.core.prefix import FAMILIES, Family, Prefix

_WORST = 2**32 - 1  # the highest metric


class _Phase(IntEnum):
    """When a command runs. A router must be reachable before a route through it is accepted."""

    ADD = 0
    ADD_GATEWAYED = 1
    ADD_DEFAULT = 2  # takes what nothing else takes, so the LAN must be there
    ADD_RULE = 3
    DELETE_RULE = 4
    DELETE = 5
    ADD_BACK = 6  # what could only be put in its place after something else had gone
    CLEAN_UP = 7
    DELETE_FORMER_RULE = 8  # by which a table is found that no configuration names any more, should we be interrupted


class _Step(NamedTuple):
    phase: _Phase
    verb: str
    route: Route
    reason: str


# The kernel keeps routes of equal destination, tos and metric in a list, in which the first one wins.
_Key = tuple[str, str, int]

# Within a phase.
_Order = tuple[int, int]


def plan(desired: Desired, *, prune: bool = True) -> list[Command]:
    """The commands that lead from what is to what should be; none if nothing differs."""
    commands: list[Command] = []
    for family in FAMILIES:
        due = [
            *_route_commands(family, desired, prune),
            *_rule_commands(family, desired),
        ]
        commands += [command for _, _, command in sorted(due, key=lambda step: step[:2])]
    return commands


def take_out(desired: Desired) -> list[Command]:
    """The commands that remove all that is ours."""
    return [command._replace(reason="ours") for command in plan(desired.wanting(None))]


def leftovers(old: Desired, new: Desired) -> list[Command]:
    """The commands that remove what one configuration has put in place and its successor does not want."""
    commands = plan(old.wanting(new))
    return [command._replace(reason="no longer wanted") for command in commands if command.words[1] == "del"]


def _route_commands(family: Family, desired: Desired, prune: bool) -> Iterator[tuple[_Phase, _Order, Command]]:
    refused: dict[Route, str] = {}
    ranks = _ranks(family, desired.rules)
    for table, contents in desired.contents[family].items():
        if contents.wanted == contents.ours:
            continue
        refused = refused or {verdict.route: verdict.refusal for verdict in desired.verdicts if verdict.refusal}
        # A copy that stays, stays where copies belong: in another table it could stand in front of the tunnel's routes.
        is_kept = not prune and table == desired.layout.mirror
        for phase, verb, route, reason in _steps(family, contents, not is_kept, desired.tunnels):
            words = ("route", verb, "table", str(table), *route.words)
            why = reason or f"stale: {refused.get(route) or _staleness(route, table, desired)}"
            order = (0, 0)
            if phase is _Phase.DELETE:
                # What a table has lost is looked up in the next: so the last one goes first, and in each the widest
                # route, which would otherwise take what the others leave. The backstop is wider than all: behind it,
                # nothing is asked.
                width = Prefix.of_route(route.dst, family).length if route.attributes.type == "unicast" else -1
                order = (-ranks.get(table, 0), width)
            yield phase, order, Command(family, words, why, independent=verb == "add" and phase is _Phase.ADD)


def _staleness(route: Route, table: int, desired: Desired) -> str:
    if table == desired.layout.mirror and route.attributes.on_link:
        return "main has no such route"
    return "the configuration has no such route here"


def _ranks(family: Family, rules: Rules) -> Mapping[int, int]:
    """When each table is asked, by the rules of ours that exist."""
    ranks: dict[int, int] = {}
    for rule in rules.ours:
        if rule.family == family:
            ranks.setdefault(rule.table, rule.priority)
    return ranks


def _rule_commands(family: Family, desired: Desired) -> Iterator[tuple[_Phase, _Order, Command]]:
    wanted = [rule for rule in desired.rules.wanted if rule.family == family]
    surplus = Counter(rule for rule in desired.rules.ours if rule.family == family)
    for rule in wanted:
        if surplus[rule]:
            surplus[rule] -= 1
        else:
            # The tunnel's own first, then the LAN, then the internet: at no time does the last stand alone.
            yield _Phase.ADD_RULE, (rule.priority, 0), Command(family, _rule_words("add", rule), "missing")
    for rule in surplus.elements():
        # The table with the tunnel's own routes is right in front of all others, former ones too: its rule goes last.
        is_behind = rule.table in desired.layout.tables and rule.table != desired.layout.user
        phase = _Phase.DELETE_RULE if is_behind else _Phase.DELETE_FORMER_RULE
        why = "stale: the configuration has no such rule" if rule not in wanted else "it is there twice"
        yield phase, (-rule.priority, 0), Command(family, _rule_words("del", rule), why)


def _rule_words(verb: str, rule: Rule) -> tuple[str, ...]:
    """Of a rule of ours. `del` takes the first that fits, and every protocol if none is named."""
    words = ("rule", verb, "priority", str(rule.priority), "not", "fwmark", str(rule.mark), "lookup", str(rule.table))
    return words if rule.protocol in ("", "unspec") else (*words, "protocol", rule.protocol)


def _steps(family: Family, contents: Contents, prune: bool, tunnels: Collection[str]) -> Iterator[_Step]:
    wanted, ours, others = contents
    want, have, alien = _grouped(wanted), _grouped(ours), _grouped(others)
    reached = {route.dst for route in wanted}
    taken: dict[str, set[int]] = defaultdict(set)  # the metrics of each destination
    for dst, _, metric in (*want, *have, *alien):
        taken[dst].add(metric)
    # `del` takes every attribute that is not given for a match, and encap cannot be given: it could hit such a twin.
    at_risk = {(route.dst, route.attributes.tos, route.attributes.path) for route in others if family == "inet"}
    for key in want | have:
        group = want.get(key, []), have.get(key, []), alien.get(key, [])
        if group[0] == group[1]:
            continue
        if len(group[0]) == 1 and not group[1] and not group[2]:
            yield _addition("add", group[0][0])  # as most are, where there are many
            continue
        if family == "inet":
            steps = _inet_group(*group)
        else:
            steps = _inet6_group(*group, spare=next(m for m in range(_WORST, 0, -1) if m not in taken[key[0]]))
        for step in steps:
            route = step.route
            if step.verb == "del" and (route.dst, route.attributes.tos, route.attributes.path) in at_risk:
                continue
            # Without pruning, of the copies only those may go that another one of the same destination supersedes.
            if prune or step.verb != "del" or route.dst in reached or _is_tunnels(route, tunnels):
                yield step


def _is_tunnels(route: Route, tunnels: Collection[str]) -> bool:
    """Of ours, a route into the tunnel or the backstop: no copy, which a default route never is."""
    return route.dst == "default" or any(device in tunnels for device in route.attributes.devices)


def _grouped(routes: Iterable[Route]) -> dict[_Key, list[Route]]:
    groups: dict[_Key, list[Route]] = defaultdict(list)
    for route in routes:
        groups[route.dst, route.attributes.tos, route.attributes.metric].append(route)
    return groups


def _inet_group(want: Sequence[Route], have: Sequence[Route], alien: Sequence[Route]) -> Iterator[_Step]:
    """IPv4: twins are told apart by any attribute, and `append` puts one behind all others."""
    if len(want) == len(have) == 1 and not alien:
        yield _replacement(want[0], have[0])
        return
    kept = _kept_in_place(want, have)
    blocked = False
    for position, route in enumerate(want[kept:], start=kept):
        # An identical route is refused, so one that stands in the wrong place has to go before it comes back,
        # and all that belong behind it wait with it.
        blocked = blocked or route in have
        verb = "append" if position or have or alien else "add"
        yield _Step(_Phase.ADD_BACK, verb, route, "out of order") if blocked else _addition(verb, route)
    yield from (_deletion(route) for route in have if route not in want[:kept])


def _kept_in_place(want: Sequence[Route], have: Sequence[Route]) -> int:
    """How many routes at the head of `want` already stand in `have`, in this order."""
    rest = iter(have)
    for count, route in enumerate(want):
        if route not in rest:  # consumes `rest` up to the route
            return count
    return len(want)


def _inet6_group(want: Sequence[Route], have: Sequence[Route], alien: Sequence[Route], spare: int) -> Iterator[_Step]:
    """IPv6: one route for each path; the order is the kernel's own, and `replace` hits the first of any device.

    `spare` is a metric that no route to this destination has.
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
        # The kernel refuses a second route with this path, and `replace` could hit another device's: a
        # double with a metric of its own carries the traffic while one goes and the other comes.
        double = _with_metric(route, spare)
        replaced.append(rival)
        yield _Step(_Phase.ADD, "append", double, "holds the place while its original changes")
        yield _Step(_Phase.DELETE, "del", rival, "changed")
        yield _Step(_Phase.ADD_BACK, "append", route, f"changed, was {route.changed_from(rival)}")
        yield _Step(_Phase.CLEAN_UP, "del", double, "held the place")
    yield from (_deletion(route) for route in have if route not in want and route not in replaced)


def _with_metric(route: Route, metric: int) -> Route:
    words = list(route.attributes.words)
    # In IPv6, only pairs of words stand before the metric.
    position = next(index for index in range(0, len(words), 2) if words[index] == "metric")
    words[position + 1] = str(metric)
    return Route(route.dst, route.attributes._replace(words=tuple(words), metric=metric))


def _addition(verb: str, route: Route) -> _Step:
    return _Step(_phase(route), verb, route, "missing")


def _replacement(new: Route, old: Route) -> _Step:
    return _Step(_phase(new), "replace", new, f"changed, was {new.changed_from(old)}")


def _phase(added: Route) -> _Phase:
    if added.dst == "default":
        return _Phase.ADD_DEFAULT
    return _Phase.ADD_GATEWAYED if added.attributes.gatewayed else _Phase.ADD


def _deletion(route: Route) -> _Step:
    return _Step(_Phase.DELETE, "del", route, "")
