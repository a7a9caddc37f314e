"""The check of the copies: are they in step, and would a `sync` be for the better?"""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from fz_iproute.diagnosis.checks.cures import as_default, removals, settings
from fz_iproute.diagnosis.checks.finding import Found, Level
from fz_iproute.diagnosis.detect import Vpn
from fz_iproute.diagnosis.lans import key
from fz_iproute.diagnosis.machine import Machine
from fz_iproute.diagnosis.misplaced import misplaced
from fz_iproute.diagnosis.remedy import Remedy, Setting, Step, Sync, added, advice
from fz_iproute.diagnosis.simulated import RouteStep
from fz_iproute.mirror.model import Command, Route
from fz_iproute.mirror.plan import plan
from fz_iproute.mirror.prefix import Family, Prefix, PrefixSet
from fz_iproute.mirror.words import MAIN, count, some


def mirror(machine: Machine) -> Iterator[Found]:
    """Check that `sync` has nothing to do."""
    yield from _left_behind(machine)
    due = plan(machine.goal, prune=machine.config.lan.prune)
    restoring = tuple(RouteStep("add", MAIN, each.original) for each in machine.lost_routes)
    yield from _lost(machine, restoring)
    if found := misplaced(machine.config, machine.snapshot, machine.vpns):
        yield _misplaced(machine, *found)
        return
    if restoring and len(due) == len(restoring):
        return
    if not due:
        copies = sum(len(judged.wanted) for judged in machine.goal.judged.values())
        yield Found("ok", f"{count(copies, 'copy', 'copies')}, in step")
        return
    table = machine.goal.layout.mirror
    if not machine.config.manages and not any(rule.table == table for rule in machine.snapshot.rules):
        yield Found("info", f"no rule leads to table {table}, so copies have no effect")
        return
    yield _due(machine, due, restoring)


def _due(machine: Machine, due: Sequence[Command], restoring: Sequence[RouteStep]) -> Found:
    """The finding if `sync` has something to do. `restoring`: what main needs first."""
    first = f"{machine.ip(due[0].family, shlex.join(due[0].words))} ({due[0].reason})"
    seen = f"{count(len(due), 'command is due', 'commands are due, the first')}: {first}"
    if stale := [
        f"the copy of {copy.dst} is stale, its source {source} is gone" for copy, source in stale_copies(machine)
    ]:
        seen = f"{some(stale)}: no program can connect there; {seen}"
    contents = [found for tables in machine.goal.contents.values() for found in tables.values()]
    copied = {key(route) for found in contents for route in found.ours}
    cut = {place: lan for place, lan in machine.lans_then.items() if lan.is_cut}
    losing = [lan for place, lan in cut.items() if place in copied or not machine.lans[place].lost]
    process = machine.facts.get("watch.process")
    words = f"`{machine.fz_iproute('plan')}` shows what sync would do: not all of it is for the better here"
    if refusals := removals(machine, losing, [lan.prefix for lan in losing]):
        words = f"decide whether packets to {some(str(lan.prefix) for lan in losing)} should be refused"
    elif losing:
        words = _yielding(machine, [lan.prefix for lan in losing])
    elif process:
        words = (
            "see the log of `watch` (`journalctl -u fz-iproute`): either another program undoes its commands, and has "
            "to stop that, or `ip` refuses them"
        )
    routed = [prefix for family in machine.families for prefix in _routed_parts(machine, family)]
    remedies = [Remedy(refusals), Remedy((*refusals, Sync()))] if refusals else []
    if restoring or not process:  # else `watch` does what `sync` would do
        effect = "; ".join(filter(None, (_ends(machine), machine.blocked)))
        remedies.append(Remedy((*restoring, Sync()), effect=effect))
    remedies += as_default(machine) if losing else ()
    if machine.released:
        remedies.append(Remedy((Setting("tunnel", "internet", True), Sync()), effect=f"without it, {machine.released}"))
    if routed:
        remedies.append(Remedy((added(machine, "allow", *routed), Sync())))
    what = "rules and routes are not as configured" if machine.config.manages else "the copies do not match main"
    if process:
        why = f"{what}, although `watch` (process {process}) runs, which keeps them in step"
    else:
        why = f"{what}; `watch` keeps them in step, and its log tells if another program undoes that"
    level: Level = "warning" if _is_early(machine, due) else "failure"
    return Found(level, seen, why, (*remedies, *advice(words)))


def _misplaced(machine: Machine, vpn: Vpn, right: int) -> Found:
    """The finding if no rule looks up the configured table of the copies. They belong in the `right` one.

    Copies there, from an earlier configuration, may still keep the LAN.
    """
    seen = f"no rule looks up table {machine.goal.layout.mirror}, which the settings name for copies"
    level: Level = "failure" if vpn.cut else "warning"
    why = f"only copies in table {right} have an effect"
    if not vpn.cut:
        why = f"copies in table {right} keep the LAN now, but `{machine.fz_iproute('sync')}` does not update them"
    return Found(level, seen, why, tuple(settings(machine, vpn.table)))


def _lost(machine: Machine, restoring: tuple[RouteStep, ...]) -> Iterator[Found]:
    """The LANs whose routes main has lost. `restoring` gives main all of them back."""
    for loss, step in zip(machine.lost_routes, restoring, strict=True):
        why = f"`{machine.fz_iproute('sync')}` would remove the copy, which is its job, and so cut this LAN"
        steps: tuple[tuple[Step, ...], ...] = ((step,), restoring, (*restoring, Sync()))
        words = f"reconnect {loss.copy.attributes.devices[0]}, so that main gets its route back"
        if loss.explicit:
            steps = (*steps, *((*restoring, *each.steps) for each in as_default(machine)))
            command = Remedy((step,)).command(machine)
            words = f"{_yielding(machine, [loss.explicit])}; `{command}` gives main its route back"
        yield Found("failure", str(loss), why, (*map(Remedy, steps), *advice(words)))


def _yielding(machine: Machine, lans: Iterable[Prefix]) -> str:
    return (
        f"the VPN routes {some(map(str, lans))} explicitly: renumber that LAN, or, if you need the VPN's hosts there "
        f"more, run `{machine.fz_iproute('sync')}`, which gives its addresses to the VPN"
    )


def _ends(machine: Machine) -> str:
    """Which copies of LANs a `sync` removes as the settings say."""
    found: dict[str, dict[str, None]] = defaultdict(dict)  # without repetitions
    for route, why in machine.left_out.items():
        found[why][route.dst] = None
    whose = {why: f"the {'copy' if len(names) == 1 else 'copies'} of {some(names)}" for why, names in found.items()}
    return "; ".join(f"removes {copies}: {why}" for why, copies in whose.items())


def _left_behind(machine: Machine) -> Iterator[Found]:
    """Routes through a router that may be copies from a time when `lan.allow` had them.

    They cannot be proven to be ours: another program, or a user, may have copied main's routes, too. Then their
    deletion would cut what they reach. So `sync` and `down` leave them alone.
    """
    steps = [
        RouteStep("del", table, route)
        for family, tables in machine.goal.contents.items()
        for table, contents in tables.items()
        for route in contents.others
        if route.attributes.gatewayed and route.dst != "default" and _is_as_in_main(machine, family, route)
    ]
    if steps:
        routes = some(f"{step.route} in table {step.table}" for step in steps)
        why = "if it is a copy from when lan.allow had it, delete it: sync and down cannot tell, and leave it"
        yield Found("info", f"as in main, but not in lan.allow: {routes}", why, (Remedy(tuple(steps)),))


def _is_as_in_main(machine: Machine, family: Family, route: Route) -> bool:
    """True if main reaches the same prefix by the same path. Routes of a VPN are no copies."""
    if machine.network.may_be_by_tunnel(route.attributes.devices) or route.attributes.type != "unicast":
        return False
    return any(other.attributes.path == route.attributes.path for other in machine.main(family).to(route.prefix))


def _is_early(machine: Machine, due: Iterable[Command]) -> bool:
    """True if only new copies are due, and packets reach their LANs without them, or would not reach them with them.

    So it is before the VPN takes all traffic, or while a card has no carrier. Then the missing copies do no harm yet.
    """
    if any(command.words[:2] not in (("route", "add"), ("route", "append")) for command in due):
        return False
    for family, tables in machine.goal.contents.items():
        new = {route for found in tables.values() for route in found.wanted}
        new -= {route for found in tables.values() for route in found.ours}
        if not new.issubset(machine.goal.judged[family].wanted):
            return False
        lost = [each for each in new if (place := key(each)) in machine.lans and machine.lans[place].lost]
        if not all(machine.network.outage(each.attributes.devices) for each in lost):
            return False
    return True


def stale_copies(machine: Machine) -> Iterator[tuple[Route, str]]:
    """The copies with a source address that this machine no longer has, and this address.

    The kernel still uses such a route, but no program can connect by it.
    """
    for family, tables in machine.goal.contents.items():
        own = {each.prefix.address for each in machine.network.own(family)}
        for copy in (copy for found in tables.values() for copy in found.ours):
            if copy.attributes.source and copy.attributes.source not in own:
                yield copy, copy.attributes.value("src")


def _routed_parts(machine: Machine, family: Family) -> Iterator[Prefix]:
    """The prefixes inside a mirrored LAN that main reaches through a router."""
    mirrored = {route.prefix for route in machine.goal.judged[family].wanted}
    inside = routes_inside(machine, family, mirrored)
    return (route.prefix for route in inside if route.attributes.gatewayed and route.prefix not in mirrored)


def routes_inside(machine: Machine, family: Family, prefixes: Iterable[Prefix]) -> Iterator[Route]:
    """The routes of main to these prefixes, and to prefixes inside them."""
    chosen = PrefixSet(prefixes)
    for prefix in sorted(chosen):
        if prefix.family == family and chosen.covering(prefix) == prefix:
            yield from machine.main(family).inside(prefix)
