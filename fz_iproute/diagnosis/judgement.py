"""Judges a machine with one configuration: what becomes of packets now and after a `sync`, and what the tables lack."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from fz_iproute.diagnosis.internet import Internet, by_family
from fz_iproute.diagnosis.lans import Key, Lan, Loss, lans, losses
from fz_iproute.diagnosis.lookup import Decision, usual
from fz_iproute.diagnosis.lost_routes import LostRoute, lost_routes
from fz_iproute.diagnosis.outages import Outage, outages
from fz_iproute.diagnosis.reach import Network, Way
from fz_iproute.diagnosis.simulated import rank
from fz_iproute.errors import UsageError
from fz_iproute.mirror.config import FIREZONE_MARK, Config
from fz_iproute.mirror.desired import Desired, desired, own_tables
from fz_iproute.mirror.model import Route, Rule, Snapshot
from fz_iproute.mirror.plan import check_roles, unpruned
from fz_iproute.mirror.prefix import FAMILIES, FAMILY_NAMES, Family, Prefix
from fz_iproute.mirror.tunnel import is_tunnel_route, link_state
from fz_iproute.mirror.words import REFUSALS


@dataclass(frozen=True)
class Judgement:
    """What follows from the configuration, the snapshot, and the rules and routes that decide where packets go.

    It is frozen, because it remembers its conclusions.
    """

    config: Config
    snapshot: Snapshot
    network: Network

    @classmethod
    def reading(cls, config: Config, snapshot: Snapshot, network: Network) -> "Judgement":
        """The same machine with the tables that the planner would read with this configuration."""
        tables = {
            table: {family: network.table(table, family) for family in FAMILIES}
            for table in own_tables(config, network.rules)
        }
        return cls(config, replace(snapshot, tables=tables), network)

    @cached_property
    def goal(self) -> Desired:
        """What the VPN's tables should hold."""
        return desired(self.config, self.snapshot)

    @property
    def copies(self) -> dict[tuple[int, Family], frozenset[Route]]:
        """The present copies, including copies that other programs have made, by table and family, if there are any."""
        found = {
            (table, family): frozenset(each for each in ours if not self.goal.is_by_tunnel(each.attributes.devices))
            for family, contents in self.goal.contents.items()
            for table, (_, ours, _) in contents.items()
        }
        return {place: copies for place, copies in found.items() if copies}

    @cached_property
    def then(self) -> Network:
        """The network after a `sync`. Without `lan.prune`, stale copies remain."""
        goal, network = self.goal, self.network
        tables = {table: dict(families) for table, families in network.tables.items()}
        for family, contents in goal.contents.items():
            for table, (wanted, ours, others) in contents.items():
                is_pruned = self.config.lan.prune or table != goal.layout.mirror
                strays = () if is_pruned else unpruned(wanted, ours, goal.tunnels)
                tables.setdefault(table, {})[family] = tuple(sorted((*others, *strays, *wanted), key=rank))
        rules = [rule for rule in network.rules if rule not in goal.rules.ours]
        rules = sorted((*rules, *goal.rules.wanted), key=lambda rule: rule.priority)
        return replace(network, rules=tuple(rules), tables=tables)

    @cached_property
    def lans(self) -> Mapping[Key, Lan]:
        """What becomes of packets to each LAN."""
        return lans(self.network, self.goal)

    @cached_property
    def lans_then(self) -> Mapping[Key, Lan]:
        """The same after a `sync`."""
        return lans(self.then, self.goal)

    @cached_property
    def losses(self) -> list[Loss]:
        """What packets do not reach of the LANs after a `sync`."""
        now = {
            (each.family, each.lost, each.by, name) for each in losses(self.network, self.lans) for name in each.names
        }
        for lan in self.lans.values():
            now |= {(lan.prefix.family, each.lost, each.by, lan.part_name(each)) for each in lan.missed}
        return [
            each._replace(is_due=any((each.family, each.lost, each.by, name) not in now for name in each.names))
            for each in losses(self.then, self.lans_then)
        ]

    @cached_property
    def lost_routes(self) -> list[LostRoute]:
        """The LANs that `sync` would cut, because main has lost their routes."""
        return self._needed_copies if self.config.lan.prune else []

    @cached_property
    def outages(self) -> list[Outage]:
        """The network cards that do not reach their LANs."""
        return outages(self.network, self.goal, self._needed_copies)

    @cached_property
    def _needed_copies(self) -> list[LostRoute]:
        """The copies that a `sync` with `lan.prune` would remove, although this machine needs them."""
        return lost_routes(self.network, self.goal)

    @cached_property
    def left_out(self) -> dict[Route, str]:
        """The copies that `sync` removes because a setting leaves out their LAN; and which setting that is."""
        if not self.config.lan.prune:
            return {}
        tables = [table for contents in self.goal.contents.values() for table in contents.values()]
        unwanted = {route for table in tables for route in set(table.ours).difference(table.wanted)}
        refused = ((route, self.goal.refused(route)) for route in sorted(unwanted, key=str))
        return {route: each.refusal for route, each in refused if each and not each.is_accepted}

    @cached_property
    def internet(self) -> dict[Family, Internet]:
        """What becomes of most packets to the internet."""
        return by_family(self.network, self.goal.tunnels)

    @cached_property
    def internet_then(self) -> dict[Family, Internet]:
        """The same after a `sync`."""
        return by_family(self.then, self.goal.tunnels)

    @property
    def released(self) -> str:
        """`sync would send IPv4 to the internet outside the tunnel`, which it enters now, and why. "" if not."""
        # In observe mode, `sync` changes no route into the tunnel.
        active = [each for each, now in self.internet.items() if now.state == "active" and self.config.manages]
        names = [FAMILY_NAMES[each] for each in active if self.internet_then[each].state == "outside"]
        why = "" if self.config.tunnel.internet else ": tunnel.internet is false"
        return f"sync would send {' and '.join(names)} to the internet outside the tunnel{why}" if names else ""

    @property
    def refusal(self) -> str:
        """Why `sync` would refuse to run, and what to do first; "" if it would run."""
        try:
            check_roles(self.goal)
        except UsageError as error:
            return str(error)
        return ""

    @property
    def blocked(self) -> str:
        """`blocks IPv4 to the internet until wg0 is up (tunnel.on_down)`, if a `sync` does that. "" if not."""
        waiting = [each for each in self.internet if self.config.manages and not self.goal.states[each].usable]
        open_now = [each for each in waiting if self.internet[each].state != "blocked"]
        names = [FAMILY_NAMES[each] for each in open_now if self.internet_then[each].state == "blocked"]
        until = f"until {self.config.tunnel.interface} is up (tunnel.on_down)"
        return f"blocks {' and '.join(names)} to the internet {until}" if names else ""

    @property
    def leaking(self) -> list[Family]:
        """The families that leave outside the tunnel, although it takes the other family, or the rest of this one.

        Or a rule leads to the VPN's default route, but another one decides. If there is neither such a route nor the
        other family, that is no leak: such a VPN carries only packets to its own networks.
        """
        is_taken = any(each.state == "active" for each in self.internet.values())
        outside = [family for family, each in self.internet.items() if each.state == "outside" or each.leaving]
        return [family for family in outside if is_taken or self.is_claimed(family)]

    def is_claimed(self, family: Family) -> bool:
        """True if a rule leads to a default route into the tunnel."""
        return any(self.has_default(table, family) for table in self.leading(family))

    def has_default(self, table: int, family: Family) -> bool:
        """True if the table has a default route into the tunnel, or a part of a split one."""
        wide = self.goal.split[family] | {Prefix(family, 0, 0)}
        return any(route.prefix in wide for route in self.tunnel_routes(table, family))

    def leading(self, family: Family) -> dict[int, list[Rule]]:
        """The rules to each of the VPN's tables, by table. One for marked packets only is not the VPN's."""
        found: dict[int, list[Rule]] = defaultdict(list)
        for rule in self.network.rules:
            if rule.family == family and rule.table in self.goal.layout.tables and (rule.inverted or not rule.mark):
                found[rule.table].append(rule)
        return dict(found)

    @property
    def is_mark_set(self) -> bool:
        """True if the configuration sets the mark, or names Firezone's interface. Else it may be an unused default."""
        settings = self.config.tunnel
        return settings.fwmark != FIREZONE_MARK or settings.interface == Config().tunnel.interface

    @cached_property
    def has_no_mark(self) -> bool:
        """True if the VPN marks no packets: the mark is a default, and no rule up to the VPN's ones selects by any."""
        asked: list[Rule] = []
        for family in self.network.families:
            last = max((rule.priority for same in self.leading(family).values() for rule in same), default=-1)
            asked += [rule for rule in self.network.rules if rule.family == family and rule.priority <= last]
        return not self.is_mark_set and not any(rule.mark for rule in asked)

    def own_ways(self, family: Family) -> list[Way]:
        """Where the packets of the VPN's client go, which carry its mark, to each part of the internet."""
        return self.network.internet(usual(family, mark=self.config.tunnel.fwmark.value))

    def misled(self, family: Family) -> Decision | None:
        """About packets of the VPN's client that enter the tunnel; or, if it takes the others, about refused ones."""
        ways = self.own_ways(family)
        if self.has_no_mark or not ways:
            return None
        inside = (way.decision for way in ways if self.is_tunnelled(way.decision))
        decision = next(inside, ways[0].decision)
        is_refused = decision.outcome in ("local", *REFUSALS.values()) and self.internet[family].state == "active"
        return decision if self.is_tunnelled(decision) or is_refused else None

    @property
    def is_offline(self) -> bool:
        """True if the tunnel takes packets to the internet, but those of the VPN itself do not get out.

        One family is enough for the VPN, because many networks have only one.
        """
        ways = [way.decision for family in self.internet for way in self.own_ways(family)]
        gets_out = any(each.outcome == "unicast" and not self.is_tunnelled(each) for each in ways)
        is_taken = any(each.state == "active" for each in self.internet.values())
        return is_taken and not gets_out and not self.has_no_mark

    def obstacle(self, decision: Decision, family: Family) -> str:
        """In manage mode, why a route that `sync` has added refuses the packet. "" if something else decides."""
        route = decision.route if self.config.manages and decision.table in self.goal.layout.tables else None
        is_refused = route and is_tunnel_route(route) and decision.outcome in REFUSALS.values()
        return self.goal.states[family].obstacle if is_refused else ""

    def is_tunnelled(self, decision: Decision) -> bool:
        """True if the packet goes into the VPN."""
        return not decision.stays and self.goal.is_by_tunnel(decision.devices)

    def tunnel_routes(self, table: int, family: Family) -> list[Route]:
        """The routes of one of the VPN's tables that lead into the tunnel."""
        routes = self.snapshot.tables.get(table, {}).get(family, ())
        return [route for route in routes if self.goal.is_by_tunnel(route.attributes.devices)]

    def unused_tables(self) -> Iterator[tuple[Family, int]]:
        """The VPN's tables that have routes into the tunnel, but no rule leads there."""
        used = {(rule.family, rule.table) for rule in self.snapshot.rules}
        for family in self.network.families:
            for table in self.goal.layout.tables:
                if (family, table) not in used and self.tunnel_routes(table, family):
                    yield family, table

    @property
    def is_emptied(self) -> bool:
        """True if the tunnel is up, and rules lead to the VPN's tables, but none of them has a route into the tunnel.

        When the tunnel goes down, the kernel removes these routes. It does not bring them back.
        """
        tables = self.goal.layout.tables
        led = [rule.family for rule in self.snapshot.rules if rule.table in tables]
        if self.config.manages or link_state(self.config, self.snapshot) != "up" or not led:
            return False
        return not any(self.tunnel_routes(table, family) for family in led for table in tables)

    @property
    def is_dead(self) -> bool:
        """True if the tunnel is up, but has no carrier: a tun outlives its program if it is persistent.

        A WireGuard interface always has a carrier: the kernel itself carries its packets.
        """
        link = self.snapshot.links.get(self.config.tunnel.interface)
        return bool(link and link.may_be_tunnel and link.no_carrier)

    @property
    def other_tunnels(self) -> dict[str, int]:
        """The devices that may be tunnels, to which other programs have made routes in the VPN's tables; the table.

        Empty if such a route leads into the configured interface, or if `sync` makes the routes into it.
        """
        name = self.config.tunnel.interface
        found = {
            device: table
            for contents in self.goal.contents.values()
            for table, here in contents.items()
            for route in here.others
            for device in route.attributes.devices
            if device == name or self.network.may_be_tunnel(device)
        }
        is_named = name in found or (self.config.manages and name in self.network.links)
        return {} if is_named else found
