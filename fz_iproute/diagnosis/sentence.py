"""Says in one sentence where a packet goes and why."""

import dataclasses
from typing import NamedTuple

from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.lookup import Decision, Packet, Step
from fz_iproute.diagnosis.lost_routes import outages
from fz_iproute.diagnosis.uncopied import what_main_does
from fz_iproute.mirror import tunnel
from fz_iproute.mirror.config import replace
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.placeholder import is_placeholder
from fz_iproute.mirror.policy import TO_ALL, Verdict
from fz_iproute.mirror.prefix import PRIVATE, Prefix
from fz_iproute.mirror.words import LOCAL, MAIN, some, table_name


class Case(NamedTuple):
    """Everything that a sentence needs: the machine, and the decision about the packet."""

    judged: Judgement  # its network has the routes to both addresses, and to the source address that the route names
    packet: Packet
    decision: Decision
    sync: str  # the command to advise if copies are missing or stale

    @property
    def connected(self) -> Packet | None:
        """The packet after connect(), which takes the source address from the route.

        None if the packet has a source already, or if the route names none.
        """
        route = self.decision.route
        if self.packet.src or self.packet.iif or self.decision.outcome != "unicast" or not route:
            return None
        return self.packet._replace(src=route.attributes.source) if route.attributes.source else None

    @property
    def error(self) -> str:
        """The error that a program on this machine gets, "" if it may send."""
        return self.decision.error or (self.judged.network.way(self.connected).error if self.connected else "")


def sentence(case: Case) -> str:
    """The whole sentence, without its subject: `leaves by wlp192s0 to the LAN, because …`."""
    said = _way(case)
    if case.connected:
        said += _if_connected(case, case.connected)
    links = (case.judged.snapshot.links.get(device) for device in case.decision.devices)
    said += "".join(f"; but {link.name} {link.outage}" for link in links if link and link.outage)
    route = case.decision.route
    lan = _lan(case)
    if not lan and PRIVATE.covers(_host(case)) and (not route or route.dst == "default"):
        said += _without_lan(case)
    if route and _is_stale(case, route):
        if missed := next((each for each in case.judged.lost_routes if each.copy == route), None):
            return f"{said}; {missed}: `{case.sync}` would cut this LAN, and `doctor` says how main gets its route back"
        if lan and lan.explicit:
            loss = f"`{case.sync}` gives this LAN's addresses to the VPN"
            return f"{said}; the VPN routes {lan.explicit} explicitly, so {loss}"
        return f"{said}; run `{case.sync}`"
    return said


def _without_lan(case: Case) -> str:
    """Which network cards do not reach their LAN, because the address may belong to it."""
    found = [f"{outage.name} {outage.why}" for outage in outages(case.judged.network, case.judged.goal)]
    return f"; main has no LAN with this address: {some(found)}" if found else ""


def _if_connected(case: Case, packet: Packet) -> str:
    """What differs when a program connects: it gets a source address from the route, and the kernel decides again.

    "" if nothing differs.
    """
    decision = case.judged.network.way(packet)
    source = str(Prefix.of_host(packet.family, packet.src)).partition("/")[0]
    if decision.outcome == "foreign":
        gone = f"the route's source address {source} is gone from this machine"
        return f"; but no program can connect ({decision.error}), because {gone}"
    if (decision.outcome, decision.devices) == (case.decision.outcome, case.decision.devices):
        return ""
    by = f"leaves by {' or '.join(decision.devices)}" if decision.devices else f"fails ({decision.error})"
    rule = decision.steps[-1].rule
    return f"; but a program that connects sends from {source}: rule {rule.priority} decides, and it {by}"


def _way(case: Case) -> str:
    decision = case.decision
    if decision.outcome in _PLAIN:
        return _PLAIN[decision.outcome]
    if decision.outcome not in ("unicast", "multicast", "broadcast"):
        return _refused(case)
    if case.packet.iif and decision.outcome != "unicast":
        return f"stays on this machine, because it is a {decision.outcome} packet"
    by = " or ".join(decision.devices)
    if decision.outcome in _TO_ALL and decision.table == LOCAL:
        why = "IPv6 multicast is sent by one interface, with lan.multicast too"
        if decision.outcome == "broadcast":
            why = "it is the broadcast address there"
        return f"leaves by {by}{_TO_ALL[decision.outcome]}, because {why}"
    if decision.route is None:
        return f"leaves by {by}, because the sender is bound to it: no route is used"
    if case.judged.goal.is_by_tunnel(decision.devices):
        return f"goes into the tunnel, because {_why_into_the_tunnel(case, decision.route)}"
    if _may_enter_a_tunnel(case, decision.route):
        return f"goes into {by}, which may be a tunnel, because {_why_out(case, decision.route)}"
    return f"leaves by {by}{_to_whom(case, decision.route)}, because {_why_out(case, decision.route)}"


_TO_ALL = {"multicast": " to all listeners there", "broadcast": " to everybody on the LAN"}
_PLAIN = {
    "local": "stays on this machine, because the address is its own",
    "anycast": "stays on this machine, because the address is its own (anycast)",
    "none": "cannot be sent: no rule leads to a route",
    "foreign": "cannot be sent: its source is not an address of this machine",
}


def _may_enter_a_tunnel(case: Case, route: Route) -> bool:
    """True if the packet leaves by a device that may be a tunnel, and that is not likely to be a modem."""
    is_modem = route.dst == "default" and not PRIVATE.covers(_host(case))
    return case.judged.network.may_be_tunnelled(case.decision) and not is_modem


def _host(case: Case) -> Prefix:
    return Prefix.of_host(case.packet.family, case.packet.dst)


def _to_whom(case: Case, route: Route) -> str:
    if case.decision.outcome in _TO_ALL:  # for such packets, the kernel ignores the gateway of the route
        return _TO_ALL[case.decision.outcome]
    if route.attributes.gatewayed:
        gateway = route.attributes.value("via")  # "" if the gateway is in a nexthop object
        is_one = gateway and len(route.attributes.devices) == 1
        return f" through the router {gateway}" if is_one else " through routers"
    if route.dst != "default":
        return " to the LAN"
    return "" if PRIVATE.covers(_host(case)) else " to the internet"


def _refused(case: Case) -> str:
    decision = case.decision
    if decision.route is None:
        step = decision.steps[-1]
        return f"is refused ({decision.outcome}) by rule {step.rule.priority}"
    state = case.judged.goal.states[case.packet.family]
    if case.judged.config.manages and state.obstacle and tunnel.is_tunnel_route(decision.route):
        setting = "internet_leak" if state.usable else "on_down"
        return f"is refused, because {state.obstacle} (tunnel.{setting})"
    return f"is refused by the route {decision.route} in table {decision.table}"


def _why_into_the_tunnel(case: Case, route: Route) -> str:
    if case.decision.table not in case.judged.goal.layout.tables:
        return f"table {case.decision.table} has {route}"
    lan = _lan(case)
    by_main = _by_main(case)
    if is_placeholder(route):
        refusal = lan.refusal if lan else "no longer needed"
        return f"a placeholder keeps the VPN's client from copying {route.dst} ({refusal})"
    if route.dst != "default" and route.prefix not in case.judged.goal.split[case.packet.family]:
        over = f", which wins over the LAN {lan.route.dst}" if lan and lan.explicit else ""
        return f"the VPN routes {route.dst} explicitly{over}"
    reason = _all_traffic(case)
    if by_main:
        return f"{reason} and {by_main}"
    if case.decision.outcome in _TO_ALL:
        return f"{reason}{_by_multicast(case)}"
    if lan is None:
        return reason
    if lan.refusal:
        return f"{reason} and {lan.route.dst} is not mirrored: {lan.refusal}"
    missing = f"the copy of {lan.route.dst} is missing; run `{case.sync}`"
    return f"{reason} and {_why_no_copy_helps(case, lan) or missing}"


def _by_multicast(case: Case) -> str:
    """What to do so that `lan.multicast` sends this packet to the LAN: `sync`, or set it. "" if it would not."""
    is_on = case.judged.config.lan.multicast
    changed = replace(case.judged.config, lan={"multicast": True})
    if case.judged.is_tunnelled(dataclasses.replace(case.judged, config=changed).then.way(case.packet)):
        return ""
    if is_on:
        return f" and the route that lan.multicast adds is missing; run `{case.sync}`"
    return "; lan.multicast = true would send it to the LAN"


def _why_no_copy_helps(case: Case, lan: Verdict) -> str:
    """Why the packet would enter the tunnel even with a copy of the LAN route; "" if a copy would help."""
    mirror = case.judged.goal.layout.mirror
    asked = [step for step in case.decision.steps if step.rule.table == mirror]
    if not asked:
        is_there = lan.route in case.judged.goal.contents[case.packet.family][mirror].ours
        copies = f"the copy in table {mirror}" if is_there else f"table {mirror}, which gets the copies"
        rule = case.decision.steps[-1].rule
        return f"rule {rule.priority} decides, before any rule that leads to {copies}"
    if not case.judged.is_tunnelled(case.judged.then.way(case.packet)):
        return ""
    stronger = next((step.route for step in asked if step.result == "throw"), None)
    by = f"table {mirror} has {stronger}: " if stronger else ""
    return f"{by}a copy of {lan.route.dst} does not change that"


def _all_traffic(case: Case) -> str:
    # The device that the packet leaves by. The configuration may name another one.
    device = next(device for device in case.decision.devices if device in case.judged.goal.tunnels)
    return f"all traffic goes into {device}"


def _by_main(case: Case) -> str:
    """What main would do with the packet, if by a route that is not copied: `main has 10.0.0.0/16 via 10.0.0.1: …`."""
    packet = case.packet
    found = case.judged.network.main_alone.way(packet).route
    judged = {verdict.route for verdict in case.judged.goal.judged[packet.family].verdicts}
    main = case.judged.network.table(MAIN, packet.family) if not found or found.dst == "default" else ()
    expired = [route for route in main if route.attributes.expired and route.prefix.covers(_host(case))]
    for route in (*expired, *([found] if found else [])):
        if route not in judged and (does := what_main_does(case.judged.goal, route)):
            return f"main {does}"
    return ""


def _is_stale(case: Case, route: Route) -> bool:
    here = case.judged.goal.contents[case.packet.family].get(case.decision.table)
    return here is not None and route in here.ours and route not in here.wanted


def _why_out(case: Case, route: Route) -> str:
    decision, layout = case.decision, case.judged.goal.layout
    if _is_stale(case, route):
        return f"table {decision.table} has a stale copy of {route.dst}"
    if decision.table == layout.mirror and route in case.judged.goal.contents[case.packet.family][layout.mirror].ours:
        if route.dst in TO_ALL and decision.outcome in _TO_ALL:
            return f"lan.multicast has added a route for {route.dst} to the VPN's table"
        by_main = _by_main(case)
        return f"{route.dst} is mirrored into the VPN's table" + (f", although {by_main}" if by_main else "")
    if decision.table in layout.tables:
        return f"table {decision.table} has {route.dst}, which is not known to be a copy"
    asked = [step for step in decision.steps if step.rule.table in layout.tables]
    if not asked:
        return _why_before(case, route)
    if all(step.result == "does not fit" for step in asked):
        return f"the packet {asked[0].why}, so the VPN's tables are not consulted"
    return f"the VPN's tables have {_no_route(case.packet)}"


def _why_before(case: Case, route: Route) -> str:
    """Why the kernel decides before it reaches a rule of the VPN."""
    rules = [rule for rule in case.judged.snapshot.rules if rule.family == case.packet.family]
    of_vpn = [rule.priority for rule in rules if rule.table in case.judged.goal.layout.tables]
    rule = case.decision.steps[-1].rule
    if of_vpn:
        return f"rule {rule.priority} decides, before the VPN's {min(of_vpn)}"
    if case.decision.table == MAIN and route.dst != "default" and case.judged.network.may_be_tunnelled(case.decision):
        return f"main has {route.dst}"
    if case.decision.table == MAIN:
        return "no rule leads to the VPN's tables"
    return f"rule {rule.priority} leads to table {table_name(case.decision.table)}, and none leads to the VPN's tables"


def _lan(case: Case) -> Verdict | None:
    """The verdict on the LAN route to the destination with the longest prefix. Routes into the tunnel are no LANs."""
    verdicts = case.judged.goal.judged[case.packet.family].verdicts
    covering = [verdict for verdict in verdicts if verdict.route.prefix.covers(_host(case))]
    lans = [verdict for verdict in covering if not case.judged.goal.is_by_tunnel(verdict.route.attributes.devices)]
    return max(lans, key=lambda verdict: verdict.route.prefix.length, default=None)


def _no_route(packet: Packet) -> str:
    return f"no route to the address by {packet.oif}" if packet.oif else "no route to the address"


def step_text(step: Step, packet: Packet) -> str:
    """The result of a rule, in words."""
    match step.result:
        case "does not fit" if step.doubt:
            return f"assumed not to match: unknown whether the packet {step.why}"
        case "does not fit":
            return f"does not match: the packet {step.why}"
        case "no route":
            return _no_route(packet)
        case "decides":
            return str(step.route) if step.route else step.rule.action
        case "throw" if step.route and is_placeholder(step.route):
            return f"{step.route}: a placeholder, on to the next rule"
        case "throw":
            return f"{step.route}: on to the next rule"
        case "suppressed":
            return f"{step.route}: suppressed"
        case "unresolved":
            return "goto a rule that does not exist"
        case _:
            return step.result
