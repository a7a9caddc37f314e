"""Judges where packets to the internet go: whether they enter the tunnel, and whether they should."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from fz_iproute.diagnosis.full_tunnel import becomes
from fz_iproute.diagnosis.lookup import Decision, usual
from fz_iproute.diagnosis.reach import Network, Way, size
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.model import Route, Snapshot
from fz_iproute.mirror.prefix import FAMILY_NAMES, Family
from fz_iproute.mirror.tunnel import link_state
from fz_iproute.mirror.words import REFUSALS


class Carrier(NamedTuple):
    """Other devices than the configured tunnel that may be a tunnel, and carry most packets to the internet."""

    devices: tuple[str, ...]
    priority: int  # of the rule that decides
    table: int


class Internet(NamedTuple):
    """What becomes of most packets of one family to the internet."""

    state: str  # active if they enter the tunnel, blocked if they are refused, else off
    carrier: Carrier | None = None
    outside: Decision | None = None  # if the state is off, and there is no carrier
    gets_out: bool = False  # they leave by a device that is no tunnel


def internet(network: Network, goal: Desired, family: Family) -> Internet:
    """Judge all packets to the internet that this machine sends without a mark."""
    states: dict[str, list[Way]] = {"off": [], "active": [], "blocked": []}
    for way in network.internet(usual(family)):
        is_refused = way.decision.outcome in REFUSALS.values()
        is_inside = not way.decision.stays and goal.is_by_tunnel(way.decision.devices)
        states["active" if is_inside else "blocked" if is_refused else "off"].append(way)
    sizes = {state: size(ways) for state, ways in states.items()}
    off = states["off"]
    carriers: Counter[Carrier] = Counter()
    for part, decision in off:
        if network.may_be_tunnelled(decision):
            carriers[Carrier(decision.devices, decision.steps[-1].rule.priority, decision.table)] += part.size
    for carrier, carried in carriers.most_common(1):
        if 2 * carried > sum(sizes.values()):
            return Internet("off", carrier)
    state = max(sizes, key=sizes.__getitem__)
    if state != "off" or not off:
        return Internet(state)
    gets_out = 2 * size(way for way in off if network.gets_out(way.decision)) >= sizes["off"]
    largest = next(way.decision for way in off if network.gets_out(way.decision) == gets_out)
    return Internet("off", None, largest, gets_out)


def leaking(found: Mapping[Family, Internet]) -> list[Family]:
    """The families that leave outside the tunnel, although it takes the other family.

    If it takes neither, that is no leak: such a VPN carries only packets to its own networks.
    """
    is_taken = any(each.state == "active" for each in found.values())
    return [family for family, each in found.items() if is_taken and each.gets_out]


def outside(network: Network, found: Mapping[Family, Internet]) -> dict[Family, str]:
    """What becomes of most packets that neither enter the tunnel nor another one: `leaves by eth0`."""
    return {family: becomes(network, each.outside) for family, each in found.items() if each.outside}


def joined(said: Mapping[Family, str], of: str = "") -> str:
    """`IPv4 and IPv6 leave by eth0`, or `IPv4 enters it, IPv6 leaves by eth0`. `of` follows the families' names."""
    families: dict[str, list[str]] = defaultdict(list)
    for family, what in said.items():
        families[what].append(FAMILY_NAMES[family])
    return ", ".join(
        f"{' and '.join(names)}{of} {_of_many(what) if len(names) > 1 else what}" for what, names in families.items()
    )


def _of_many(what: str) -> str:
    verb, _, rest = what.partition(" ")
    return f"{_PLURALS[verb]} {rest}"


_PLURALS = {"enters": "enter", "leaves": "leave", "goes": "go", "has": "have", "is": "are"}


def tunnel_routes(snapshot: Snapshot, goal: Desired, table: int, family: Family) -> list[Route]:
    """The routes of one of the VPN's tables that lead into the tunnel."""
    routes = snapshot.tables.get(table, {}).get(family, ())
    return [route for route in routes if goal.is_by_tunnel(route.attributes.devices)]


def unused_tables(snapshot: Snapshot, goal: Desired) -> list[tuple[Family, int]]:
    """The VPN's tables that have routes into the tunnel, but no rule leads there."""
    used = {(rule.family, rule.table) for rule in snapshot.rules}
    return [
        (family, table)
        for family in dict.fromkeys(rule.family for rule in snapshot.rules)
        for table in goal.layout.tables
        if (family, table) not in used and tunnel_routes(snapshot, goal, table, family)
    ]


def is_emptied(config: Config, snapshot: Snapshot, goal: Desired) -> bool:
    """True if the tunnel is up, and rules lead to the VPN's tables, but none of them has a route into the tunnel.

    When the tunnel goes down, the kernel removes these routes. It does not bring them back.
    """
    led = [rule.family for rule in snapshot.rules if rule.table in goal.layout.tables]
    if config.manages or link_state(config, snapshot) != "up" or not led:
        return False
    return not any(tunnel_routes(snapshot, goal, table, family) for family in led for table in goal.layout.tables)
