"""Computes what `status` shows: the tunnel, the rules, and the state of every route."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from fz_iproute.diagnosis.detect import detect
from fz_iproute.diagnosis.full_tunnel import forms
from fz_iproute.diagnosis.internet import by, joined, partly
from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.lans import Key, Loss, key
from fz_iproute.diagnosis.lookup import Decision
from fz_iproute.diagnosis.outages import Outage
from fz_iproute.diagnosis.products import product_of
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.served import absent
from fz_iproute.diagnosis.uncopied import uncopied
from fz_iproute.mirror import tunnel
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import is_absent
from fz_iproute.mirror.model import Route, Rule, Snapshot, by_destination
from fz_iproute.mirror.placeholder import HELD, is_placeholder
from fz_iproute.mirror.plan import plan, staleness
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.tunnel import Layout
from fz_iproute.mirror.words import MAIN


class Line(NamedTuple):
    """A route. Its state is in step, missing, changed, stale, skipped, or theirs if fz-iproute did not add it."""

    family: Family
    state: str
    table: int
    route: Route
    reason: str
    is_vpn: bool = False  # no route to a LAN, but one of the VPN or of another program
    lost: str = ""  # for a LAN: where packets to it go instead; "" if they reach it
    is_most_lost: bool = False  # for a LAN: these are most packets to it, but not all
    is_lost_then: bool = False  # for a LAN: packets do not reach it after a `sync`, and no setting wants that
    is_worse_then: bool = False  # packets reach the LAN now, but not after a `sync`, perhaps as the settings want
    is_regained: bool = False  # for a LAN: a `sync` makes it reachable
    lan: Key | None = None  # the LAN of a route of main; None for copies, and for routes to the network of a VPN
    is_wanted: bool = False  # for a LAN: no setting leaves it out
    stays: bool = False  # for a stale copy: `sync` does not remove it
    no_lan: str = ""  # why a route that is copied leads to no LAN: its device may be a tunnel, or is a port of a bridge

    @property
    def is_stuck(self) -> bool:
        """True for a LAN that packets do not reach now, nor after a `sync`."""
        return bool(self.lost) and self.is_lost_then


class RuleLine(NamedTuple):
    """A rule. Its state is in step, missing, stale, or theirs if fz-iproute did not add it."""

    rule: Rule
    state: str


class Waiting(NamedTuple):
    """In manage mode: the routes that the tunnel cannot carry now, and why."""

    family: Family
    routes: list[str]
    obstacle: str

    def __str__(self) -> str:
        return f"{self.family}: {', '.join(self.routes)}  # {self.obstacle}"


class Status(NamedTuple):
    """All that `status` shows."""

    tunnel: str
    tunnel_state: str  # up, down or missing
    is_dead: bool  # no program carries its packets
    others: dict[str, int]  # see Judgement.other_tunnels
    absent: str  # a sentence instead of the state, if no rule leads to the VPN's tables; else ""
    mode: str
    layout: Layout
    internet: dict[Family, str]  # active if most packets to it enter the tunnel, blocked if they are refused, or off
    carriers: dict[Family, Decision]  # about most packets to it if another device takes them that may be a tunnel
    traffic: str  # a sentence about most packets to the internet; "" if there is nothing to say
    used: list[int]  # the tables whose routes packets to reachable LANs take
    danger: str  # what a `sync` would do to packets to the internet, or why it refuses to run; "" if all is well
    needs_doctor: bool  # `doctor` finds something about the VPN: see status_of
    firewalls: list[str]  # VPN clients whose firewall may stop packets to a LAN although they have a route
    obstacles: dict[Family, str]  # in manage mode: why the tunnel does not carry the family
    rules: list[RuleLine]  # all rules
    waiting: list[Waiting]
    vpn: list[Line]  # the routes in the VPN's tables that are no copies; in manage mode, also the missing ones
    lan: list[Line]  # LAN routes and copies
    losses: list[Loss]  # what packets do not reach of the LANs after a `sync`
    uncopied: list[Line]  # routes of main to private networks that nothing copies, so that packets take another route
    outages: list[Outage]
    commands: int  # how many `sync` would run

    @property
    def is_used(self) -> bool:
        """True if a rule leads to the VPN's tables, or a missing rule should. Otherwise copies have no effect."""
        return any(line.rule.table in self.layout.tables for line in self.rules)


def status(config: Config, snapshot: Snapshot, network: Network) -> Status:
    """Judge the snapshot. `network` must have all routes that decide about packets to the internet and to LANs."""
    judged = Judgement(config, snapshot, network)
    goal = judged.goal
    states = {family: each.state for family, each in judged.internet.items() if each.state in ("active", "blocked")}
    carriers = {family: each.decision for family, each in judged.internet.items() if each.is_carried and each.decision}
    lines = [line for family in FAMILIES for line in _lines(judged, family)]
    return Status(
        tunnel=config.tunnel.interface,
        tunnel_state=tunnel.link_state(config, snapshot),
        is_dead=judged.is_dead,
        others=judged.other_tunnels,
        absent=_absent(judged),
        mode=config.tunnel.mode,
        layout=goal.layout,
        internet=dict.fromkeys(FAMILIES, "off") | states,
        carriers=carriers,
        traffic=_traffic(judged),
        used=list(dict.fromkeys(_used(judged))),
        danger=judged.refusal or judged.released or (judged.blocked and f"sync {judged.blocked}"),
        needs_doctor=bool(
            judged.released
            or (judged.leaking and not config.allows_leak)
            or judged.is_emptied
            or judged.is_dead
            or judged.is_offline
            or judged.other_tunnels
            or any(map(judged.misled, judged.network.families))
            or any(judged.unused_tables())
        ),
        firewalls=_firewalls(judged.network) if carriers else [],
        obstacles={family: goal.states[family].obstacle for family in FAMILIES if config.manages},
        waiting=[waiting for family in FAMILIES for waiting in _waiting(judged, family)],
        rules=_rule_lines(judged),
        vpn=[line for line in lines if line.is_vpn],
        lan=[line for line in lines if not line.is_vpn],
        losses=judged.losses,
        uncopied=[
            Line(route.attributes.family, "skipped", MAIN, route, why) for route, why in uncopied(judged.network, goal)
        ],
        outages=judged.outages,
        commands=len(plan(goal, prune=config.lan.prune)),
    )


def _used(judged: Judgement) -> Iterator[int]:
    reached = (lan.most for (_, devices), lan in judged.lans.items() if lan.most and not (lan.lost or devices))
    return (fate.decision.table for fate in reached)


def _traffic(judged: Judgement) -> str:
    found = sorted(judged.internet.items(), key=lambda item: item[1].state not in ("active", "blocked"))
    said = {family: each.words(judged.network) for family, each in found if each.decision}
    is_up = tunnel.link_state(judged.config, judged.snapshot) == "up"
    for family, each in judged.internet.items():
        if each.decision and is_up and each.state == "blocked" and judged.config.manages:
            if obstacle := judged.obstacle(each.decision, family):
                said[family] = f"is blocked ({obstacle})"
            elif each.decision.table not in judged.goal.layout.tables:
                said[family] = f"is refused by {by(each.decision)}"
    if any(each.state in ("active", "blocked") for each in judged.internet.values()):
        return "; ".join((joined(said), *partly(judged.internet)))
    if not said and not is_up:
        return ""
    return ": ".join(filter(None, ["packets to the internet do not enter it", joined(said)]))


def _absent(judged: Judgement) -> str:
    config, snapshot, network = judged.config, judged.snapshot, judged.network
    is_gone = config.is_auto or is_absent(config, snapshot)
    return absent(config, snapshot.links, detect(config, snapshot, network)) if is_gone else ""


def _firewalls(network: Network) -> list[str]:
    products = (product_of(form) for family in FAMILIES for form in forms(network, family))
    return list(dict.fromkeys(product.name for product in products if product.firewalls))


def _rule_lines(judged: Judgement) -> list[RuleLine]:
    wanted, ours = judged.goal.rules.wanted, judged.goal.rules.ours
    lines = [RuleLine(rule, "missing") for rule in wanted if rule not in ours]
    seen: set[Rule] = set()
    for rule in judged.snapshot.rules:
        state = "theirs" if rule not in ours else "in step" if rule in wanted and rule not in seen else "stale"
        seen.add(rule)
        lines.append(RuleLine(rule, state))
    return sorted(lines, key=lambda line: line.rule.priority)


def _waiting(judged: Judgement, family: Family) -> Iterator[Waiting]:
    obstacle, settings = judged.goal.states[family].obstacle, judged.config.tunnel
    if judged.config.manages and obstacle:
        routes = [str(prefix) for prefix in settings.routes if prefix.family == family]
        if routes or settings.internet:
            yield Waiting(family, [*routes, "default"] if settings.internet else routes, obstacle)


def _lines(judged: Judgement, family: Family) -> Iterator[Line]:
    """Every route of the VPN's tables, and every LAN route of main."""
    goal = judged.goal
    verdicts, mirror = goal.judged[family].verdicts, goal.layout.mirror
    notes = {verdict.route: verdict.warning for verdict in verdicts if not verdict.refusal}
    held = {each: f"{why.refusal}; {HELD}" for each, why in goal.placeholders.items()}
    for table, (wanted, ours, others) in goal.contents[family].items():
        present, stale = set(ours), by_destination(route for route in ours if route not in {*wanted})
        for route in wanted:
            is_vpn = tunnel.is_tunnel_route(route) and route not in notes
            reason = held.get(route) or notes.get(route, "")
            state = "in step" if route in present else "missing"
            if state == "missing" and stale.get(route.dst):
                state, old = "changed", stale[route.dst].pop(0)
                was = f"the copy has {route.changed_from(old)}"
                reason = held.get(route) or ("a placeholder is in its place" if is_placeholder(old) else was)
            yield _reached(judged, Line(family, state, table, route, reason, is_vpn))
        for route in chain.from_iterable(stale.values()):
            line = Line(family, "stale", table, route, staleness(route, table, goal))
            if tunnel.is_tunnel_route(route):
                yield line._replace(is_vpn=True)
            else:
                yield _stale(judged, line) if table == mirror else line
        for route in others:
            yield Line(family, "theirs", table, route, "", is_vpn=True)
    for verdict in verdicts:
        if verdict.refusal:
            yield _reached(judged, Line(family, "skipped", mirror, verdict.route, verdict.refusal))


def _stale(judged: Judgement, line: Line) -> Line:
    """The line of a stale copy, completed with whether a `sync` removes it, and whether it should."""
    for loss in judged.lost_routes:
        if loss.copy == line.route:
            reason = f"main has lost this route, but {loss.address} is still here: sync would cut this LAN"
            return line._replace(reason=reason, is_lost_then=True, is_worse_then=True)
    stays = line.route in judged.then.table(line.table, line.family)
    return line._replace(reason=f"{line.reason}, but lan.prune is false" if stays else line.reason, stays=stays)


def _reached(judged: Judgement, line: Line) -> Line:
    """The line of a route of main, completed with where packets to its LAN go now, and after a `sync`."""
    place = key(line.route)
    if place not in judged.lans or line.route not in judged.lans[place].routes:
        return line._replace(no_lan=_no_lan(judged, line.route))
    found, then = judged.lans[place], judged.lans_then[place]
    # A LAN may be on several cards. The one that packets leave by counts.
    taken = found.most.decision.devices if found.most and not found.lost else line.route.attributes.devices
    outage = judged.network.outage(taken)
    lost = found.lost or (outage and f"go nowhere: {outage}")
    is_most = bool(found.lost) and not found.is_all_missed
    line = line._replace(lost=lost, is_most_lost=is_most, lan=place)
    # Where `auto` serves no VPN, a LAN needs no copy unless it is lost.
    line = line._replace(is_wanted=found.is_wanted and bool(lost or not judged.config.is_auto))
    is_out = bool(then.lost or (then.most and judged.network.outage(then.most.decision.devices)))
    is_worse = bool(then.lost) and not found.lost
    return line._replace(is_lost_then=then.is_cut, is_worse_then=is_worse, is_regained=bool(lost) and not is_out)


def _no_lan(judged: Judgement, route: Route) -> str:
    links = judged.network.links
    return next((links[each].no_lan for each in route.attributes.devices if each in links and links[each].no_lan), "")


def as_document(found: Status) -> dict[str, Any]:
    """For programs: the status as a JSON document."""
    return {
        "tunnel": {
            "interface": found.tunnel,
            "state": found.tunnel_state,
            "mode": found.mode,
            "internet": found.internet,
            "carriers": {
                family: {"dev": list(way.devices), "priority": way.steps[-1].rule.priority, "table": way.table}
                for family, way in found.carriers.items()
            },
            "obstacles": {family: reason for family, reason in found.obstacles.items() if reason},
        },
        "tables": {
            "layout": found.layout.name,
            "user": found.layout.user,
            "mirror": found.layout.mirror,
            "internet": found.layout.internet,
        },
        "waiting": [*map(str, found.waiting)],
        "rules": [
            {
                "family": rule.family,
                "priority": rule.priority,
                "table": rule.table,
                "rule": str(rule),
                "verdict": state,
            }
            for rule, state in found.rules
        ],
        "vpn": _documents(found.vpn),
        "lan": [
            {**document, "reachable": not line.lost if line.lan else None, "lost": line.lost}
            for document, line in zip(_documents(found.lan), found.lan, strict=True)
        ],
        "firewalls": found.firewalls,
        "losses": [loss.document for loss in found.losses],
        "uncopied": _documents(found.uncopied),
        "outages": [{"dev": [outage.name], "why": outage.why} for outage in found.outages],
    }


def _documents(lines: Sequence[Line]) -> list[dict[str, Any]]:
    return [
        {
            "family": line.family,
            "verdict": line.state,
            "table": line.table,
            "dst": line.route.dst,
            "dev": list(line.route.attributes.devices),
            "route": str(line.route),
            "reason": line.reason,
        }
        for line in lines
    ]
