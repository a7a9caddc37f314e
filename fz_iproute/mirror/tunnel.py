"""What manage mode adds for the VPN: its rules, the routes into the tunnel, and those that block a way around it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Link, Mark, Route, Rule, Snapshot
from fz_iproute.mirror.prefix import FAMILIES, SPOKEN, Family
from fz_iproute.mirror.words import KERNEL_TABLES

# The highest metric: the kernel uses this route as soon as there is no other one to the same destination.
BACKSTOP_METRIC = 2**32 - 1


class Layout(NamedTuple):
    """Which table has the VPN's explicit routes, which gets the copies, and which has the default into the tunnel."""

    name: str
    user: int
    mirror: int
    internet: int
    priorities: tuple[int, ...]  # manage: the priority of the rule for each table

    @property
    def tables(self) -> tuple[int, ...]:
        """Each table once, in lookup order."""
        return tuple(dict.fromkeys((self.user, self.mirror, self.internet)))


class FamilyState(NamedTuple):
    """Whether the tunnel takes packets of a family."""

    usable: bool  # the tunnel exists and is up
    carried: bool
    certain: bool  # its addresses prove it
    obstacle: str  # why it does not carry the family, in words for a person


def link_state(config: Config, snapshot: Snapshot) -> str:
    """The tunnel's interface is up, down or missing."""
    link = snapshot.links.get(config.tunnel.interface)
    return "missing" if link is None else "up" if link.up else "down"


def family_state(config: Config, snapshot: Snapshot, family: Family) -> FamilyState:
    """A tunnel with addresses of one family only does not carry the other; one without addresses may carry both."""
    name = config.tunnel.interface
    link = snapshot.links.get(name)
    if link is None or not link.up:
        return FamilyState(False, False, True, f"{name} is {'down' if link else 'missing'}")
    numbered = [family for family in FAMILIES if name in snapshot.numbered.get(family, ())]
    if numbered and family not in numbered:
        return FamilyState(True, False, True, f"{name} has no {SPOKEN[family]} address")
    # IPv4 is always there. IPv6 may be switched off, and only an address proves that it is not.
    return FamilyState(True, True, family == "inet" or family in numbered, "")


def explicit_routes(config: Config, links: Mapping[str, Link], family: Family, state: FamilyState) -> tuple[Route, ...]:
    """The routes of `tunnel.routes`. `on_down = "closed"` also keeps their packets from a LAN with the same prefix."""
    if not config.manages:
        return ()
    prefixes = dict.fromkeys(prefix for prefix in config.tunnel.routes if prefix.family == family)
    is_closed = config.tunnel.internet and config.tunnel.on_down == "closed"
    stopped = is_closed and (state.carried or not state.usable)
    into = links[config.tunnel.interface] if state.carried else None
    return _made(family, [str(prefix) for prefix in prefixes], into, stopped=stopped)


def internet_routes(config: Config, links: Mapping[str, Link], family: Family, state: FamilyState) -> tuple[Route, ...]:
    """The default route of the Internet Resource, and the backstop that blocks packets which it does not take."""
    if not config.manages or not config.tunnel.internet:
        return ()
    into = links[config.tunnel.interface] if state.carried else None
    return _made(family, ["default"], into, stopped=_needs_backstop(config, state))


def _needs_backstop(config: Config, state: FamilyState) -> bool:
    """With `on_down = "closed"` the backstop is always there.

    The kernel removes the default route together with the device, long before we notice.
    """
    closed = config.tunnel.on_down == "closed"
    blocked = config.tunnel.internet_leak == "block"
    if state.carried:
        return closed or (blocked and not state.certain)
    return blocked if state.usable else closed


def unmet(routes: Sequence[Route], others: Sequence[Route]) -> tuple[Route, ...]:
    """The routes, without those for which somebody else's route does the same.

    IPv6 accepts no second route of the same metric and path.
    """
    there = {_way(route) for route in others if route.attributes.family == "inet6"}
    return tuple(route for route in routes if _way(route) not in there)


def _way(route: Route) -> tuple[object, ...]:
    attributes = route.attributes
    return route.dst, attributes.type, attributes.metric, attributes.path


def is_tunnel_route(route: Route) -> bool:
    """True for a route that only manage mode adds to a table of ours, whatever the tunnel's name was."""
    attributes = route.attributes
    if not attributes.is_of("static") or attributes.inexpressible:
        return False
    if is_backstop(route):
        return True
    # IPv4: a copy of a LAN route has scope link.
    is_plain = attributes.type == "unicast" and bool(attributes.devices) and not attributes.gatewayed
    return is_plain and attributes.scope == "global"


def is_backstop(route: Route) -> bool:
    """True for the unreachable route behind all others to its destination. It blocks what none of them takes."""
    return route.attributes.type == "unreachable" and route.attributes.metric == BACKSTOP_METRIC


def wanted_rules(config: Config, layout: Layout, snapshot: Snapshot) -> Iterator[Rule]:
    """In manage mode, one rule for each table of the layout, in each family that the kernel has."""
    for family in dict.fromkeys(rule.family for rule in snapshot.rules) if config.manages else ():
        for priority, table in zip(layout.priorities, layout.tables, strict=True):
            yield Rule(family, priority, "lookup", table, inverted=True, mark=config.tunnel.fwmark, protocol="kernel")


def is_own_rule(rule: Rule, mark: Mark, tables: Collection[int]) -> bool:
    """True for a rule of our form with our mark or a table of ours: a new configuration may have changed one of them.

    The protocol `kernel` tells our rule from others'. A rule with our mark and a table of ours is a duplicate, whoever
    added it.
    """
    plain = Rule(
        rule.family, rule.priority, "lookup", rule.table, inverted=True, mark=rule.mark, protocol=rule.protocol
    )
    # A rule that leads to one of the kernel's tables is never ours.
    if rule != plain or rule.mark is None or rule.table in (0, *KERNEL_TABLES):
        return False
    ours = (rule.mark == mark, rule.table in tables)
    return any(ours) if rule.protocol == "kernel" else all(ours)


def _made(family: Family, destinations: Sequence[str], into: Link | None, *, stopped: bool) -> tuple[Route, ...]:
    """For each destination a route into the tunnel if that takes any, and a backstop if packets are to be stopped."""
    # A name that cannot stand on a line of `ip -batch` leaves the tunnel without routes.
    carried = [Route.make(family, dst, into) for dst in destinations] if into and into.word else []
    behind = [Route.make(family, dst, None, metric=BACKSTOP_METRIC) for dst in destinations] if stopped else []
    return (*carried, *behind)
