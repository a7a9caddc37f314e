"""A recorded machine as the checks of `doctor` see it: where its packets go, and how a remedy is spelled there."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from fz_iproute.diagnosis.detect import Vpn, detect
from fz_iproute.diagnosis.fib import Table
from fz_iproute.diagnosis.full_tunnel import forms
from fz_iproute.diagnosis.internet import joined
from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.lookup import Decision, usual, within_link
from fz_iproute.diagnosis.products import Form
from fz_iproute.diagnosis.reach import OF_NO_HOST, Way
from fz_iproute.mirror.model import Route, Rule, by_destination
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix, PrefixSet
from fz_iproute.mirror.words import MAIN
from fz_iproute.own_commands import WRITING, own_command
from fz_iproute.record.recording import Recording

DEFAULT_CONFIG = "/etc/fz-iproute/config.toml"


@dataclass(frozen=True)
class Machine(Judgement):
    """A recording, what `ip` said of the machine, and what can be concluded from both."""

    recording: Recording
    is_read: bool = True  # False if `ip` did not answer
    connected: tuple[Route, ...] = ()  # the IPv4 routes that main should have for the networks of own addresses
    usual_path: str = DEFAULT_CONFIG  # the configuration file that fz-iproute reads here without -c
    needs_sudo: bool = False  # True if an ordinary user of this machine runs `doctor`

    @property
    def facts(self) -> Mapping[str, str]:
        """Everything that was recorded besides the output of `ip`, by name."""
        return self.recording.facts

    @property
    def families(self) -> tuple[Family, ...]:
        """The families that the kernel supports."""
        return self.network.families

    def way(self, family: Family, address: int, src: int = 0) -> Decision:
        """Where one packet goes that this machine sends."""
        return self.network.way(usual(family, address)._replace(src=src))

    def ways_to_internet(self, family: Family) -> list[Way]:
        """Where packets to each part of the internet go, the largest part first."""
        return self.network.internet(usual(family))

    def has_internet(self, family: Family) -> bool:
        """True if most packets to the internet enter the VPN."""
        return family in self.internet and self.internet[family].state == "active"

    def outside(self, *families: Family) -> str:
        """`IPv4 and IPv6 to the internet leave by eth0, outside the tunnel`. "" if neither does."""
        found = {family: each for family, each in self.internet.items() if family in families}
        leaving = {family: each.words(self.network) for family, each in found.items() if each.state == "outside"}
        return f"{joined(leaving, ' to the internet')}, outside the tunnel" if leaving else ""

    def ways(self, prefix: Prefix, *, src: int = 0) -> list[Way]:
        """Where packets that this machine sends to each part of the prefix go."""
        return self.network.ways(prefix, usual(prefix.family)._replace(src=src))

    def sources(self, family: Family) -> list[int]:
        """The sources worth trying: 0 (not chosen yet), and each own address that a rule selects by."""
        selected = [rule.src for rule in self.network.rules if rule.family == family and rule.src]
        own = dict.fromkeys(each.prefix for each in self.network.own(family))
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

    def on_link(self, host: Prefix) -> list[Route]:
        """The on-link routes of main to this host, without a default route, and those to a card's own network."""
        routes = chain.from_iterable(self.main(host.family).covering(host))
        by_main = (route for route in routes if route.attributes.on_link and route.dst != "default")
        return [*by_main, *self.network.homes(host)]

    def main(self, family: Family) -> Table:
        """The routes of main."""
        return self.network.table(MAIN, family)

    def unconnected(self, device: str) -> list[Route]:
        """The routes that main should have for the networks of this device's addresses, and that it has not."""
        missing = (each for each in self.connected if not self.main("inet").to(each.prefix))
        mine = by_destination(each for each in missing if each.attributes.devices == (device,))
        return [same[0] for same in mine.values()]

    def routers(self, family: Family) -> frozenset[Prefix]:
        """The gateways of main, each as the prefix of a single host."""
        gateways = {shape.value("via") for shape in self.main(family).shapes}
        # A router of IPv4 may have an IPv6 address (`via inet6`).
        hosts = [host for host in gateways - {""} if (":" in host) == (family == "inet6")]
        return frozenset(Prefix.of_route(host, family) for host in hosts)

    def accepted(self, family: Family) -> list[Prefix]:
        """The LANs on the link that no setting leaves out, except those within a link."""
        return [
            lan.prefix
            for (_, devices), lan in self.lans.items()
            if lan.is_wanted and not devices and lan.prefix.family == family and lan.routes[0].attributes.on_link
        ]

    def may_be_tunnelled(self, decision: Decision) -> bool:
        """True if the packet leaves by the tunnel or by another device that may be one."""
        return self.is_tunnelled(decision) or self.network.may_be_tunnelled(decision)

    def gets_out(self, decision: Decision) -> bool:
        """True if the packet leaves by a device that is neither the tunnel nor another device that may be one."""
        return self.network.gets_out(decision, self.goal.tunnels)

    def is_around_tunnel(self, way: Way) -> bool:
        """True if the packet leaves the machine, but neither into the tunnel nor to a LAN on its own link."""
        decision, family = way.decision, way.part.prefix.family
        is_inside = self.is_tunnelled(decision) and not self.gets_out(decision)
        if is_inside or decision.outcome in OF_NO_HOST or within_link(family, way.part.address):
            return False
        by_main = [route.attributes.devices for route in self.on_link(Prefix.of_host(family, way.part.address))]
        return not any(decision.devices == devices for devices in by_main if not self.goal.is_by_tunnel(devices))

    @cached_property
    def vpns(self) -> list[Vpn]:
        """Every VPN that takes all traffic, the configured one included."""
        return detect(self.config, self.snapshot, self.network)

    @cached_property
    def taps(self) -> list[Vpn]:
        """The VPNs that take all traffic, if the devices by which it leaves are taps, which look like network cards.

        The default route of main tells nothing: each network card may have one.
        """
        most = [each.decision for each in self.internet.values() if each.decision and each.state == "outside"]
        chosen = [each for each in most if each.route and (each.table, each.route.dst) != (MAIN, "default")]
        devices = dict.fromkeys(device for each in chosen for device in each.devices)
        found = ((device, detect(self.config, self.snapshot, self.network, device)) for device in devices)
        return [vpn for device, vpns in found for vpn in vpns if vpn.interface == device]

    @cached_property
    def forms(self) -> list[Form]:
        """The forms of these VPNs. Finding them is cheaper than `vpns`, which also judges each VPN."""
        return [form for family in FAMILIES for form in forms(self.network, family)]

    def is_of_another_vpn(self, rule: Rule) -> bool:
        """True if the rule has the form that VPN clients use, or leads into another device that may be a tunnel."""
        if rule.table in (0, MAIN, *self.goal.layout.tables):
            return False
        devices = self.network.table(rule.table, rule.family).devices
        is_marked = rule.mark is not None and rule.mark != self.config.tunnel.fwmark
        return (is_marked and bool(devices - {"lo"})) or self.network.may_be_by_tunnel(devices - self.goal.tunnels)

    def usual_priority(self, table: int) -> int:
        """The priority that the configuration gives to the rule for one of the VPN's tables."""
        layout = self.goal.layout
        return layout.priorities[layout.tables.index(table)]

    def shows(self, vpn: Vpn) -> str:
        """The command that shows what to do about this VPN."""
        return f"`{self.fz_iproute('detect')} --interface {shlex.quote(vpn.interface)}`"

    def own_rule(self, family: Family, table: int) -> Rule | None:
        """A rule to one of the VPN's tables, as its client would make it: for all packets without the VPN's mark.

        None if it is not known to make such rules: it has made others, or the mark may be an unused default.
        """
        mark = self.config.tunnel.fwmark
        rule = Rule(family, self.usual_priority(table), "lookup", table, inverted=True, mark=mark, protocol="boot")
        led = [each for family in FAMILIES for same in self.leading(family).values() for each in same]
        is_known = any(
            each._replace(family=family, priority=rule.priority, table=table, protocol=rule.protocol) == rule
            for each in led
        )
        return rule if is_known or (self.is_mark_set and not led) else None

    def reaches_main(self, family: Family) -> bool:
        """True if a rule looks up main for all packets."""
        plain = Rule(family, 0, "lookup", MAIN)
        return any(rule._replace(priority=0, protocol="") == plain for rule in self.network.rules)

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
