"""Says what harm a change would do to a machine, as far as the model of the kernel shows.

`doctor` prints only remedies that do no harm.
"""

from collections.abc import Iterable, Iterator

from fz_iproute.diagnosis.lookup import Decision, Packet, usual, within_link
from fz_iproute.diagnosis.machine import Machine
from fz_iproute.diagnosis.parts import Bounds
from fz_iproute.diagnosis.reach import OF_NO_HOST, Network
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.mirror.words import REFUSALS


def harm(before: Machine, after: Machine) -> str:
    """What the change from `before` to `after` would break; "" if nothing."""
    for family in before.families:
        if before.reaches_main(family) and not after.reaches_main(family):
            return f"no rule of {family} would lead to main any more"
    return "" if before.network == after.network else next(_losses(before, after), "")


def _losses(before: Machine, after: Machine) -> Iterator[str]:
    for family in before.families:
        copies = after.goal.judged[family].wanted
        for part in _bounds(before.network, after.network, family, copies).parts(Prefix(family, 0, 0)):
            host = Prefix.of_host(family, part.address)
            if within_link(family, part.address):
                continue
            for mark in (0, before.config.tunnel.fwmark.value):
                for source in before.sources(family):
                    packet = usual(family, part.address, mark)._replace(src=source)
                    was, becomes = before.network.way(packet), after.network.way(packet)
                    if was == becomes or was.route in before.left_out:
                        continue
                    where = f"packets to {part.prefix}"
                    is_freed = after.gets_out(becomes) and not (
                        becomes.route in copies or _is_lan(after, becomes, host)
                    )
                    if mark:
                        if before.gets_out(was) and not after.gets_out(becomes) and becomes.outcome not in OF_NO_HOST:
                            yield f"the VPN's own {where} would not get out"
                    elif was.outcome in REFUSALS.values() and is_freed:
                        yield f"{where} are refused now, and would leave by {' '.join(becomes.devices)}"
                    elif before.may_be_tunnelled(was) and is_freed and not before.gets_out(was):
                        yield f"{where} would leave the tunnel"
                    elif _is_lan(before, was, host) and becomes.devices != was.devices:
                        yield f"{part.prefix} of the LAN would be out of reach"
                    elif _is_answer(before, packet, was) and not (
                        becomes.devices == was.devices or _is_lan(after, becomes, host)
                    ):
                        yield f"answers from {Prefix.of_host(family, source)} to {part.prefix} would not get out"


def _is_answer(machine: Machine, packet: Packet, decision: Decision) -> bool:
    """True if the packet may answer a connection from outside, and leaves by the card that has its source address.

    If the tunnel takes packets without a source, hardly any others have this source: connect() chooses another one.
    """
    own = machine.network.own(packet.family) if packet.src and machine.gets_out(decision) else ()
    is_by_card = any((each.prefix.address, each.attributes.devices) == (packet.src, decision.devices) for each in own)
    return is_by_card and machine.is_tunnelled(machine.network.way(packet._replace(src=0)))


def _bounds(before: Network, after: Network, family: Family, copies: Iterable[Route]) -> Bounds:
    """The prefixes that rules or routes name, in either of the two networks."""
    tables = (*before.all_tables(family), *after.all_tables(family))
    return Bounds(tables, (*before.selected(family), *after.selected(family), *(route.prefix for route in copies)))


def _is_lan(machine: Machine, decision: Decision, host: Prefix) -> bool:
    """True if the packet goes to a LAN, by the device of an on-link route that main has or has lost."""
    lost = [each.copy for each in machine.lost_routes if each.copy.prefix.covers(host)]
    devices = [route.attributes.devices for route in (*machine.on_link(host), *lost)]
    return decision.devices in devices and not machine.is_tunnelled(decision)
