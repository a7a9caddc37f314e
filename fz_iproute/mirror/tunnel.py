"""The VPN's own side in manage mode: its rules, and the routes that lead into the tunnel or block the way around it."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Link, Mark, Route, Rule, Snapshot
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import KERNEL_TABLES

# Behind every other route to the same destination: the kernel turns to it in the moment in which the last of them goes.
BACKSTOP_METRIC = 2**32 - 1


class Layout(NamedTuple):
    """Which table has the VPN's explicit routes, which gets the copies, and which has the default into the tunnel."""

    name: str
    user: int
    mirror: int
    internet: int
    priorities: tuple[int, ...]  # manage: of the rule for each table

    @property
    def tables(self) -> tuple[int, ...]:
        """Each once, in the order in which they are asked."""
        return tuple(dict.fromkeys((self.user, self.mirror, self.internet)))


class Carriage(NamedTuple):
    """Whether the tunnel takes packets of a family, and in words for a person why not."""

    carried: bool
    certain: bool  # its addresses say so
    obstacle: str


def carriage(config: Config, snapshot: Snapshot, family: Family) -> Carriage:
    """A tunnel that has addresses of one family only does not carry the other; one without any may carry both."""
    name = config.tunnel.interface
    link = snapshot.links.get(name)
    if link is None or not link.up:
        return Carriage(False, True, f"{name} is {'down' if link else 'missing'}")
    numbered = [family for family in FAMILIES if name in snapshot.numbered.get(family, ())]
    if numbered and family not in numbered:
        return Carriage(False, True, f"{name} has no {_SPOKEN[family]} address")
    # IPv4 cannot be switched off; IPv6 can, which nothing but an address disproves.
    return Carriage(True, family == "inet" or family in numbered, "")


_SPOKEN: dict[Family, str] = {"inet": "IPv4", "inet6": "IPv6"}


def is_usable(config: Config, snapshot: Snapshot) -> bool:
    """The tunnel exists and is up."""
    link = snapshot.links.get(config.tunnel.interface)
    return link is not None and link.up


def explicit_routes(config: Config, snapshot: Snapshot, family: Family) -> tuple[Route, ...]:
    """Those of `tunnel.routes`. Where `on_down = "closed"`, no LAN of the same prefix gets their packets either."""
    prefixes = dict.fromkeys(prefix for prefix in config.tunnel.routes if prefix.family == family)
    carried = carriage(config, snapshot, family).carried
    is_closed = config.tunnel.internet and config.tunnel.on_down == "closed"
    stopped = is_closed and (carried or not is_usable(config, snapshot))
    into = snapshot.links[config.tunnel.interface] if carried else None
    return _made(family, [str(prefix) for prefix in prefixes], into, stopped=stopped)


def internet_routes(config: Config, snapshot: Snapshot, family: Family) -> tuple[Route, ...]:
    """The default route of the Internet Resource, and what stops packets that it does not take."""
    if not config.tunnel.internet:
        return ()
    carried = carriage(config, snapshot, family).carried
    into = snapshot.links[config.tunnel.interface] if carried else None
    return _made(family, ["default"], into, stopped=is_backstop_wanted(config, snapshot, family))


def unmet(routes: Sequence[Route], others: Sequence[Route]) -> tuple[Route, ...]:
    """Without those that somebody else's route of the same metric and path stands for: IPv6 takes no second one."""
    there = {_way(route) for route in others if route.attributes.family == "inet6"}
    return tuple(route for route in routes if _way(route) not in there)


def _way(route: Route) -> tuple[object, ...]:
    attributes = route.attributes
    return route.dst, attributes.type, attributes.metric, attributes.path


def is_backstop_wanted(config: Config, snapshot: Snapshot, family: Family) -> bool:
    """With the Internet Resource active, packets of this family must not find a way around the tunnel.

    With `on_down = "closed"` the unreachable route stands behind the default route all the time: the kernel takes the
    latter out together with the device, long before we hear of it.
    """
    found = carriage(config, snapshot, family)
    closed = config.tunnel.on_down == "closed"
    blocked = config.tunnel.internet_leak == "block"
    if not config.tunnel.internet:
        return False
    if found.carried:
        return closed or (blocked and not found.certain)
    return blocked if is_usable(config, snapshot) else closed


def is_tunnel_route(route: Route) -> bool:
    """In a table of ours, what only manage mode can have put there, whatever the tunnel was called at that time."""
    attributes = route.attributes
    if not attributes.is_of("static") or attributes.inexpressible:
        return False
    if is_backstop(route):
        return True
    # A copy of a LAN route has scope link, where there are scopes.
    is_plain = attributes.type == "unicast" and bool(attributes.devices) and not attributes.gatewayed
    return is_plain and attributes.scope == "global"


def is_backstop(route: Route) -> bool:
    """Stands behind all other routes to its destination, and stops what none of them takes."""
    return route.attributes.type == "unreachable" and route.attributes.metric == BACKSTOP_METRIC


def wanted_rules(config: Config, plane: Layout, snapshot: Snapshot) -> Iterator[Rule]:
    """For each family that the kernel has, one for each table of the layout."""
    for family in dict.fromkeys(rule.family for rule in snapshot.rules):
        for priority, table in zip(plane.priorities, plane.tables, strict=True):
            yield Rule(family, priority, "lookup", table, inverted=True, mark=config.tunnel.fwmark, protocol="kernel")


def is_own_rule(rule: Rule, mark: Mark, tables: Collection[int]) -> bool:
    """True for a rule of our form with our mark or a table of ours: a changed configuration leaves one of the two.

    The protocol tells it from others' rules; but one that says exactly the same is a double, whoever has made it.
    """
    plain = Rule(
        rule.family, rule.priority, "lookup", rule.table, inverted=True, mark=rule.mark, protocol=rule.protocol
    )
    # Whoever sends packets on to one of the kernel's tables has not made that table ours.
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
