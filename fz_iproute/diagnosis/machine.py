"""A recorded machine as the checks of `doctor` see it: the ways of its packets, and the words of a remedy."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from fz_iproute.diagnosis.lookup import Decision, Fib, Packet, decide
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import Desired, desired
from fz_iproute.mirror.model import Route, Rule, Snapshot
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix, PrefixSet
from fz_iproute.record.recording import Recording

DEFAULT_CONFIG = "/etc/fz-iproute/config.toml"
# Addresses for documentation first: hardly anybody has a route to one of them.
_INTERNET: dict[Family, list[str]] = {
    "inet": ["198.51.100.1", "203.0.113.1", "192.0.2.1", "1.1.1.1", "9.9.9.9"],
    "inet6": ["2001:db8:ffff::1", "2606:4700:4700::1111", "2620:fe::9", "2a00::1"],
}


@dataclass(frozen=True)
class Machine:
    """A recording and what follows from it. `snapshot` is None if `ip` did not answer."""

    recording: Recording
    config: Config
    snapshot: Snapshot | None
    tables: Mapping[int, Mapping[Family, Sequence[Route]]]  # main, local and all other tables that rules look up

    @property
    def facts(self) -> Mapping[str, str]:
        """What was recorded besides the output of `ip`."""
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

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """The families that the kernel has."""
        return tuple(family for family in FAMILIES if any(rule.family == family for rule in self.seen.rules))

    @cached_property
    def _fib(self) -> Fib:
        return Fib(self.tables)

    @cached_property
    def _on_internet(self) -> Mapping[Family, int]:
        """In each family an address on the internet: only very wide routes cover it."""
        found: dict[Family, int] = {}
        for family, addresses in _INTERNET.items():
            prefixes = (
                Prefix.of_route(route.dst, family)
                for table in self.tables.values()
                for route in table.get(family, ())
                if route.dst != "default"
            )
            narrow = PrefixSet(prefix for prefix in prefixes if prefix.length >= 8)
            candidates = [Prefix.parse(address) for address in addresses]
            found[family] = next((each for each in candidates if not narrow.covers(each)), candidates[-1]).address
        return found

    def way(self, family: Family, address: int | None = None, mark: int = 0) -> Decision:
        """The way of a packet that this machine sends; without an address, of one to the internet."""
        dst = self._on_internet[family] if address is None else address
        return decide(Packet(family, dst, mark=mark), self.seen.rules, self._fib, self.seen.links)

    def is_tunnelled(self, decision: Decision) -> bool:
        """True if the packet goes into the VPN."""
        return not self.goal.tunnels.isdisjoint(decision.devices)

    def has_internet(self, family: Family) -> bool:
        """True if the Internet Resource is active: packets that match nothing else go into the VPN."""
        return self.is_tunnelled(self.way(family))

    def routes(self, table: int, family: Family) -> Sequence[Route]:
        """The routes of a table of the VPN."""
        return self.seen.tables.get(table, {}).get(family, ())

    # The words of remedies

    @property
    def netns(self) -> str:
        """The network namespace, "" for the current one."""
        return self.facts.get("netns", "")

    def ip(self, family: Family, words: str) -> str:
        """An `ip` command in the network namespace."""
        start = ["ip", *(["-n", self.netns] if self.netns else []), *(["-6"] if family == "inet6" else [])]
        return f"{shlex.join(start)} {words}"

    def inside(self, command: str) -> str:
        """A command that must run inside the network namespace."""
        return f"ip netns exec {shlex.quote(self.netns)} {command}" if self.netns else command

    def fz_iproute(self, verb: str) -> str:
        """A run of fz-iproute with the same configuration."""
        path = self.facts.get("config.path", DEFAULT_CONFIG)
        options = [*(["-c", path] if path != DEFAULT_CONFIG else []), *(["--netns", self.netns] if self.netns else [])]
        return shlex.join(["fz-iproute", *options, verb])

    def setting(self, section: str, line: str) -> str:
        """A line for the configuration file."""
        return f"in {self.facts.get('config.path', DEFAULT_CONFIG)}: [{section}] {line}"

    def lan_setting(self, key: Literal["allow", "deny"], prefix: Prefix) -> str:
        """The list of [lan] with one more prefix."""
        members = [*getattr(self.config.lan, key), prefix]
        quoted = ", ".join(f'"{member}"' for member in members)
        return self.setting("lan", f"{key} = [{quoted}]")

    def deletion(self, rule: Rule) -> str:
        """The command that deletes this rule: by its priority alone if no other rule has that."""
        twins = [other for other in self.seen.rules if other[:2] == rule[:2]]
        protocol = f" protocol {rule.protocol}" if rule.protocol not in ("", "unspec") else ""
        words = f" {_words(rule)}{protocol}" if len(twins) > 1 else ""
        return self.ip(rule.family, f"rule del priority {rule.priority}{words}")

    def addition(self, family: Family, table: int) -> str:
        """The command that adds a rule to a table of the VPN."""
        layout = self.goal.layout
        priority = layout.priorities[layout.tables.index(table)]
        return self.ip(family, f"rule add not fwmark {self.config.tunnel.fwmark} lookup {table} priority {priority}")


def _words(rule: Rule) -> str:
    """The rule as `ip` accepts it. `ip` also prints states that it does not accept, such as `[detached]`."""
    return " ".join(word for word in str(rule).split() if not word.startswith("["))


def shown(rule: Rule) -> str:
    """The rule with its priority."""
    return f"{rule.priority}: {rule}"


def host_in(route: Route, family: Family) -> int:
    """The address of a host inside the route's prefix."""
    prefix = Prefix.of_route(route.dst, family)
    return prefix.address + (prefix.length < (32 if family == "inet" else 128))


def protocol_of(route: Route) -> str:
    """Who made the route: kernel, dhcp, …"""
    words = route.attributes.words
    return words[words.index("proto") + 1] if "proto" in words else ""
