"""Says which way a packet goes, as the kernel decides it from rules and tables, and tells each step of the way.

Not in rules or tables, so not known here: whether a router answers, which IPv6 cares for on a machine that does not
forward; redirects; `ignore_routes_with_linkdown`; and for received packets, the check of the source (`rp_filter`) and
whether this machine forwards at all. IPv4 searches `local` and `main` as if they were one table until the first rule is
added; here they are always two.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from fz_iproute.mirror.model import Link, Route, Rule
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.mirror.words import LOCAL, REFUSALS

# "unresolved" is a goto to a rule that is not there.
Verdict = Literal["decides", "does not fit", "no route", "throw", "suppressed", "goto", "unresolved", "nop"]


class Packet(NamedTuple):
    """What the decision depends on. Addresses are numbers, as in a Prefix. What is None is not known."""

    family: Family
    dst: int
    src: int = 0  # 0: not chosen yet, as for a connection that is about to be made
    mark: int = 0
    iif: str = ""  # by which it was received; empty: this machine sends it
    oif: str = ""  # to which the sender has bound it; never together with iif
    tos: int = 0
    ipproto: int | None = None
    sport: int | None = None
    dport: int | None = None
    uid: int | None = None  # who sends it


class Step(NamedTuple):
    """A rule on the way and what became of it."""

    rule: Rule
    verdict: Verdict
    why: str  # it fits or does not, about the packet: "is marked 0x1", "is not from 10.0.0.0/8"; "" if it fits all
    route: Route | None = None  # the best of the rule's table, also one that throws or is suppressed
    devices: tuple[str, ...] = ()
    doubt: str = ""  # what could not be judged, and what it was taken for


class Decision(NamedTuple):
    """Where a packet goes, and the rules that were asked until that was clear.

    `outcome` is the type of the route (unicast, local, broadcast, multicast, anycast, unreachable, blackhole,
    prohibit) or what a rule says instead (unreachable, blackhole, prohibit); `none` if no rule knows a way; `foreign`
    if IPv4 refuses the source, which is no address of this machine.

    `steps` is empty if the kernel does not ask the rules. A unicast without a `route` is a guess of IPv4: if there is
    no way by `oif`, even if one is forbidden, it takes the destination to be on that link.
    """

    steps: tuple[Step, ...]
    outcome: str
    route: Route | None = None
    table: int = 0
    devices: tuple[str, ...] = ()  # more than one: the kernel spreads connections over them

    @property
    def doubts(self) -> list[str]:
        """What could not be judged and might have changed the decision."""
        return [f"rule {step.rule.priority}: {step.doubt}" for step in self.steps if step.doubt]

    @property
    def error(self) -> str:
        """What a program on this machine is told, "" if it may send."""
        if self.outcome == "unreachable" and not self.route:
            return _ERRORS["none"]  # of a rule: another error than that of a route
        return _ERRORS.get(self.outcome, "")


_ERRORS = {
    "none": "Network is unreachable",
    "foreign": "Network is unreachable",
    "unreachable": "No route to host",
    "blackhole": "Invalid argument",
    "prohibit": "Permission denied",
}


class Tables:
    """Routes by table, length and address, built once: a question costs one look-up a length."""

    def __init__(self, tables: Mapping[int, Mapping[Family, Iterable[Route]]]) -> None:
        """`tables` holds, in the kernel's order, all routes of all tables that rules look up, local included."""
        self._lengths: dict[tuple[int, Family], list[tuple[int, dict[int, list[Route]]]]] = {}
        for table, families in tables.items():
            for family, routes in families.items():
                lengths: dict[int, dict[int, list[Route]]] = defaultdict(dict)
                for route in routes:
                    prefix = Prefix.of_route(route.dst, family)
                    lengths[prefix.length].setdefault(prefix.address, []).append(route)
                self._lengths[table, family] = sorted(lengths.items(), reverse=True)

    def covering(self, table: int, host: Prefix) -> Iterator[list[Route]]:
        """The routes to each prefix that covers `host`, the longest first."""
        for length, routes in self._lengths.get((table, host.family), ()):
            if found := routes.get(host.network(length)):
                yield found


def decide(packet: Packet, rules: Iterable[Rule], tables: Tables, links: Mapping[str, Link]) -> Decision:
    """The way of a packet. `rules` are in the kernel's order; those of the other family do not matter."""
    if early := _without_rules(packet, tables, links):
        return early
    steps: list[Step] = []
    decision = Decision((), "none")
    ahead = [rule for rule in rules if rule.family == packet.family]
    while ahead:
        step = _ask(ahead.pop(0), packet, tables, links)
        if step.verdict == "goto":
            # Only forward, and the kernel goes to the first rule of that priority.
            target = int(dict(step.rule.options)["goto"])
            rest = [rule for rule in ahead if rule.priority >= target]
            if rest and rest[0].priority == target:
                ahead = rest
            else:
                step = step._replace(verdict="unresolved")
        steps.append(step)
        if step.verdict == "decides":
            outcome = step.route.attributes.type if step.route else step.rule.action
            outcome = outcome if outcome in _ERRORS else _special(packet) or outcome
            decision = Decision((), outcome, step.route, step.rule.table, step.devices)
            break
    if packet.family == "inet" and packet.oif and decision.error:
        decision = Decision((), _special(packet) or "unicast", devices=(packet.oif,))
    return decision._replace(steps=tuple(steps))


def _without_rules(packet: Packet, tables: Tables, links: Mapping[str, Link]) -> Decision | None:
    """What IPv4 settles before it asks the rules for a packet of this machine."""
    if packet.family == "inet6" or packet.iif:
        return None
    # The address is looked for among this machine's, as a destination is.
    source = _look_up(_LOCAL, "", Packet("inet", packet.src), tables, links)
    if packet.src and not (source.route and source.route.attributes.type == "local"):
        return Decision((), "foreign")
    if packet.oif and not _up(packet.oif, links):
        return Decision((), "none")
    if not packet.dst:
        return Decision((), "local", devices=("lo",))
    special = _special(packet)
    if special and packet.oif and (special == "broadcast" or packet.dst >> 8 == 0xE00000):  # 224.0.0.0/24
        return Decision((), special, devices=(packet.oif,))
    if special and packet.src and not packet.oif:
        return Decision((), special, devices=source.devices)
    return None


_LOCAL = Rule("inet", 0, "lookup", LOCAL)


def _special(packet: Packet) -> str:
    """IPv4 knows these by the address, whatever the type of the route."""
    if packet.family == "inet" and packet.dst == 2**32 - 1:
        return "broadcast"
    return "multicast" if packet.family == "inet" and packet.dst >> 28 == 0xE else ""


def _ask(rule: Rule, packet: Packet, tables: Tables, links: Mapping[str, Link]) -> Step:
    """What one rule does with the packet."""
    fits, why = _fit(rule, packet)
    if fits is None:
        return Step(rule, "does not fit", why, doubt=f"cannot tell whether the packet {why}; taken not to")
    if not fits:
        return Step(rule, "does not fit", why)
    if rule.action == "goto":
        return Step(rule, "goto", why)
    if rule.action in REFUSALS.values():
        return Step(rule, "decides", why)
    if rule.action != "lookup":
        return Step(rule, "nop", why, doubt="" if rule.action == "nop" else "an unknown action; taken for nop")
    step = _look_up(rule, why, packet, tables, links)
    # A route that refuses is an error, and errors are not suppressed.
    if step.verdict == "decides" and step.route and step.route.attributes.type not in _ERRORS:
        options = dict(rule.options)
        if Prefix.of_route(step.route.dst, packet.family).length <= int(options.get("suppress_prefixlen", -1)):
            return step._replace(verdict="suppressed")
        if "suppress_ifgroup" in options:
            return step._replace(
                doubt=f"the group of {' '.join(step.devices)} is not known; taken not to be suppressed"
            )
    return step


def _fit(rule: Rule, packet: Packet) -> tuple[bool | None, str]:
    """Whether the rule fits (None: cannot be told), and what of the packet makes it so."""
    asked = list(_selectors(rule, packet))
    for said in (said for said, has in asked if has is False):
        return rule.inverted, f"is not {said}"
    for said in (said for said, has in asked if has is None):
        return None, f"is {said}"
    said = " and ".join(said for said, _ in asked)
    return not rule.inverted, f"is {said}" if said else ""


def _selectors(rule: Rule, packet: Packet) -> Iterator[tuple[str, bool | None]]:
    """What the rule wants the packet to be, and whether it is that."""
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
    if rule.action == "l3mdev":
        yield "of a VRF", None
    options = dict(rule.options)
    if tos := options.pop("tos", ""):
        yield f"of tos {tos}", _equal(tos, packet.tos & _TOS_BITS[packet.family])
    if ipproto := options.pop("ipproto", ""):
        yield f"of {ipproto}", _equal(ipproto.removeprefix("ipproto-"), packet.ipproto)
    # What is received belongs to root.
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
    "goto", "unresolved", "iif_detached", "oif_detached", "suppress_prefixlen", "suppress_ifgroup",
    "flow_from", "flow_to",  # realms
])
# fmt: on


def _comes_from(prefix: Prefix, packet: Packet) -> bool | None:
    if not packet.src and packet.family == "inet6":
        return False  # no source is not the source ::
    if not packet.src and packet.oif and _special(packet):
        return None  # in this one case the kernel chooses the source before it asks the rules
    return _inside(prefix, packet.src)


def _inside(prefix: Prefix, address: int) -> bool:
    # Not `covers`: a rule keeps the host bits that it was given, `from 192.0.2.7/24`, and the kernel ignores them.
    return prefix.network(prefix.length) == Prefix.of_host(prefix.family, address).network(prefix.length)


def _equal(wanted: str, value: int | None) -> bool | None:
    """None if the value is not known or `wanted` is a name that only iproute2's files explain."""
    try:
        return None if value is None else int(wanted, 0) == value
    except ValueError:
        return None


def _look_up(rule: Rule, why: str, packet: Packet, tables: Tables, links: Mapping[str, Link]) -> Step:
    """What the rule's table says: the longest prefix with a route that may be used."""
    choose = _choose_inet if packet.family == "inet" else _choose_inet6
    for routes in tables.covering(rule.table, Prefix.of_host(packet.family, packet.dst)):
        route, devices = choose(routes, packet, links)
        if route and route.attributes.type == "throw":
            return Step(rule, "throw", why, route)
        if route:
            return Step(rule, "decides", why, route, devices, _doubt(route, routes))
    return Step(rule, "no route", why)


_Choice = tuple[Route | None, tuple[str, ...]]


def _choose_inet(routes: Sequence[Route], packet: Packet, links: Mapping[str, Link]) -> _Choice:
    """The first that may be used: the kernel keeps them sorted by tos and metric."""
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
    """The first of the best score, in the first class in which one may be used."""
    wanted = packet.oif or packet.iif  # what is forwarded goes back where it came from, if it can
    strict = (packet.oif and not packet.src) or _within_link(packet.dst)
    for rivals in _classes(routes):
        best: _Choice = (None, ())
        most = 0
        for route in rivals:
            devices = _alive(route, links)
            matching = tuple(device for device in devices if wanted in ("", device))
            usable = matching if strict else devices
            score = 4 * _preference(route) + 2 * bool(matching)
            if usable and score > most and not route.attributes.expired:
                best, most = (route, usable), score
        if most:
            return best
    return None, ()


def _classes(routes: Sequence[Route]) -> tuple[Sequence[Route], Sequence[Route]]:
    """IPv6: only the lowest metric is a class of its own, all others are one together."""
    lowest = sum(route.attributes.metric == routes[0].attributes.metric for route in routes)
    return routes[:lowest], routes[lowest:]


def _within_link(address: int) -> bool:
    """True for multicast, link-local and loopback: such an address needs its device."""
    return address >> 120 == 0xFF or address >> 118 == 0xFE80 >> 6 or address == 1


def _preference(route: Route) -> int:
    """How `pref` or a router advertisement ranks the route."""
    known = {"low": 1, "medium": _USUAL, "high": 3}
    ranks = (known[rank] for word, rank in pairwise(route.attributes.words) if word == "pref" and rank in known)
    return next(ranks, _USUAL)


_USUAL = 2


def _doubt(route: Route, routes: Sequence[Route]) -> str:
    """Why the kernel may take another route than this one of the routes to its destination."""
    if route.attributes.family == "inet" and route.dst == "default" and route.attributes.gatewayed:
        rank = (route.attributes.metric, route.attributes.tos)
        equals = [other for other in routes if (other.attributes.metric, other.attributes.tos) == rank]
        if sum(other.attributes.gatewayed for other in equals) > 1:
            return "of several equal default routes the kernel takes one whose router answers; taken the first"
    if route.attributes.family == "inet6":
        rivals = next(rivals for rivals in _classes(routes) if route in rivals)
        if any(
            len(other.attributes.devices) > 1 and (len(rivals) > 1 or _preference(other) != _USUAL) for other in rivals
        ):
            return "of a route with several nexthops `ip` shows the preference of the first; taken for that of all"
    return route.attributes.inexpressible


def _alive(route: Route, links: Mapping[str, Link]) -> tuple[str, ...]:
    """The devices of the route that work: with its only device a route goes, of several one may be down."""
    devices = route.attributes.devices
    return devices if len(devices) == 1 else tuple(device for device in devices if _up(device, links))


def _up(device: str, links: Mapping[str, Link]) -> bool:
    # A link that came after the links were read is up: something refers to it.
    return device not in links or links[device].up
