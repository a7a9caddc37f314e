"""A laptop for manage mode: a LAN, an uplink and a tunnel, but no rules or routes of the VPN yet."""

import shlex
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fz_iproute.ip.ip import Ip
from fz_iproute.ip.passes import Pass, Passes
from fz_iproute.log import Log
from fz_iproute.mirror.config_text import parse
from tests.netns import rtnetlink
from tests.netns.namespace import (
    MARK,
    MIRROR,
    TIER_INTERNET,
    TIER_LAN,
    TUNNEL,
    TUNNEL_UP,
    Machine,
    run,
)
from tests.netns.rtnetlink import FAMILIES, FR_ACT_TO_TBL, RTPROT_KERNEL, RawRoute, RawRule

ROUTES = ["100.64.0.0/11", "100.96.0.0/11", "100.100.111.0/24"]
ROUTES6 = ["fd00:2021:1111::/48"]
UPLINK = "uplink0"
TIERS = (MIRROR, TIER_LAN, TIER_INTERNET)
PRIORITIES = (100, 200, 300)
LOCAL = 255


class State(NamedTuple):
    """All rules and all routes, without those of the table `local`."""

    rules: dict[str, list[RawRule]]
    tables: dict[tuple[str, int], list[RawRoute]]


class Laptop(Machine):
    """The usual machine, whose tunnel has an address of each family and nothing else."""

    vpn_lines = TUNNEL_UP

    def _furnish(self) -> None:
        super()._furnish()
        self.wait_for_carrier(3)

    # Looking

    def state(self) -> State:
        """Everything. The kernel may still be changing the table `local`, so that is left out."""
        tables: dict[tuple[str, int], list[RawRoute]] = {}
        for family in FAMILIES:
            for table, route in rtnetlink.all_routes(self._netlink, family):
                if table != LOCAL:
                    tables.setdefault((family, table), []).append(route)
            for (of, _), routes in tables.items():
                if of == family:
                    # The order of IPv4 twins matters; all other order is the kernel's own.
                    routes.sort(key=(lambda route: route.group) if family == "inet" else None)
        return State({family: self.rules(family) for family in FAMILIES}, tables)

    def rules(self, family: str) -> list[RawRule]:
        return rtnetlink.rules(self._netlink, family)

    def added_rules(self, family: str) -> list[RawRule]:
        """The rules without the kernel's three."""
        return [rule for rule in self.rules(family) if rule.table not in (253, 254, 255)]

    def contents(self, table: int = MIRROR) -> list[str]:
        """The routes of a table as `ip` prints them, both families, without link-local and multicast ones."""
        return [
            line
            for family in FAMILIES
            for line in self.routes(family, table)
            if not line.startswith(("fe80:", "ff00:"))
        ]

    def leads(self, addresses: Iterable[str]) -> dict[str, str]:
        """The device that packets to each address leave by, or `unreachable`."""
        ways = {address: self.way(address) for address in addresses}
        return {address: "unreachable" if "RTNETLINK answers" in way else way for address, way in ways.items()}

    # Doing

    def passes(self, config: str) -> Passes:
        return Passes(Ip(self.name), parse(config, "test"), Log("ERROR"))

    def sync(self, config: str) -> list[str]:
        """Run `sync` in this process; the commands that it ran."""
        return self._carried_out(self.passes(config).sync())

    def down(self, config: str) -> list[str]:
        return self._carried_out(self.passes(config).down())

    def planned(self, config: str) -> list[str]:
        """The lines that `plan` prints, without their reasons."""
        return [Ip(self.name).line(command) for command in self.passes(config).plan_sync()]

    def _carried_out(self, done: Pass) -> list[str]:
        assert [] == done.failures
        return [Ip(self.name).line(command) for command in done.commands]


def manage(
    *,
    routes: Sequence[str] = (*ROUTES, *ROUTES6),
    layout: str = "single",
    tables: dict[str, int | str] | None = None,
    rules: dict[str, object] | None = None,
    lan: dict[str, object] | None = None,
    watch: dict[str, object] | None = None,
    **tunnel: object,
) -> str:
    """The text of a configuration in manage mode, with the Internet Resource. `tunnel` has more keys of its section."""
    usual = {"mode": "manage", "interface": TUNNEL, "fwmark": MARK, "routes": routes, "internet": True}
    sections: dict[str, dict[str, object]] = {
        "tunnel": {**usual, **tunnel},
        "tables": {"layout": layout, **(tables or {})},
        "rules": rules or {},
        "lan": lan or {},
        "watch": watch or {},
    }
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())
        for name, values in sections.items()
        if values
    )


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(item)}' for key, item in value.items())} }}"
    return f"'{value}'" if isinstance(value, str) else str(value)


def our_rule(family: str, priority: int, table: int, mark: int = MARK, mask: int = 2**32 - 1) -> RawRule:
    """`not from all fwmark MARK lookup TABLE`, of protocol kernel, in all its attributes."""
    return RawRule(family, priority, table, FR_ACT_TO_TBL, True, mark, mask, RTPROT_KERNEL, ())


def pasted(lines: Iterable[str]) -> None:
    """Run lines as if somebody had pasted them into a shell."""
    for line in lines:
        run(*shlex.split(line, comments=True))
