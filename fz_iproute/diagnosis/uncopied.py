"""Says why a route of main is not copied, and which setting would change that."""

from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.words import METRICS, REFUSALS

# `ip` always locks rto_min, and never fastopen_no_cookie.
_LOCKABLE = frozenset(METRICS) - {"rto_min", "fastopen_no_cookie"}


def why_not_copied(goal: Desired, route: Route) -> str:
    """Why a route of main, which the policy has not judged, is not copied.

    "" if it is a default route, or if there is no reason that a user could change or should know.
    """
    attributes = route.attributes
    if route.dst == "default":
        return ""
    if attributes.type in REFUSALS.values():
        return "main rejects it"
    if attributes.type != "unicast" or (attributes.on_link and not attributes.expired):
        return ""
    if attributes.expired:
        return "it has expired"
    if goal.is_by_tunnel(attributes.devices):
        return "it leads into the tunnel"
    obstacle = "through a router" if attributes.gatewayed else f"on-link, but with scope {attributes.scope}"
    return f"{obstacle}: {_if_allowed(goal, route)}"


def _if_allowed(goal: Desired, route: Route) -> str:
    """What the policy would say about the route if its prefix were in `lan.allow`."""
    here = goal.by_family[route.attributes.family]
    for verdict in here.policy.allowing(route.prefix).verdicts([route], here.claimed):
        if verdict.refusal:
            return verdict.refusal
    if _LOCKABLE.isdisjoint(route.attributes.words):
        return "lan.allow would mirror it"
    # A route with a locked metric cannot be copied, but the JSON of `ip` does not show whether a metric is locked.
    return "lan.allow would mirror it, unless one of its metrics is locked"


def what_main_does(goal: Desired, route: Route) -> str:
    """The same reason as a sentence about main: `has 10.0.0.0/16 via 10.0.0.1: lan.allow would mirror it`."""
    reason = why_not_copied(goal, route)
    if not reason:
        return ""
    if route.attributes.type in REFUSALS.values():
        return f"rejects it ({route.attributes.type} {route.dst})"
    obstacle, _, change = reason.partition(": ")
    if not change:
        return f"has {route.dst}, but {obstacle}"
    gateway = route.attributes.value("via")
    if gateway and len(route.attributes.devices) == 1:
        obstacle = f"via {gateway}"
    return f"has {route.dst} {obstacle}: {change}"
