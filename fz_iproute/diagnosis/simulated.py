"""A model of `ip rule` and `ip route`, with which `doctor` tries a remedy before it prints it.

It knows rules, and routes without a gateway: remedies need no others. It refuses other routes.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, NamedTuple

from fz_iproute.diagnosis.reach import Network
from fz_iproute.mirror.model import Attributes, Route, Rule
from fz_iproute.mirror.prefix import Family


class Refused(Exception):
    """The kernel would refuse the command, or the model cannot tell what the kernel would do."""


class RouteStep(NamedTuple):
    """`ip route VERB table TABLE ROUTE`."""

    verb: Literal["add", "del"]
    table: int
    route: Route


class RuleStep(NamedTuple):
    """`ip rule VERB RULE`, with the rule's priority and all its selectors."""

    verb: Literal["add", "del"]
    rule: Rule


def after(network: Network, steps: Iterable[RouteStep | RuleStep]) -> Network:
    """The network after these commands. Refused if one of them would fail."""
    for step in steps:
        network = _rule(network, step) if isinstance(step, RuleStep) else _route(network, step)
    return network


def _rule(network: Network, step: RuleStep) -> Network:
    rules = list(network.rules)
    twin = next((rule for rule in rules if _hits(rule, step.rule, is_given_only=step.verb == "del")), None)
    if step.verb == "del":
        if twin is None:
            raise Refused("No such file or directory")
        rules.remove(twin)
    elif twin:
        raise Refused("File exists")
    else:
        # Like the kernel, this puts the new rule behind those of the same priority.
        rules = sorted((*rules, step.rule), key=lambda rule: rule.priority)
    return replace(network, rules=tuple(rules))


def _hits(rule: Rule, asked: Rule, *, is_given_only: bool) -> bool:
    """True if the kernel considers the two rules the same.

    It never compares `not`, and it compares prefixes only if `asked` has them. `is_given_only`: it compares only what
    is given in `asked`, as it does to find the rule to delete.
    """

    def selected(each: Rule) -> list[object]:
        return [each.mark, each.iif, each.oif, each.protocol, *(dict(each.options).get(key) for key in keys)]

    keys = {key for key, _ in (*rule.options, *asked.options)}
    pairs = zip(selected(rule), selected(asked), strict=True)
    return (
        rule[:4] == asked[:4]  # family, priority, action, table
        and all(has == wanted or (is_given_only and not wanted) for has, wanted in pairs)
        and asked.src in (None, rule.src)
        and asked.dst in (None, rule.dst)
    )


def _route(network: Network, step: RouteStep) -> Network:
    family = step.route.attributes.family
    routes = list(network.tables.get(step.table, {}).get(family, ()))
    if step.verb == "add":
        _add(network, routes, step.route)
    else:
        _delete(routes, step.route)
    families: dict[Family, tuple[Route, ...]] = {**network.tables.get(step.table, {}), family: tuple(routes)}
    return replace(network, tables={**network.tables, step.table: families})


def _add(network: Network, routes: list[Route], new: Route) -> None:
    attributes = new.attributes
    if attributes.gatewayed:
        raise Refused("whether its gateway can be reached is not known here")
    if not all(device in network.links and network.links[device].up for device in attributes.devices):
        raise Refused("Device for nexthop is not up")
    if any(rank(route) == rank(new) and route.dst == new.dst for route in routes):
        raise Refused("File exists")
    routes.append(new)
    routes.sort(key=rank)


def rank(route: Route) -> tuple[int, int]:
    """A key that sorts routes to one destination as the kernel does: highest tos first, then lowest metric."""
    tos = route.attributes.tos
    return -int(tos, 0) if tos.startswith("0x") else 0, route.attributes.metric


def _delete(routes: list[Route], old: Route) -> None:
    """Delete the first equal route. The kernel ignores the type for IPv6, and for IPv4 a metric that is not given."""
    wanted = old.attributes
    for route in routes:
        has = route.attributes
        if wanted.family == "inet6":
            has = has._replace(type=wanted.type)
        elif not wanted.metric:
            has = _without_metric(has)
        if (route.dst, has) == old:
            routes.remove(route)
            return
    raise Refused("No such process")


def _without_metric(attributes: Attributes) -> Attributes:
    words, metric = attributes.words, ("metric", str(attributes.metric))
    # Look for both words together, because an interface may have the name `metric`.
    places = [place for place in range(len(words)) if words[place : place + 2] == metric]
    for place in places:
        words = words[:place] + words[place + 2 :]
    return attributes._replace(words=words, metric=0)
