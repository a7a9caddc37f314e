"""Checks for packets that bypass the tunnel, and for packets to this machine that rp_filter drops."""

from collections import defaultdict
from collections.abc import Collection, Iterator

from fz_iproute.diagnosis.checks.finding import Found, Level, or_ok
from fz_iproute.diagnosis.checks.vpn import rule_in_front, ways_past
from fz_iproute.diagnosis.lookup import Decision
from fz_iproute.diagnosis.machine import Machine, shown
from fz_iproute.diagnosis.reach import size
from fz_iproute.diagnosis.received import in_force
from fz_iproute.diagnosis.remedy import Remedy, Setting, Step, Sync, Sysctl, advice
from fz_iproute.diagnosis.simulated import RouteStep, RuleStep
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.prefix import Prefix
from fz_iproute.mirror.tunnel import BACKSTOP_METRIC
from fz_iproute.mirror.words import some


def ipv6_leak(machine: Machine) -> Iterator[Found]:
    """Check that IPv6 does not bypass the tunnel if the tunnel takes all IPv4."""
    if not machine.has_internet("inet"):
        yield Found("ok", f"IPv4 to the internet does not enter {machine.config.tunnel.interface}")
        return
    ways = machine.internet("inet6")
    around = [way for way in ways if machine.gets_out(way.decision)]
    if not around or 2 * size(around) < size(ways):
        wanted = machine.goal.judged["inet6"].wanted
        leaks = [way for way in around if machine.is_around_tunnel(way) and way.decision.route not in wanted]
        is_sample = any(way.part.is_sample for way in leaks)
        names = some((str(way.part.prefix) for way in leaks), is_sample=is_sample)
        found = [Found("info", f"IPv6 to {names} gets around the tunnel", "a rule or a route there comes first")]
        yield from or_ok(found if leaks else (), "no IPv6 gets around the tunnel")
        return
    decision = around[0].decision
    devices = " ".join(decision.devices)
    seen = f"IPv4 goes into the tunnel, but {shown(decision.steps[-1].rule)} sends IPv6 out of {devices}"
    why = "every site that has IPv6 sees the machine's own address, and the network sees the traffic"
    is_wanted = machine.config.manages and machine.config.tunnel.internet_leak == "allow"
    yield Found("info" if is_wanted else "failure", seen, why, _leak_remedies(machine, decision))


def _leak_remedies(machine: Machine, decision: Decision) -> tuple[Remedy, ...]:
    table = machine.goal.layout.internet
    unmarked = (rule for rule in machine.seen.rules if rule.inverted or not rule.mark)
    leading = [rule for rule in unmarked if (rule.family, rule.table) == ("inet6", table)]
    first = next(iter(leading), None)
    if first and (rule := rule_in_front(machine, decision, leading)):
        return ways_past(machine, rule, {table: first})
    if machine.config.manages:
        block = (Setting("tunnel", "internet_leak", "block"),)
        return (Remedy((*(block if machine.config.tunnel.internet_leak == "allow" else ()), Sync())),)
    steps: list[RouteStep | RuleStep] = []
    if not any(route.dst == "default" for route in machine.network.table(table, "inet6")):
        steps.append(RouteStep("add", table, Route.make("inet6", "default", None, metric=BACKSTOP_METRIC)))
    if not first:
        steps.append(RuleStep("add", machine.own_rule("inet6", table, machine.usual_priority(table))))
    undo = [step._replace(verb="del") for step in reversed(steps)]
    asked = " and ".join(f"`{machine.ip('inet6', what)}`" for what in ("rule show", f"route show table {table}"))
    words = advice(f"find out why IPv6 does not go into the tunnel: {asked}")
    # Perhaps the LAN is reachable only because IPv6 does not enter the tunnel. Then the copies must exist before.
    starts: tuple[tuple[Step, ...], ...] = ((), (Sync(),)) if steps else ()
    return (*(Remedy((*start, *steps), undo=tuple(undo)) for start in starts), *words)


def rp_filter(machine: Machine) -> Iterator[Found]:
    """Check that strict rp_filter drops no packets that the VPN's client or a LAN sends to this machine.

    Strict rp_filter drops a packet if the answer to its source would leave by another interface.
    """
    if not any(name.endswith("/rp_filter") for name in machine.recording.sysctls):
        yield Found("info", "could not look: the sysctls cannot be read")
        return
    uplinks = _cut_off_uplinks(machine)
    found = [*_cut_off_client(machine, uplinks), *_cut_off_lans(machine, uplinks)]
    yield from or_ok(found, "no strict rp_filter cuts off the VPN's client or a LAN")


def _cut_off_uplinks(machine: Machine) -> set[str]:
    """The interfaces that drop packets to the VPN's client.

    The client sends by them, they have strict rp_filter, and unmarked packets to the same hosts enter the tunnel.
    """
    if not machine.has_internet("inet"):
        return set()
    return {
        device
        for way in machine.internet("inet", machine.config.tunnel.fwmark.value)
        for device in set(way.decision.devices) - machine.goal.tunnels
        if _is_strict(machine, device) and _is_answered_by_tunnel(machine, way.part.address, way.decision.route)
    }


def _is_answered_by_tunnel(machine: Machine, host: int, route: Route | None) -> bool:
    """True if this machine would send its answer to a packet from this host into the tunnel.

    Rules may select by the source of the answer, which is the address that `route` gives to packets to the host.
    """
    shapes = [route.attributes] if route else []
    router = route.attributes.value("via") if route else ""
    if router and ":" not in router:
        on_link = machine.main("inet").covering(Prefix.of_route(router, "inet"))
        shapes += [other.attributes for routes in on_link for other in routes]
    source = next((shape.source for shape in shapes if shape.source), 0)
    return machine.is_tunnelled(machine.way("inet", host, src=source))


def _cut_off_client(machine: Machine, uplinks: Collection[str]) -> Iterator[Found]:
    for device in sorted(uplinks):
        seen = f"{device}, by which the VPN's client sends, has strict rp_filter"
        level: Level = "failure"
        why = "it drops the answers of the VPN's servers: unmarked packets to them would go into the tunnel"
        if in_force(machine.recording.sysctls, device, "src_valid_mark"):
            level = "warning"
            why = "src_valid_mark = 1 helps only if a firewall restores the mark of packets that arrive"
        yield Found(level, seen, why, _loosened(device))


def _cut_off_lans(machine: Machine, uplinks: Collection[str]) -> Iterator[Found]:
    lost: dict[str, list[str]] = defaultdict(list)
    others = machine.goal.tunnels.union(uplinks)
    for route in machine.main("inet"):
        for device in route.attributes.devices if route.attributes.on_link else ():
            if device not in others and _is_strict(machine, device):
                # The largest part stands for the hosts of the LAN; smaller parts may be this machine's own address.
                largest = max(machine.ways(route.prefix), key=lambda way: way.part.size)
                if _is_answered_by_tunnel(machine, largest.part.address, route):
                    lost[device].append(route.dst)
    for device, destinations in lost.items():
        why = "the answers to hosts there go into the tunnel, so the kernel drops what these hosts send"
        seen = f"{device} has strict rp_filter, and {some(destinations)} is not mirrored"
        yield Found("warning", seen, why, _loosened(device))


def _is_strict(machine: Machine, device: str) -> bool:
    return in_force(machine.recording.sysctls, device, "rp_filter") == 1


def _loosened(device: str) -> tuple[Remedy, ...]:
    # To set it for the device is enough: of this value and that of `all`, the larger one counts.
    return (Remedy((Sysctl(f"ipv4/conf/{device}/rp_filter", "2"),)),)
