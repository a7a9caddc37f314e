"""Says in one sentence where a packet goes and why."""

import dataclasses
from typing import NamedTuple

from fz_iproute.diagnosis.full_tunnel import forms, is_uplink
from fz_iproute.diagnosis.internet import becomes, traffic_of
from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.lans import decided_by
from fz_iproute.diagnosis.lookup import Decision, Packet, Step
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.uncopied import why_not_copied
from fz_iproute.mirror.config import replace
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.placeholder import is_placeholder
from fz_iproute.mirror.policy import TO_ALL
from fz_iproute.mirror.prefix import PRIVATE, Prefix
from fz_iproute.mirror.words import LOCAL, MAIN, some


class Case(NamedTuple):
    """Everything that a sentence needs: the machine, and the decision about the packet."""

    judged: Judgement  # its network has the routes to both addresses, and to the source address that the route names
    packet: Packet
    decision: Decision
    sync: str  # the command to advise if copies are missing or stale
    whole: Network | None = None  # with all routes that decide about packets to the internet; None if not read

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
    def is_by_default(self) -> bool:
        """True if the packet goes into the tunnel by the VPN's default route."""
        goal, decision = self.judged.goal, self.decision
        is_ours = decision.table in goal.layout.tables and decision.route and decision.route.dst == "default"
        return bool(is_ours) and self.judged.is_tunnelled(decision) and goal.tunnels.issuperset(decision.devices)

    @property
    def error(self) -> str:
        """The error that a program on this machine gets, "" if it may send."""
        return self.decision.error or (self.judged.network.way(self.connected).error if self.connected else "")


def sentence(case: Case) -> str:
    """The whole sentence, without its subject: `leaves by wlp192s0 to the LAN, because …`."""
    said = _way(case)
    if case.connected:
        said += _if_connected(case, case.connected)
    outage = case.judged.network.outage(case.decision.devices)
    said += f"; but {outage}" if outage else ""
    return "; ".join(filter(None, [said, _after_a_sync(case) or _more(case)]))


def _after_a_sync(case: Case) -> str:
    """What a `sync` changes for the packet, "" if nothing."""
    judged, now, then = case.judged, case.decision, case.judged.then.way(case.packet)
    if (then.outcome, then.devices, then.route) == (now.outcome, now.devices, now.route):
        return ""
    if missed := next((each for each in judged.lost_routes if each.copy == now.route), None):
        return f"{missed}: `{case.sync}` would cut this LAN, and `doctor` says how main gets its route back"
    is_removed = now.route and now.route not in judged.then.table(now.table or 0, case.packet.family)
    start = f"`{case.sync}` {'removes that route' if is_removed else 'changes that'}; then"
    if judged.is_tunnelled(then) or then.error:
        is_out = now.outcome == "unicast" and not judged.is_tunnelled(now)
        where = f"packets enter {' or '.join(then.devices)}" if judged.is_tunnelled(then) else "they are lost"
        return f"{start} {where}: {decided_by([then])}" if is_out else f"run `{case.sync}`"
    outage = judged.network.outage(then.devices)
    but = f"{outage and ', but '}{outage}"
    if then.route and then.route in judged.network.table(then.table or 0, case.packet.family):
        return f"{start} {then.route.dst} leads to {' or '.join(then.devices)}{but}"
    is_new = then.route and then.route.dst != "default" and (not now.route or then.route.dst != now.route.dst)
    missing = f"{then.route.dst} is not in the VPN's table yet; " if then.route and is_new else ""
    return f"{missing}run `{case.sync}`{but}"


def _more(case: Case) -> str:
    """What else a user may miss: why a route of main is not followed, or which setting would send it to the LAN."""
    judged, packet, route = case.judged, case.packet, case.decision.route
    if case.decision.outcome in _TO_ALL:
        changed = dataclasses.replace(judged, config=replace(judged.config, lan={"multicast": True}))
        is_sent = judged.is_tunnelled(case.decision) and not judged.is_tunnelled(changed.then.way(packet))
        return "lan.multicast = true would send it to the LAN" if is_sent else ""
    main = judged.network.table(MAIN, packet.family)
    found = judged.network.main_alone.way(packet).route
    expired = (each for each in main if each.attributes.expired and each.prefix.covers(_host(case)))
    if not found or found.dst == "default":
        found = next(expired, None)
    if found and route and found.dst == route.dst:
        is_copy = route in judged.goal.judged[packet.family].wanted
        if is_copy or found.attributes.path == route.attributes.path:
            return ""
    if found and not case.decision.stays:
        verdicts = {verdict.route.as_copied: verdict for verdict in judged.goal.judged[packet.family].verdicts}
        if found not in verdicts:
            reason = why_not_copied(judged.goal, found)
            return f"main has {found}: {reason}" if reason else ""
        refusal = verdicts[found].refusal
        return f"{found.dst} is not copied: {refusal}" if refusal else _useless(case, found)
    idle = [outage for outage in judged.outages if outage.lost or not outage.lans]
    cards = [f"{outage.name} {outage.why}" for outage in idle]
    if cards and PRIVATE.covers(_host(case)) and (not route or route.dst == "default"):
        return f"main has no LAN with this address: {some(cards)}"
    return ""


def _useless(case: Case, found: Route) -> str:
    """What to say if a copy of a route of main would not help: perhaps one in another table would."""
    judged, table = case.judged, case.decision.table
    others = {form.rule.table for form in forms(judged.network, found.attributes.family)} - {*judged.goal.layout.tables}
    also = f"; `detect` says whether a copy in table {table} would" if table in others else ""
    return f"a copy of {found.dst} in table {judged.goal.layout.mirror} would not change that{also}"


def _if_connected(case: Case, packet: Packet) -> str:
    """What differs when a program connects: it gets a source address from the route, and the kernel decides again.

    "" if nothing differs.
    """
    decision = case.judged.network.way(packet)
    source = str(Prefix.of_host(packet.family, packet.src)).partition("/")[0]
    if decision.outcome == "foreign":
        gone = f"the route's source address {source} is gone from this machine"
        return f"; but no program can connect ({decision.error}), because {gone}"
    router, usual = (each.route.attributes.value("via") if each.route else "" for each in (decision, case.decision))
    if (decision.outcome, decision.devices, router) == (case.decision.outcome, case.decision.devices, usual):
        return ""
    by = f"leaves by {' or '.join(decision.devices)}" if decision.devices else f"fails ({decision.error})"
    by += f" through the router {router}" if router else ""
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
        why = "IPv6 sends multicast by one interface; lan.multicast does not change that"
        if decision.outcome == "broadcast":
            why = "it is the broadcast address there"
        return f"leaves by {by}{_TO_ALL[decision.outcome]}, because {why}"
    if decision.route is None:
        return f"leaves by {by}, because the sender is bound to it: no route is used"
    why = _why(case, decision.route)
    is_tunnelled, may_be = case.judged.is_tunnelled(decision), _may_enter_a_tunnel(case, decision.route)
    network, tunnels = case.judged.network, case.judged.goal.tunnels
    if (is_tunnelled or may_be) and network.gets_out(decision, tunnels):
        return f"{becomes(network, decision, tunnels)}{why}"
    if is_tunnelled:
        return f"goes into the tunnel{why}"
    if may_be:
        return f"goes into {by}, which may be a tunnel{why}"
    return f"leaves by {by}{_to_whom(case, decision.route)}{why}"


_TO_ALL = {"multicast": " to all listeners there", "broadcast": " to everybody on the LAN"}
_PLAIN = {
    "local": "stays on this machine, because the address is its own",
    "anycast": "stays on this machine, because the address is its own (anycast)",
    "none": "cannot be sent: no rule leads to a route",
    "foreign": "cannot be sent: its source is not an address of this machine",
}


def _may_enter_a_tunnel(case: Case, route: Route) -> bool:
    """True if the packet leaves by a device that may be a tunnel, and that is not likely to be a modem."""
    network, devices = case.judged.network, case.decision.devices
    is_modem = route.dst == "default" and any(is_uplink(network, device) for device in devices)
    return network.may_be_tunnelled(case.decision) and not is_modem


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
    decision, judged = case.decision, case.judged
    state = judged.goal.states[case.packet.family]
    if obstacle := judged.obstacle(decision, case.packet.family):
        setting = "internet_leak" if state.usable else "on_down"
        return f"is refused, because {obstacle} (tunnel.{setting})"
    return f"is refused: {decided_by([decision])}"


def _why(case: Case, route: Route) -> str:
    """Why this route decides: `, because …` in the VPN's terms if it is in one of its tables, else `: …`."""
    goal, decision, family = case.judged.goal, case.decision, case.packet.family
    if decision.table not in goal.layout.tables:
        return f": {decided_by([decision])}"
    here = goal.contents[family][decision.table]
    if is_placeholder(route):
        verdict = goal.placeholders.get(route)
        refusal = verdict.refusal if verdict else "no longer needed"
        why = f"a placeholder keeps the VPN's client from copying {route.dst} ({refusal})"
    elif case.is_by_default and case.whole and (taken := traffic_of(case.whole, decision.devices[0], family)):
        # The device that the packet leaves by. The configuration may name another one.
        why = taken
    elif case.judged.is_tunnelled(decision) and (route.dst == "default" or route.prefix in goal.split[family]):
        why = f"table {decision.table} routes {route.dst} there"
    elif case.judged.is_tunnelled(decision):
        why = f"the VPN routes {route.dst} explicitly"
    elif route not in here.ours:
        name = "the default route" if route.dst == "default" else f"the route {route.dst}"
        why = f"{name} of table {decision.table} leads there"
    elif route not in here.wanted:
        verdict = goal.refused(route)
        kind = f"still has a copy of {route.dst} ({verdict.refusal})" if verdict else f"has a stale copy of {route.dst}"
        why = f"table {decision.table} {kind}"
    elif route.dst in TO_ALL:
        why = f"lan.multicast has added a route for {route.dst} to the VPN's table"
    else:
        why = f"{route.dst} is copied into the VPN's table"
    return f", because {why}"


def _no_route(packet: Packet) -> str:
    return f"no route to the address by {packet.oif}" if packet.oif else "no route to the address"


def step_text(step: Step, packet: Packet) -> str:
    """The result of a rule, in words."""
    match step.result:
        case "does not fit" if step.doubt:
            return f"assumed not to match: unknown whether it {step.why}"
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
