"""Decides where a packet goes, by rules and tables as the kernel does, and records each step.

Some things that the kernel considers are ignored here, because rules and tables do not show them: whether a router
answers (IPv6 on a machine that does not forward); redirects; `ignore_routes_with_linkdown`; the tables of VRFs.
`rp_filter` and forwarding, which concern received packets, are left to the module `received`. Until the first rule is
added, IPv4 searches `local` and `main` as one table; here they are always two.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from fz_iproute.diagnosis.fib import Fib, Table
from fz_iproute.mirror.model import Link, Route, Rule
from fz_iproute.mirror.parse_links import group_number
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.mirror.words import LOCAL, MAIN, REFUSALS, ip_protocol

# The result of a rule. "unresolved" is a goto to a rule that does not exist.
Result = Literal["decides", "does not fit", "no route", "throw", "suppressed", "goto", "unresolved", "nop"]


class Packet(NamedTuple):
    """The properties of a packet that rules and routes look at. Addresses are numbers. None means unknown."""

    family: Family
    dst: int
    src: int = 0  # 0: the kernel has not chosen a source address yet, as before connect()
    mark: int = 0
    iif: str = ""  # the interface that received it; empty: this machine sends it
    oif: str = ""  # the interface that the sender is bound to; never together with iif
    tos: int = 0
    ipproto: int | None = None
    sport: int | None = None
    dport: int | None = None
    uid: int | None = None  # of the sender


def usual(family: Family, dst: int = 0, mark: int = 0) -> Packet:
    """A usual packet that this machine sends: HTTPS over TCP, by a human user; if it is marked, by the VPN's client.

    Rules may select by all that.
    """
    return Packet(family, dst, mark=mark, ipproto=6, sport=50000, dport=443, uid=0 if mark else 1000)


# The selectors that packets usually differ in, by the field of a packet, with the keys of `ip -json`.
_SELECTORS = {
    "ipproto": ("ipproto",),
    "sport": ("sport", "sport_start"),
    "dport": ("dport", "dport_start"),
    "uid": ("uid_start",),
    "tos": ("tos",),
}


def matching(rule: Rule) -> Packet | None:
    """A packet that matches the rule, apart from its destination, and is usual otherwise. None if none is simple."""
    if rule.inverted or rule.src or rule.mark or rule.iif not in ("", "lo") or rule.oif:
        return None
    options = dict(rule.options)
    values = {field: options[key] for field, keys in _SELECTORS.items() for key in keys if key in options}
    try:
        numbers: dict[str, Any] = {field: int(value.removeprefix("ipproto-"), 0) for field, value in values.items()}
    except ValueError:
        return None  # a name, which only the machine's own files translate
    return usual(rule.family)._replace(**numbers)


class Step(NamedTuple):
    """A rule that the kernel compares with the packet, and the result."""

    rule: Rule
    result: Result
    why: str  # why it matches or not: the packet "is marked 0x1", "is not from 10.0.0.0/8"; "" if it has no selector
    route: Route | None = None  # the best route in the rule's table, even if its type is throw or it is suppressed
    devices: tuple[str, ...] = ()
    doubt: str = ""  # what could not be judged, and what was assumed


class Decision(NamedTuple):
    """Where a packet goes, and the steps that led to this decision.

    `outcome` is the type of the route (unicast, local, broadcast, multicast, anycast, unreachable, blackhole,
    prohibit) or the action of a rule (unreachable, blackhole, prohibit); `none` if no rule leads to a route; `foreign`
    if IPv4 refuses the source because it is no address of this machine.

    `steps` is empty if the kernel decides without rules. The outcome may be unicast without a `route`: if the sender
    is bound to `oif` and IPv4 finds no usable route there, the kernel assumes that the destination is on that link.
    """

    steps: tuple[Step, ...]
    outcome: str
    route: Route | None = None
    table: int = 0
    devices: tuple[str, ...] = ()  # if several, the kernel spreads connections over them

    @property
    def stays(self) -> bool:
        """True if the packet is for this machine. It does not leave, although its route names a device."""
        return self.outcome in ("local", "anycast")

    @property
    def doubts(self) -> list[str]:
        """What could not be judged and might change the decision."""
        return [f"rule {step.rule.priority}: {step.doubt}" for step in self.steps if step.doubt]

    @property
    def error(self) -> str:
        """The error that a program on this machine gets, "" if it may send."""
        if self.outcome == "unreachable" and not self.route:
            return _ERRORS["none"]  # the error of an unreachable rule differs from that of an unreachable route
        return _ERRORS.get(self.outcome, "")


_ERRORS = {
    "none": "Network is unreachable",
    "foreign": "Network is unreachable",
    "unreachable": "No route to host",
    "blackhole": "Invalid argument",
    "prohibit": "Permission denied",
}


def within_link(family: Family, address: int) -> bool:
    """True for IPv6 multicast, link-local and loopback addresses, whose scope is no wider than one link.

    A program that uses such an address names the interface, so no rule or route is needed to choose one.
    """
    return family == "inet6" and (address >> 120 == 0xFF or address >> 118 == 0xFE80 >> 6 or address == 1)


def decide(packet: Packet, rules: Iterable[Rule], fib: Fib, links: Mapping[str, Link]) -> Decision:
    """Decide where a packet goes. `rules` are in the kernel's order; rules of the other family are ignored."""
    if early := _without_rules(packet, fib, links):
        return early
    steps: list[Step] = []
    decision = Decision((), "none")
    ahead = [rule for rule in rules if rule.family == packet.family]
    while ahead:
        step = _try_rule(ahead.pop(0), packet, fib, links)
        if step.result == "goto":
            # The kernel jumps only forward, to the first rule of that priority.
            target = int(dict(step.rule.options)["goto"])
            rest = [rule for rule in ahead if rule.priority >= target]
            if rest and rest[0].priority == target:
                ahead = rest
            else:
                step = step._replace(result="unresolved")
        steps.append(step)
        if step.result == "decides":
            outcome = step.route.attributes.type if step.route else step.rule.action
            outcome = outcome if outcome in _ERRORS else _to_all(packet) or outcome
            decision = Decision((), outcome, step.route, _table(step.rule) if step.route else 0, step.devices)
            break
    if packet.family == "inet" and packet.oif and decision.error:
        decision = Decision((), _to_all(packet) or "unicast", devices=(packet.oif,))
    return decision._replace(steps=tuple(steps))


def _without_rules(packet: Packet, fib: Fib, links: Mapping[str, Link]) -> Decision | None:
    """The decision, if IPv4 makes it before it looks at any rule."""
    if packet.family == "inet6":
        return None
    kind = _to_all(packet)
    if packet.iif:
        # A broadcast packet stays on this machine, and so does multicast if a program here has joined the group.
        return Decision((), kind, devices=("lo",)) if kind else None
    if packet.src:
        # The source must be an address of this machine. The kernel looks it up like a destination.
        source = _look_up(_LOCAL, "", Packet("inet", packet.src), fib, links)
        if not source.route or source.route.attributes.type != "local":
            return Decision((), "foreign")
    if packet.oif and not _up(packet.oif, links):
        return Decision((), "none")
    if not packet.dst:
        return Decision((), "local", devices=("lo",))
    if kind and packet.oif and (kind == "broadcast" or packet.dst >> 8 == 0xE00000):  # 224.0.0.0/24
        return Decision((), kind, devices=(packet.oif,))
    if kind and packet.src and not packet.oif:
        return Decision((), kind, devices=source.devices)
    return None


_LOCAL = Rule("inet", 0, "lookup", LOCAL)


def _to_all(packet: Packet) -> str:
    """The outcome "broadcast" or "multicast" if IPv4 concludes it from the address, whatever the route. Else ""."""
    if packet.family == "inet" and packet.dst == 2**32 - 1:
        return "broadcast"
    return "multicast" if packet.family == "inet" and packet.dst >> 28 == 0xE else ""


def _try_rule(rule: Rule, packet: Packet, fib: Fib, links: Mapping[str, Link]) -> Step:
    """Compare one rule with the packet, and look up its table if it matches."""
    fits, why = _matches(rule, packet, links)
    if fits is None:
        # Few packets are of one port or user. So most packets match a rule that is for all others.
        step = _apply(rule, why, packet, fib, links) if rule.inverted else Step(rule, "does not fit", why)
        return step._replace(doubt=f"cannot tell whether the packet {why}; assumed: no")
    return _apply(rule, why, packet, fib, links) if fits else Step(rule, "does not fit", why)


def _apply(rule: Rule, why: str, packet: Packet, fib: Fib, links: Mapping[str, Link]) -> Step:
    """What a rule does with a packet that matches it."""
    if rule.action == "goto":
        return Step(rule, "goto", why)
    if rule.action in REFUSALS.values():
        return Step(rule, "decides", why)
    if rule.action not in ("lookup", "l3mdev"):
        return Step(rule, "nop", why, doubt="" if rule.action == "nop" else "an unknown action; assumed to be nop")
    step = _look_up(rule, why, packet, fib, links)
    # The kernel suppresses no route of a type such as unreachable.
    if step.result == "decides" and step.route and step.route.attributes.type not in _ERRORS:
        options = dict(rule.options)
        if step.route.prefix.length <= int(options.get("suppress_prefixlen", -1)):
            return step._replace(result="suppressed")
        if "suppress_ifgroup" in options:
            return _suppress_by_group(step, step.route, options["suppress_ifgroup"], links)
    return step


def _suppress_by_group(step: Step, route: Route, name: str, links: Mapping[str, Link]) -> Step:
    """The step, suppressed if the route leads to an interface of this group."""
    # IPv4 looks at the group of the first nexthop, even if it then sends to another one.
    devices = route.attributes.devices[:1] if route.attributes.family == "inet" else step.devices
    suppressed = group_number(name)
    groups = {links[device].group if device in links else None for device in devices}
    if len(groups) > 1 or None in (suppressed, *groups):
        return step._replace(doubt=f"the group of {' '.join(devices)} is not known; assumed not to be suppressed")
    return step._replace(result="suppressed") if suppressed in groups else step


def _table(rule: Rule) -> int:
    """The table that the rule looks up."""
    # A rule `not l3mdev` has table 0, because it matches only packets without a VRF. The kernel takes main for 0.
    return rule.table or MAIN


def _matches(rule: Rule, packet: Packet, links: Mapping[str, Link]) -> tuple[bool | None, str]:
    """Whether the rule matches (None: unknown), and the property of the packet that decides."""
    selectors = list(_selectors(rule, packet, links))
    unmet = [said for said, is_met in selectors if is_met is False]
    unknown = [said for said, is_met in selectors if is_met is None]
    if unmet:
        return rule.inverted, f"is not {unmet[0]}"
    if unknown:
        return None, f"is {unknown[0]}"
    said = " and ".join(said for said, _ in selectors)
    return not rule.inverted, f"is {said}" if said else ""


def _selectors(rule: Rule, packet: Packet, links: Mapping[str, Link]) -> Iterator[tuple[str, bool | None]]:
    """Each selector of the rule in words, and whether the packet meets it (None: unknown)."""
    if rule.src:
        yield f"from {rule.src}", _comes_from(rule.src, packet)
    if rule.dst:
        yield f"to {rule.dst}", _inside(rule.dst, packet.dst)
    if rule.mark:
        yield f"marked {rule.mark}", not (rule.mark.value ^ packet.mark) & rule.mark.mask
    if rule.iif:
        said = "sent by this machine" if rule.iif == "lo" else f"received by {rule.iif}"
        yield said, rule.iif == (packet.iif or "lo")
    if rule.oif:
        yield f"bound to {rule.oif}", rule.oif == packet.oif
    options = dict(rule.options)
    if rule.action == "l3mdev" or "l3mdev" in options:
        # The plain output of `ip link` does not show the table of a VRF.
        device = packet.oif or packet.iif
        yield "of a VRF", None if device in links and links[device].in_vrf else False
    if tos := options.pop("tos", ""):
        yield f"of tos {tos}", _equal(tos, packet.tos & _TOS_BITS[packet.family])
    if ipproto := options.pop("ipproto", ""):
        yield f"of ipproto {ip_protocol(ipproto)}", _equal(ipproto.removeprefix("ipproto-"), packet.ipproto)
    # For the kernel, a received packet has uid 0.
    numbers = {"sport": packet.sport, "dport": packet.dport, "uid": 0 if packet.iif else packet.uid}
    for name, value in numbers.items():
        if ends := [options.pop(key) for key in (name, f"{name}_start", f"{name}_end") if key in options]:
            known = value is not None and all(end.isdecimal() for end in ends)
            yield f"of {name} {'-'.join(ends)}", int(ends[0]) <= (value or 0) <= int(ends[-1]) if known else None
    for name, wanted in options.items():
        if name not in _NO_SELECTORS:
            yield f"of {name} {wanted}".rstrip(), None


_TOS_BITS: dict[Family, int] = {"inet": 0x1C, "inet6": 0xFC}
# fmt: off
_NO_SELECTORS = frozenset([
    "goto", "unresolved", "l3mdev", "iif_detached", "oif_detached", "suppress_prefixlen", "suppress_ifgroup",
    "flow_from", "flow_to",  # realms
])
# fmt: on


def _comes_from(prefix: Prefix, packet: Packet) -> bool | None:
    if not packet.src and packet.family == "inet6":
        return False  # no prefix matches a source that is not chosen yet, not even ::/0
    if not packet.src and packet.oif and _to_all(packet):
        return None  # only in this case, the kernel chooses the source address before it looks at the rules
    return _inside(prefix, packet.src)


def _inside(prefix: Prefix, address: int) -> bool:
    # `Prefix.covers` would be wrong: a rule may have host bits, as in `from 192.0.2.7/24`. The kernel ignores them.
    return prefix.network(prefix.length) == Prefix.of_host(prefix.family, address).network(prefix.length)


def _equal(wanted: str, value: int | None) -> bool | None:
    """Compare a number with the word in a rule. None if the value is unknown, or the word a name and no number."""
    try:
        return None if value is None else int(wanted, 0) == value
    except ValueError:
        return None


def _look_up(rule: Rule, why: str, packet: Packet, fib: Fib, links: Mapping[str, Link]) -> Step:
    """Search the rule's table for the longest prefix that covers the destination and has a usable route."""
    choose = _choose_inet if packet.family == "inet" else _choose_inet6
    table = fib.get((_table(rule), packet.family), Table())
    for routes in table.covering(Prefix.of_host(packet.family, packet.dst)):
        route, devices = choose(routes, packet, links)
        if route and route.attributes.type == "throw":
            return Step(rule, "throw", why, route, doubt=_doubt(route, routes))
        if route:
            return Step(rule, "decides", why, route, devices, _doubt(route, routes))
    return Step(rule, "no route", why)


_Choice = tuple[Route | None, tuple[str, ...]]


def _choose_inet(routes: Sequence[Route], packet: Packet, links: Mapping[str, Link]) -> _Choice:
    """IPv4: the first usable route. The kernel has sorted them by tos and metric."""
    for route in routes:
        tos = route.attributes.tos
        if tos and not _equal(tos, packet.tos & _TOS_BITS["inet"]):
            continue
        if route.attributes.type in _ERRORS or route.attributes.type == "throw":
            return route, ()
        if devices := tuple(device for device in _alive(route, links) if packet.oif in ("", device)):
            return route, devices
    return None, ()


def _choose_inet6(routes: Sequence[Route], packet: Packet, links: Mapping[str, Link]) -> _Choice:
    """IPv6: the route with the best score, in the first class that has a usable route. Among equals, the first."""
    wanted = packet.oif or packet.iif  # a forwarded packet leaves by the interface that received it, if possible
    strict = (packet.oif and not packet.src) or within_link(packet.family, packet.dst)
    for rivals in _classes(routes):
        best: _Choice = (None, ())
        most = 0
        for route in rivals:
            devices = _alive(route, links)
            same = tuple(device for device in devices if wanted in ("", device))
            usable = same if strict else devices
            score = 4 * _preference(route) + 2 * bool(same)
            if usable and score > most and not route.attributes.expired:
                best, most = (route, usable), score
        if most:
            return best
    return None, ()


def _classes(routes: Sequence[Route]) -> tuple[Sequence[Route], Sequence[Route]]:
    """IPv6 considers two classes of routes: first those with the lowest metric, then all others together."""
    lowest = sum(route.attributes.metric == routes[0].attributes.metric for route in routes)
    return routes[:lowest], routes[lowest:]


def _preference(route: Route) -> int:
    """The router preference of the route (RFC 4191) as a number."""
    return {"low": 1, "high": 3}.get(route.attributes.value("pref"), _MEDIUM)


_MEDIUM = 2


def _doubt(route: Route, routes: Sequence[Route]) -> str:
    """Why the kernel may choose another one of `routes`, which all have this destination; "" if it cannot."""
    if route.attributes.family == "inet" and route.dst == "default" and route.attributes.gatewayed:
        rank = (route.attributes.metric, route.attributes.tos)
        equals = [other for other in routes if (other.attributes.metric, other.attributes.tos) == rank]
        if sum(other.attributes.gatewayed for other in equals) > 1:
            return "of several equal default routes the kernel takes one whose router answers; assumed the first"
    if route.attributes.family == "inet6":
        rivals = next(rivals for rivals in _classes(routes) if route in rivals)
        several = [other for other in rivals if len(other.attributes.devices) > 1]
        if any(len(rivals) > 1 or _preference(other) != _MEDIUM for other in several):
            return "of a route with several nexthops `ip` shows only the preference of the first; assumed for all"
    return route.attributes.inexpressible


def _alive(route: Route, links: Mapping[str, Link]) -> tuple[str, ...]:
    """The usable devices of the route.

    If the only device of a route goes down, the kernel deletes the route. With several devices, the route remains.
    """
    devices = route.attributes.devices
    return devices if len(devices) == 1 else tuple(device for device in devices if _up(device, links))


def _up(device: str, links: Mapping[str, Link]) -> bool:
    # An unknown link appeared after the links were read. It is up, because a route leads there.
    return device not in links or links[device].up
