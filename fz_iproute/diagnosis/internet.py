"""Judges where packets to the internet go: whether they enter the tunnel, and whether they should."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Literal, NamedTuple

from fz_iproute.diagnosis.lookup import Decision, usual
from fz_iproute.diagnosis.reach import Network, Way, size
from fz_iproute.mirror.prefix import FAMILY_NAMES, Family
from fz_iproute.mirror.words import REFUSALS, printable, table_name

# elsewhere: into another tunnel, or without a route
State = Literal["active", "blocked", "outside", "elsewhere"]


class Internet(NamedTuple):
    """What becomes of most packets of one family to the internet."""

    state: State
    decision: Decision | None  # about the largest part of them; None if the family has no rules
    is_carried: bool = False  # another device that may be a tunnel takes them
    leaving: str = ""  # if most enter the tunnel: by which devices a large part leaves outside of it

    def words(self, network: Network) -> str:
        """`leaves by eth0`, or `goes into wg0 by rule 5, table 51820`."""
        if self.state == "active" or self.decision is None:
            return "enters it"
        if self.state == "blocked":
            return "is blocked"
        return becomes(network, self.decision) + (f" by {by(self.decision)}" if self.is_carried else "")


def by(decision: Decision) -> str:
    """The rule and the table that decide: `rule 5, table 51820`, or only the rule."""
    table = f", table {table_name(decision.table)}" if decision.table else ""
    return f"rule {decision.steps[-1].rule.priority}{table}"


def internet(network: Network, tunnels: Collection[str], family: Family) -> Internet:
    """Judge all packets to the internet that this machine sends without a mark, if these devices are the VPN's."""

    def state(decision: Decision) -> State:
        if not decision.stays and not set(tunnels).isdisjoint(decision.devices):
            return "active"
        if decision.outcome in REFUSALS.values():
            return "blocked"
        return "outside" if network.gets_out(decision) else "elsewhere"

    ways = network.internet(usual(family))
    groups: dict[State, list[Way]] = defaultdict(list)
    around: dict[Hashable, list[Way]] = defaultdict(list)
    for way in ways:
        groups[state(way.decision)].append(way)
        if network.gets_out(way.decision, tunnels):
            around[way.decision.steps[-1].rule].append(way)
    most: State = max(groups, key=lambda each: (size(groups[each]), each == "active"), default="elsewhere")
    decision = groups[most][0].decision if groups[most] else None
    is_carried = most == "elsewhere" and decision is not None and network.may_be_tunnelled(decision)
    leaving = max(around.values(), key=size, default=[]) if most == "active" else []
    devices = dict.fromkeys(network.outside(leaving[0].decision, tunnels)) if is_large(leaving, ways) else {}
    return Internet(most, decision, is_carried, printable(" or ".join(devices)))


def by_family(network: Network, tunnels: Collection[str]) -> dict[Family, Internet]:
    """The same for each family of the network."""
    return {family: internet(network, tunnels, family) for family in network.families}


def is_large(part: Sequence[Way], ways: Sequence[Way]) -> bool:
    """True if it is a large part of the internet: 1/128 of it, which is a /7 of IPv4, or more."""
    return bool(part) and 128 * size(part) >= size(ways)


def becomes(network: Network, way: Decision, tunnels: Collection[str] = ()) -> str:
    """What becomes of packets: `goes into wg0`, or `leaves by eth0`. `tunnels` are tunnels whatever they look like."""
    if way.outcome == "unicast":
        return network.hop(way, "goes into", "leaves by", tunnels)
    return "has no route" if way.outcome == "none" else "is refused"


def all_traffic(network: Network, interface: str) -> str:
    """`all traffic goes into wg0 (IPv4 and IPv6)`, or `IPv4 goes into wg0 (IPv6 leaves by eth0)`.

    "" if the interface takes no family's traffic.
    """
    found = by_family(network, [interface])
    inside = {FAMILY_NAMES[family]: each for family, each in found.items() if each.state == "active"}
    if not inside:
        return ""
    others = [f"some {name} leaves by {each.leaving}" for name, each in inside.items() if each.leaving]
    others += [
        f"{FAMILY_NAMES[family]} {becomes(network, each.decision)}"
        for family, each in found.items()
        if each.decision and each.state != "active"
    ]
    families, into = " and ".join(inside), f"into {printable(interface)}"
    if others or len(inside) < len(found):
        return f"{families} {'go' if len(inside) > 1 else 'goes'} {into}" + (
            f" ({', '.join(others)})" if others else ""
        )
    return f"all traffic goes {into} ({families})"


def traffic_of(network: Network, interface: str, family: Family) -> str:
    """The same about an interface that takes this family, without what `all traffic` implies. "" if it does not."""
    if internet(network, [interface], family).state != "active":
        return ""
    said = all_traffic(network, interface)
    return said.partition(" (")[0] if said.startswith("all") else said


def leak(network: Network, interface: str) -> str:
    """`IPv6 leaves by eth0, outside the VPN` if the VPN takes the other family, or the rest of this one; else ""."""
    found = by_family(network, [interface])
    around = {family: each.words(network) for family, each in found.items() if each.state == "outside"}
    said = [*filter(None, [joined(around)]), *partly(found)]
    is_taken = any(each.state == "active" for each in found.values())
    return f"{', '.join(said)}, outside the VPN" if said and is_taken else ""


def partly(found: Mapping[Family, Internet]) -> list[str]:
    """`some IPv4 and IPv6 leave by eth0`, if most of it enters the tunnel. Empty if none leaves."""
    said = joined({family: f"leaves by {each.leaving}" for family, each in found.items() if each.leaving})
    return [f"some {said}"] if said else []


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
