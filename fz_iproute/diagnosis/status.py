"""Computes what `status` shows: the tunnel, the rules, and the state of every route."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from fz_iproute.diagnosis.detect import absent, detect
from fz_iproute.diagnosis.detours import Detour, detours
from fz_iproute.diagnosis.full_tunnel import all_traffic, forms
from fz_iproute.diagnosis.internet import Carrier, internet, is_emptied, leaking, outside, unused_tables
from fz_iproute.diagnosis.lookup import usual
from fz_iproute.diagnosis.lost_routes import LostRoute, Outage, lost_routes, outages
from fz_iproute.diagnosis.products import Form, product_of
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.reached import lost
from fz_iproute.diagnosis.shadow import Shadow, in_step, other_tunnels, shadows
from fz_iproute.diagnosis.uncopied import why_not_copied
from fz_iproute.mirror import tunnel
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import Desired, desired, is_absent
from fz_iproute.mirror.model import Route, Rule, Snapshot, by_destination
from fz_iproute.mirror.plan import plan
from fz_iproute.mirror.prefix import FAMILIES, PRIVATE, Family
from fz_iproute.mirror.tunnel import Layout
from fz_iproute.mirror.words import MAIN, table_name


class Line(NamedTuple):
    """A route. Its state is in step, missing, changed, stale, skipped, or theirs if fz-iproute did not add it."""

    family: Family
    state: str
    table: int
    route: Route
    reason: str
    lost: str = ""  # for a LAN: where packets to it go instead; "" if they reach it
    is_lost_then: bool = False  # for a LAN: packets do not reach it after a `sync`, and no setting wants that
    stays: bool = False  # for a stale copy: `sync` does not remove it

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
    others: dict[str, int]  # if the tunnel is missing: devices in the VPN's tables that may be tunnels, and the table
    absent: str  # a sentence instead of the state, if no rule leads to the VPN's tables; else ""
    mode: str
    layout: Layout
    internet: dict[Family, str]  # active if most packets to it enter the tunnel, blocked if they are refused, or off
    carriers: dict[Family, Carrier]
    traffic: dict[tuple[str, ...], str]  # by the carriers' devices; see full_tunnel.all_traffic
    outside: dict[Family, str]  # what becomes of most packets that do not enter the tunnel: `leaves by eth0`
    needs_doctor: bool  # packets leave outside the tunnel, but the VPN should probably carry them
    firewalls: list[str]  # VPN clients whose firewall may stop packets to a LAN although they have a route
    obstacles: dict[Family, str]  # in manage mode: why the tunnel does not carry the family
    rules: list[RuleLine]  # all rules
    waiting: list[Waiting]
    vpn: list[Line]  # the routes in the VPN's tables that are no copies; in manage mode, also the missing ones
    lan: list[Line]  # LAN routes and copies
    shadows: list[Shadow]
    detours: list[Detour]  # rules that send some packets to a LAN elsewhere
    uncopied: list[Line]  # routes of main to private networks that nothing copies, so that packets take another route
    outages: list[Outage]
    no_lans: frozenset[str]  # networks on these devices are no LANs: those of VPNs, and the ports of bridges
    commands: int  # how many `sync` would run

    @property
    def is_used(self) -> bool:
        """True if a rule leads to the VPN's tables, or a missing rule should. Otherwise copies have no effect."""
        return any(line.rule.table in self.layout.tables for line in self.rules)

    @property
    def carried(self) -> list[str]:
        """A sentence for each carrier: `all traffic goes into wg0 (IPv4 and IPv6) by rule 32765, table 51820`."""
        said = []
        for devices, words in self.traffic.items():
            rules = {(each.priority, each.table) for each in self.carriers.values() if each.devices == devices}
            by = " and ".join(f"rule {priority}, table {table_name(table)}" for priority, table in sorted(rules))
            said.append(f"{words} by {by}")
        return said


def status(config: Config, snapshot: Snapshot, network: Network) -> Status:
    """Judge the snapshot. `network` must have all routes that decide about packets to the internet and to LANs."""
    goal = desired(config, snapshot)
    ways = {family: internet(network, goal, family) for family in network.families}
    carriers = {family: way.carrier for family, way in ways.items() if way.carrier}
    then = in_step(network, goal, prune=config.lan.prune)
    vpns = [form for family in FAMILIES for form in forms(network, family)]
    ports = (link.name for link in snapshot.links.values() if link.is_port)
    no_lans = goal.tunnels.union((form.interface for form in vpns if form.has_device), ports)
    losses = {each.copy: each for each in lost_routes(network, goal, prune=config.lan.prune)}
    lan = [line for family in FAMILIES for line in _reached(family, goal, network, then, no_lans)]
    lan = [_with_loss(line, losses.get(line.route)) if line.state == "stale" else line for line in lan]
    return Status(
        tunnel=config.tunnel.interface,
        tunnel_state=tunnel.link_state(config, snapshot),
        others=other_tunnels(network, goal) if config.tunnel.interface not in snapshot.links else {},
        absent=_absent(config, snapshot, network),
        mode=config.tunnel.mode,
        layout=goal.layout,
        internet=dict.fromkeys(FAMILIES, "off") | {family: way.state for family, way in ways.items()},
        carriers=carriers,
        traffic={each.devices: all_traffic(network, each.devices[0], alone=True) for each in carriers.values()},
        outside=outside(network, ways),
        needs_doctor=bool(
            (leaking(ways) and not config.allows_leak)
            or is_emptied(config, snapshot, goal)
            or unused_tables(snapshot, goal)
        ),
        firewalls=_firewalls(vpns) if carriers else [],
        obstacles={family: goal.states[family].obstacle for family in FAMILIES if config.manages},
        waiting=[waiting for family in FAMILIES for waiting in _waiting(config, goal, family)],
        rules=_rule_lines(snapshot, goal),
        vpn=[line for family in FAMILIES for line in _vpn_lines(family, goal)],
        lan=[*_placeholder_lines(goal), *lan],
        shadows=[shadow for family in FAMILIES for shadow in shadows(then, goal, family)],
        detours=detours(then, goal),
        uncopied=[line for family in FAMILIES for line in _uncopied(goal, network, family)],
        outages=outages(network, goal),
        no_lans=no_lans,
        commands=len(plan(goal, prune=config.lan.prune)),
    )


def _absent(config: Config, snapshot: Snapshot, network: Network) -> str:
    is_gone = config.is_auto or is_absent(config, snapshot)
    return absent(config, snapshot.links, detect(config, snapshot, network)) if is_gone else ""


def _firewalls(vpns: Sequence[Form]) -> list[str]:
    products = dict.fromkeys(map(product_of, vpns))
    return [product.name for product in products if product.firewalls]


def _uncopied(goal: Desired, network: Network, family: Family) -> Iterator[Line]:
    judged = {verdict.route for verdict in goal.judged[family].verdicts}
    for route in network.tables[MAIN][family]:
        prefix = route.prefix
        if route in judged or not PRIVATE.covers(prefix):
            continue
        is_used = network.way(usual(family, prefix.host)).route == route
        if not is_used and (reason := why_not_copied(goal, route)):
            yield Line(family, "skipped", MAIN, route, reason)


def _rule_lines(snapshot: Snapshot, goal: Desired) -> list[RuleLine]:
    wanted, ours = goal.rules.wanted, goal.rules.ours
    lines = [RuleLine(rule, "missing") for rule in wanted if rule not in ours]
    seen: set[Rule] = set()
    for rule in snapshot.rules:
        state = "theirs" if rule not in ours else "in step" if rule in wanted and rule not in seen else "stale"
        seen.add(rule)
        lines.append(RuleLine(rule, state))
    return sorted(lines, key=lambda line: line.rule.priority)


def _waiting(config: Config, goal: Desired, family: Family) -> Iterator[Waiting]:
    obstacle = goal.states[family].obstacle
    if config.manages and obstacle:
        routes = [str(prefix) for prefix in config.tunnel.routes if prefix.family == family]
        if routes or config.tunnel.internet:
            yield Waiting(family, [*routes, "default"] if config.tunnel.internet else routes, obstacle)


def _vpn_lines(family: Family, goal: Desired) -> Iterator[Line]:
    """All routes of the VPN's tables except copies; in manage mode also those that should be there."""
    for table, (wanted, ours, others) in goal.contents[family].items():
        copies = set(goal.judged[family].wanted) if table == goal.layout.mirror else set()
        present = set(ours)
        for route in wanted:
            if route not in copies and route not in goal.placeholders:
                yield Line(family, "in step" if route in present else "missing", table, route, "")
        for route in ours:
            if tunnel.is_tunnel_route(route) and route not in wanted:
                yield Line(family, "stale", table, route, "the configuration has no such route here")
        for route in others:
            yield Line(family, "theirs", table, route, "")


def _placeholder_lines(goal: Desired) -> Iterator[Line]:
    mirror = goal.layout.mirror
    for route, verdict in goal.placeholders.items():
        state = "in step" if route in goal.contents["inet"][mirror].ours else "missing"
        yield Line("inet", state, mirror, route, f"{verdict.refusal}; in place of a copy by the VPN's client")


def _reached(family: Family, goal: Desired, network: Network, then: Network, no_lans: frozenset[str]) -> Iterator[Line]:
    """The lines of the LANs, completed with where packets to each LAN go now, and `then`: after a `sync`.

    A network on one of the devices `no_lans` is no LAN.
    """
    after = {table: frozenset(then.tables[table][family]) for table in goal.contents[family]}
    copies = by_destination(goal.judged[family].wanted)
    unchosen = {verdict.route for verdict in goal.judged[family].verdicts if verdict.is_accepted or verdict.warning}
    for line in _lan_lines(family, goal):
        if line.state == "stale":
            stays = line.route in after[line.table]
            reason = f"{line.reason}, but lan.prune is false" if stays else line.reason
            yield line._replace(reason=reason, stays=stays)
            continue
        same = copies.get(line.route.dst, ())
        is_missed = line.route in unchosen and no_lans.isdisjoint(line.route.attributes.devices)
        yield line._replace(
            lost=lost(network, line.route, same) or _unplugged(network, line.route),
            is_lost_then=is_missed and bool(lost(then, line.route, same)),
        )


def _with_loss(line: Line, loss: LostRoute | None) -> Line:
    if loss is None:
        return line
    reason = f"main has lost this route, but {loss.address} is still here: sync would cut this LAN"
    return line._replace(reason=reason, is_lost_then=True)


def _unplugged(network: Network, route: Route) -> str:
    devices = route.attributes.devices
    outages = [f"{device} {link.outage}" for device in devices if (link := network.links.get(device)) and link.outage]
    return f"go nowhere: {' and '.join(outages)}" if outages and len(outages) == len(devices) else ""


def _lan_lines(family: Family, goal: Desired) -> Iterator[Line]:
    mirror = goal.layout.mirror
    here = goal.contents[family][mirror]
    ours = set(here.ours)
    wanted = set(here.wanted)
    stale: dict[str, list[Route]] = defaultdict(list)
    for route in here.ours:
        if route not in wanted and not tunnel.is_tunnel_route(route):
            stale[route.dst].append(route)
    refused = {}
    for route, refusal, warning, _ in goal.judged[family].verdicts:
        if refusal:
            refused[route.as_copied] = refusal
            yield Line(family, "skipped", mirror, route, refusal)
        elif route in ours:
            yield Line(family, "in step", mirror, route, warning)
        elif stale[route.dst]:
            old = stale[route.dst].pop(0)
            yield Line(family, "changed", mirror, route, f"the copy has {route.changed_from(old)}")
        else:
            yield Line(family, "missing", mirror, route, warning)
    for route in chain.from_iterable(stale.values()):
        yield Line(family, "stale", mirror, route, refused.get(route, "main has no such route"))
    for table, found in goal.contents[family].items():
        if table != mirror:
            for route in found.ours:
                if not tunnel.is_tunnel_route(route):
                    yield Line(family, "stale", table, route, f"the copies are in table {mirror} now")


def as_document(found: Status) -> dict[str, Any]:
    """For programs: the status as a JSON document."""
    return {
        "tunnel": {
            "interface": found.tunnel,
            "state": found.tunnel_state,
            "mode": found.mode,
            "internet": found.internet,
            "carriers": {
                family: {"dev": list(carrier.devices), "priority": carrier.priority, "table": carrier.table}
                for family, carrier in found.carriers.items()
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
            {**document, "reachable": not line.lost, "lost": line.lost}
            for document, line in zip(_documents(found.lan), found.lan, strict=True)
        ],
        "firewalls": found.firewalls,
        "shadows": [
            {"lan": str(lan), "tunnel": str(tunnel), "whole": whole, "refused": refused}
            for lan, tunnel, whole, refused in found.shadows
        ],
        "detours": [detour.document for detour in found.detours],
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
