"""`status`: the tunnel, its rules, and every LAN route with its verdict. It changes nothing."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from fz_iproute.core.config import Config
from fz_iproute.core.desired import Desired, Layout, desired, tunnels
from fz_iproute.core.model import Route, Rule, Snapshot
from fz_iproute.core.prefix import FAMILIES, Family


class Line(NamedTuple):
    """A LAN route and how it stands: in step, missing, changed, stale or skipped, and why if there is a why."""

    family: Family
    verdict: str
    route: Route
    reason: str


class Status(NamedTuple):
    """All that `status` shows."""

    tunnel: str
    tunnel_state: str  # up, down or missing
    layout: Layout
    internet: dict[Family, bool]  # the VPN's table has a default route
    rules: list[Rule]  # those that look up a table of the layout
    lan: list[Line]


def status(config: Config, snapshot: Snapshot) -> Status:
    """Judge the snapshot."""
    goal = desired(config, snapshot)
    link = snapshot.links.get(config.tunnel.interface)
    carriers = tunnels(config, snapshot)
    return Status(
        tunnel=config.tunnel.interface,
        tunnel_state="missing" if link is None else "up" if link.up else "down",
        layout=goal.layout,
        internet={
            family: any(
                route.dst == "default" and not carriers.isdisjoint(route.attributes.devices)
                for route in snapshot.internet.get(family, ())
            )
            for family in FAMILIES
        },
        rules=[rule for rule in snapshot.rules if rule.table in (goal.layout.mirror, goal.layout.internet)],
        lan=[line for family in FAMILIES for line in _lines(family, goal)],
    )


def _lines(family: Family, goal: Desired) -> Iterator[Line]:
    ours = set(goal.ours[family])
    wanted = set(goal.judged[family].wanted)
    superseded = {route.dst: route for route in goal.ours[family] if route not in wanted}
    refused = {}
    for route, refusal, warning in goal.judged[family].verdicts:
        if refusal:
            refused[route] = refusal
            yield Line(family, "skipped", route, refusal)
        elif route in ours:
            yield Line(family, "in step", route, warning)
        elif old := superseded.pop(route.dst, None):
            yield Line(family, "changed", route, f"the copy has {route.changed_from(old)}")
        else:
            yield Line(family, "missing", route, warning)
    for route in superseded.values():
        yield Line(family, "stale", route, refused.get(route, "main has no such route"))


def as_text(found: Status) -> str:
    """For people: a line for the tunnel, one for each rule, one for each route."""
    carried = [family for family in FAMILIES if found.internet[family]]
    lines = [
        f"tunnel  {found.tunnel} is {found.tunnel_state}; "
        + (f"Internet Resource active ({', '.join(carried)})" if carried else "no default route into it"),
        f"tables  {found.layout.name}: copies in {found.layout.mirror}"
        + ("" if found.layout.internet == found.layout.mirror else f", default route in {found.layout.internet}"),
    ]
    for family in FAMILIES:
        rules = [f"{rule.priority}: {rule.text}" for rule in found.rules if rule.family == family]
        lines += [f"rule    {family:<6} {rule}" for rule in rules or ["none looks up the VPN's table"]]
    if not found.lan:
        lines.append("lan     no link-scoped routes")
    lines += [f"{line.verdict:<7} {line.route}" + (f"  # {line.reason}" if line.reason else "") for line in found.lan]
    return "\n".join(lines)


def as_document(found: Status) -> dict[str, Any]:
    """For programs."""
    return {
        "schema": 1,
        "tunnel": {
            "interface": found.tunnel,
            "state": found.tunnel_state,
            "internet": found.internet,
        },
        "tables": {
            "layout": found.layout.name,
            "mirror": found.layout.mirror,
            "internet": found.layout.internet,
        },
        "rules": [
            {"family": rule.family, "priority": rule.priority, "table": rule.table, "rule": rule.text}
            for rule in found.rules
        ],
        "lan": [
            {
                "family": line.family,
                "verdict": line.verdict,
                "dst": line.route.dst,
                "dev": list(line.route.attributes.devices),
                "route": str(line.route),
                "reason": line.reason,
            }
            for line in found.lan
        ],
    }
