"""What the planner knows of a machine: links, rules and routes, as `ip` names them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix
from fz_iproute.mirror.words import printable, table_name

# Why a route with such a metric cannot be copied: `ip` shows locks only in the form for people.
LOCKED = "one of its metrics is locked"


class Link(NamedTuple):
    """A network interface. `word` is how a command names it, None if no batch line can."""

    name: str
    ifindex: int
    up: bool  # administratively; carrier and operstate do not matter here
    loopback: bool
    word: str | None
    multicast: bool = True
    may_be_tunnel: bool = False  # no Ethernet (WireGuard, tun, ppp, ipip, a modem), or a tap by its name
    group: int | None = None  # it has a name that only the files of the machine know
    in_vrf: bool = False  # is a VRF, or belongs to one


class Attributes(NamedTuple):
    """A route without its destination and its state.

    Two routes are the same for the kernel exactly if they have the same destination and equal attributes. Many routes
    share one instance, because most routes of a table differ in nothing but their destination.
    """

    family: Family
    type: str  # unicast, broadcast, unreachable, …
    words: tuple[str, ...]  # the arguments that follow the destination in `ip route add`
    path: tuple[str, ...]  # those of the words that say where it leads: nhid, via, dev, nexthop
    devices: tuple[str, ...]  # by the names the kernel gives; one for each nexthop
    gatewayed: bool = False  # some nexthop is a router
    scope: str = "global"  # always so for inet6: the kernel knows no other
    metric: int = 0
    tos: str = ""
    expired: bool = False  # inet6: timed out, still listed for up to 30 s, no longer matched
    inexpressible: str = ""  # why no `ip` command can recreate it

    def value(self, option: str) -> str:
        """The value of an option such as `src`, "" if the route does not have it; for `via`, only the address.

        Not found by its word alone: an interface may be called `src`, too.
        """
        words = iter(self.words)
        for word in words:
            if word in ("onlink", "nexthop"):
                continue
            value = next(words, "")
            if word == "via" and value in ("inet", "inet6"):
                value = next(words, "")
            if word == option:
                return value
        return ""

    def is_of(self, protocol: str) -> bool:
        """True if it has this protocol, in `ip`'s words: kernel, static, …"""
        return self.value("proto") == protocol

    @property
    def on_link(self) -> bool:
        """Reaches its destination without a router. IPv4 says so by its scope; IPv6 has none."""
        return (
            self.type == "unicast"
            and bool(self.devices)
            and not self.gatewayed
            and (self.family == "inet6" or self.scope == "link")
        )


class Route(NamedTuple):
    """A route of some table; `dst` as `ip` prints it: `default`, `192.0.2.1` or `192.0.2.0/24`."""

    dst: str
    attributes: Attributes

    @classmethod
    def make(cls, family: Family, dst: str, link: Link | None, *, scope: str = "global", metric: int = 0) -> "Route":
        """A route of protocol static into the link, or an unreachable one where `link` is None.

        It equals what the parser makes of it when the kernel has it and `ip` lists it. ValueError if no command can
        name the link.
        """
        is_v4 = family == "inet"
        device, word = (link.name, link.word) if link else ("", "") if is_v4 else ("lo", "lo")
        if word is None:
            raise ValueError(f"{device!r} cannot be written on a line")
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
    def as_copied(self) -> "Route":
        """How a copy of it by somebody else is listed: locks of metrics are looked for in main alone."""
        if self.attributes.inexpressible != LOCKED:
            return self
        return self._replace(attributes=self.attributes._replace(inexpressible=""))

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments of `ip route add` but the table."""
        dst, attributes = self
        return (dst, *attributes.words) if attributes.type == "unicast" else (attributes.type, dst, *attributes.words)

    def __str__(self) -> str:
        return " ".join(self.words)

    def changed_from(self, old: "Route") -> str:
        """The options of `old` that differ, such as `src 192.0.2.7`; all of them if the two have different options."""
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
    """Neighbours with the same attributes, in one list; a default route has a list of its own.

    Thousands of routes share a handful of attributes, so a question about attributes is asked once for each row.
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
    """A firewall mark: a packet has it if its own mark is `value` in the bits of `mask`."""

    value: int
    mask: int = FULL_MASK

    def __str__(self) -> str:
        return f"{self.value:#x}" if self.mask == FULL_MASK else f"{self.value:#x}/{self.mask:#x}"


class Rule(NamedTuple):
    """A rule. It matches a packet if all its selectors do; an `inverted` one, if at least one of them does not."""

    family: Family
    priority: int
    action: str  # lookup, goto, nop, blackhole, unreachable, prohibit
    table: int  # of a lookup, else 0
    inverted: bool = False
    src: Prefix | None = None  # None: all
    dst: Prefix | None = None
    mark: Mark | None = None
    iif: str = ""
    oif: str = ""
    options: tuple[tuple[str, str], ...] = ()  # whatever else `ip -json` shows, by its keys: tos, ipproto, goto, …
    protocol: str = ""  # kernel, static, …; empty if `ip` was not asked for details

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments of `ip rule add` but the priority and the protocol."""
        return tuple(word for word in self._said() if word not in _RULE_STATE)

    def __str__(self) -> str:
        return printable(" ".join(self._said()))

    def _said(self) -> list[str]:
        words = ["not"] if self.inverted else []
        words += ["from", _or_all(self.src)]
        if self.dst:
            words += ["to", _or_all(self.dst)]
        if self.mark:
            words += ["fwmark", str(self.mark)]
        for name in ("iif", "oif"):
            if device := getattr(self, name):
                words += [name, device]
        words += _spelled(dict(self.options))
        if self.action == "lookup":
            words += ["lookup", table_name(self.table)]
        elif self.action != "goto":
            words += [self.action]
        return words


def _spelled(options: dict[str, str]) -> Iterator[str]:
    """The rest of a rule in the words of `ip rule`: the keys of its JSON differ from the words of its command line."""
    for name, value in options.items():
        said, last, sign = _SAID.get(name, (name, "", ""))
        if said:
            yield said
            number = value.removeprefix("ipproto-")
            yield from filter(None, [f"{number}{sign}{options[last]}" if last in options else number])


# `ip` prints these states of a rule, and does not accept them.
_RULE_STATE = ("[detached]", "[unresolved]")
# For each key: its word on the command line, the key with the end of its range, and the sign between the two. Keys
# without a word are ends of ranges.
_SAID = {
    "uid_start": ("uidrange", "uid_end", "-"),
    "sport_start": ("sport", "sport_end", "-"),
    "dport_start": ("dport", "dport_end", "-"),
    "flow_from": ("realms", "flow_to", "/"),
    "suppress_prefixlen": ("suppress_prefixlength", "", ""),
    "iif_detached": ("[detached]", "", ""),
    "oif_detached": ("[detached]", "", ""),
    "unresolved": ("[unresolved]", "", ""),
} | dict.fromkeys(["uid_end", "sport_end", "dport_end", "flow_to"], ("", "", ""))


def _or_all(prefix: Prefix | None) -> str:
    return str(prefix) if prefix else "all"


class Nexthop(NamedTuple):
    """A nexthop object, resolved to what matters for its routes."""

    devices: tuple[str, ...]
    gatewayed: bool


@dataclass(frozen=True)
class Snapshot:
    """What one pass has read. Routes are in the kernel's order."""

    links: Mapping[str, Link] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    main: Mapping[Family, tuple[Route, ...]] = field(default_factory=dict)  # at least what may be mirrored
    tables: Mapping[int, Mapping[Family, tuple[Route, ...]]] = field(default_factory=dict)  # all of the VPN's tables
    numbered: Mapping[Family, frozenset[str]] = field(default_factory=dict)  # links with an address beyond their link
    expiry: int | None = None  # in so many seconds the next route of IPv6 main times out, without an event


# What a snapshot consists of: the routes and addresses of each family, and the rest.
Part = Literal["inet", "inet6", "links and rules"]
EVERYTHING: frozenset[Part] = frozenset([*FAMILIES, "links and rules"])


def has_numbers(text: str) -> bool:
    """True if some line gives a number where others may give a name. `ip -batch` confuses the two."""
    return bool(_NUMBER.search(text))


_NUMBER = re.compile(r" (?:proto(?:col)?|scope|tos|realms) \d")


class Command(NamedTuple):
    """One `ip` command that writes. `line` is that of a batch, from `route` or `rule` on, with single spaces."""

    family: Family
    line: str
    reason: str
    waits: bool = False  # until a reading shows the replacement of what it deletes
    numeric: bool = False  # see has_numbers

    @classmethod
    def of(cls, family: Family, words: Sequence[str], reason: str = "") -> "Command":
        """From words. ValueError if one has a space in it, which would make it two."""
        line = " ".join(words)
        if line.count(" ") != len(words) - 1:
            raise ValueError(f"a word with a space: {line!r}")
        return cls(family, line, reason, numeric=has_numbers(line))

    @property
    def words(self) -> tuple[str, ...]:
        """Of the line."""
        return tuple(self.line.split(" "))


class Outcome(NamedTuple):
    """What became of a command, in `ip`'s words. In doubt: nobody knows whether `ip` has carried it out."""

    result: Literal["worked", "refused", "in doubt"]
    words: str = ""

    def __str__(self) -> str:
        # The words may quote anything, also control characters, which a terminal would obey.
        return f"{self.result}: {printable(self.words)}" if self.words else self.result


WORKED = Outcome("worked")
