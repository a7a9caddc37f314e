"""What the planner knows of a machine: links, rules and routes, as `ip` names them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix
from fz_iproute.mirror.words import ip_protocol, printable, table_name

# A locked metric (`mtu lock 1400`) cannot be copied: `ip -json` prints the value, but not the lock.
LOCKED = "one of its metrics is locked"


class Link(NamedTuple):
    """A network interface.

    `word` is how a command line names it: its name, or `if7` (7 being its index) if the name would confuse `ip`. None
    if neither works.
    """

    name: str
    ifindex: int
    up: bool  # administratively (flag UP)
    loopback: bool
    word: str | None
    multicast: bool = True
    may_be_tunnel: bool = False  # not an Ethernet (WireGuard, tun, ppp, ipip, a modem), or named like a tun or tap
    group: int | None = None  # None: the group has a name, which only the machine's own file `group` translates
    in_vrf: bool = False  # it is a VRF, or belongs to one
    is_port: bool = False  # it belongs to a bridge, a bond or the like, which takes all packets that arrive here
    needs_address: bool = False  # it is a network card, and no port of a bridge, nor below another link
    no_carrier: bool = False  # it is up, but drops all packets: no cable is plugged in, or no program reads the tun
    outage: str = ""  # why a network card reaches no LAN: "is down", "has no carrier"; "" if it works, or is no card

    @property
    def no_lan(self) -> str:
        """Why its network is no LAN: `wg0 may be a tunnel`. "" if it is one."""
        if self.may_be_tunnel:
            return f"{self.name} may be a tunnel"
        return f"{self.name} is a port" if self.is_port else ""


class Attributes(NamedTuple):
    """Everything about a route but its destination. State, such as counters and timers, is left out.

    The kernel considers two routes equal exactly if they have the same destination and equal attributes. Most routes
    of a table differ only in their destination, so they share one instance.
    """

    family: Family
    type: str  # unicast, broadcast, unreachable, …
    words: tuple[str, ...]  # the arguments that follow the destination in `ip route add`
    path: tuple[str, ...]  # the part of `words` that says where packets go: nhid, via, dev, onlink, nexthop
    devices: tuple[str, ...]  # the kernel's names, one for each nexthop
    gatewayed: bool = False  # at least one nexthop is a router
    scope: str = "global"  # always global for inet6, which has no scopes
    metric: int = 0
    tos: str = ""
    expired: bool = (
        False  # inet6: the lifetime is over; the kernel lists the route for up to 30 s more, without using it
    )
    inexpressible: str = ""  # why no `ip` command can recreate the route; "" if one can

    def value(self, option: str) -> str:
        """The value of an option such as `src`, or "" if the route does not have it. For `via`, only the address."""
        words = iter(self.words)
        # Options and values are told apart by their position, because an interface may have the name `src`.
        for word in words:
            if word in ("onlink", "nexthop"):
                continue
            value = next(words, "")
            if word == "via" and value in ("inet", "inet6"):
                value = next(words, "")
            if word == option:
                return value
        return ""

    @property
    def source(self) -> int:
        """The source address that the route gives to packets, as a number; 0 if it names none."""
        source = self.value("src")
        return Prefix.of_route(source, self.family).address if source else 0

    def is_of(self, protocol: str) -> bool:
        """True if the route has this protocol, by `ip`'s name for it: kernel, static, …"""
        return self.value("proto") == protocol

    @property
    def on_link(self) -> bool:
        """True if the destination is reached without a router. An IPv4 route must also have scope link."""
        return (
            self.type == "unicast"
            and bool(self.devices)
            and not self.gatewayed
            and (self.family == "inet6" or self.scope == "link")
        )


class Route(NamedTuple):
    """A route of any table. `dst` is written as `ip` prints it: `default`, `192.0.2.1` or `192.0.2.0/24`."""

    dst: str
    attributes: Attributes

    @classmethod
    def make(cls, family: Family, dst: str, link: Link | None, *, scope: str = "global", metric: int = 0) -> "Route":
        """A route with protocol static through the link, or an unreachable route if `link` is None.

        After it was added, the parser reads an equal Route from `ip -json route show`. ValueError if no command can
        name the link.
        """
        is_v4 = family == "inet"
        device, word = (link.name, link.word) if link else ("", "") if is_v4 else ("lo", "lo")
        if word is None:
            raise ValueError(f"the name {device!r} cannot be written in a batch line of `ip`")
        if not is_v4:
            scope, metric = "global", metric or 1024
        path = ("dev", word) if device else ()
        words = [*path, "proto", "static"]
        words += ["scope", scope] if is_v4 else []
        words += ["metric", str(metric)] if metric else []
        words += [] if is_v4 else ["pref", "medium"]
        kind = "unicast" if link else "unreachable"
        devices = (device,) if device else ()
        attributes = Attributes(family, kind, tuple(words), path, devices, scope=scope, metric=metric)
        return cls(dst.removesuffix("/32" if is_v4 else "/128"), attributes)

    @property
    def prefix(self) -> Prefix:
        """The destination as a prefix."""
        return Prefix.of_route(self.dst, self.attributes.family)

    @property
    def as_copied(self) -> "Route":
        """How the reader sees another program's copy of this route: without a lock.

        The reader looks for locked metrics in main only, because that takes another question to `ip`.
        """
        if self.attributes.inexpressible != LOCKED:
            return self
        return self._replace(attributes=self.attributes._replace(inexpressible=""))

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments of `ip route add`, without the table."""
        dst, attributes = self
        return (dst, *attributes.words) if attributes.type == "unicast" else (attributes.type, dst, *attributes.words)

    def __str__(self) -> str:
        return " ".join(self.words)

    def changed_from(self, old: "Route") -> str:
        """The options of `old` that differ, such as `src 192.0.2.7`: what a replacement changes.

        If the numbers of words differ, all options of `old`.
        """
        before, after = old.attributes.words, self.attributes.words
        if len(before) != len(after):
            return " ".join(before)
        places = [place for place, word in enumerate(before) if word != after[place]]
        return " ".join(f"{before[place - 1]} {before[place]}" for place in places)


def by_destination(routes: Iterable[Route]) -> dict[str, list[Route]]:
    """The routes to each destination, in their order."""
    found: dict[str, list[Route]] = defaultdict(list)
    for route in routes:
        found[route.dst].append(route)
    return found


def in_rows(routes: Iterable[Route]) -> Iterator[list[Route]]:
    """Cut the routes into rows: consecutive routes with the same attributes. A default route is a row of its own.

    Thousands of routes share a handful of attributes, so a check of attributes has to run only once for each row.
    """
    row: list[Route] = []
    shape: Attributes | None = None
    for route in routes:
        dst, attributes = route
        if attributes is not shape or dst == "default":
            if row:
                yield row
            row = []
            shape = attributes if dst != "default" else None
        row.append(route)
    if row:
        yield row


FULL_MASK = 2**32 - 1


class Mark(NamedTuple):
    """A firewall mark. It matches a packet if the packet's own mark equals `value` in the bits of `mask`."""

    value: int
    mask: int = FULL_MASK

    def __str__(self) -> str:
        value = f"{self.value:#x}" if self.value else "0"  # as `ip` prints it
        return value if self.mask == FULL_MASK else f"{value}/{self.mask:#x}"


class Rule(NamedTuple):
    """A routing policy rule.

    It matches a packet if all its selectors match. An `inverted` rule (`ip rule add not …`) matches all other packets.
    """

    family: Family
    priority: int
    action: str  # lookup, goto, nop, blackhole, unreachable, prohibit
    table: int  # 0 unless the action is lookup
    inverted: bool = False
    src: Prefix | None = None  # None: from all
    dst: Prefix | None = None
    mark: Mark | None = None
    iif: str = ""
    oif: str = ""
    options: tuple[tuple[str, str], ...] = ()  # all other keys and values of `ip -json`: tos, ipproto, goto, …
    protocol: str = ""  # kernel, static, …; "" if the rules were read without `-details`

    @property
    def is_for_marked(self) -> bool:
        """True if it takes only packets that have a mark."""
        return self.mark is not None and bool(self.mark.value) is not self.inverted

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments of `ip rule add`, without the priority and the protocol."""
        words = (word for word in self._printed() if word not in _RULE_STATE)
        return tuple("l3mdev" if word == _L3MDEV else word for word in words)

    def __str__(self) -> str:
        options = tuple((key, ip_protocol(value) if key == "ipproto" else value) for key, value in self.options)
        return printable(" ".join(self._replace(options=options)._printed()))

    def _printed(self) -> list[str]:
        """The words that `ip rule show` prints after the priority, in its order; without the protocol."""
        options = dict(self.options)
        if realms := [options.pop(key) for key in ("flow_from", "flow_to") if key in options]:
            options["realms"] = "/".join(realms)
        late = {key: options.pop(key) for key in _AFTER_TABLE if key in options}
        words = ["not"] if self.inverted else []
        words += ["from", _or_all(self.src)]
        if self.dst:
            words += ["to", _or_all(self.dst)]
        if tos := options.pop("tos", ""):
            words += ["tos", tos]
        if self.mark:
            words += ["fwmark", str(self.mark)]
        for name in ("iif", "oif"):
            if device := getattr(self, name):
                words += [name, device]
            words += ["[detached]"] if options.pop(f"{name}_detached", None) is not None else []
        if "l3mdev" in (self.action, *options):
            words.append(_L3MDEV)
            options.pop("l3mdev", None)
        words += _option_words(options)
        if self.action == "lookup":
            words += ["lookup", table_name(self.table)]
        words += _option_words(late)
        return words if self.action in ("lookup", "goto", "l3mdev") else [*words, self.action]


def _option_words(options: dict[str, str]) -> Iterator[str]:
    """Some of `Rule.options` as arguments of `ip rule add`: some have another name there than in the JSON."""
    for key, value in options.items():
        word, end_key, separator = _OPTION_WORDS.get(key, (key, "", ""))
        if not word:
            continue
        yield word
        argument = value.removeprefix("ipproto-")
        if end_key in options:
            argument += separator + options[end_key]
        if argument:
            yield argument


# `ip` prints these states of a rule, but does not accept them as arguments.
_RULE_STATE = ("[detached]", "[unresolved]")
_L3MDEV = "lookup [l3mdev-table]"  # how `ip` prints `l3mdev`
# The options that `ip` prints after the table.
_AFTER_TABLE = ("suppress_prefixlen", "suppress_ifgroup", "realms", "goto", "unresolved")
# For each JSON key: the word on the command line, the key that holds the end of the range, and the separator between
# start and end. A key without a word is itself the end of a range.
_OPTION_WORDS = {
    "uid_start": ("uidrange", "uid_end", "-"),
    "sport_start": ("sport", "sport_end", "-"),
    "dport_start": ("dport", "dport_end", "-"),
    "suppress_prefixlen": ("suppress_prefixlength", "", ""),
    "unresolved": ("[unresolved]", "", ""),
} | dict.fromkeys(["uid_end", "sport_end", "dport_end"], ("", "", ""))


def _or_all(prefix: Prefix | None) -> str:
    return "all" if prefix is None else str(prefix).removesuffix("/32" if prefix.family == "inet" else "/128")


class Nexthop(NamedTuple):
    """What routes need to know of a nexthop object (`ip nexthop`). A group is resolved to its members."""

    devices: tuple[str, ...]
    gatewayed: bool


@dataclass(frozen=True)
class Snapshot:
    """The state of a machine, as read by one pass. Routes are in the kernel's order.

    `main` has at least the routes that may be copied. `tables` has all routes of the VPN's tables, by number.
    `numbered` names the links that have an address with a wider scope than link. In `expiry` seconds, the next route of
    IPv6 main times out, which the kernel does not announce. None: no route has a lifetime.
    """

    links: Mapping[str, Link] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    main: Mapping[Family, tuple[Route, ...]] = field(default_factory=dict)
    tables: Mapping[int, Mapping[Family, tuple[Route, ...]]] = field(default_factory=dict)
    numbered: Mapping[Family, frozenset[str]] = field(default_factory=dict)
    expiry: int | None = None


# The parts of a snapshot that can be read again separately. A family stands for its routes and addresses.
Part = Literal["inet", "inet6", "links and rules"]
EVERYTHING: frozenset[Part] = frozenset([*FAMILIES, "links and rules"])


def has_numbers(text: str) -> bool:
    """True if a batch line gives a number where `ip` also accepts a name, such as `proto 5`.

    `ip -batch` 6.1 misreads the names in the lines after it.
    """
    return bool(_NUMBER.search(text))


_NUMBER = re.compile(r" (?:proto(?:col)?|scope|tos|realms) \d")


class Command(NamedTuple):
    """One `ip` command that changes routes or rules.

    `line` is a batch line: it starts with `route` or `rule`, and has single spaces. A command that `waits` deletes
    something, and must not run before a new reading has shown the replacement.
    """

    family: Family
    line: str
    reason: str
    waits: bool = False
    numeric: bool = False  # see has_numbers

    @classmethod
    def of(cls, family: Family, words: Sequence[str], reason: str = "") -> "Command":
        """The command with these words. ValueError if a word contains a space, since `ip` would read two words."""
        line = " ".join(words)
        if line.count(" ") != len(words) - 1:
            raise ValueError(f"a word with a space: {line!r}")
        return cls(family, line, reason, numeric=has_numbers(line))

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the line."""
        return tuple(self.line.split(" "))


class Outcome(NamedTuple):
    """The result of a command, and `ip`'s own words. "in doubt": nobody knows whether `ip` carried it out."""

    result: Literal["worked", "refused", "in doubt"]
    words: str = ""

    def __str__(self) -> str:
        # `ip` may quote control characters, which a terminal would obey.
        return f"{self.result}: {printable(self.words)}" if self.words else self.result


WORKED = Outcome("worked")
