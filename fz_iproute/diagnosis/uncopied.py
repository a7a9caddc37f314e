"""Says why a route of main is not copied, and which setting would change that."""

from dataclasses import replace

from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import Desired, explicit
from fz_iproute.mirror.model import Route, Snapshot
from fz_iproute.mirror.policy import Policy
from fz_iproute.mirror.prefix import PrefixSet
from fz_iproute.mirror.words import METRICS, REFUSALS

# `ip` always locks rto_min, and never fastopen_no_cookie.
_LOCKABLE = frozenset(METRICS) - {"rto_min", "fastopen_no_cookie"}


def why_not_copied(config: Config, snapshot: Snapshot, goal: Desired, route: Route) -> str:
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
    return f"{obstacle}: {_if_allowed(config, snapshot, goal, route)}"


def _if_allowed(config: Config, snapshot: Snapshot, goal: Desired, route: Route) -> str:
    """What the policy would say about the route if its prefix were in `lan.allow`."""
    family = route.attributes.family
    lan = replace(config.lan, allow=(*config.lan.allow, route.prefix))
    here = goal.contents[family].get(goal.layout.mirror)
    claims = explicit(here.others) if here and goal.layout.name == "single" else frozenset()
    policy = Policy(lan, snapshot.links, goal.tunnels, idle=config.is_auto)
    for verdict in policy.verdicts([route], PrefixSet(claims)):
        if verdict.refusal:
            return verdict.refusal
    if _LOCKABLE.isdisjoint(route.attributes.words):
        return "lan.allow would mirror it"
    # A route with a locked metric cannot be copied, but the JSON of `ip` does not show whether a metric is locked.
    return "lan.allow would mirror it, unless one of its metrics is locked"


def what_main_does(config: Config, snapshot: Snapshot, goal: Desired, route: Route) -> str:
    """The same reason as a sentence about main: `has 10.0.0.0/16 via 10.0.0.1: lan.allow would mirror it`."""
    reason = why_not_copied(config, snapshot, goal, route)
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
