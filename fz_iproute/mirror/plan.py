"""The commands that lead from what is in the VPN's tables to what should be there, in a safe order.

Every step keeps the LAN reachable, and what goes into the tunnel in there: what is added stands before what it
replaces goes, and a table has what the tunnel and the LAN need before a rule leads to it.

`ip` may refuse what is added. So a deletion that would open a way around the tunnel `waits` until a reading has shown
that all is there which keeps packets in: a shell runs the plan from top to bottom, we read again before those.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

from fz_iproute.mirror.desired import Desired, Rules
from fz_iproute.mirror.difference import Phase, Step, is_tunnels, steps
from fz_iproute.mirror.model import Command, Route, Rule, has_numbers
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix, PrefixSet
from fz_iproute.mirror.tunnel import is_backstop, is_tunnel_route

# Within a phase. What a table has lost is looked up in the next, so the one that is asked last is cleared first.
_Order = tuple[int, ...]
_UNASKED = (0, 0)


def plan(desired: Desired, *, prune: bool = True) -> list[Command]:
    """The commands that lead from what is to what should be; none if nothing differs."""
    commands: list[Command] = []
    for family in FAMILIES:
        due: dict[tuple[Phase, _Order], list[Command]] = defaultdict(list)
        exposed = _is_exposed(family, desired)
        for phase, order, found in (
            *_route_commands(family, desired, prune, exposed),
            *_rule_commands(family, desired, exposed),
        ):
            due[phase, order] += found
        commands += [command for place in sorted(due) for command in due[place]]
    return commands


def take_out(desired: Desired) -> list[Command]:
    """The commands that remove all that is ours."""
    return [command._replace(reason="ours") for command in plan(desired.wanting(None))]


def leftovers(old: Desired, new: Desired, *, prune: bool = True) -> list[Command] | None:
    """The commands that remove what one configuration has put in place and its successor does not want.

    None, or those of the other family, while rules or tunnel routes of the successor are to come: until then, packets
    go by what looks left over.
    """
    settled = [family for family in FAMILIES if not _is_exposed(family, new)]
    commands = [
        command._replace(reason="no longer wanted", waits=False)
        for command in plan((old if prune else _without_strays(old)).wanting(new))
        if command.words[1] == "del" and command.family in settled
    ]
    return commands if commands or len(settled) == len(FAMILIES) else None


def _is_exposed(family: Family, desired: Desired) -> bool:
    """Some of what is to keep packets from going around the tunnel is not there: a rule, or a route.

    The backstop makes up for routes: for one that the tunnel never takes, as IPv6 where it is off, nothing waits.
    """
    rules = {rule for rule in desired.rules.wanted if rule.family == family}
    if not rules <= set(desired.rules.ours):
        return True
    tables = desired.contents[family].values() if rules else ()
    is_missing = any(
        is_tunnels(route, desired.tunnels) and route not in found.ours
        for found in tables
        if found.wanted != found.ours
        for route in found.wanted
    )
    return is_missing and not any(
        route.dst == "default" and is_backstop(route) and route in found.wanted
        for found in tables
        for route in found.ours
    )


def _without_strays(goal: Desired) -> Desired:
    """As if what only pruning would take out of the mirror table were others'."""
    contents = {family: dict(tables) for family, tables in goal.contents.items()}
    for tables in contents.values():
        if found := tables.get(goal.layout.mirror):
            wanted = set(found.wanted)
            parts: tuple[list[Route], list[Route]] = [], []
            for route in found.ours:
                parts[route not in wanted and not is_tunnels(route, goal.tunnels)].append(route)
            ours, strays = parts
            tables[goal.layout.mirror] = found._replace(ours=tuple(ours), others=(*found.others, *strays))
    return replace(goal, contents=contents)


_Due = tuple[Phase, _Order, list[Command]]


def _route_commands(family: Family, desired: Desired, prune: bool, exposed: bool) -> Iterator[_Due]:
    refused: dict[Route, str] = {}
    mirror = desired.layout.mirror
    ranks = _ranks(family, desired.rules)
    for table, contents in desired.contents[family].items():
        if contents.wanted == contents.ours:
            continue
        refused = refused or {verdict.route: verdict.refusal for verdict in desired.verdicts if verdict.refusal}
        waiting = PrefixSet(_still_claimed(family, desired) if table == mirror else ())
        rank = ranks.get(table, _UNASKED)
        # A copy that stays, stays where copies belong: in another table it could stand in front of the tunnel's routes.
        for step in steps(family, contents, prune or table != mirror, desired.tunnels):
            order = _order(step, rank)
            why = step.reason
            if not why:
                (route,) = step.routes
                why = f"stale: {refused.get(route) or _staleness(route, table, desired)}"
            opens = not step.reason and (table != mirror or is_tunnel_route(step.routes[0]))
            for part in _in_time(step, waiting):
                waits = exposed and (opens or part.phase is not step.phase)
                yield part.phase, order, _commands(table, part, why, waits)


def _in_time(step: Step, waiting: PrefixSet) -> Iterator[Step]:
    """The step, without those new routes that must wait until others have gone; and then these."""
    if step.phase is not Phase.ADD or not waiting:
        yield step
        return
    parts: tuple[list[Route], list[Route]] = [], []
    for route in step.routes:
        parts[waiting.covers(Prefix.of_route(route.dst, route.attributes.family))].append(route)
    for phase, routes in zip((Phase.ADD, Phase.ADD_BACK), parts, strict=True):
        if routes:
            yield step._replace(phase=phase, routes=routes)


def _commands(table: int, step: Step, why: str, waits: bool) -> list[Command]:
    """One for each route of the step."""
    attributes = step.routes[0].attributes
    start = f"route {step.verb} table {table}"
    if attributes.type != "unicast":
        start += f" {attributes.type}"
    rest = " ".join(attributes.words)
    numeric = has_numbers(f" {rest}")
    return [Command(attributes.family, f"{start} {dst} {rest}", why, waits, numeric) for dst, _ in step.routes]


def _order(step: Step, rank: tuple[int, int]) -> _Order:
    """The place of a step among those of its phase; `rank` is that of its table."""
    route = step.routes[0]
    attributes = route.attributes
    match step.phase:
        case Phase.ADD:
            # What the VPN has inside of a LAN stands before the LAN does, and its backstop last.
            return (not is_tunnel_route(route), attributes.type != "unicast")
        case Phase.ADD_DEFAULT:
            return (attributes.metric,)  # a backstop last
        case Phase.DELETE:
            # The widest route would otherwise take what the others leave; a backstop stops what others would take.
            return (*rank, Prefix.of_route(route.dst, attributes.family).length, attributes.type == "unicast")
    return ()


def _still_claimed(family: Family, desired: Desired) -> Iterator[Prefix]:
    """In the tiered layout, what the VPN has explicitly, as long as the LAN's table holds routes of the VPN too.

    It has been the VPN's table then: the longest prefix wins in there, and a copy must wait until they have gone.
    """
    contents = desired.contents[family]
    here = contents[desired.layout.mirror]
    stale = set(here.ours).difference(here.wanted)
    if desired.layout.name == "tiered" and any(is_tunnel_route(route) and route.dst != "default" for route in stale):
        for route in contents[desired.layout.user].wanted:
            yield Prefix.of_route(route.dst, family)


def _staleness(route: Route, table: int, desired: Desired) -> str:
    if table == desired.layout.mirror and route.attributes.on_link:
        return "main has no such route"
    return "the configuration has no such route here"


def _ranks(family: Family, rules: Rules) -> Mapping[int, tuple[int, int]]:
    """When each table is cleared, by the first rule of ours that leads there: behind those that are asked later.

    Its stale rule goes next, by which it is found again if we are interrupted; but before, if there will be another
    one, for then the table has got another part to play.
    """
    kept = {rule.table for rule in rules.wanted}
    ranks: dict[int, tuple[int, int]] = {}
    for rule in rules.ours:
        if rule.family == family:
            ranks.setdefault(rule.table, (-rule.priority, 2 if rule.table in kept else 0))
    return ranks


def _rule_commands(family: Family, desired: Desired, exposed: bool) -> Iterator[_Due]:
    wanted = [rule for rule in desired.rules.wanted if rule.family == family]
    surplus = Counter(rule for rule in desired.rules.ours if rule.family == family)
    for rule in wanted:
        if surplus[rule]:
            surplus[rule] -= 1
        else:
            # The tunnel's own first, then the LAN, then the internet: at no time does the last stand alone.
            yield Phase.ADD_RULE, (rule.priority,), [Command.of(family, _rule_words("add", rule), "missing")]
    for rule in surplus.elements():
        why = "stale: the configuration has no such rule" if rule not in wanted else "it is there twice"
        gone = Command.of(family, _rule_words("del", rule), why)._replace(waits=exposed)
        yield Phase.DELETE, (-rule.priority, 1), [gone]


def _rule_words(verb: str, rule: Rule) -> tuple[str, ...]:
    """Of a rule of ours. `del` takes the first that fits, and every protocol if none is named."""
    words = ("rule", verb, "priority", str(rule.priority), "not", "fwmark", str(rule.mark), "lookup", str(rule.table))
    return words if rule.protocol in ("", "unspec") else (*words, "protocol", rule.protocol)
