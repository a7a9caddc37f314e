"""Turns the record of a machine into the commands that make a namespace like it, and names what they cannot make.

A record is anybody's text: nothing of it becomes a word of a command unchecked.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import NamedTuple

from fz_iproute.mirror import parse
from fz_iproute.mirror.model import Command, Link, Route, Rule
from fz_iproute.mirror.parse import Document, Listed
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import LOCAL, MAIN, PROTOCOLS, TABLE_NUMBERS, is_word

# The network namespace that holds the far ends of all cables.
FAR = "neighbour"

_TABLE = re.compile(r"-json (-[46]) route show table (\w+)", re.ASCII)

# Routers whom the far ends play. More than this is no network for people to look at.
_MOST_ROUTERS = 100


@dataclass(frozen=True)
class Record:
    """What `ip` printed on the machine, in parts."""

    links: list[Document]
    addresses: list[Document]
    nexthops: list[Document]
    rules: Mapping[Family, list[Document]]
    routes: Mapping[tuple[Family, int], list[Listed]]  # by family and table
    words: Mapping[Family, list[str]]  # routes of main that have metrics: only words tell which are locked


class Lost(NamedTuple):
    """What cannot be rebuilt, and why."""

    what: str
    why: str

    def __str__(self) -> str:
        line = f"{self.what}: {self.why}"
        return line if line.isprintable() else ascii(line)


class Device(NamedTuple):
    """A link to be made. Without a `peer` of the record, a cable ends in the namespace FAR."""

    name: str
    ifindex: int
    kind: str  # loopback, veth, tun, bridge
    up: bool
    carrier: bool
    peer: str
    master: str
    options: tuple[str, ...]  # of `ip link set`

    @property
    def far_end(self) -> str:
        """The name of the anonymous other end of a cable."""
        return f"far{self.ifindex}"


Found = Iterator[Command | Lost]


def recorded_tables(keys: Iterable[str]) -> Iterator[tuple[Family, int, str]]:
    """Family, number and question of each table whose routes are recorded; `local` is the kernel's own affair."""
    for key in keys:
        if match := _TABLE.fullmatch(key):
            family: Family = "inet" if match[1] == "-4" else "inet6"
            name = match[2]
            number = TABLE_NUMBERS.get(name, int(name) if name.isdecimal() else 0)
            if number != LOCAL:
                yield family, number, f"route show table {name}"


def is_batchable(words: Sequence[str]) -> bool:
    """True if a line of a batch says exactly these words."""
    # A backslash at the end of a line would join the next one to it.
    return all(is_word(word) for word in words) and not words[-1].endswith("\\")


def is_name(name: object) -> bool:
    """True if the kernel takes this for the name of a link."""
    if not isinstance(name, str):
        return False
    try:
        octets = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    # `all` and `default` are folders of its sysctls; a `%` makes it invent a name.
    return (
        0 < len(octets) <= 15
        and name not in (".", "..", "all", "default")
        and not any(octet in b"/:%\0 \t\n\v\f\r\xa0" for octet in octets)
    )


# Links


def devices(documents: Iterable[Document]) -> tuple[list[Device], list[Lost]]:
    """The links to be made, and those that cannot exist."""
    found: dict[str, Document] = {}
    indexes: set[int] = set()
    lost = []
    for document in filter(None, documents):
        name, index = document["ifname"], document["ifindex"]
        if not is_name(name):
            lost.append(Lost(f"link {name!r}", "no link can have this name"))
        elif not isinstance(index, int) or not 0 < index < 2**31 or index in indexes or (index == 1) != (name == "lo"):
            lost.append(Lost(f"link {name}", f"its index, {index!r}, is taken or impossible"))
        elif name in found:
            lost.append(Lost(f"link {name}", "another one has its name"))
        else:
            found[name] = document
            indexes.add(index)
    masters = {document.get("master") for document in found.values()}
    return [_device(document, found, masters) for document in found.values()], lost


def _device(document: Document, others: Mapping[str, Document], masters: set[object]) -> Device:
    name, flags, kind = document["ifname"], document["flags"], document["link_type"]
    if name == "lo":
        made = "loopback"
    elif kind != "ether":
        made = "tun"
    else:
        made = "bridge" if name in masters else "veth"
    master = document.get("master", "")
    return Device(
        name=name,
        ifindex=document["ifindex"],
        kind=made,
        up="UP" in flags,
        carrier="LOWER_UP" in flags,
        peer=_peer(document, others, masters) if made == "veth" else "",
        master=master if master in others else "",
        options=tuple(_link_options(document, made)),
    )


def _peer(document: Document, others: Mapping[str, Document], masters: set[object]) -> str:
    """The other end of a cable: both name each other, while a VLAN names its device and nobody names it."""
    name, peer = document["ifname"], document.get("link", "")
    if peer == name or peer in masters or peer not in others:
        return ""
    other = others[peer]
    return str(peer) if other.get("link") == name and other["link_type"] == "ether" else ""


def _link_options(document: Document, kind: str) -> Iterator[str]:
    if kind == "loopback":
        return
    if isinstance(mtu := document.get("mtu"), int):
        yield from ("mtu", str(mtu))
    if "MULTICAST" not in document["flags"]:
        yield from ("multicast", "off")
    if kind != "tun":
        if "NOARP" in document["flags"]:
            yield from ("arp", "off")
        if _ETHERNET.fullmatch(address := str(document.get("address"))):
            yield from ("address", address)


_ETHERNET = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def cables_and_bridges(wanted: Sequence[Device], numbered: bool) -> Iterator[tuple[Device, Command]]:
    """How each is made; of a pair, the first makes both. `numbered`: with its index."""
    made: set[str] = set()
    by_name = {device.name: device for device in wanted}
    for device in wanted:
        if device.name in made or device.kind not in ("veth", "bridge"):
            continue
        words = ["link", "add", "name", device.name, *_index(device, numbered), "type", device.kind]
        if peer := by_name.get(device.peer):
            words += ["peer", "name", peer.name, *_index(peer, numbered)]
            made.add(peer.name)
        elif device.kind == "veth":
            words += ["peer", "name", device.far_end, "netns", FAR]
        yield device, Command.of("inet", words)


def _index(device: Device, numbered: bool) -> tuple[str, ...]:
    return ("index", str(device.ifindex)) if numbered else ()


def stand_in(tunnel: Device) -> Device:
    """A cable for a tunnel that cannot be made. It asks nobody for a hardware address either."""
    return tunnel._replace(kind="veth", options=(*tunnel.options, "arp", "off"))


def link_states(wanted: Sequence[Device], links: Mapping[str, Link]) -> Iterator[Command]:
    """Their options, bridges and administrative states; `links` are those that exist by now."""
    here = [(device, links[device.name].word) for device in wanted if device.name in links]
    for device, word in here:
        if word and device.options:
            yield Command.of("inet", ("link", "set", "dev", word, *device.options))
    for device, word in here:
        if word and device.master in links and (master := links[device.master].word):
            yield Command.of("inet", ("link", "set", "dev", word, "master", master))
    for device, word in here:
        if word and device.up:
            yield Command.of("inet", ("link", "set", "dev", word, "up"))


def far_states(wanted: Sequence[Device]) -> Iterator[Command]:
    """In FAR: a cable has a carrier if its other end is up."""
    for device in wanted:
        if device.kind == "veth" and not device.peer and device.carrier:
            yield Command.of("inet", ("link", "set", "dev", device.far_end, "up"))


# Addresses


def addresses(documents: Iterable[Document], links: Mapping[str, Link]) -> Found:
    """Exactly those recorded: the kernel's own of the loopback device go first."""
    for family in FAMILIES:
        yield Command.of(family, ("address", "flush", "dev", "lo"))
    for document in documents:
        link = links.get(document.get("ifname", ""))
        if link is None:
            continue  # reported as a link
        found = document.get("addr_info", ())
        inet = [address for address in found if address.get("family") == "inet"]
        # The kernel puts the latest in front.
        inet6 = [address for address in reversed(found) if address.get("family") == "inet6"]
        for address in inet + inet6:
            yield _address(address, link)


def _address(address: Document, link: Link) -> Command | Lost:
    family: Family = "inet" if address["family"] == "inet" else "inet6"
    local, length = address.get("local", ""), address.get("prefixlen")
    words = [f"{local}/{length}"]
    if "address" in address:
        words = [local, "peer", f"{address['address']}/{length}"]
    for key, option in _ADDRESS_OPTIONS.items():
        if key in address:
            words += [option, str(address[key])]
    words += [flag for flag in ("noprefixroute", "mngtmpaddr", "home") if address.get(flag) is True]
    if address.get("deprecated") is True:
        words += ["preferred_lft", "0"]
    if family == "inet6":
        words.append("nodad")
    what = f"address {local}/{length} dev {link.name}"
    if link.word is None:
        return Lost(what, "its link cannot be named")
    if not all(_VALUE.fullmatch(word) for word in words):
        return Lost(what, "it has a value that `ip` does not print")
    label = address.get("label", link.name)
    if label != link.name and link.word == link.name and is_word(label):
        words += ["label", label]
    return Command.of(family, ("address", "add", *words, "dev", link.word))


_ADDRESS_OPTIONS = {"broadcast": "broadcast", "scope": "scope", "metric": "metric"}
_VALUE = re.compile(r"[\w.:/]+", re.ASCII)


def routers(record: Record, wanted: Sequence[Device]) -> list[Command]:
    """In FAR: the addresses of the routers that routes name, each at the cable that leads to it. They answer a ping."""
    cables = {device.name: device for device in wanted if device.kind == "veth" and not device.peer}
    networks = defaultdict(list)
    for document in record.addresses:
        for address in document.get("addr_info", ()):
            try:
                networks[document.get("ifname")].append(ip_interface(f"{address['local']}/{address['prefixlen']}"))
            except (KeyError, ValueError):
                continue
    found: dict[Command, None] = {}
    paths = [*record.nexthops, *(rest for listing in record.routes.values() for _, rest in listing)]
    for hop in (hop for path in paths for hop in (path, *path.get("nexthops", ()))):
        cable = cables.get(hop.get("dev", ""))
        if cable and "gateway" in hop and len(found) < _MOST_ROUTERS:
            try:
                router = ip_address(hop["gateway"])
            except ValueError:
                continue
            for near in networks[cable.name]:
                if router in near.network and router != near.ip:
                    far = f"{router}/{near.network.prefixlen}"
                    family: Family = "inet" if router.version == 4 else "inet6"
                    nodad = ("nodad",) if family == "inet6" else ()
                    found[Command.of(family, ("address", "add", far, *nodad, "dev", cable.far_end))] = None
    return list(found)


# Nexthop objects


def nexthops(record: Record, links: Mapping[str, Link]) -> Found:
    """Objects, then groups of them. A group has no family, so none of its options may say one."""
    late = {
        rest.get("nhid") for (family, _), listing in record.routes.items() if family == "inet6" for _, rest in listing
    }
    for document in sorted(record.nexthops, key=lambda document: "group" in document):
        what = f"nexthop {document['id']}"
        if unknown := document.keys() - _NEXTHOP_KEYS:
            yield Lost(what, f"`ip` shows an attribute that is not known here: {', '.join(sorted(unknown))}")
            continue
        words = ["nexthop", "add", "id", str(document["id"])]
        family: Family = "inet6" if document["id"] in late else "inet"
        if "group" in document:
            words += ["group", "/".join(_member(member) for member in document["group"])]
        elif "blackhole" in document:
            words.append("blackhole")
        else:
            gateway, link = document.get("gateway"), links.get(document.get("dev", ""))
            if link is None or link.word is None:
                yield Lost(what, "its link does not exist here")
                continue
            # An object without a gateway does not say its family, but that of IPv4 has a scope of its own.
            is_inet = "." in gateway if gateway else document.get("scope") == "host"
            family = "inet" if is_inet else "inet6"
            words += ["via", gateway] if gateway else []
            words += ["dev", link.word]
            words += ["onlink"] if "onlink" in document.get("flags", ()) else []
        words += ["proto", _number_of(document.get("protocol", "unspec"))]
        if is_batchable(words):
            yield Command.of(family, words)
        else:
            yield Lost(what, "it has a value that `ip` does not print")


def is_group(command: Command) -> bool:
    """True for the command that makes a group of nexthop objects."""
    return command.words[0] == "nexthop" and "group" in command.words[4:5]


def _member(member: Document) -> str:
    return f"{member['id']},{member['weight']}" if "weight" in member else str(member["id"])


_NEXTHOP_KEYS = frozenset({"id", "gateway", "dev", "scope", "protocol", "flags", "blackhole", "group"})


# Routes


def routes(record: Record, links: Mapping[str, Link]) -> tuple[list[Command | Lost], list[Command | Lost]]:
    """Those that stand by themselves, and those that others or nexthop objects must stand before.

    Routes with the same destination and metric keep their order.
    """
    early: list[Command | Lost] = []
    late: list[Command | Lost] = []
    for (family, table), listing in record.routes.items():
        numbered = [(dst, {**rest, "protocol": _number_of(rest.get("protocol", "boot"))}) for dst, rest in listing]
        found = parse.routes(numbered, family, links)
        dependent = {_group(route) for route in found if _is_dependent(route)}
        locks = _Locks(record.words.get(family, ()), found) if table == MAIN else None
        for route in found:
            (late if _group(route) in dependent else early).append(_route(family, table, route, locks))
    return early, late


def lost_sources(record: Record) -> list[Command]:
    """Addresses that routes have as their source and no link has any more, as a stale copy does.

    The kernel takes such a route only while the address is there. That of IPv6 it would have stripped of its source.
    """
    there = {address.get("local") for document in record.addresses for address in document.get("addr_info", ())}
    wanted = {
        rest["prefsrc"]: None
        for (family, _), listing in record.routes.items()
        if family == "inet"
        for _, rest in listing
        if "prefsrc" in rest
    }
    return [
        Command.of("inet", ("address", "add", f"{source}/32", "dev", "lo"))
        for source in wanted
        if source not in there and _VALUE.fullmatch(source)
    ]


def lost_ways(refused: Iterable[Command]) -> list[Command]:
    """On-link routes to the routers of these routes: what led to them may have gone since, or be in other tables."""
    found: dict[Command, None] = {}
    for command in refused:
        family, words = command.family, command.words
        table = words[3] if words[:2] == ("route", "append") else "main"
        for place in range(len(words) - 3):
            via, router, dev, device = words[place : place + 4]
            if via == "via" and dev == "dev":
                way = (router, "dev", device, "proto", "255", "metric", str(2**32 - 1))
                scope = ("scope", "link") if family == "inet" else ()
                found[Command.of(family, ("route", "append", "table", table, *way, *scope))] = None
    return list(found)


def undone(commands: Iterable[Command]) -> list[Command]:
    """What takes these additions back."""
    return [
        Command.of(command.family, (kind, "del", *rest)) for command in commands for kind, _, *rest in [command.words]
    ]


def _group(route: Route) -> tuple[str, int, str]:
    return route.dst, route.attributes.metric, route.attributes.tos


def _is_dependent(route: Route) -> bool:
    return route.attributes.gatewayed or route.attributes.path[:1] == ("nhid",)


def _route(family: Family, table: int, route: Route, locks: "_Locks | None") -> Command | Lost:
    words = route.words
    why = ""
    if route.attributes.inexpressible:
        why = route.attributes.inexpressible
    elif route.attributes.expired:
        why = "it has timed out"
    elif route.attributes.type not in _TYPES or not 0 < table < 2**32:
        why = "`ip` has no such type or table"
    elif locks:
        words = locks.applied(route)
        why = "" if words else "which of its metrics are locked is not certain"
    if not why:
        line = ("route", "append", "table", str(table), *words)
        if is_batchable(line):
            return Command.of(family, line)
        why = "it has a value that `ip` does not print"
    return Lost(f"route {route} table {table}", why)


# fmt: off
_TYPES = frozenset([
    "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw",
])
# fmt: on


class _Locks:
    """Which metrics of which routes are locked, as the words of `ip` say."""

    def __init__(self, lines: Iterable[str], found: Iterable[Route]) -> None:
        self._locked: dict[str, list[frozenset[str]]] = defaultdict(list)
        for line in dict.fromkeys(lines):
            if match := _DESTINATION.match(line):
                self._locked[match[1]].append(frozenset(_LOCK.findall(line)) - {"rto_min"})  # that one always is
        self._twins: dict[str, int] = defaultdict(int)
        for route in found:
            self._twins[route.dst] += 1

    def applied(self, route: Route) -> tuple[str, ...]:
        """The words of the route with its locks; none if that is not certain."""
        said = self._locked.get(route.dst, [])
        if not any(said):
            return route.words
        locked = said[0] if len(set(said)) == 1 else None
        if len(said) == self._twins[route.dst]:
            # Both are in the kernel's order, in which the routes are asked for here too.
            locked = said.pop(0)
            self._twins[route.dst] -= 1
        if locked is None:
            return ()
        words = list(route.words)
        end = words.index("nexthop") if len(route.attributes.devices) > 1 and "nexthop" in words else len(words)
        for name in locked:
            places = [place for place in range(1, end) if words[place] == name and words[place - 1] != "dev"]
            if len(places) != 1:
                return ()
            words.insert(places[0] + 1, "lock")
            end += 1
        return tuple(words)


_DESTINATION = re.compile(r"(?:[a-z]+ )?(\S+) ")  # behind the type, if that is not unicast
_LOCK = re.compile(r" (\w+) lock ")


# Rules


def rules(record: Record) -> Found:
    """Those that every namespace is born with go; then all that are recorded, in their order."""
    for family in FAMILIES:
        found = parse.rules(record.rules.get(family, ()), family)
        if found:
            for priority in (0, 32766, 32767) if family == "inet" else (0, 32766):
                yield Command.of(family, ("rule", "del", "priority", str(priority)))
        for rule in found:
            try:
                words = ("rule", "add", *_rule_words(rule))
            except _Unknown as error:
                yield Lost(f"rule {rule.priority}: {rule}", str(error))
            else:
                yield Command.of(family, words)


class _Unknown(Exception):
    """No words of `ip rule add` say this."""


def _rule_words(rule: Rule) -> Iterator[str]:
    options = dict(rule.options)
    yield from ("priority", _value(str(rule.priority)))
    if rule.inverted:
        yield "not"
    yield from ("from", str(rule.src) if rule.src else "all")
    if rule.dst:
        yield from ("to", str(rule.dst))
    if rule.mark:
        yield from ("fwmark", f"{rule.mark.value:#x}/{rule.mark.mask:#x}")
    for key, device in {"iif": rule.iif, "oif": rule.oif}.items():
        if device:
            if not is_name(device):
                raise _Unknown(f"no link can have the name {device!r}")
            yield from (key, device)
    if "l3mdev" in options:  # a condition beside an action that refuses
        yield "l3mdev"
    yield from _option_words(options)
    if rule.action == "lookup":
        yield from ("lookup", str(rule.table))
    elif rule.action != "goto":
        if rule.action not in _ACTIONS:
            raise _Unknown(f"its action, {rule.action!r}, is not known here")
        yield _ACTIONS[rule.action]
    if rule.protocol not in ("", "unspec"):
        yield from ("protocol", _value(_number_of(rule.protocol)))


def _option_words(options: dict[str, str]) -> Iterator[str]:
    for key, option in _RULE_OPTIONS.items():
        if key in options:
            yield from (option, _value(options.pop(key).removeprefix("ipproto-")))
    for option, key in _RANGES.items():
        if f"{key}_start" in options and f"{key}_end" in options:
            yield from (option, f"{_value(options.pop(f'{key}_start'))}-{_value(options.pop(f'{key}_end'))}")
    if "flow_to" in options:
        to = _value(options.pop("flow_to"))
        yield from ("realms", f"{_value(options.pop('flow_from'))}/{to}" if "flow_from" in options else to)
    if unknown := options.keys() - _RULE_STATE:
        raise _Unknown(f"`ip` shows an attribute that is not known here: {', '.join(sorted(unknown))}")


def _value(word: str) -> str:
    if not _VALUE.fullmatch(word):
        raise _Unknown(f"{word!r} is no value that `ip` prints")
    return word


_RANGES = {"uidrange": "uid", "sport": "sport", "dport": "dport"}
# By its key in the JSON, how it is said.
_RULE_OPTIONS = {
    "tos": "tos",
    "ipproto": "ipproto",
    "sport": "sport",
    "dport": "dport",
    "tun_id": "tun_id",
    "suppress_prefixlen": "suppress_prefixlength",
    "suppress_ifgroup": "suppress_ifgroup",
    "goto": "goto",
}
_RULE_STATE = frozenset({"iif_detached", "oif_detached", "unresolved", "l3mdev"})
_ACTIONS = {name: name for name in ("nop", "l3mdev", "blackhole", "unreachable", "prohibit")} | {
    "6": "blackhole",
    "7": "unreachable",
    "8": "prohibit",
}


def _number_of(protocol: str) -> str:
    """A number if it is known: one `ip` that reads names after numbers mistakes the former for the latter."""
    return PROTOCOLS.get(protocol, protocol)
