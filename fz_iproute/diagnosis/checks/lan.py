"""Checks of the LAN: suspicious prefixes, overlaps with the VPN, discovery, and DHCP."""

import shlex
from collections import defaultdict
from collections.abc import Iterator
from operator import attrgetter

from fz_iproute.diagnosis.checks.cures import of_loss, removals
from fz_iproute.diagnosis.checks.finding import Found, Level, or_ok
from fz_iproute.diagnosis.lans import Loss, key, losses
from fz_iproute.diagnosis.lookup import usual
from fz_iproute.diagnosis.machine import Machine
from fz_iproute.diagnosis.outages import together
from fz_iproute.diagnosis.remedy import Remedy, Setting, Step, Sync, added, advice, in_file, in_force
from fz_iproute.diagnosis.simulated import RouteStep
from fz_iproute.diagnosis.uncopied import uncopied
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.policy import PART_OF_A_DEFAULT
from fz_iproute.mirror.prefix import FAMILIES, PRIVATE, Family, Prefix, PrefixSet
from fz_iproute.mirror.words import MAIN, some


def prefixes(machine: Machine) -> Iterator[Found]:
    """Check that no mirrored prefix looks as if a hostile network had handed it out."""
    found = (each for family in FAMILIES for each in _suspicious(machine, family))
    yield from or_ok(found, "no LAN is public, huge, or pushed by DHCP alone")


def _suspicious(machine: Machine, family: Family) -> Iterator[Found]:
    judged = machine.goal.judged[family]
    trusted = PrefixSet([*machine.config.lan.allow, *machine.routers(family)])
    connected = defaultdict(list)
    for route in judged.main:
        if route.attributes.is_of("kernel") and route.attributes.on_link:
            connected[route.attributes.devices].append(route.prefix)
    public: list[Prefix] = []
    wide: list[Prefix] = []
    for route, refusal, *_ in judged.verdicts:
        if any(form.has_device and form.interface in route.attributes.devices for form in machine.forms):
            continue  # the route leads into a VPN, so it is no LAN
        prefix = route.prefix
        if refusal.startswith("wider than"):
            why = "a hostile DHCP server can hand out such a prefix to pull traffic out of the tunnel"
            narrow = in_force(machine, Setting("lan", "min_prefixlen", {family: prefix.length}))
            words = f"leave it as it is: its packets stay in the tunnel; only if this network is yours, {narrow}"
            yield Found("warning", f"{route}: {refusal}, so not copied", why, advice(words))
        elif refusal == PART_OF_A_DEFAULT:
            wide.append(prefix)
        elif refusal or trusted.covers(prefix):
            continue
        elif not PRIVATE.covers(prefix):
            public.append(prefix)
        # A DHCP route inside the LAN is not suspicious: networkd itself adds one to reach a router.
        elif route.attributes.is_of("dhcp") and not PrefixSet(connected[route.attributes.devices]).covers(prefix):
            why = "DHCP (option 121) has pushed it as local: packets leave the tunnel for whoever answers there"
            words = f"if you want it, {in_file(machine, added(machine, 'allow', prefix))}"
            # lan.deny would also refuse other LANs inside the prefix.
            if not any(prefix != lan and prefix.covers(lan) for lan in machine.accepted(family)):
                words = f"{in_force(machine, added(machine, 'deny', prefix))}; or, {words}"
            yield Found("warning", f"{route}: pushed by DHCP, and copied by this configuration", why, advice(words))
    yield from _public(machine, family, list(dict.fromkeys(public)))
    if wide:
        why = "a hostile DHCP server can hand out such prefixes to pull traffic out of the tunnel"
        allow = in_force(machine, added(machine, "allow", *wide))
        words = f"leave it as it is: their packets stay in the tunnel; only if this network is yours, {allow}"
        seen = f"{some(map(str, wide))}: public, on-link, and together much of the internet, so not copied"
        yield Found("warning", seen, why, advice(words))


def _public(machine: Machine, family: Family, prefixes: list[Prefix]) -> Iterator[Found]:
    """Public prefixes that are mirrored. A public IPv4 prefix on a link is rare, a global IPv6 prefix is usual."""
    if not prefixes:
        return
    names = some(map(str, prefixes))
    why = "a hostile access point can hand out public addresses of somebody else as local"
    strict = in_force(machine, Setting("lan", "trust", "private"))
    words = f"{in_file(machine, added(machine, 'allow', *prefixes))}; or, if this network is not yours, {strict}"
    is_usual = family == "inet6" and all(prefix.length >= 64 for prefix in prefixes)
    level: Level = "info" if is_usual else "warning"
    yield Found(level, f"{names}: public, and copied by this configuration", why, advice(words))


def shadowed(machine: Machine) -> Iterator[Found]:
    """Check that packets reach each LAN, or do so after a `sync`."""
    yield from or_ok(
        (*_losses(machine), *_unplugged(machine), *_all_left_out(machine)), "no LAN stays out of reach after a sync"
    )


def _losses(machine: Machine) -> Iterator[Found]:
    """What packets do not reach of the LANs, neither now nor after a `sync`."""
    # If the configured tunnel is missing, the check `tunnel` already says what the VPNs do that are there instead.
    is_there = machine.config.tunnel.interface in machine.snapshot.links
    named = set() if is_there else {vpn.table for vpn in machine.vpns}
    found = losses(machine.network, machine.lans) if machine.losses else []
    now = {name for loss in found for name in loss.names}
    lost = (each._replace(names=tuple(name for name in each.names if name in now)) for each in machine.losses)
    for loss in filter(attrgetter("names"), lost):
        if loss.extent == "whole" and loss.decision.table not in named:
            is_routed = machine.gets_out(loss.decision) and "through the router" in loss.lost
            becomes = "the router decides whether they arrive" if is_routed else "hosts there cannot be reached"
            why = f"{becomes}, and `sync` does not change that"
            yield Found("failure", f"{loss}", why, tuple(of_loss(machine, loss)))
        elif loss.extent == "part" and not machine.config.manages and _is_refused_by_routes(machine, loss):
            yield Found("warning", f"{loss}", "hosts there cannot be reached", tuple(of_loss(machine, loss)))
        elif loss.extent != "whole":
            yield Found("info", f"{loss}", "these packets do not reach the LAN")


def _is_refused_by_routes(machine: Machine, loss: Loss) -> bool:
    """True if routes refuse the packets that could be deleted. A rule for some addresses is probably intended."""
    removed = removals(machine, loss.lans, loss.prefixes)
    return bool(removed) and all(isinstance(step, RouteStep) for step in removed)


def _all_left_out(machine: Machine) -> Iterator[Found]:
    """Settings leave out every LAN. If lan.interfaces does, it probably has a wrong name."""
    verdicts = [each for each in machine.goal.verdicts if key(each.route) in machine.lans]
    is_lost = any(lan.lost for lan in machine.lans.values())
    if not is_lost or any(each.is_accepted for each in verdicts):
        return
    seen = f"the settings leave out every LAN: {some(each.route.dst for each in verdicts)}"
    unlisted = [each.route for each in verdicts if each.refusal.startswith("lan.interfaces ")]
    if unlisted:
        devices = dict.fromkeys(device for route in unlisted for device in route.attributes.devices)
        listed = Setting("lan", "interfaces", (*machine.config.lan.interfaces, *devices))
        words = advice(f"if you want to reach them, {in_force(machine, listed)}")
        why = "lan.interfaces lists none of their interfaces"
        yield Found("warning", seen, why, (Remedy((listed, Sync())), *words))
    else:
        words = advice(f"if you want to reach them, change that in {machine.config_path}")
        yield Found("info", seen, some(each.refusal for each in verdicts), words)


def _unplugged(machine: Machine) -> Iterator[Found]:
    """Network cards that do not reach their LAN. Rules of the VPN are not to blame."""
    for same, why in together(machine.outages):
        names = [outage.name for outage in same]
        seen = f"{some(names)} {why}"
        if same[0].lost:
            adding = tuple(RouteStep("add", MAIN, route) for route in machine.unconnected(names[0]))
            remedies = (Remedy(adding), Remedy((*adding, Sync()))) if adding else ()
            words = f"reconnect {names[0]}, so that main gets its route back"
            yield Found("warning", seen, "hosts there cannot be reached", (*remedies, *advice(words)))
        else:
            states = {name: "up" for name in names if not machine.network.links[name].up}
            states |= {outage.name: "down" for outage in same if outage.also}
            links = [f"link set {shlex.quote(name)} {state}" for name, state in states.items()]
            words = " && ".join(machine.as_root(machine.ip("inet", each)) for each in links)
            yield Found("info", seen, "", advice(words) if words else ())


def overrides(machine: Machine) -> Iterator[Found]:
    """Check that main and the copies treat every part of a LAN alike.

    Main may refuse a part of the LAN, reach it through a router, or by another device. Then a copy must not override
    that.
    """
    found = [each for family in machine.families for each in _overridden(machine, family)]
    yield from or_ok((*found, *_left_out(machine)), "main and the copies agree about every part of the LAN")


def _left_out(machine: Machine) -> Iterator[Found]:
    """Private networks that main has routes to, but whose packets enter the tunnel: the routes are not copied."""
    routes = (route for route, reason in uncopied(machine.network, machine.goal) if "wider than" not in reason)
    routed = [
        route.prefix
        for route in routes
        if route.attributes.type == "unicast" and not route.attributes.expired
        if not machine.network.may_be_by_tunnel(route.attributes.devices)
        if all(machine.is_tunnelled(way.decision) for way in machine.ways(route.prefix))
    ]
    if routed:
        why = "a route through a router, or with another scope than link, is copied only if lan.allow has it"
        steps = (added(machine, "allow", *dict.fromkeys(routed)), Sync())
        seen = f"packets to {some(map(str, routed))}, which main has routes for, go into the tunnel"
        yield Found("info", seen, why, (Remedy(steps),))


def _overridden(machine: Machine, family: Family) -> Iterator[Found]:
    copies = machine.goal.judged[family].wanted
    own = {(route.dst, route.attributes.devices) for route in copies}
    ways = (way for lan in machine.accepted(family) for way in machine.ways(lan))
    found = {
        route: (decision.route.prefix, decision.devices)
        for part, decision in ways
        if decision.route in copies and (route := machine.network.main_alone.way(usual(family, part.address)).route)
    }
    for route, (lan, devices) in found.items():
        is_to_router = route.attributes.type == "unicast" and route.prefix in machine.routers(family)
        if (route.dst, route.attributes.devices) in own or is_to_router:
            continue
        if route.attributes.type != "unicast":
            yield _hidden_refusal(machine, family, route, lan)
        elif route.attributes.gatewayed:
            steps = (added(machine, "allow", route.prefix), Sync())
            yield _other_way(route, lan, "through a router", "on the link", Remedy(steps))
        elif set(route.attributes.devices) != set(devices):
            by, other = (f"by {' '.join(names)}" for names in (route.attributes.devices, devices))
            yield _other_way(route, lan, by, other)


def _other_way(route: Route, lan: Prefix, by: str, other: str, *remedies: Remedy) -> Found:
    why = f"main reaches it {by}, but the copy of {lan} looks for it {other}"
    words = advice(f"decide how {route.prefix} should be reached: main has {route}")
    return Found("warning", f"{route} in main is overridden by the copy of {lan}", why, (*remedies, *words))


def _hidden_refusal(machine: Machine, family: Family, route: Route, lan: Prefix) -> Found:
    if lan == route.prefix:
        seen = f"main refuses all of the LAN {lan}: {route}; only the copy hides that"
        why = f"so the VPN's own packets do not get to {lan}, nor will any once the copies are gone"
        words = f"find out who has made that: `{machine.ip(family, f'route show {lan}')}`"
        return Found("warning", seen, why, (Remedy((RouteStep("del", MAIN, route),)), *advice(words)))
    why = f"main refuses it ({route.attributes.type}), but the copy of {lan} reaches it"
    deny = in_force(machine, added(machine, "deny", lan))
    words = f"to keep all of {lan} in the tunnel, {deny}; or refuse {route.prefix} in a firewall"
    return Found("warning", f"{route} in main is overridden by the copy of {lan}", why, advice(words))


_MDNS = Prefix.parse("224.0.0.251/32").address
_DISCOVERY = "discovery (224.0.0.251, 255.255.255.255)"


def multicast(machine: Machine) -> Iterator[Found]:
    """Check that multicast for the discovery of devices reaches the LAN."""
    decision = machine.way("inet", _MDNS)
    if machine.is_tunnelled(decision):
        steps: tuple[Step, ...] = (Sync(),)
        if not machine.config.lan.multicast:
            steps = (Setting("lan", "multicast", True), Sync())
        remedies = () if machine.lost_routes else (Remedy(steps),)
        yield Found("info", f"{_DISCOVERY} goes into the tunnel, so programs may not find printers", "", remedies)
    else:
        by = f", and leaves by {decision.devices[0]} only" if decision.devices else ""
        yield Found("ok", f"{_DISCOVERY} stays out of {machine.config.tunnel.interface}{by}")


def dhcp(machine: Machine) -> Iterator[Found]:
    """Check that no DHCP server of this machine is inside an explicit route of the VPN."""
    yield from or_ok(_taken_servers(machine), "no known DHCP server is inside a route of the VPN")


_WIDE = 8  # the default route and its parts


def _taken_servers(machine: Machine) -> Iterator[Found]:
    for server in machine.facts.get("dhcp.servers", "").split():
        decision = machine.way("inet", Prefix.of_route(server, "inet").address)
        if decision.route and machine.is_tunnelled(decision) and decision.route.prefix.length > _WIDE:
            why = (
                "the lease cannot be renewed there: the question goes into the tunnel, until the client asks everybody"
            )
            dst = decision.route.dst
            words = f"let the VPN route less than {dst}, or let another DHCP server give the lease"
            yield Found("warning", f"{dst} of the VPN takes the DHCP server {server}", why, advice(words))
