"""The difference between what should be in one table and what is, in steps that leave no gap."""

from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from fz_iproute.mirror.desired import Contents
from fz_iproute.mirror.model import Attributes, Route, in_rows
from fz_iproute.mirror.prefix import Family

_WORST = 2**32 - 1  # the highest metric


class Phase(IntEnum):
    """When a command runs. A router must be reachable before a route through it is accepted."""

    ADD = 0
    ADD_GATEWAYED = 1
    ADD_RULE = 2
    ADD_DEFAULT = 3  # takes what nothing else takes, so the LAN must be there, and looked up
    DELETE = 4
    ADD_BACK = 5  # what could only be put in its place after something else had gone
    CLEAN_UP = 6


class Step(NamedTuple):
    """What is to be done to routes of one shape: add, append, replace or del, and why; "" if one is only stale."""

    phase: Phase
    verb: str
    routes: Sequence[Route]  # one, but for many new ones in a row
    reason: str


# The kernel keeps routes of equal destination, tos and metric in a list, in which the first one wins.
_Key = tuple[str, str, int]


def steps(family: Family, contents: Contents, prune: bool, tunnels: Collection[str]) -> Iterator[Step]:
    """What leads from the present contents of a table to the wanted ones. Without `prune`, copies stay."""
    alone, wanted = _parted(contents)
    yield from (_addition("add", *row) for row in in_rows(alone))
    _, ours, others = contents
    want, have, alien = _grouped(wanted), _grouped(ours), _grouped(others)
    reached = {route.dst for route in wanted}
    taken: dict[str, set[int]] = defaultdict(set)  # the metrics of each destination
    for dst, _, metric in (*want, *have, *alien):
        taken[dst].add(metric)
    # `del` takes every attribute that is not given for a match, so it could hit a twin that has more of them.
    at_risk: dict[object, list[Attributes]] = defaultdict(list)
    for dst, attributes in others if family == "inet" else ():
        at_risk[dst, attributes.tos, attributes.path].append(attributes)
    # IPv6 takes a route by a nexthop object for any path, unless the object is named.
    objects = {(route.dst, route.attributes.metric) for route in others if route.attributes.path[:1] == ("nhid",)}
    for key in want | have:
        group = want.get(key, []), have.get(key, []), alien.get(key, [])
        if group[0] == group[1]:
            continue
        if family == "inet":
            found = _inet_group(*group)
        else:
            found = _inet6_group(*group, spare=next(m for m in range(_WORST, 0, -1) if m not in taken[key[0]]))
        for step in found:
            (route,) = step.routes
            if step.verb == "del" and _could_hit(route, at_risk, objects):
                continue
            # Without pruning, of the copies only those may go that another one of the same destination supersedes.
            if prune or step.verb != "del" or route.dst in reached or is_tunnels(route, tunnels):
                yield step


def _parted(contents: Contents) -> tuple[list[Route], list[Route]]:
    """What is wanted: alone with its destination, as most are where many routes are new; and the rest."""
    taken = Counter(route.dst for routes in contents for route in routes)
    parts: tuple[list[Route], list[Route]] = [], []
    for route in contents.wanted:
        parts[taken[route.dst] > 1].append(route)
    return parts


def _could_hit(route: Route, twins: Mapping[object, Iterable[Attributes]], objects: Container[object]) -> bool:
    """True if the deletion of this route could take somebody else's instead."""
    dst, attributes = route
    if attributes.family == "inet":
        said = set(attributes.words)
        return any(
            twin.inexpressible or said.issubset(twin.words)
            for twin in twins.get((dst, attributes.tos, attributes.path), ())
        )
    return attributes.path[:1] != ("nhid",) and (dst, attributes.metric) in objects


def is_tunnels(route: Route, tunnels: Collection[str]) -> bool:
    """Of ours, a route into the tunnel or a backstop: no copy, which a default route never is."""
    dst, attributes = route
    return dst == "default" or attributes.type != "unicast" or any(device in tunnels for device in attributes.devices)


def _grouped(routes: Iterable[Route]) -> dict[_Key, list[Route]]:
    groups: dict[_Key, list[Route]] = defaultdict(list)
    for route in routes:
        groups[route.dst, route.attributes.tos, route.attributes.metric].append(route)
    return groups


def _inet_group(want: Sequence[Route], have: Sequence[Route], alien: Sequence[Route]) -> Iterator[Step]:
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
        yield Step(Phase.ADD_BACK, verb, [route], "out of order") if blocked else _addition(verb, route)
    yield from (_deletion(route) for route in have if route not in want[:kept])


def _kept_in_place(want: Sequence[Route], have: Sequence[Route]) -> int:
    """How many routes at the head of `want` already stand in `have`, in this order."""
    rest = iter(have)
    for count, route in enumerate(want):
        if route not in rest:  # consumes `rest` up to the route
            return count
    return len(want)


def _inet6_group(want: Sequence[Route], have: Sequence[Route], alien: Sequence[Route], spare: int) -> Iterator[Step]:
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
        yield Step(Phase.ADD, "append", [double], "holds the place while its original changes")
        yield Step(Phase.DELETE, "del", [rival], "changed")
        yield Step(Phase.ADD_BACK, "append", [route], f"changed, was {route.changed_from(rival)}")
        yield Step(Phase.CLEAN_UP, "del", [double], "held the place")
    yield from (_deletion(route) for route in have if route not in want and route not in replaced)


def _with_metric(route: Route, metric: int) -> Route:
    words = list(route.attributes.words)
    # In IPv6, only pairs of words stand before the metric.
    position = next(index for index in range(0, len(words), 2) if words[index] == "metric")
    words[position + 1] = str(metric)
    return Route(route.dst, route.attributes._replace(words=tuple(words), metric=metric))


def _addition(verb: str, *row: Route) -> Step:
    return Step(_phase(row[0]), verb, row, "missing")


def _replacement(new: Route, old: Route) -> Step:
    return Step(_phase(new), "replace", [new], f"changed, was {new.changed_from(old)}")


def _phase(added: Route) -> Phase:
    if added.dst == "default":
        return Phase.ADD_DEFAULT
    return Phase.ADD_GATEWAYED if added.attributes.gatewayed else Phase.ADD


def _deletion(route: Route) -> Step:
    return Step(Phase.DELETE, "del", [route], "")
