"""Rules, tables and the lookup of packets, much faster than in a real kernel."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import Desired, desired, own_tables
from fz_iproute.mirror.model import Command, Link, Mark, Route, Rule, Snapshot
from fz_iproute.mirror.plan import check_roles, plan, remove_all
from fz_iproute.mirror.prefix import FAMILIES, Family
from tests.unit.fake_table import FakeTable
from tests.unit.routes import gatewayed, route

MAIN = 254
DEVICES = ["lo", "wlan0", "docker0", "uplink0", "tun-a", "tun-b"]
LINKS = {
    name: Link(name, ifindex, up=True, loopback=name == "lo", word=name, may_be_tunnel=name.startswith("tun"))
    for ifindex, name in enumerate(DEVICES, start=1)
}
_LAN = [
    route("192.168.188.0/24", "wlan0", prefsrc="192.168.188.112", metric=600),
    route("100.64.3.0/24", "docker0"),
    route("10.77.0.0/24", "uplink0"),
    gatewayed("default", "10.77.0.1", "uplink0"),
    route("fd00:188::/64", "wlan0"),
    route("fd00:2021:1111:3::/64", "docker0"),
    *(route("fe80::/64", device) for device in DEVICES[1:]),
    gatewayed("::/0", "fe80::1", "uplink0", metric=1024)._replace(dst="default"),
]  # fmt: skip
_MAIN = {family: tuple(line for line in _LAN if line.attributes.family == family) for family in FAMILIES}


class FakeKernel:
    """The rules and tables of a machine with a LAN, an uplink and two tunnels."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        for family in FAMILIES:
            self.rules += [
                Rule(family, priority, "lookup", table, protocol="kernel")
                for priority, table in ((0, 255), (32766, MAIN), (32767, 253))
            ]
        self.tables: dict[tuple[Family, int], FakeTable] = {}

    def copy(self) -> "FakeKernel":
        twin = FakeKernel()
        twin.rules = list(self.rules)
        twin.tables = {key: FakeTable(table.routes) for key, table in self.tables.items()}
        return twin

    def snapshot(self, config: Config) -> Snapshot:
        """What the reader returns for this configuration."""
        rules = tuple(sorted(self.rules, key=lambda rule: (rule.family, rule.priority)))
        return Snapshot(
            links=LINKS,
            rules=rules,
            main=_MAIN,
            tables={
                table: {family: tuple(self._routes(family, table)) for family in FAMILIES}
                for table in own_tables(config, rules)
            },
            numbered={family: frozenset(DEVICES) for family in FAMILIES},
        )

    def look(self, config: Config) -> Desired:
        return desired(config, self.snapshot(config))

    def planned(self, config: Config) -> list[Command]:
        """The plan. UsageError if a table would get a new role."""
        goal = self.look(config)
        check_roles(goal)
        return plan(goal)

    def sync(self, config: Config) -> list[Command]:
        """Carry out the plan. UsageError if a table would get a new role."""
        goal = self.look(config)
        check_roles(goal)
        due = plan(goal)
        self.run(due, goal)
        return due

    def syncing(self, config: Config, refuses: Callable[[Command], bool]) -> Iterator[Command]:
        """Each command of a sync, after it was run or refused. Commands that wait are left to the next reading."""
        for _ in range(3):
            goal = self.look(config)
            for command in plan(goal):
                if not command.waits:
                    if not refuses(command):
                        self._run(command, self._spelled(goal))
                    yield command

    def down(self, config: Config) -> list[Command]:
        goal = self.look(config)
        due = remove_all(goal)
        self.run(due, goal)
        return due

    def run(self, commands: Iterable[Command], goal: Desired) -> None:
        """Carry out commands that were planned for this goal. None may be refused."""
        spelled = self._spelled(goal)
        for command in commands:
            assert "" == self._run(command, spelled), command

    @staticmethod
    def _spelled(goal: Desired) -> dict[Family, dict[tuple[str, ...], Route]]:
        """The routes of each family by their words."""
        return {
            family: {line.words: line for found in tables.values() for line in (*found.wanted, *found.ours)}
            for family, tables in goal.contents.items()
        }

    def _run(self, command: Command, spelled: Mapping[Family, Mapping[tuple[str, ...], Route]]) -> str:
        if command.words[0] == "rule":
            self._run_rule(command)
            return ""
        table = self.tables.setdefault((command.family, int(command.words[3])), FakeTable([]))
        return table.run(command, spelled[command.family])

    def _run_rule(self, command: Command) -> None:
        _, verb, *words = command.words
        assert ["priority", "not", "fwmark", "lookup"] == [words[place] for place in (0, 2, 3, 5)]
        number, _, mask = words[4].partition("/")
        mark = Mark(int(number, 0), int(mask, 0)) if mask else Mark(int(number, 0))
        protocol = words[8] if len(words) > 7 else ""
        rule = Rule(command.family, int(words[1]), "lookup", int(words[6]), inverted=True, mark=mark)
        if verb == "add":
            rule = rule._replace(protocol=protocol or "boot")
            assert rule not in self.rules, f"File exists: {command}"
            self.rules.append(rule)
        else:
            fitting = [old for old in self.rules if old._replace(protocol="") == rule]
            self.rules.remove(next(old for old in fitting if protocol in ("", old.protocol)))

    def _routes(self, family: Family, table: int) -> list[Route]:
        found = self.tables.get((family, table))
        return found.routes if found else []

    def state(self) -> tuple[object, object]:
        """Rules and routes in a form that can be compared. Empty tables do not count."""
        rules = sorted(self.rules, key=lambda rule: (rule.family, rule.priority))
        return rules, {key: sorted(map(str, table.routes)) for key, table in self.tables.items() if table.routes}

    def way(self, address: str) -> str:
        """The device by which an unmarked packet leaves, or `unreachable`."""
        family: Family = "inet6" if ":" in address else "inet"
        for rule in sorted((rule for rule in self.rules if rule.family == family), key=lambda rule: rule.priority):
            routes = _MAIN[family] if rule.table == MAIN else self._routes(family, rule.table)
            wanted = _address(address)
            fitting = [line for line in routes if wanted in _network(line.dst, family)]
            if fitting:
                best = min(fitting, key=lambda line: (-_network(line.dst, family).prefixlen, line.attributes.metric))
                return best.attributes.devices[0] if best.attributes.type == "unicast" else best.attributes.type
        return "nowhere"


_address = cache(ip_address)


@cache
def _network(dst: str, family: Family) -> IPv4Network | IPv6Network:
    return ip_network({"inet": "0.0.0.0/0", "inet6": "::/0"}[family] if dst == "default" else dst)
