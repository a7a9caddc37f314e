"""Turns the JSON documents of `ip` into the model. It never guesses: what it does not know, it names."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fz_iproute.mirror.model import Attributes, Link, Mark, Nexthop, Route, Rule
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.mirror.words import PROTOCOLS, REFUSALS, TABLE_NUMBERS, is_word, printable

Document = dict[str, Any]

# A route as `ip -json` lists it: its destination, and the rest of its document. A table has many routes but few
# shapes, so those that differ in nothing but their destination may share one rest.
Listed = tuple[str, Document]

_VALUE = re.compile(r"[\w.:/+-]+", re.ASCII)
_NO_PART = re.compile(r"[^\w.:/+-]", re.ASCII)

_ESCAPED = re.compile(rb"\\.", re.DOTALL)

# `ip -batch` stops at a line of more than 512 words; `route append table N DST` take their share.
_MOST_WORDS = 500


class Unparsable(ValueError):
    """The document is JSON, but not what `ip` prints."""


def answer_of(question: str, text: bytes) -> list[Any]:
    """What `ip -json` prints to a question: routes as Listed, anything else as documents. ValueError if neither."""
    return listing_of(text) if question.startswith("route show") else documents_of(text)


def documents_of(text: bytes) -> list[Document]:
    """A JSON list of objects; ValueError if it is anything else."""
    return _loaded(_decoded(text))


def listed(documents: Iterable[Document]) -> list[Listed]:
    """Routes from a document for each. Unparsable if one has no destination."""
    shapes: dict[str, Document] = {}
    found = []
    for document in documents:
        if "dst" not in document:
            raise Unparsable("a route without a destination")
        rest = {key: value for key, value in document.items() if key != "dst"}
        found.append((document["dst"], shapes.setdefault(repr(rest), rest)))
    return found


def listing_of(text: bytes) -> list[Listed]:
    """The JSON list of objects that `ip -json route show` prints; ValueError if it is anything else."""
    whole = _decoded(text)
    try:
        return _shared(whole)
    except ValueError:
        return listed(_loaded(whole))  # not as `ip` prints it, or not at all


def _shared(text: str) -> list[Listed]:
    """The same at a fifth of the cost: what stands between two destinations is only parsed where it is a new one.

    A list is what its members are, so it is read exactly if each of them can be read. ValueError if one cannot.
    """
    if not text.startswith("[{") or not text.endswith("}]"):
        raise ValueError("not a list of objects")
    # Now all of them end alike, also the last one.
    text = f"{text[1:-1]},{{{_DST}"
    # Most routes of a table are of one shape. That of the middle one tells where to cut first.
    start = text.index('"', text.rindex(_DST, 0, len(text) // 2) + len(_DST)) + 1
    usual = text[start : text.index(_DST, start)]
    rest, after = _shape("{", usual)
    shapes = {("{", usual): (rest, after)}
    repeats = "{" if after == "{" else None  # what stands before one that the same may follow
    found: list[Listed] = []

    def add(head: str, route: str) -> str:
        dst, tail = route.split('"', 1)
        shape = shapes.get((head, tail)) or shapes.setdefault((head, tail), _shape(head, tail))
        found.append((dst, shape[0]))
        return shape[1]

    head, _, text = text.partition(_DST)
    *chunks, last = text.split(f'"{usual}{_DST}')
    for chunk in chunks:
        if head == repeats and '"' not in chunk:
            found.append((chunk, rest))
        else:
            *others, dst = chunk.split(_DST)
            for other in others:
                head = add(head, other)
            head = add(head, f'{dst}"{usual}')
    for other in last.split(_DST)[:-1]:
        head = add(head, other)
    destinations = "".join([dst for dst, _ in found])
    if head != "{" or "\\" in destinations or '"' in destinations:
        raise ValueError("not what `ip` prints")
    return found


_DST = '"dst":"'


def _shape(head: str, tail: str) -> tuple[Document, str]:
    """Of a route, by what stands before and behind its destination; and the head of the next, with its type."""
    end = tail.rindex("},{") + 1
    (rest,) = _loaded(f'[{head}"dst":""{tail[:end]}]')
    if rest.pop("dst", None) != "":
        raise ValueError("it is the destination of something in the route")
    return rest, tail[end + 1 :]


def _decoded(text: bytes) -> str:
    if b"\\'" in text:
        # iproute2 5.9 escapes it, which is no JSON.
        text = _ESCAPED.sub(lambda match: b"'" if match[0] == b"\\'" else match[0], text)
    # Interface names may hold control characters and bytes that are not UTF-8; `ip` prints them raw.
    return text.decode("utf-8", "surrogateescape")


def _loaded(text: str) -> list[Document]:
    # `encap ip` prints a second `dst` into its route: the first is the route's. (For all, it would take too long.)
    hook = _first_of_each if '"encap"' in text else None
    documents = json.loads(text, strict=False, object_pairs_hook=hook)
    if not isinstance(documents, list) or not all(isinstance(document, dict) for document in documents):
        raise ValueError("JSON, but not a list of objects")
    return documents


def _first_of_each(pairs: list[tuple[str, Any]]) -> Document:
    return dict(reversed(pairs))


def links(documents: Iterable[Document]) -> dict[str, Link]:
    """`ip -json link show`, by name. Links that a filter took out are printed as `{}`."""
    found = {document["ifname"]: document for document in documents if document}
    return {
        name: Link(
            name=name,
            ifindex=document["ifindex"],
            up="UP" in document["flags"],
            loopback="LOOPBACK" in document["flags"],
            word=_device_word(name, document["ifindex"], found),
            multicast="MULTICAST" in document["flags"],
            may_be_tunnel=_may_be_tunnel(name, document),
            group=group_number(document.get("group", "")),
            in_vrf=_is_vrf(document) or _is_vrf(found.get(document.get("master", ""), {})),
        )
        for name, document in found.items()
    }


def _may_be_tunnel(name: str, link: Document) -> bool:
    # A tap looks like any Ethernet; only its name can give it away.
    is_lan = link.get("link_type", "ether") in ("ether", "infiniband", "loopback")
    return "POINTOPOINT" in link["flags"] or not is_lan or name.startswith(("tun", "tap"))


def _is_vrf(link: Document) -> bool:
    # No other kind of link has both: a bond is a master that answers to ARP.
    return {"MASTER", "NOARP"} <= set(link.get("flags", ()))


def group_number(name: str) -> int | None:
    """Of a group of interfaces; None if only a file of the machine knows the name."""
    return int(name) if name.isdecimal() else 0 if name == "default" else None


def numbered(documents: Iterable[Document], family: Family) -> frozenset[str]:
    """`ip -json address show`: the links that have an address which is valid beyond the link."""
    return frozenset(
        document["ifname"]
        for document in documents
        for address in document.get("addr_info", ())
        if address.get("family") == family and address["scope"] not in ("link", "host")
    )


def _device_word(name: str, index: int, others: Mapping[str, object]) -> str | None:
    if is_word(name):
        return name
    # `ip` takes `if7` for the link with index 7, unless a link really bears that name.
    return None if f"if{index}" in others else f"if{index}"


def rules(documents: Iterable[Document], family: Family) -> list[Rule]:
    """`ip -json rule show`, in the kernel's order; with `-details -Numeric`, also who has made each."""
    return [_rule(document, family) for document in documents]


def needs_numbers(documents: Iterable[Document]) -> bool:
    """True if something in a rule has a name that the files of this machine give to it: its table, its protocol, …"""
    return any(_table(document.get("table", "0")) is None or _NAMED & document.keys() for document in documents)


_NAMED = frozenset(["ipproto", "tos", "flow_from", "flow_to", "suppress_ifgroup"])


def _rule(document: Document, family: Family) -> Rule:
    return Rule(
        family=family,
        priority=document["priority"],
        action=_action(document),
        table=table_number(document.get("table", "0")),
        inverted="not" in document,
        src=_selected(document, "src", family),
        dst=_selected(document, "dst", family),
        mark=_mark(document),
        iif=document.get("iif", ""),
        oif=document.get("oif", ""),
        options=tuple(
            (key, "" if value is None else str(value))
            for key, value in document.items()
            if (key not in _RULE_KEYS or (key == "l3mdev" and "action" in document))
            and (key, value) not in _WHOLE_PORTS
        ),
        protocol=_protocol(document.get("protocol", "")),
    )


def _protocol(name: str) -> str:
    return _PROTOCOL_NAMES.get(name, name)


def table_number(name: str) -> int:
    """Of a table with a number, or of the kernel's own."""
    number = _table(name)
    if number is None:
        raise Unparsable(f"{name!r} is not the number of a table")
    return number


def _table(name: str) -> int | None:
    return int(name) if name.isdecimal() else TABLE_NUMBERS.get(name)


def _action(document: Document) -> str:
    if "table" in document:
        return "lookup"
    if "action" in document:
        return REFUSALS.get(document["action"], str(document["action"]))
    return str(next((key for key in ("goto", "nop", "l3mdev") if key in document), "unknown"))


def _selected(document: Document, key: str, family: Family) -> Prefix | None:
    host = document.get(key, "all")
    if host == "all":
        return None
    length = document.get(f"{key}len")
    return Prefix.of_route(host if length is None else f"{host}/{length}", family)


def _mark(document: Document) -> Mark | None:
    if "fwmark" not in document:
        return None
    value = int(document["fwmark"], 0)
    return Mark(value, int(document["fwmask"], 0)) if "fwmask" in document else Mark(value)


# fmt: off
_RULE_KEYS = frozenset([
    "priority", "action", "table", "not", "src", "srclen", "dst", "dstlen", "fwmark", "fwmask", "iif", "oif",
    "protocol", "nop", "l3mdev",
])
# fmt: on
# iproute2 6.15 prints the mask of a single port, even if it is all of it.
_WHOLE_PORTS = (("sport_mask", "0xffff"), ("dport_mask", "0xffff"))
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}


def nexthops(documents: Iterable[Document]) -> dict[int, Nexthop]:
    """`ip -json nexthop show`, by id; groups are resolved to their members."""
    objects = {document["id"]: document for document in documents}

    def members(document: Document) -> list[Document]:
        return [objects[member["id"]] for member in document["group"]] if "group" in document else [document]

    return {
        number: Nexthop(
            devices=tuple(member["dev"] for member in members(document) if "dev" in member),
            gatewayed=any(_has_gateway(member) for member in members(document)),
        )
        for number, document in objects.items()
    }


def routes(
    listing: Iterable[Listed],
    family: Family,
    links: Mapping[str, Link],
    nexthops: Mapping[int, Nexthop] | None = None,
) -> tuple[Route, ...]:
    """`ip -json route show table T`, in the kernel's order, without the duplicates of an IPv6 dump under churn."""
    # Each beside its shape, which holds that in its place: no other may get its id.
    shapes: dict[int, tuple[Document, Attributes]] = {}
    found: list[Route] = []
    for dst, rest in listing:
        shape = shapes.get(id(rest))
        if shape is None:
            attributes = _attributes(family, {**_UNPRINTED[family], **rest}, links, nexthops or {})
            shape = shapes[id(rest)] = rest, attributes
        found.append(Route(dst, shape[1]))
    destinations = [dst for dst, _ in found]
    if not all(destinations) or _NO_PART.search("".join(destinations)):
        odd = next(dst for dst in destinations if not _VALUE.fullmatch(dst))
        raise Unparsable(f"{odd!r} is not a destination")
    if family == "inet6" and len(set(destinations)) < len(found):
        found = list(dict.fromkeys(found))
    return tuple(found)


def needs_nexthops(listing: Iterable[Listed]) -> bool:
    """True if some route names only its nexthop object (sysctl net.ipv4.nexthop_compat_mode = 0)."""
    return any("nhid" in rest and not {"dev", "nexthops"} & rest.keys() for _, rest in listing)


def _attributes(
    family: Family, document: Document, links: Mapping[str, Link], nexthops: Mapping[int, Nexthop]
) -> Attributes:
    devices, gatewayed = _path(document, nexthops)
    words: list[str] = []
    path: list[str] = []
    doubts = [key for key in document if key not in _WORDS and key not in _STATE]
    inexpressible = f"`ip` shows an attribute that is not known here: {', '.join(doubts)}" if doubts else ""
    for key, render in _WORDS.items():
        # The rest of an object's path is for display: as arguments, nhid and dev exclude each other.
        if key in document and not (key in _PATH and "nhid" in document):
            try:
                said = render(document[key], links)
                words += said
                if key == "nhid" or key in _PATH:
                    path += said
            except _Inexpressible as error:
                inexpressible = inexpressible or str(error)
    if len(words) > _MOST_WORDS:
        inexpressible = f"it has {len(devices)} nexthops, more than a line of a batch can hold"
    return Attributes(
        family=family,
        type=document.get("type", "unicast"),
        words=tuple(words),
        path=tuple(path),
        devices=devices,
        gatewayed=gatewayed,
        scope=document.get("scope", "global"),
        metric=document.get("metric", 0),
        tos=document.get("tos", ""),
        expired=document.get("expires", 0) < 0,
        inexpressible=printable(inexpressible),
    )


def _path(document: Document, nexthops: Mapping[int, Nexthop]) -> Nexthop:
    """Where the route leads: its devices, and whether a router stands in between."""
    hops = document.get("nexthops") or ([document] if "dev" in document else [])
    if not hops and "nhid" in document:
        return nexthops.get(document["nhid"], Nexthop((), False))
    return Nexthop(
        devices=tuple(hop["dev"] for hop in hops if "dev" in hop),
        gatewayed=any(_has_gateway(hop) for hop in hops),
    )


def _has_gateway(hop: Document) -> bool:
    return "gateway" in hop or "via" in hop


class _Inexpressible(Exception):
    """No words of `ip route add` say this exactly."""


_Links = Mapping[str, Link]
_Render = Callable[[Any, _Links], Sequence[str]]


def _value(value: object) -> str:
    word = str(value)
    if not _VALUE.fullmatch(word):
        raise _Inexpressible(f"{word!r} cannot be written on a line")
    return word


def _option(name: str) -> _Render:
    return lambda value, links: (name, _value(value))


def _device(name: str, links: _Links) -> tuple[str, str]:
    # A link that came after the links were read is taken by its name: it goes through the same check.
    word = links[name].word if name in links else _device_word(name, 0, {"if0": None})
    if word is None:
        raise _Inexpressible(f"the name of its device, {name!r}, cannot be written on a line")
    return ("dev", word)


def _via(via: Document, links: _Links) -> tuple[str, str, str]:
    return ("via", _value(via["family"]), _value(via["host"]))


def _realms(flow: Document, links: _Links) -> tuple[str, str]:
    to = _value(flow["to"])
    return ("realms", f"{_value(flow['from'])}/{to}" if "from" in flow else to)


def _metrics(metrics: list[Document], links: _Links) -> list[str]:
    # In an order of their own: theirs may depend on who has printed them.
    return [word for group in metrics for name, value in sorted(group.items()) for word in _metric(name, value)]


def _metric(name: str, value: object) -> tuple[str, str]:
    if name in ("rtt", "rttvar", "rto_min"):
        # Printed in ms, read in eighths and quarters of one unless the unit stands there; below one, as 0.
        if not value:
            raise _Inexpressible(f"its {name} is below 1 ms, which `ip` cannot print")
        return (name, f"{_value(value)}ms")
    if name == "ecn" and value is None:
        return ("features", "ecn")
    if name not in _METRICS:
        raise _Inexpressible(f"its metric {name} is not known here")
    return ("congctl" if name == "congestion" else name, _value(value))


def _flags(flags: list[str], links: _Links) -> list[str]:
    # All others (linkdown, dead, offload, …) are state, which the kernel sets by itself.
    return [flag for flag in flags if flag == "onlink"]


def _nexthops(hops: list[Document], links: _Links) -> list[str]:
    words: list[str] = []
    for hop in hops:
        if unknown := [key for key in hop if key not in _NEXTHOP_WORDS and key not in _STATE]:
            raise _Inexpressible(f"a nexthop has an attribute that is not known here: {', '.join(unknown)}")
        words.append("nexthop")
        for key, render in _NEXTHOP_WORDS.items():
            if key in hop:
                words += render(hop[key], links)
    return words


# How each key of the JSON is said as arguments, in the order in which they are written: everything that
# holds for the route must stand before the first `nexthop`. The type never needs a word: copies are unicast.
_WORDS: dict[str, _Render] = {
    "nhid": _option("nhid"),
    "gateway": _option("via"),
    "via": _via,
    "dev": _device,
    "protocol": _option("proto"),
    "scope": _option("scope"),
    "prefsrc": _option("src"),
    "metric": _option("metric"),
    "tos": _option("tos"),
    "flow": _realms,
    "metrics": _metrics,
    "pref": _option("pref"),
    "flags": _flags,
    "nexthops": _nexthops,
}
_PATH = frozenset({"gateway", "via", "dev", "flags", "nexthops"})
_NEXTHOP_WORDS = {key: _WORDS[key] for key in ("gateway", "via", "dev")} | {
    "weight": _option("weight"),
    "flow": _realms,
    "flags": _flags,
}
# fmt: off
_METRICS = frozenset([
    "mtu", "window", "ssthresh", "cwnd", "advmss", "reordering", "hoplimit", "initcwnd", "initrwnd", "quickack",
    "fastopen_no_cookie", "congestion",
])
# fmt: on
# What `ip` leaves out because it is usual. `route add` has other defaults (scope link without a gateway).
_UNPRINTED: dict[Family, Document] = {
    "inet": {"protocol": "boot", "scope": "global"},
    "inet6": {"protocol": "boot"},
}
# Printed, but no part of the route: counters, caches, timers that the copy must not inherit.
_STATE = frozenset({"type", "expires", "cache", "error", "uid", "mark", "used", "users", "age", "table"})
