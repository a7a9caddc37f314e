"""The record of a machine, as the checks of `doctor` look at it: where its packets go, and how a remedy is spelled."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from fz_iproute.diagnosis.lookup import Decision, Packet, Tables, decide
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import Desired, desired
from fz_iproute.mirror.model import Route, Rule, Snapshot
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix, PrefixSet
from fz_iproute.record.recording import Recording

DEFAULT_CONFIG = "/etc/fz-iproute/config.toml"
# Addresses for documentation first: nobody has a route to just them, save against spoofing.
_INTERNET: dict[Family, list[str]] = {
    "inet": ["198.51.100.1", "203.0.113.1", "192.0.2.1", "1.1.1.1", "9.9.9.9"],
    "inet6": ["2001:db8:ffff::1", "2606:4700:4700::1111", "2620:fe::9", "2a00::1"],
}


@dataclass(frozen=True)
class Machine:
    """The record of a machine, and what has been made of it. There is no `snapshot` if `ip` did not answer."""

    recording: Recording
    config: Config
    snapshot: Snapshot | None
    tables: Mapping[int, Mapping[Family, Sequence[Route]]]  # main, local and all that rules look up

    @property
    def facts(self) -> Mapping[str, str]:
        """What was recorded beside `ip`."""
        return self.recording.facts

    @property
    def seen(self) -> Snapshot:
        """The snapshot, for checks that are only asked if there is one."""
        assert self.snapshot
        return self.snapshot

    @cached_property
    def goal(self) -> Desired:
        """What there should be beside what there is."""
        return desired(self.config, self.seen)

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """Those that the kernel has."""
        return tuple(family for family in FAMILIES if any(rule.family == family for rule in self.seen.rules))

    @cached_property
    def _lookup(self) -> Tables:
        return Tables(self.tables)

    @cached_property
    def _elsewhere(self) -> Mapping[Family, int]:
        """In each family an address that only a very wide route covers: somebody on the internet."""
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
        """What becomes of a packet of this machine; without an address, of one to the internet."""
        dst = self._elsewhere[family] if address is None else address
        return decide(Packet(family, dst, mark=mark), self.seen.rules, self._lookup, self.seen.links)

    def is_tunnelled(self, decision: Decision) -> bool:
        """True if the packet goes into the VPN."""
        return not self.goal.tunnels.isdisjoint(decision.devices)

    def has_internet(self, family: Family) -> bool:
        """True if the Internet Resource is active: the VPN takes what nobody else takes."""
        return self.is_tunnelled(self.way(family))

    def routes(self, table: int, family: Family) -> Sequence[Route]:
        """Those of a table of the VPN."""
        return self.seen.tables.get(table, {}).get(family, ())

    # How a remedy is spelled

    @property
    def netns(self) -> str:
        """The network namespace, "" if it is the one that we live in."""
        return self.facts.get("netns", "")

    def ip(self, family: Family, words: str) -> str:
        """An `ip` command."""
        start = ["ip", *(["-n", self.netns] if self.netns else []), *(["-6"] if family == "inet6" else [])]
        return f"{shlex.join(start)} {words}"

    def inside(self, command: str) -> str:
        """A command that works on the network which it runs in."""
        return f"ip netns exec {shlex.quote(self.netns)} {command}" if self.netns else command

    def fz_iproute(self, verb: str) -> str:
        """Ourselves, once more."""
        path = self.facts.get("config.path", DEFAULT_CONFIG)
        options = [*(["-c", path] if path != DEFAULT_CONFIG else []), *(["--netns", self.netns] if self.netns else [])]
        return shlex.join(["fz-iproute", *options, verb])

    def setting(self, section: str, line: str) -> str:
        """A line of the configuration file."""
        return f"in {self.facts.get('config.path', DEFAULT_CONFIG)}: [{section}] {line}"

    def lan_setting(self, key: Literal["allow", "deny"], prefix: Prefix) -> str:
        """The list of [lan] with one more prefix."""
        members = [*getattr(self.config.lan, key), prefix]
        quoted = ", ".join(f'"{member}"' for member in members)
        return self.setting("lan", f"{key} = [{quoted}]")

    def deletion(self, rule: Rule) -> str:
        """The command that deletes this rule: by its priority, if no other has that."""
        twins = [other for other in self.seen.rules if other[:2] == rule[:2]]
        protocol = f" protocol {rule.protocol}" if rule.protocol not in ("", "unspec") else ""
        words = f" {words_of(rule)}{protocol}" if len(twins) > 1 else ""
        return self.ip(rule.family, f"rule del priority {rule.priority}{words}")

    def addition(self, family: Family, table: int) -> str:
        """The command that adds the rule which leads to a table of the VPN."""
        layout = self.goal.layout
        priority = layout.priorities[layout.tables.index(table)]
        return self.ip(family, f"rule add not fwmark {self.config.tunnel.fwmark} lookup {table} priority {priority}")


def words_of(rule: Rule) -> str:
    """The rule as `ip` takes it: without what it only prints, `[detached]` for example."""
    return " ".join(word for word in str(rule).split() if not word.startswith("["))


def shown(rule: Rule) -> str:
    """The rule with its place."""
    return f"{rule.priority}: {rule}"
