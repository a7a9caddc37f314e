"""A recorded machine as the checks of `doctor` see it: where its packets go, and how a remedy is spelled there."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from fz_iproute.diagnosis.detect import Vpn, detect
from fz_iproute.diagnosis.fib import Table
from fz_iproute.diagnosis.full_tunnel import forms
from fz_iproute.diagnosis.internet import Internet, internet, joined, outside, tunnel_routes
from fz_iproute.diagnosis.lookup import Decision, usual, within_link
from fz_iproute.diagnosis.lost_routes import LostRoute, lost_routes
from fz_iproute.diagnosis.products import FIREZONE
from fz_iproute.diagnosis.reach import OF_NO_HOST, Network, Way
from fz_iproute.diagnosis.shadow import in_step
from fz_iproute.diagnosis.status import Line, Status, status
from fz_iproute.mirror.config import FIREZONE_MARK, Config
from fz_iproute.mirror.desired import Desired, desired
from fz_iproute.mirror.model import Link, Route, Rule, Snapshot, by_destination
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix, PrefixSet
from fz_iproute.mirror.words import LOCAL, MAIN
from fz_iproute.own_commands import WRITING, own_command
from fz_iproute.record.recording import Recording

DEFAULT_CONFIG = "/etc/fz-iproute/config.toml"


@dataclass(frozen=True)
class Machine:
    """A recording, and what can be concluded from it."""

    recording: Recording
    config: Config
    snapshot: Snapshot | None  # None if `ip` did not answer
    tables: Mapping[int, Mapping[Family, tuple[Route, ...]]]  # main, local and all other tables that rules look up
    usual_path: str = DEFAULT_CONFIG  # the configuration file that fz-iproute reads here without -c
    needs_sudo: bool = False  # True if an ordinary user of this machine runs `doctor`

    @property
    def facts(self) -> Mapping[str, str]:
        """Everything that was recorded besides the output of `ip`, by name."""
        return self.recording.facts

    @property
    def seen(self) -> Snapshot:
        """The snapshot, for checks that run only if there is one."""
        assert self.snapshot
        return self.snapshot

    @cached_property
    def goal(self) -> Desired:
        """What the VPN's tables should hold."""
        return desired(self.config, self.seen)

    @property
    def families(self) -> tuple[Family, ...]:
        """The families that the kernel supports."""
        return self.network.families

    @cached_property
    def network(self) -> Network:
        """The rules and routes that decide where packets go."""
        return Network.of(self.seen, self.tables)

    def way(self, family: Family, address: int, src: int = 0) -> Decision:
        """Where one packet goes that this machine sends."""
        return self.network.way(usual(family, address)._replace(src=src))

    def internet(self, family: Family, mark: int = 0) -> list[Way]:
        """Where packets to each part of the internet go, the largest part first."""
        return self.network.internet(usual(family)._replace(mark=mark))

    def addresses(self, family: Family) -> frozenset[int]:
        """The machine's own addresses."""
        return frozenset(
            route.prefix.address
            for route in self.network.table(LOCAL, family)
            if route.attributes.type == "local" and "/" not in route.dst
        )

    def numbered_tunnels(self, family: Family) -> list[Link]:
        """The tunnels that have an address of the family, and a name that a command can give."""
        devices = {
            device
            for route in self.network.table(LOCAL, family)
            if route.attributes.type == "local" and not within_link(family, route.prefix.address)
            for device in route.attributes.devices
        }
        return [link for name, link in self.seen.links.items() if name in devices & self.goal.tunnels and link.word]

    def is_tunnelled(self, decision: Decision) -> bool:
        """True if the packet goes into the VPN."""
        return not decision.stays and self.goal.is_by_tunnel(decision.devices)

    @cached_property
    def outward(self) -> dict[Family, Internet]:
        """What becomes of most packets to the internet."""
        return {family: internet(self.network, self.goal, family) for family in self.families}

    def has_internet(self, family: Family) -> bool:
        """True if most packets to the internet enter the VPN."""
        return family in self.outward and self.outward[family].state == "active"

    def outside(self, *families: Family) -> str:
        """`IPv4 and IPv6 to the internet leave by eth0, outside the tunnel`. "" if neither does."""
        leaving = {family: each for family, each in self.outward.items() if each.gets_out and family in families}
        return f"{joined(outside(self.network, leaving), ' to the internet')}, outside the tunnel" if leaving else ""

    def ways(self, prefix: Prefix, *, src: int = 0) -> list[Way]:
        """Where packets that this machine sends to each part of the prefix go."""
        return self.network.ways(prefix, usual(prefix.family)._replace(src=src))

    def sources(self, family: Family) -> list[int]:
        """The sources worth trying: 0 (not chosen yet), and each own address that a rule selects by."""
        selected = [rule.src for rule in self.seen.rules if rule.family == family and rule.src]
        own = (Prefix.of_host(family, address) for address in self.addresses(family))
        return [0, *(host.address for host in own if any(prefix.covers(host) for prefix in selected))]

    def tunnel_prefixes(self, family: Family) -> list[tuple[int, Prefix]]:
        """The destinations that the VPN's tables route into the tunnel, each with its table.

        A prefix inside another one is left out.
        """
        tables = sorted(self.goal.layout.tables, reverse=True)
        found = {route.prefix: table for table in tables for route in self.tunnel_routes(table, family)}
        chosen = PrefixSet(found)
        outer = [prefix for prefix in found if chosen.covering(prefix) == prefix]
        return [(found[prefix], prefix) for prefix in sorted(outer, key=lambda prefix: (prefix.length, prefix.address))]

    def tunnel_routes(self, table: int, family: Family) -> list[Route]:
        """The routes of one of the VPN's tables that lead into the tunnel."""
        return tunnel_routes(self.seen, self.goal, table, family)

    def lan_device(self, way: Way) -> str:
        """The device by which main reaches this part of the address space on-link; "" if there is none."""
        host = Prefix.of_host(way.part.prefix.family, way.part.address)
        devices = (route.attributes.devices for route in self.on_link(host))
        return next((each[0] for each in devices if not self.goal.is_by_tunnel(each)), "")

    def on_link(self, host: Prefix) -> list[Route]:
        """The on-link routes of main to this host, the longest prefix first, without a default route."""
        routes = chain.from_iterable(self.main(host.family).covering(host))
        return [route for route in routes if route.attributes.on_link and route.dst != "default"]

    def main(self, family: Family) -> Table:
        """The routes of main."""
        return self.network.table(MAIN, family)

    def routers(self, family: Family) -> frozenset[Prefix]:
        """The gateways of main, each as the prefix of a single host."""
        gateways = {shape.value("via") for shape in self.main(family).shapes}
        # A router of IPv4 may have an IPv6 address (`via inet6`).
        hosts = [host for host in gateways - {""} if (":" in host) == (family == "inet6")]
        return frozenset(Prefix.of_route(host, family) for host in hosts)

    def lans(self, family: Family) -> list[Prefix]:
        """The prefixes that main reaches on-link and the policy accepts, even if the VPN routes them explicitly.

        Those within a link are left out.
        """
        accepted = [verdict.route for verdict in self.goal.judged[family].verdicts if verdict.is_accepted]
        lans = dict.fromkeys(route.prefix for route in accepted if route.attributes.on_link)
        return [lan for lan in lans if not within_link(family, lan.address)]

    def may_be_tunnelled(self, decision: Decision) -> bool:
        """True if the packet leaves by the tunnel or by another device that may be one."""
        return self.is_tunnelled(decision) or self.network.may_be_tunnelled(decision)

    def gets_out(self, decision: Decision) -> bool:
        """True if the packet leaves by a device that is neither the tunnel nor another device that may be one."""
        return not self.is_tunnelled(decision) and self.network.gets_out(decision)

    def is_around_tunnel(self, way: Way) -> bool:
        """True if the packet leaves the machine, but neither into the tunnel nor to a LAN on its own link."""
        decision = way.decision
        if self.is_tunnelled(decision) or decision.outcome in OF_NO_HOST:
            return False
        if within_link(way.part.prefix.family, way.part.address):
            return False
        return not decision.devices or self.lan_device(way) not in decision.devices

    def copies_to(self, route: Route) -> list[Route]:
        """The routes that should be copied and have the same destination. Several links may be in one LAN."""
        return self._copies[route.attributes.family].get(route.dst, [])

    @cached_property
    def _copies(self) -> dict[Family, dict[str, list[Route]]]:
        return {family: by_destination(judged.wanted) for family, judged in self.goal.judged.items()}

    @cached_property
    def status(self) -> Status:
        """What `status` shows."""
        return status(self.config, self.seen, self.network)

    @cached_property
    def then(self) -> Network:
        """The network after a `sync`."""
        return in_step(self.network, self.goal, prune=self.config.lan.prune)

    @property
    def cut(self) -> list[Line]:
        """The LANs that packets reach neither now nor after a `sync`, although no setting leaves them out."""
        return [line for line in self.status.lan if line.is_stuck]

    @cached_property
    def lost_routes(self) -> list[LostRoute]:
        """The LANs that `sync` would cut, because main has lost their routes."""
        return lost_routes(self.network, self.goal, prune=self.config.lan.prune)

    @cached_property
    def vpns(self) -> list[Vpn]:
        """Every VPN that takes all traffic, the configured one included."""
        return detect(self.config, self.seen, self.network)

    @cached_property
    def full_tunnels(self) -> frozenset[str]:
        """The interfaces of these VPNs. Finding them is cheaper than `vpns`, which also judges each VPN."""
        found = (form for family in FAMILIES for form in forms(self.network, family))
        return frozenset(form.interface for form in found if form.has_device)

    @cached_property
    def has_no_mark(self) -> bool:
        """True if the configured VPN marks no packets. Then the mark in the configuration is an unused default."""
        tunnel = self.config.tunnel
        if tunnel.fwmark != FIREZONE_MARK or any(rule.mark == tunnel.fwmark for rule in self.network.rules):
            return False
        own = [vpn for vpn in self.vpns if vpn.interface == tunnel.interface]
        return any(vpn.product != FIREZONE and not vpn.mark for vpn in own)

    def is_of_another_vpn(self, rule: Rule) -> bool:
        """True if the rule has the form that VPN clients use, or leads into a device that may be a tunnel."""
        if rule.table in (0, MAIN, *self.goal.layout.tables):
            return False
        devices = self.network.table(rule.table, rule.family).devices
        is_marked = rule.mark is not None and rule.mark != self.config.tunnel.fwmark
        return is_marked or any(map(self.network.may_be_tunnel, devices))

    def usual_priority(self, table: int) -> int:
        """The priority that the configuration gives to the rule for one of the VPN's tables."""
        layout = self.goal.layout
        return layout.priorities[layout.tables.index(table)]

    def own_rule(self, family: Family, table: int, priority: int) -> Rule:
        """A rule to one of the VPN's tables, as its client would make it: for all packets without the VPN's mark."""
        return Rule(family, priority, "lookup", table, inverted=True, mark=self.config.tunnel.fwmark, protocol="boot")

    def reaches_main(self, family: Family) -> bool:
        """True if a rule looks up main for all packets."""
        plain = Rule(family, 0, "lookup", MAIN)
        return any(rule._replace(priority=0, protocol="") == plain for rule in self.seen.rules)

    # How remedies are spelled

    @property
    def config_path(self) -> str:
        """The configuration file in force."""
        return self.facts.get("config.path", DEFAULT_CONFIG)

    @property
    def netns(self) -> str:
        """The network namespace, "" for the current one."""
        return self.facts.get("netns", "")

    def ip(self, family: Family, words: str) -> str:
        """An `ip` command for the network namespace."""
        start = ["ip", *(["-n", self.netns] if self.netns else []), *(["-6"] if family == "inet6" else [])]
        return f"{shlex.join(start)} {words}"

    def inside(self, command: str) -> str:
        """A command that must run inside the network namespace."""
        return f"ip netns exec {shlex.quote(self.netns)} {command}" if self.netns else command

    def as_root(self, command: str, *, is_script: bool = False) -> str:
        """A command that only root may run. `is_script`: its redirections and the like need root, too."""
        if not self.needs_sudo:
            return command
        return f"sudo sh -c {shlex.quote(command)}" if is_script else f"sudo {command}"

    def fz_iproute(self, verb: str) -> str:
        """A run of fz-iproute with the same configuration."""
        config = self.config_path if self.config_path != self.usual_path else ""
        command = own_command(verb, config=config, netns=self.netns)
        return self.as_root(command) if verb in WRITING else command


def shown(rule: Rule) -> str:
    """The rule with its priority."""
    return f"{rule.priority}: {rule}"
