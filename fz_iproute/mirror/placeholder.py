"""Placeholders: routes that keep the VPN's client from adding copies that the settings refuse.

Firezone's client (from 1.5.4) copies link-scoped IPv4 routes itself. If we only deleted such a copy, the client would
add it again and again. A placeholder has the same destination, tos and metric, so the kernel refuses the client's copy
("File exists").
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fz_iproute.mirror.model import Attributes, Link, Route
from fz_iproute.mirror.policy import Verdict
from fz_iproute.mirror.prefix import Prefix

# The protocol of placeholders. It marks them as ours: iproute2's list (rt_protos) gives this number to no program.
PROTOCOL = "245"

# What one is for.
HELD = "a placeholder keeps the VPN's client from copying it"

_Place = tuple[str, str, int]


class Table(NamedTuple):
    """The table that gets the copies."""

    ours: Iterable[Route]  # the copies and placeholders that are in the table
    others: Iterable[Route]  # all other routes in the table
    copies: Iterable[Route]  # the copies that should be in the table
    is_shared: bool  # the VPN's own routes are in this table, too


def is_placeholder(route: Route) -> bool:
    """True for a placeholder, made with this configuration or an earlier one."""
    attributes = route.attributes
    is_made = attributes.family == "inet" and attributes.scope == "global" and attributes.is_of(PROTOCOL)
    is_plain = not (attributes.gatewayed or attributes.inexpressible)
    return is_made and is_plain and attributes.type in ("throw", "unicast")


def placeholders(verdicts: Iterable[Verdict], table: Table, tunnels: Mapping[str, Link]) -> dict[Route, Verdict]:
    """The placeholders that the table needs, each with the verdict that causes it.

    A refused route needs one while its copy, or its placeholder, is in the table. A placeholder sends packets where
    they would go without it. `tunnels` are the tunnels that are up: without any, the client adds nothing.
    """
    refused = [verdict for verdict in verdicts if verdict.refusal and not verdict.explicit]
    if not refused or not tunnels:
        return {}
    copied = {route for route in table.ours if not is_placeholder(route)}
    held = {_place(route) for route in table.ours if is_placeholder(route)}
    found: dict[Route, Verdict] = {}
    for verdict in refused:
        route = verdict.route
        is_there = route.attributes.on_link and (route.as_copied in copied or _place(route) in held)
        if is_there and not _would_conflict(route, table):
            into = _target_without_copy(route.prefix, table, tunnels)
            if into is not None:
                found.setdefault(Route(route.dst, _attributes(route.attributes, into)), verdict)
    return found


def _place(route: Route) -> _Place:
    return route.dst, route.attributes.tos, route.attributes.metric


def _would_conflict(refused: Route, table: Table) -> bool:
    """True if a placeholder would collide with another program's route, or be preferred to a copy that is wanted."""
    return any(_place(route) == _place(refused) for route in table.others) or any(
        copy.dst == refused.dst and copy.attributes.metric >= refused.attributes.metric for copy in table.copies
    )


_NEXT_TABLE = Link("", 0, up=True, loopback=False, word="")


def _target_without_copy(prefix: Prefix, table: Table, tunnels: Mapping[str, Link]) -> Link | None:
    """Where packets to the prefix would go without a copy: a tunnel, or _NEXT_TABLE. None if anywhere else."""
    around = [route for route in table.others if table.is_shared and route.prefix.covers(prefix)]
    if not around:
        return _NEXT_TABLE
    best = min(around, key=lambda route: (-route.prefix.length, route.attributes.metric))
    attributes = best.attributes
    if attributes.type == "throw":
        return _NEXT_TABLE
    is_plain = attributes.type == "unicast" and len(attributes.devices) == 1 and not attributes.gatewayed
    link = tunnels.get(attributes.devices[0]) if is_plain else None
    return link if link and link.word else None


def _attributes(refused: Attributes, into: Link) -> Attributes:
    path = ("dev", into.word) if into.word else ()
    words = [*path, "proto", PROTOCOL, "scope", "global"]
    words += ["metric", str(refused.metric)] if refused.metric else []
    words += ["tos", refused.tos] if refused.tos else []
    return Attributes(
        family="inet",
        type="unicast" if path else "throw",
        words=tuple(words),
        path=path,
        devices=(into.name,) if path else (),
        metric=refused.metric,
        tos=refused.tos,
    )
