"""Checks whether the firewall of a VPN client stops packets that the routes send to the LAN."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from fz_iproute.diagnosis.checks.finding import Found, or_ok
from fz_iproute.diagnosis.machine import Machine
from fz_iproute.diagnosis.products import PRODUCTS
from fz_iproute.diagnosis.remedy import advice
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.mirror.words import some


class _Rule(NamedTuple):
    """A firewall rule, as record/firewall.py writes it down."""

    verdict: str  # accept or drop
    conditions: tuple[tuple[str, str], ...]  # to, noto, dev or nodev, each with its value
    maybe: bool  # it has more conditions, which were not recorded


class _Chain(NamedTuple):
    family: str
    table: str
    name: str
    policy: str
    rules: list[_Rule]


def firewall(machine: Machine) -> Iterator[Found]:
    """Check that no nft table of a known VPN client drops packets that the routes send to a LAN."""
    if "nft" not in machine.facts:
        yield Found("info", "could not look: nft is not installed, or does not list its tables to this user")
        return
    chains = _chains(machine.facts["nft"])
    yield from or_ok(_drops(machine, chains), "no nft table of a known VPN client drops packets to the LAN")


def _chains(text: str) -> list[_Chain]:
    found: list[_Chain] = []
    for line in text.splitlines():
        words = line.split(" ")
        if words[0] == "chain":
            family, table, name, policy = words[1:5]
            found.append(_Chain(family, table, name, policy, []))
        else:
            conditions = [word for word in words[1:] if word != "maybe"]
            pairs = tuple(zip(conditions[::2], conditions[1::2], strict=True))
            found[-1].rules.append(_Rule(words[0], pairs, "maybe" in words))
    return found


def _drops(machine: Machine, chains: Sequence[_Chain]) -> Iterator[Found]:
    for chain in chains:
        dropped: dict[str, list[str]] = defaultdict(list)
        for family in machine.families:
            for lan in machine.accepted(family) if chain.family in ("inet", _NFT[family]) else ():
                for device in _devices(machine, lan):
                    dropped[_verdict(chain, lan, device)].append(str(lan))
        seen = f"nft table {chain.family} {chain.table}, chain {chain.name},"
        why = "the routes are right, but the firewall of that VPN's client stops the packets on their way out"
        switches = (product.switch for product in PRODUCTS if product.name.lower() in chain.table)
        remedies = advice(next(filter(None, switches), _ASK))
        if lost := dropped["drop"]:
            yield Found("failure", f"{seen} drops packets to {some(lost)}", why, remedies)
        if lost := dropped["maybe"]:
            yield Found("info", f"{seen} may drop packets to {some(lost)}: not all of its rules are understood here")


_NFT: dict[Family, str] = {"inet": "ip", "inet6": "ip6"}
_ASK = "the client of that VPN may have a switch for LAN access"


def _devices(machine: Machine, lan: Prefix) -> list[str]:
    """The interfaces, except the tunnel, by which packets to the LAN leave."""
    decisions = [way.decision for way in machine.ways(lan)]
    outside = (each for each in decisions if each.outcome == "unicast" and not machine.is_tunnelled(each))
    return list(dict.fromkeys(device for each in outside for device in each.devices))


def _verdict(chain: _Chain, lan: Prefix, device: str) -> str:
    """What the chain does with a new connection to the LAN: accept, drop, or maybe if that is not certain."""
    may_accept = False
    for rule in chain.rules:
        fits = _fits(rule, lan, device)
        if fits is False:
            continue
        if fits and not rule.maybe:
            return "maybe" if rule.verdict == "drop" and may_accept else rule.verdict
        may_accept |= rule.verdict == "accept"
    return "maybe" if chain.policy == "drop" and may_accept else chain.policy


def _fits(rule: _Rule, lan: Prefix, device: str) -> bool | None:
    """Whether the rule matches packets to the LAN. None if it matches only a part of them."""
    devices = [value for key, value in rule.conditions if key == "dev"]
    other_devices = [value for key, value in rule.conditions if key == "nodev"]
    inside = [Prefix.parse(value) for key, value in rule.conditions if key == "to"]
    outside = [Prefix.parse(value) for key, value in rule.conditions if key == "noto"]
    if devices and not any(fnmatchcase(device, name) for name in devices):
        return False
    if any(fnmatchcase(device, name) for name in other_devices):
        return False
    if any(prefix.family != lan.family or prefix.covers(lan) for prefix in outside):
        return False
    if inside and not any(prefix.covers(lan) for prefix in inside):
        return None if any(lan.covers(prefix) for prefix in inside) else False
    return None if any(lan.covers(prefix) for prefix in outside) else True
