"""Why a packet goes where it goes, in words for a person."""

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
    """What the answer is about: a machine, what there should be on it, and where the packet goes."""

    config: Config
    snapshot: Snapshot
    goal: Desired
    packet: Packet
    decision: Decision


def sentence(case: Case) -> str:
    """The outcome: `leaves by wlp192s0 to the LAN, because …`."""
    decision = case.decision
    if decision.outcome in _PLAIN:
        return _PLAIN[decision.outcome]
    if decision.outcome not in ("unicast", "multicast", "broadcast"):
        return _refused(case)
    by = " or ".join(decision.devices)
    if decision.outcome == "multicast" and decision.table == LOCAL:
        return f"leaves by {by} to those who listen there, because IPv6 multicast belongs to an interface"
    if decision.outcome == "broadcast" and decision.table == LOCAL:
        return f"leaves by {by} to everybody on the LAN, because it is its broadcast address"
    if decision.route is None:
        return f"leaves by {by}, to which the sender is bound: no route is asked"
    if not case.goal.tunnels.isdisjoint(decision.devices):
        return f"goes into the tunnel, because {_why_into_the_tunnel(case, decision.route)}"
    return f"leaves by {by} {_to_whom(decision.route)}, because {_why_out(case, decision.route)}"


_PLAIN = {
    "local": "stays on this machine, because the address is its own",
    "anycast": "stays on this machine, because the address is its own (anycast)",
    "none": "has no way: no rule leads to a route",
    "foreign": "cannot be sent: its source is no address of this machine",
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
            f", which comes before the LAN {lan.route.dst}" if lan and lan.explicit else ""
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
        return f"table {decision.table} has {route.dst}, which is not ours"
    asked = [step for step in decision.steps if step.rule.table in layout.tables]
    if not asked:
        return f"no rule before {decision.steps[-1].rule.priority} leads to the VPN's tables"
    if all(step.verdict == "does not fit" for step in asked):
        return f"the packet {asked[0].why}, so the VPN's tables are not asked"
    return "the VPN's tables have no route to it"


def _lan(case: Case) -> Verdict | None:
    """The verdict on the LAN of the address: the longest prefix of those that cover it."""
    packet = case.packet
    host = Prefix.of_host(packet.family, packet.dst)
    found = None
    longest = -1
    for verdict in case.goal.judged[packet.family].verdicts:
        prefix = Prefix.of_route(verdict.route.dst, packet.family)
        if prefix.length > longest and prefix.covers(host):
            found, longest = verdict, prefix.length
    return found


def step_text(step: Step) -> str:
    """What became of a rule."""
    match step.verdict:
        case "does not fit" if step.doubt:
            return f"taken not to be for it: nothing tells whether the packet {step.why}"
        case "does not fit":
            return f"not for it: the packet {step.why}"
        case "no route":
            return "no route to it"
        case "decides":
            return str(step.route) if step.route else step.rule.action
        case "throw":
            return f"{step.route}: on to the next rule"
        case "suppressed":
            return f"{step.route}: suppressed"
        case "unresolved":
            return "goto a rule that is not there"
        case _:
            return step.verdict
