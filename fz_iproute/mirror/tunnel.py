"""What manage mode adds for the VPN: its rules, routes into the tunnel, and routes that block leaks around it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Link, Mark, Route, Rule, Snapshot
from fz_iproute.mirror.prefix import FAMILIES, FAMILY_NAMES, Family
from fz_iproute.mirror.words import KERNEL_TABLES

# The highest metric: the kernel uses a backstop only if there is no other route to the same destination.
BACKSTOP_METRIC = 2**32 - 1


class Layout(NamedTuple):
    """The VPN's tables, by their roles. In the layout `single`, one table has all roles."""

    name: str  # single or tiered
    user: int  # the table of the VPN's explicit routes
    mirror: int  # the table that gets the copies, called the mirror
    internet: int  # the table of the default route into the tunnel
    priorities: tuple[int, ...]  # manage mode: the priority of the rule for each table

    @property
    def tables(self) -> tuple[int, ...]:
        """Each table once, in lookup order."""
        return tuple(dict.fromkeys((self.user, self.mirror, self.internet)))


class FamilyState(NamedTuple):
    """Whether the tunnel takes packets of a family."""

    usable: bool  # the tunnel exists and is up
    carried: bool  # it takes packets of the family
    certain: bool  # `carried` is proven, by the tunnel's addresses
    obstacle: str  # why it does not carry the family, for messages


def link_state(config: Config, snapshot: Snapshot) -> str:
    """The state of the tunnel's interface: up, down or missing."""
    link = snapshot.links.get(config.tunnel.interface)
    return "missing" if link is None else "up" if link.up else "down"


def family_state(config: Config, snapshot: Snapshot, family: Family) -> FamilyState:
    """The state of the tunnel for one family.

    A tunnel whose addresses are all of one family does not carry the other. One without addresses may carry both.
    """
    name = config.tunnel.interface
    link = snapshot.links.get(name)
    if link is None or not link.up:
        return FamilyState(False, False, True, f"{name} is {'down' if link else 'missing'}")
    numbered = [family for family in FAMILIES if name in snapshot.numbered.get(family, ())]
    if numbered and family not in numbered:
        return FamilyState(True, False, True, f"{name} has no {FAMILY_NAMES[family]} address")
    # IPv4 cannot be switched off. IPv6 can, for each interface; only an address proves that it is on.
    return FamilyState(True, True, family == "inet" or family in numbered, "")


def explicit_routes(config: Config, links: Mapping[str, Link], family: Family, state: FamilyState) -> tuple[Route, ...]:
    """The routes that `tunnel.routes` asks for.

    With `on_down = "closed"` each has a backstop, so that no LAN with the same prefix gets its packets.
    """
    if not config.manages:
        return ()
    prefixes = dict.fromkeys(prefix for prefix in config.tunnel.routes if prefix.family == family)
    is_closed = config.tunnel.internet and config.tunnel.on_down == "closed"
    stopped = is_closed and (state.carried or not state.usable)
    into = links[config.tunnel.interface] if state.carried else None
    return _tunnel_routes(family, [str(prefix) for prefix in prefixes], into, stopped=stopped)


def internet_routes(config: Config, links: Mapping[str, Link], family: Family, state: FamilyState) -> tuple[Route, ...]:
    """The default route into the tunnel, and its backstop, which blocks the packets that the tunnel does not take."""
    if not config.manages or not config.tunnel.internet:
        return ()
    into = links[config.tunnel.interface] if state.carried else None
    return _tunnel_routes(family, ["default"], into, stopped=_needs_backstop(config, state))


def _needs_backstop(config: Config, state: FamilyState) -> bool:
    """True if the default route needs a backstop.

    With `on_down = "closed"` it is there even while the tunnel works. When the device goes, the kernel removes the
    default route at once, before fz-iproute notices.
    """
    closed = config.tunnel.on_down == "closed"
    blocked = config.tunnel.internet_leak == "block"
    if state.carried:
        return closed or (blocked and not state.certain)
    return blocked if state.usable else closed


def without_duplicates(routes: Sequence[Route], others: Sequence[Route]) -> tuple[Route, ...]:
    """The routes, without those for which another program's route does the same.

    IPv6 accepts no second route with the same destination, metric and path.
    """
    there = {_identity(route) for route in others if route.attributes.family == "inet6"}
    return tuple(route for route in routes if _identity(route) not in there)


def _identity(route: Route) -> tuple[object, ...]:
    attributes = route.attributes
    return route.dst, attributes.type, attributes.metric, attributes.path


def is_tunnel_route(route: Route) -> bool:
    """True for a route of the form that only manage mode adds to our tables. The tunnel's name does not matter."""
    attributes = route.attributes
    if not attributes.is_of("static") or attributes.inexpressible:
        return False
    if is_backstop(route):
        return True
    # Scope global tells an IPv4 tunnel route from a copy, which has scope link.
    is_plain = attributes.type == "unicast" and bool(attributes.devices) and not attributes.gatewayed
    return is_plain and attributes.scope == "global"


def is_backstop(route: Route) -> bool:
    """True for a backstop: an unreachable route that blocks packets which no other route to the destination takes."""
    return route.attributes.type == "unreachable" and route.attributes.metric == BACKSTOP_METRIC


def wanted_rules(config: Config, layout: Layout, snapshot: Snapshot) -> Iterator[Rule]:
    """The rules of manage mode: one for each table of the layout, in each family that the kernel supports."""
    for family in dict.fromkeys(rule.family for rule in snapshot.rules) if config.manages else ():
        for priority, table in zip(layout.priorities, layout.tables, strict=True):
            yield Rule(family, priority, "lookup", table, inverted=True, mark=config.tunnel.fwmark, protocol="kernel")


def is_own_rule(rule: Rule, mark: Mark, tables: Collection[int]) -> bool:
    """True for a rule of the form that manage mode adds: `not fwmark MARK lookup TABLE`.

    With protocol `kernel`, which other programs' rules do not have, our mark or one of our tables is enough: a new
    configuration may have changed the other. A rule with both is ours whatever its protocol, since it is a duplicate.
    """
    plain = Rule(
        rule.family, rule.priority, "lookup", rule.table, inverted=True, mark=rule.mark, protocol=rule.protocol
    )
    # A rule that looks up one of the kernel's tables is never ours.
    if rule != plain or rule.mark is None or rule.table in (0, *KERNEL_TABLES):
        return False
    ours = (rule.mark == mark, rule.table in tables)
    return any(ours) if rule.protocol == "kernel" else all(ours)


def _tunnel_routes(
    family: Family, destinations: Sequence[str], into: Link | None, *, stopped: bool
) -> tuple[Route, ...]:
    """For each destination, a route into the tunnel (if `into` is given) and a backstop (if `stopped`)."""
    # If no batch line can name the tunnel, it gets no routes.
    carried = [Route.make(family, dst, into) for dst in destinations] if into and into.word else []
    behind = [Route.make(family, dst, None, metric=BACKSTOP_METRIC) for dst in destinations] if stopped else []
    return (*carried, *behind)
