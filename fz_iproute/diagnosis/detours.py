"""Finds rules that send only some packets to a LAN elsewhere: those to a part of it, or those of a port or a user."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from fz_iproute.diagnosis.lookup import Packet, usual, within_link
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.reached import fates, lost
from fz_iproute.diagnosis.shadow import taker
from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.model import Rule, by_destination
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import some

# The selectors that packets to a LAN usually differ in, by the field of a packet, with the keys of `ip -json`.
_SELECTORS = {
    "ipproto": ("ipproto",),
    "sport": ("sport", "sport_start"),
    "dport": ("dport", "dport_start"),
    "uid": ("uid_start",),
    "tos": ("tos",),
}


class Detour(NamedTuple):
    """A rule, and what becomes of the packets to LANs that it takes."""

    rule: Rule
    parts: tuple[str, ...]  # LANs or parts of them
    becomes: str  # `enter tun-firezone`
    is_partial: bool  # only some packets to these parts: those that match all selectors of the rule

    @property
    def document(self) -> dict[str, Any]:
        """The detour as JSON."""
        rule, parts, becomes, is_partial = self
        named = {"family": rule.family, "priority": rule.priority, "rule": str(rule)}
        return {**named, "dst": list(parts), "partial": is_partial, "lost": becomes}

    def __str__(self) -> str:
        which = f" that match `{self.rule}`" if self.is_partial else ", a part of a LAN,"
        return f"packets to {some(self.parts)}{which} {self.becomes}"


def detours(network: Network, goal: Desired) -> list[Detour]:
    """The detours of all rules. LANs that are lost as a whole are left out."""
    return [detour for family in FAMILIES for detour in _detours(network, goal, family)]


def _detours(network: Network, goal: Desired, family: Family) -> Iterator[Detour]:
    copies = by_destination(goal.judged[family].wanted)
    lans = {same[0].prefix: same for same in copies.values() if not within_link(family, same[0].prefix.address)}
    for rule in (rule for rule in network.rules if rule.family == family):
        if (like := matching(rule)) is None:
            continue
        is_partial = like != usual(family)
        found: dict[str, list[str]] = defaultdict(list)
        for lan, same in lans.items():
            part = rule.dst if rule.dst and lan.covers(rule.dst) else lan
            is_taken = is_partial and (not rule.dst or rule.dst.covers(part))
            if not (is_taken or part != lan) or lost(network, same[0], same):
                continue
            for fate in fates(network, same[0], same, like):
                steps = fate.decision.steps
                is_here = any(step.rule == rule and step.result in ("decides", "goto") for step in steps)
                if fate.lost and is_here and not taker(fate.decision, goal):
                    found[fate.lost].append(str(part))
        for words, parts in found.items():
            yield Detour(rule, tuple(dict.fromkeys(parts)), words, is_partial)


def matching(rule: Rule) -> Packet | None:
    """A packet that matches the rule, apart from its destination, and is usual otherwise. None if none is simple."""
    if rule.inverted or rule.src or rule.mark or rule.iif not in ("", "lo") or rule.oif:
        return None
    options = dict(rule.options)
    values = {field: options[key] for field, keys in _SELECTORS.items() for key in keys if key in options}
    try:
        numbers: dict[str, Any] = {field: int(value.removeprefix("ipproto-"), 0) for field, value in values.items()}
    except ValueError:
        return None  # a name, which only the machine's own files translate
    return usual(rule.family)._replace(**numbers)
