"""Finds routes of main that nothing copies, and says why, and which setting would change that."""

from collections.abc import Iterator

from fz_iproute.diagnosis.lookup import usual
from fz_iproute.diagnosis.reach import Network
from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.prefix import FAMILIES, PRIVATE
from fz_iproute.mirror.words import MAIN, METRICS, REFUSALS

# `ip` always locks rto_min, and never fastopen_no_cookie.
_LOCKABLE = frozenset(METRICS) - {"rto_min", "fastopen_no_cookie"}


def uncopied(network: Network, goal: Desired) -> Iterator[tuple[Route, str]]:
    """Each route of main to a private network that nothing copies, so that packets take another route; and why."""
    known = {verdict.route for verdict in goal.verdicts}
    for family in FAMILIES:
        for route in network.table(MAIN, family):
            if route not in known and PRIVATE.covers(route.prefix):
                is_used = network.way(usual(family, route.prefix.host)).route == route
                if not is_used and (reason := why_not_copied(goal, route)):
                    yield route, reason


def why_not_copied(goal: Desired, route: Route) -> str:
    """Why a route of main, which the policy has not judged, is not copied.

    "" if it is a default route, or if there is no reason that a user could change or should know.
    """
    attributes = route.attributes
    if route.dst == "default":
        return ""
    if attributes.type in REFUSALS.values():
        return "it rejects packets"
    if attributes.type != "unicast" or (attributes.on_link and not attributes.expired):
        return ""
    if attributes.expired:
        return "it has expired"
    if goal.is_by_tunnel(attributes.devices):
        return "it leads into the tunnel"
    return _if_allowed(goal, route)


def _if_allowed(goal: Desired, route: Route) -> str:
    """What the policy would say about the route if its prefix were in `lan.allow`."""
    here = goal.by_family[route.attributes.family]
    for verdict in here.policy.allowing(route.prefix).verdicts([route], here.claimed):
        if verdict.refusal:
            return verdict.refusal
    would = f'lan.allow = ["{route.prefix}"] would copy it'
    if _LOCKABLE.isdisjoint(route.attributes.words):
        return would
    # A route with a locked metric cannot be copied, but the JSON of `ip` does not show whether a metric is locked.
    return f"{would}, unless one of its metrics is locked"
