"""What the planner knows of a machine: links, rules and routes, as `ip` names them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.mirror.words import printable, table_name


class Link(NamedTuple):
    """A network interface. `word` is how a command names it, None if no batch line can."""

    name: str
    ifindex: int
    up: bool  # administratively; carrier and operstate do not matter here
    loopback: bool
    word: str | None
    multicast: bool = True
    may_be_tunnel: bool = False  # no Ethernet (WireGuard, tun, ppp, ipip, a modem), or a tap by its name
    group: int | None = 0  # None: it has a name that only the files of the machine know
    in_vrf: bool = False  # is a VRF, or belongs to one


class Attributes(NamedTuple):
    """All of a route but its destination and its state.

    Two routes are the same for the kernel exactly if they have the same destination and equal attributes.
    A LAN has many routes but few shapes, so one instance serves all routes of a shape.
    """

    family: Family
    type: str  # unicast, broadcast, unreachable, …
    words: tuple[str, ...]  # the arguments that follow the destination in `ip route add`
    path: tuple[str, ...]  # those of the words that say where it leads: nhid, via, dev, nexthop
    devices: tuple[str, ...]  # by the names the kernel gives; one for each nexthop
    gatewayed: bool  # some nexthop is a router
    scope: str  # always "global" for inet6: the kernel knows no other
    metric: int
    tos: str
    expired: bool  # inet6: timed out, still listed for up to 30 s, no longer matched
    inexpressible: str  # why no `ip` command can recreate it, or ""

    def is_of(self, protocol: str) -> bool:
        """Made by it, as `ip` calls it: kernel, static, …"""
        return ("proto", protocol) in zip(self.words, self.words[1:], strict=False)

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
        device, word = (link.name, link.word) if link else ("lo" if family == "inet6" else "", "lo")
        if word is None:
            raise ValueError(f"{device!r} cannot be written on a line")
        path = ("dev", word) if device else ()
        words = [*path, "proto", "static"]
        if family == "inet":
            words += ["scope", scope]
            length = "/32"
        else:
            scope, metric, length = "global", metric or 1024, "/128"  # what the kernel makes of them
        if metric:
            words += ["metric", str(metric)]
        if family == "inet6":
            words += ["pref", "medium"]
        attributes = Attributes(
            family=family,
            type="unicast" if link else "unreachable",
            words=tuple(words),
            path=path,
            devices=(device,) if device else (),
            gatewayed=False,
            scope=scope,
            metric=metric,
            tos="",
            expired=False,
            inexpressible="",
        )
        return cls(dst.removesuffix(length), attributes)

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments of `ip route add` but the table."""
        dst, attributes = self
        return (dst, *attributes.words) if attributes.type == "unicast" else (attributes.type, dst, *attributes.words)

    def __str__(self) -> str:
        return " ".join(self.words)

    def changed_from(self, old: "Route") -> str:
        """What of `old` is different here: `src 192.0.2.7`, or all of it if the two have not the same options."""
        before, after = old.attributes.words, self.attributes.words
        if len(before) != len(after):
            return " ".join(before)
        places = [place for place, word in enumerate(before) if word != after[place]]
        return " ".join(f"{before[place - 1]} {before[place]}" for place in places)


def in_rows(routes: Iterable[Route]) -> Iterator[list[Route]]:
    """The routes, cut where one differs from the next in more than its destination; a default route stands alone.

    Thousands of routes share a handful of attributes: what follows from these is asked once for each row.
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
    """A rule. It fits a packet if all its selectors do, or, if it is `inverted`, if one of them does not."""

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
    protocol: str = ""  # who has made it: kernel, static, …; empty if `ip` was not asked for details

    def __str__(self) -> str:
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
        return printable(" ".join(words))


def _spelled(options: dict[str, str]) -> Iterator[str]:
    """The rest of a rule, as `ip rule` says it: its JSON has other keys than its command line."""
    for name, value in options.items():
        said, last, sign = _SAID.get(name, (name, "", ""))
        if said:
            yield said
            number = value.removeprefix("ipproto-")
            yield from filter(None, [f"{number}{sign}{options[last]}" if last in options else number])


# Each with the key that has the other end, and what stands in between; that key is not said again.
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
    """All that one pass has read. Routes stand in the kernel's order."""

    links: Mapping[str, Link] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    main: Mapping[Family, tuple[Route, ...]] = field(default_factory=dict)  # what may be mirrored, and more
    tables: Mapping[int, Mapping[Family, tuple[Route, ...]]] = field(default_factory=dict)  # all of the VPN's tables
    numbered: Mapping[Family, frozenset[str]] = field(default_factory=dict)  # links with an address beyond their link
    expiry: int | None = None  # in how many seconds the next route of IPv6 main times out, which no event tells


def has_numbers(text: str) -> bool:
    """True if some line gives a number where others may give a name, which confuses the `ip` that reads both."""
    return bool(_NUMBER.search(text))


_NUMBER = re.compile(r" (?:proto(?:col)?|scope|tos|realms) \d")


class Command(NamedTuple):
    """One `ip` command that writes. `line` is that of a batch, from `route` or `rule` on, with single spaces."""

    family: Family
    line: str
    reason: str
    independent: bool = False  # of all others: an on-link route where there is none
    table: int | None = None  # of a route of the VPN's tables
    waits: bool = False  # until a reading shows what takes the place of what it deletes
    numeric: bool = False  # see has_numbers

    @classmethod
    def of(cls, family: Family, words: Sequence[str], reason: str = "") -> "Command":
        """From words. ValueError if one has a space in it, which would make two of it."""
        line = " ".join(words)
        if line.count(" ") != len(words) - 1:
            raise ValueError(f"a word with a space: {line!r}")
        return cls(family, line, reason, numeric=has_numbers(line))

    @property
    def words(self) -> tuple[str, ...]:
        """Of the line."""
        return tuple(self.line.split(" "))


class Outcome(NamedTuple):
    """What became of a command; `words` are those of `ip`. In doubt is what `ip` may or may not have done."""

    result: Literal["worked", "refused", "in doubt"]
    words: str = ""

    def __str__(self) -> str:
        # The words may have come from anywhere: nothing in them is for the terminal.
        return f"{self.result}: {printable(self.words)}" if self.words else self.result


WORKED = Outcome("worked")
