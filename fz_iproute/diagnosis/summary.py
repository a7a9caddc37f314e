"""Summarizes the status: whether the VPN is up, which LANs can be reached, and what to do."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fz_iproute.diagnosis.lans import Key, Loss, key
from fz_iproute.diagnosis.outages import Outage, together
from fz_iproute.diagnosis.status import Line, Status
from fz_iproute.mirror.placeholder import is_placeholder
from fz_iproute.mirror.prefix import FAMILY_NAMES
from fz_iproute.mirror.words import MAIN, some, table_name


class Item(NamedTuple):
    """A rule or a route that needs attention."""

    kind: str  # due (`sync` changes it), wrong, or left out (by the configuration)
    state: str  # missing, changed, stale; "" if it is not due
    what: str  # the rule or the destination
    where: str  # the family of a rule, or the devices of a route
    why: str


class Summary(NamedTuple):
    """The summary, from which the short form of `status` is drawn."""

    vpn: str  # the state of the VPN in words
    vpn_items: list[Item]
    verb: str  # the verb that tells more about the VPN; "" if the configured tunnel carries the packets, or it is off
    lans: int  # how many LANs there are
    reachable: int  # how many of `lans` packets reach
    firewalls: str  # `Mullvad's firewall`, if it may stop packets to a LAN that has a route; else ""
    is_due: bool  # `sync` has something to do that makes a difference
    is_early: bool  # but no LAN becomes reachable by that now
    is_idle: bool  # copies are not needed: packets reach all LANs, and no rule leads to the copies
    is_left_out: bool  # the settings leave out every LAN, and packets do not reach all of them
    how: str  # `by table 300`, or `without copies`: how packets reach the LANs
    is_lost_then: bool  # it is worse after a `sync`, or packets do not reach a LAN that no setting leaves out
    is_worse_then: bool  # a `sync` would cut a LAN, let packets out of the tunnel, block them, or refuse to run
    lan_items: list[Item]
    unused: list[str]  # network cards that reach no LAN
    others: list[Line]  # LANs that are reachable and need no attention

    @property
    def items(self) -> list[Item]:
        """All items, about the VPN and about LANs."""
        return [*self.vpn_items, *self.lan_items]

    @property
    def is_good(self) -> bool:
        """True if nothing is due and nothing is wrong."""
        return not self.is_due and all(item.kind == "left out" for item in self.items)


def summary(found: Status) -> Summary:
    """Summarize the status. Items that are wrong come first, then those that are due."""
    # A copy of which main has lost the original stands for its LAN.
    lans = [line for line in found.lan if line.lan or (line.state == "stale" and line.is_lost_then)]
    listed = {line: item for line in found.lan if (item := _lan_item(line, found))}
    losses = (_loss_item(loss) for loss in found.losses if loss.extent != "whole")
    items = [*listed.values(), *losses, *(_outage_item(same, why) for same, why in together(found.outages))]
    unrouted = sum(bool(outage.lost) for outage in found.outages)
    names, lost = ({_name(line) for line in lans if is_all or line.lost} for is_all in (True, False))
    named = {_name(line) for line in listed}
    is_worse_then = bool(found.danger) or any(line.is_worse_then for line in lans)
    return Summary(
        vpn="; ".join([*vpn(found), *([] if found.absent else [f"copies in table {found.layout.mirror}"])]),
        vpn_items=[*_rule_items(found), *_vpn_items(found)],
        verb=_verb(found, is_cut=bool(lost)),
        lans=len(names) + unrouted,
        reachable=len(names - lost),
        firewalls=" and ".join(f"{name}'s firewall" for name in found.firewalls),
        is_due=found.is_used and found.commands > 0,
        is_early=not any(line.is_regained for line in lans),
        is_idle=not (found.is_used or lost),
        is_left_out=bool(lost) and not any(line.is_wanted for line in lans),
        how=f"by {' and '.join(map(_table, found.used))}" if {*found.used} - {MAIN} else "without copies",
        is_lost_then=is_worse_then or any(line.is_lost_then for line in lans),
        is_worse_then=is_worse_then,
        unused=[outage.name for outage in found.outages if not (outage.lans or outage.lost)],
        lan_items=sorted(items, key=lambda item: ("wrong", "due", "left out").index(item.kind)),
        others=[line for line in lans if _name(line) not in named and not line.lost],
    )


def _table(table: int) -> str:
    return f"table {table_name(table)}"


def _name(line: Line) -> Key:
    return line.lan or key(line.route)


def as_document(said: Summary) -> dict[str, Any]:
    """For programs: the most important values of the summary, as a JSON document."""
    return {"good": said.is_good, "lans": said.lans, "reachable": said.reachable}


# The VPN


def _verb(found: Status, *, is_cut: bool) -> str:
    if found.tunnel_state == "up":
        return "doctor" if found.needs_doctor else ""
    if not (found.is_used or (found.carriers and (is_cut or found.firewalls))):
        return ""  # the VPN is off, or another one keeps the LAN
    is_other = found.tunnel_state == "missing" and found.carriers and not found.others
    return "detect" if found.absent or is_other else "doctor"


def vpn(found: Status) -> Iterator[str]:
    """The state of the VPN: whether it is up, and whether packets to the internet enter it."""
    if found.absent:
        yield found.absent
        return
    led = " and ".join(f"table {table} leads into {device}" for device, table in found.others.items())
    but = "has no carrier: no program reads it, and its packets are lost" if found.is_dead else led
    yield f"{found.tunnel} is {found.tunnel_state}" + (f", but {but}" if but else "")
    yield from filter(None, (found.traffic, found.danger))


def _rule_items(found: Status) -> Iterator[Item]:
    for rule, state in found.rules:
        if state in ("missing", "stale"):
            yield Item("due", state, f"rule {rule.priority}", FAMILY_NAMES[rule.family], f"{state}: {rule}")


def _vpn_items(found: Status) -> Iterator[Item]:
    for line in found.vpn:
        if line.state in ("missing", "stale"):
            yield _item("due", line, line.reason or line.state)
    for family, routes, obstacle in found.waiting:
        yield Item("left out", "", ", ".join(routes), FAMILY_NAMES[family], f"waits: {obstacle}")


# The LAN


def _lan_item(line: Line, found: Status) -> Item | None:
    """The item for a LAN. None if it is in step and reachable, or needs no copy."""
    if line.is_stuck:
        is_left_out = line.state == "skipped" and line.lost.startswith("enter")
        which = "most of its packets" if line.is_most_lost else "its packets"
        return _item("wrong", line, line.reason if is_left_out else f"{which} {line.lost}")
    match line.state:
        case "missing" | "changed" | "stale" if not found.is_used:
            return None
        case "missing":
            is_kept = line.lan and not line.lost
            why = line.reason if is_placeholder(line.route) else f"not copied yet{', but reachable' if is_kept else ''}"
            return _item("due", line, f"{why}; no LAN: {line.no_lan}" if line.no_lan else why)
        case "changed":
            return _item("due", line, line.reason)
        case "stale":
            return _item(
                "left out" if line.stays else "due", line, line.reason if line.is_lost_then else f"stale: {line.reason}"
            )
        case "skipped" if line.lan and (line.lost or line.is_wanted):
            return _item("left out", line, line.reason)
    return None


def _item(kind: str, line: Line, why: str) -> Item:
    state = line.state if kind == "due" else ""
    devices = () if is_placeholder(line.route) else line.route.attributes.devices
    return Item(kind, state, line.route.dst, " ".join(devices), why)


def _loss_item(loss: Loss) -> Item:
    """The item for parts of LANs, or for some packets. This is no fault, but the user should know."""
    which = "some packets" if loss.extent == "some packets" else "packets to this part of a LAN"
    return Item("left out", "", some(loss.names), "", f"{loss.when}{which} {loss.why}")


def _outage_item(same: Sequence[Outage], why: str) -> Item:
    """The item for network cards. Only a route that main has lost is a fault."""
    kind = "wrong" if any(outage.lost for outage in same) else "left out"
    return Item(kind, "", some(outage.name for outage in same), "", why)
