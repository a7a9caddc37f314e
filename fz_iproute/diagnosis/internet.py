"""Judges where packets to the internet go: whether they enter the tunnel, and whether they should."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Literal, NamedTuple

from fz_iproute.diagnosis.full_tunnel import becomes
from fz_iproute.diagnosis.lookup import Decision, usual
from fz_iproute.diagnosis.reach import Network, Way, size
from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.prefix import FAMILY_NAMES, Family
from fz_iproute.mirror.words import REFUSALS, table_name

# elsewhere: into another tunnel, or without a route
State = Literal["active", "blocked", "outside", "elsewhere"]


class Internet(NamedTuple):
    """What becomes of most packets of one family to the internet."""

    state: State
    decision: Decision | None  # about the largest part of them; None if the family has no rules
    is_carried: bool = False  # another device that may be a tunnel takes them

    def words(self, network: Network) -> str:
        """`leaves by eth0`, or `goes into wg0 by rule 5, table 51820`."""
        if self.state == "active" or self.decision is None:
            return "enters it"
        if self.state == "blocked":
            return "is blocked"
        by = f" by rule {self.decision.steps[-1].rule.priority}, table {table_name(self.decision.table)}"
        return f"{becomes(network, self.decision)}{by if self.is_carried else ''}"


def internet(network: Network, goal: Desired, family: Family) -> Internet:
    """Judge all packets to the internet that this machine sends without a mark."""

    def state(decision: Decision) -> State:
        if not decision.stays and goal.is_by_tunnel(decision.devices):
            return "active"
        if decision.outcome in REFUSALS.values():
            return "blocked"
        return "outside" if network.gets_out(decision) else "elsewhere"

    groups: dict[State, list[Way]] = defaultdict(list)
    for way in network.internet(usual(family)):
        groups[state(way.decision)].append(way)
    most: State = max(groups, key=lambda each: size(groups[each]), default="elsewhere")
    decision = groups[most][0].decision if groups[most] else None
    is_carried = most == "elsewhere" and decision is not None and network.may_be_tunnelled(decision)
    return Internet(most, decision, is_carried)


def joined(said: Mapping[Family, str], of: str = "") -> str:
    """`IPv4 and IPv6 leave by eth0`, or `IPv4 enters it, IPv6 leaves by eth0`. `of` follows the families' names."""
    families: dict[str, list[str]] = defaultdict(list)
    for family, what in said.items():
        families[what].append(FAMILY_NAMES[family])
    return ", ".join(
        f"{' and '.join(names)}{of} {_of_many(what) if len(names) > 1 else what}" for what, names in families.items()
    )


def _of_many(what: str) -> str:
    verb, _, rest = what.partition(" ")
    return f"{_PLURALS[verb]} {rest}"


_PLURALS = {"enters": "enter", "leaves": "leave", "goes": "go", "has": "have", "is": "are"}
