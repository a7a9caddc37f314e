"""Says in one sentence where a packet goes and why."""

from typing import NamedTuple

from fz_iproute.diagnosis.lookup import Decision, Packet, Step
from fz_iproute.mirror import tunnel
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.model import Route, Snapshot
from fz_iproute.mirror.policy import Verdict
from fz_iproute.mirror.prefix import Prefix
from fz_iproute.mirror.words import LOCAL


class Case(NamedTuple):
    """All that a sentence is made of: the machine, what should be on it, and the decision about the packet."""

    config: Config
    snapshot: Snapshot
    goal: Desired
    packet: Packet
    decision: Decision


def sentence(case: Case) -> str:
    """The whole sentence: `leaves by wlp192s0 to the LAN, because …`."""
    decision = case.decision
    if decision.outcome in _PLAIN:
        return _PLAIN[decision.outcome]
    if decision.outcome not in ("unicast", "multicast", "broadcast"):
        return _refused(case)
    by = " or ".join(decision.devices)
    if decision.outcome == "multicast" and decision.table == LOCAL:
        return f"leaves by {by} to all listeners there, because IPv6 multicast is sent by one interface"
    if decision.outcome == "broadcast" and decision.table == LOCAL:
        return f"leaves by {by} to everybody on the LAN, because it is the broadcast address there"
    if decision.route is None:
        return f"leaves by {by}, because the sender is bound to it: no route is used"
    if not case.goal.tunnels.isdisjoint(decision.devices):
        return f"goes into the tunnel, because {_why_into_the_tunnel(case, decision.route)}"
    return f"leaves by {by} {_to_whom(decision.route)}, because {_why_out(case, decision.route)}"


_PLAIN = {
    "local": "stays on this machine, because the address is its own",
    "anycast": "stays on this machine, because the address is its own (anycast)",
    "none": "cannot be sent: no rule leads to a route",
    "foreign": "cannot be sent: its source is not an address of this machine",
}


def _to_whom(route: Route) -> str:
    words = route.attributes.words
    if "via" in words:
        place = words.index("via") + 1
        gateway = words[place + 1] if words[place] in ("inet", "inet6") else words[place]
        return f"through the router {gateway}"
    return "through routers" if route.attributes.gatewayed else "to the LAN"


def _refused(case: Case) -> str:
    decision = case.decision
    if decision.route is None:
        step = decision.steps[-1]
        return f"is refused ({decision.outcome}) by rule {step.rule.priority}"
    if tunnel.is_tunnel_route(decision.route):
        state = case.goal.states[case.packet.family]
        setting = "internet_leak" if state.usable else "on_down"
        return f"is refused, because the Internet Resource is active and {state.obstacle} (tunnel.{setting})"
    return f"is refused by the route {decision.route} in table {decision.table}"


def _why_into_the_tunnel(case: Case, route: Route) -> str:
    if case.decision.table not in case.goal.layout.tables:
        return f"table {case.decision.table} has {route}"
    lan = _lan(case)
    if route.dst != "default":
        return f"the VPN routes {route.dst} explicitly" + (
            f", which wins over the LAN {lan.route.dst}" if lan and lan.explicit else ""
        )
    reason = "the Internet Resource is active"
    if lan is None:
        return reason
    if lan.refusal:
        return f"{reason} and {lan.route.dst} is not mirrored: {lan.refusal}"
    return f"{reason} and the copy of {lan.route.dst} is missing; run `fz-iproute sync`"


def _why_out(case: Case, route: Route) -> str:
    decision, layout = case.decision, case.goal.layout
    if decision.table == layout.mirror and route in case.goal.contents[case.packet.family][layout.mirror].ours:
        return f"{route.dst} is mirrored into the VPN's table"
    if decision.table in layout.tables:
        return f"table {decision.table} has {route.dst}, which fz-iproute did not add"
    asked = [step for step in decision.steps if step.rule.table in layout.tables]
    if not asked:
        return f"no rule before {decision.steps[-1].rule.priority} leads to the VPN's tables"
    if all(step.result == "does not fit" for step in asked):
        return f"the packet {asked[0].why}, so the VPN's tables are not asked"
    return "the VPN's tables have no route to the address"


def _lan(case: Case) -> Verdict | None:
    """The verdict on the LAN route with the longest prefix that covers the destination."""
    family, host = case.packet.family, Prefix.of_host(case.packet.family, case.packet.dst)
    verdicts = [(Prefix.of_route(each.route.dst, family), each) for each in case.goal.judged[family].verdicts]
    covering = [(prefix.length, verdict) for prefix, verdict in verdicts if prefix.covers(host)]
    return max(covering, key=lambda both: both[0])[1] if covering else None


def step_text(step: Step) -> str:
    """The result of a rule."""
    match step.result:
        case "does not fit" if step.doubt:
            return f"assumed not to match: unknown whether the packet {step.why}"
        case "does not fit":
            return f"does not match: the packet {step.why}"
        case "no route":
            return "no route to the address"
        case "decides":
            return str(step.route) if step.route else step.rule.action
        case "throw":
            return f"{step.route}: on to the next rule"
        case "suppressed":
            return f"{step.route}: suppressed"
        case "unresolved":
            return "goto a rule that does not exist"
        case _:
            return step.result
