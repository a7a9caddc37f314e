"""What a person wants to know first: whether the VPN is up, which LANs can be reached, and what is to be done."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fz_iproute.diagnosis.status import Line, Status
from fz_iproute.mirror.prefix import FAMILIES, FAMILY_NAMES, Prefix


class Item(NamedTuple):
    """Something to look at. `kind` is due (`sync` changes it), wrong, or left out by the configuration."""

    kind: str
    state: str  # missing, changed, stale; "" if it is not due
    what: str
    where: str
    why: str


class Summary(NamedTuple):
    """What `status` says first."""

    vpn: str
    vpn_items: list[Item]
    verb: str  # that looks into it; "" if the configured tunnel is what carries packets
    lans: int  # how many there are, without those that nobody misses
    unmissed: int  # those
    reachable: int
    firewalls: str  # `Mullvad's firewall`, if it may stop packets to a LAN that has a route; else ""
    is_due: bool  # `sync` has something to do that has an effect
    is_idle: bool  # copies are due, but nobody needs them: all LANs are reachable, and no rule leads to the copies
    is_lost_then: bool  # some LAN that nobody has left out cannot be reached after a `sync`
    lan_items: list[Item]
    others: list[Line]  # LANs that are in step and reachable

    @property
    def items(self) -> list[Item]:
        """All of them."""
        return [*self.vpn_items, *self.lan_items]

    @property
    def is_good(self) -> bool:
        """Nothing is due and nothing is wrong."""
        return not self.is_due and all(item.kind == "left out" for item in self.items)


def summary(found: Status) -> Summary:
    """The most important first."""
    # A placeholder is no LAN, and a VPN's own network is none.
    unicast = [line for line in found.lan if line.route.attributes.type == "unicast" and line.state != "stale"]
    present = [line for line in unicast if found.own.isdisjoint(line.route.attributes.devices)]
    # A LAN that is left out although packets reach it is missed by nobody.
    lans = [line for line in present if line.state != "skipped" or line.lost]
    listed = {line: item for line in found.lan if (item := _lan_item(line, found))}
    items = [*listed.values(), *_parts(found)]
    return Summary(
        vpn="; ".join(_vpn(found)),
        vpn_items=[*_rule_items(found), *_vpn_items(found)],
        verb=_verb(found),
        lans=len(lans),
        unmissed=len(set(present) - set(lans)),
        reachable=sum(not line.lost for line in lans),
        firewalls=" and ".join(f"{name}'s firewall" for name in found.firewalls),
        is_due=found.is_used and found.commands > 0,
        is_idle=not found.is_used and found.commands > 0 and not any(line.lost for line in lans),
        is_lost_then=any(line.is_lost_then for line in lans),
        lan_items=sorted(items, key=lambda item: ("wrong", "due", "left out").index(item.kind)),
        others=[line for line in lans if line not in listed],
    )


def as_document(said: Summary) -> dict[str, Any]:
    """For programs."""
    return {"good": said.is_good, "lans": said.lans, "reachable": said.reachable}


# The VPN


def _verb(found: Status) -> str:
    if found.tunnel_state == "up" and not found.carriers:
        return ""
    if not (found.is_used or found.carriers):
        return ""  # the VPN is off
    return "detect" if found.absent or (found.tunnel_state == "missing" and not found.others) else "doctor"


def _vpn(found: Status) -> Iterator[str]:
    if found.absent:
        yield found.absent
        return
    name = found.tunnel
    is_up = found.tunnel_state == "up"
    active, blocked = _families(found, "active"), _families(found, "blocked")
    led = " and ".join(f"table {table} leads into {device}" for device, table in found.others.items())
    yield f"{name} is {found.tunnel_state}" + (f", but {led}" if led else "")
    if active:
        off = [FAMILY_NAMES[family] for family in FAMILIES if found.internet[family] == "off"]
        yield f"{_both(active)} enter{'s' * (len(active) == 1)} it" + (f", {_both(off)} does not" if off else "")
    elif is_up and not blocked:
        yield "packets to the internet do not enter it"
    if blocked:
        reasons = dict.fromkeys(filter(None, (found.obstacles.get(family) for family in FAMILIES)))
        why = f" ({', '.join(reasons)})" if is_up and reasons else ""
        yield f"{_both(blocked)} {'is' if len(blocked) == 1 else 'are'} blocked{why}"
    yield from found.carried
    yield f"copies in table {found.layout.mirror}"


def _families(found: Status, state: str) -> list[str]:
    return [FAMILY_NAMES[family] for family in FAMILIES if found.internet[family] == state]


def _both(families: Sequence[str]) -> str:
    return " and ".join(families)


def _rule_items(found: Status) -> Iterator[Item]:
    for rule, state in found.rules:
        if state in ("missing", "stale"):
            yield Item("due", state, f"rule {rule.priority}", FAMILY_NAMES[rule.family], f"{state}: {rule}")


def _vpn_items(found: Status) -> Iterator[Item]:
    for line in found.vpn:
        if line.state in ("missing", "stale"):
            yield _item("due", line, line.reason or line.state)
    for waiting in found.waiting:
        family, _, what = waiting.partition(": ")
        routes, _, why = what.partition("  # ")
        yield Item("left out", "", routes, "IPv4" if family == "inet" else "IPv6", f"waits: {why}")


# The LAN


def _lan_item(line: Line, found: Status) -> Item | None:
    """What there is to say about a LAN, None if it is in step and reachable, or if nobody misses it."""
    if line.is_stuck:
        takers = _takers(line, found)
        by = f"the VPN routes {takers}" if takers else line.reason if line.state == "skipped" else ""
        return _item("wrong", line, by or f"its packets {line.lost}")
    match line.state:
        case "missing" | "changed" | "stale" if not found.is_used:
            return None
        case "missing":
            return _item("due", line, "not copied yet")
        case "changed":
            return _item("due", line, line.reason)
        case "stale":
            return _item("left out" if line.stays else "due", line, f"stale: {line.reason}")
        case "skipped" if line.lost and found.own.isdisjoint(line.route.attributes.devices):
            return _item("left out", line, line.reason)
    return None


def _item(kind: str, line: Line, why: str) -> Item:
    state = line.state if kind == "due" else ""
    return Item(kind, state, line.route.dst, " ".join(line.route.attributes.devices), why)


def _takers(line: Line, found: Status) -> str:
    """What of the VPN takes all of this LAN."""
    lan = Prefix.of_route(line.route.dst, line.family)
    return " and ".join(str(shadow.tunnel) for shadow in found.shadows if shadow.whole and shadow.lan == lan)


def _parts(found: Status) -> Iterator[Item]:
    """LANs of which the VPN takes a part. Nothing is wrong with that, but the owner of the machine should know."""
    for shadow in found.shadows:
        if not shadow.whole:
            yield Item("left out", "", str(shadow.tunnel), "", f"a part of {shadow.lan} that the VPN routes")
