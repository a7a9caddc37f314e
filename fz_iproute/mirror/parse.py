"""Turns the JSON of `ip` into links, nexthops and routes of the model. It reports attributes that it does not know."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from fz_iproute.mirror.model import LOCKED, Attributes, Link, Nexthop, Route
from fz_iproute.mirror.prefix import Family, check_destinations
from fz_iproute.mirror.words import METRICS, OF_GUESTS, TUNS, is_word, printable

Document = dict[str, Any]

# A route as `ip -json` lists it: its destination, and the rest of its JSON object. Routes that differ only in their
# destination may share one `rest`, even across listings.
Listed = tuple[str, Document]

_VALUE = re.compile(r"[\w.:/+-]+", re.ASCII)

_ESCAPED = re.compile(rb"\\.", re.DOTALL)

# `ip -batch` stops at a line of more than 512 words. Some are needed for `route append table N DST`.
_MOST_WORDS = 500


class Unparsable(ValueError):
    """The document is JSON, but not what `ip` prints."""


def json_fault(error: Exception) -> str:
    """What is wrong with a text that is not JSON, or not the JSON that was expected."""
    if isinstance(error, json.JSONDecodeError):
        if error.pos >= len(error.doc.rstrip()):
            return "not JSON: it ends too early" if error.doc.strip() else "it is empty"
        return f"not JSON: line {error.lineno}, column {error.colno}"
    return form_fault(error)


def form_fault(error: Exception) -> str:
    """What is wrong with JSON in which something is missing, or has another type than `ip` gives it."""
    match error:
        case RecursionError():
            return "it is nested too deeply"
        case KeyError():
            return f"there is no {printable(str(error)[:_MOST_QUOTED])}"
        case ValueError() if not str(error).startswith(_OF_PYTHON):
            return printable(str(error)[:_MOST_QUOTED])
        case _:
            return "a value in it has the wrong type"


_MOST_QUOTED = 200  # characters: an error may quote all that `ip` has printed
# How messages of Python start that tell a user nothing.
_OF_PYTHON = ("invalid literal", "Exceeds the limit", "not enough values", "too many values", "could not convert")


def documents_of(text: bytes) -> list[Document]:
    """Parse a JSON list of objects. ValueError if the text is anything else."""
    return _loaded(_decoded(text))


def listed(documents: Iterable[Document]) -> list[Listed]:
    """The routes in these documents. Unparsable if a document has no destination."""
    shapes: dict[str, Document] = {}
    found = []
    for document in documents:
        if "dst" not in document:
            raise Unparsable("a route without a destination")
        rest = {key: value for key, value in document.items() if key != "dst"}
        found.append((document["dst"], shapes.setdefault(repr(rest), rest)))
    return found


def listing_of(text: bytes, scope: str = "") -> list[Listed]:
    """Parse what `ip -json route show` prints. ValueError if it is not a JSON list of objects.

    A question that filters by scope makes `ip` omit the key `scope`. So the caller gives the `scope`, and each route
    gets it.
    """
    whole = _decoded(text)
    try:
        return _split(whole, scope)
    except ValueError:
        documents = _loaded(whole)
        return listed({**document, "scope": scope} for document in documents) if scope else listed(documents)


def _split(text: str, scope: str) -> list[Listed]:
    """Parse a listing at a fifth of the cost of `json.loads`: equal texts between two destinations are parsed once.

    ValueError if the text is incomplete, or is valid JSON in another form than `ip` writes.
    """
    if not text.startswith("[{") or not text.endswith("}]"):
        raise ValueError("not a list of objects")
    # The separator at the end lets the last route be split like all others.
    head, *parts = _DST.split(f"{text[1:-1]},{{")
    found: list[Listed] = []
    for dst, between in zip(parts[::2], parts[1::2], strict=True):
        rest, head = _shape(head, between, scope)
        found.append((dst, rest))
    if head != "{" or not found:
        raise ValueError("not what `ip` prints")
    return found


_DST = re.compile(r'"dst":"([^"\\]*)"')


@lru_cache(maxsize=256)
def _shape(head: str, between: str, scope: str) -> tuple[Document, str]:
    """Parse one route: `head` is its text before the key `dst`, `between` what follows up to the next `dst`.

    Returns the route without its destination, and the head of the next route. A head is `{`, or has the key `type`.
    """
    end = between.rindex("},{") + 1
    (rest,) = _loaded(f'[{head}"dst":""{between[:end]}]')
    if rest.pop("dst", None) != "":
        raise ValueError("this `dst` belongs to an object inside the route")
    if scope:
        rest["scope"] = scope
    return rest, between[end + 1 :]


def _decoded(text: bytes) -> str:
    if b"\\'" in text:
        # iproute2 5.9 writes \' for a single quote, which JSON does not allow.
        text = _ESCAPED.sub(lambda match: b"'" if match[0] == b"\\'" else match[0], text)
    # Interface names may hold bytes that are not UTF-8, and `ip` prints them unchanged.
    return text.decode("utf-8", "surrogateescape")


def _loaded(text: str) -> list[Document]:
    # A route with `encap ip` has a second key `dst`; only the first is the route's. The hook is slow, so it is used
    # only where it is needed.
    hook = _first_of_each if '"encap"' in text else None
    documents = json.loads(text, strict=False, object_pairs_hook=hook)
    if not isinstance(documents, list) or not all(isinstance(document, dict) for document in documents):
        raise ValueError("JSON, but not a list of objects")
    return documents


def _first_of_each(pairs: list[tuple[str, Any]]) -> Document:
    return dict(reversed(pairs))


def links(documents: Iterable[Document]) -> dict[str, Link]:
    """The links that `ip -json link show` prints, by name."""
    # `ip` prints `{}` for a link that a filter excludes.
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
            in_vrf=_is_vrf(document) or _is_vrf(_master(document, found)),
            is_port="master" in document and not _is_vrf(_master(document, found)),
            outage=_outage(name, document),
        )
        for name, document in found.items()
    }


def _may_be_tunnel(name: str, link: Document) -> bool:
    is_lan = link.get("link_type", "ether") in ("ether", "infiniband", "loopback")
    return "POINTOPOINT" in link["flags"] or not is_lan or name.startswith(TUNS)


def _outage(name: str, link: Document) -> str:
    # While no guest runs, the bridge to it has no carrier, and that is no fault. The key `link` is null for the
    # fallback devices of tunnels, such as gretap0. Dummies and the like have NOARP.
    is_card = not {"LOOPBACK", "NOARP"} & set(link["flags"]) and link.get("link", name) is not None
    if not is_card or "master" in link or _may_be_tunnel(name, link) or name.startswith(OF_GUESTS):
        return ""
    return "is down" if "UP" not in link["flags"] else "has no carrier" if "NO-CARRIER" in link["flags"] else ""


def _master(link: Document, others: Mapping[str, Document]) -> Document:
    return others.get(link.get("master", ""), {})


def _is_vrf(link: Document) -> bool:
    # No other kind of link has both flags: a bond has MASTER, but not NOARP.
    return {"MASTER", "NOARP"} <= set(link.get("flags", ()))


def group_number(name: str) -> int | None:
    """The number of a group of interfaces. None for a name, which only the machine's file `group` translates."""
    return int(name) if name.isdecimal() else 0 if name == "default" else None


def numbered(documents: Iterable[Document], family: Family) -> frozenset[str]:
    """From `ip -json address show`: the links that have an address of a wider scope than link."""
    return frozenset(
        document["ifname"]
        for document in documents
        for address in document.get("addr_info", ())
        if address.get("family") == family and address["scope"] not in ("link", "host")
    )


def _device_word(name: str, index: int, others: Mapping[str, object]) -> str | None:
    if is_word(name):
        return name
    # `ip` reads `if7` as the link with index 7, unless another link has the name `if7`.
    return None if f"if{index}" in others else f"if{index}"


def nexthops(documents: Iterable[Document]) -> dict[int, Nexthop]:
    """The nexthop objects that `ip -json nexthop show` prints, by id. Groups are resolved to their members."""
    objects = {document["id"]: document for document in documents}
    found: dict[int, Nexthop] = {}
    for number, document in objects.items():
        members = [objects[member["id"]] for member in document["group"]] if "group" in document else [document]
        found[number] = Nexthop(
            devices=tuple(member["dev"] for member in members if "dev" in member),
            gatewayed=any(_has_gateway(member) for member in members),
        )
    return found


# A cache: from id(rest) of a Listed to the rest and its Attributes. Holding the rest keeps Python from reusing its id.
Shapes = dict[int, tuple[Document, Attributes]]


def routes(
    listing: Iterable[Listed],
    family: Family,
    links: Mapping[str, Link],
    nexthops: Mapping[int, Nexthop] | None = None,
    shapes: Shapes | None = None,
) -> tuple[Route, ...]:
    """The routes of a listing, in the kernel's order.

    `nexthops` are only used if `needs_nexthops`. `shapes` is a cache from earlier listings of the same family, with the
    same links and nexthops. Duplicates are dropped: an IPv6 dump may have some if routes change meanwhile.
    """
    shapes = {} if shapes is None else shapes
    found: list[Route] = []
    for dst, rest in listing:
        shape = shapes.get(id(rest))
        if shape is None:
            attributes = _attributes(family, {**_UNPRINTED[family], **rest}, links, nexthops or {})
            shape = shapes[id(rest)] = rest, attributes
        found.append(Route(dst, shape[1]))
    destinations = [dst for dst, _ in found]
    check_destinations(destinations, family)
    if family == "inet6" and len(set(destinations)) < len(found):
        found = list(dict.fromkeys(found))
    return tuple(found)


def needs_nexthops(listing: Iterable[Listed]) -> bool:
    """True if a route has only the id of its nexthop object, not its device (net.ipv4.nexthop_compat_mode = 0)."""
    return any("nhid" in rest and not {"dev", "nexthops"} & rest.keys() for _, rest in listing)


def _attributes(
    family: Family, document: Document, links: Mapping[str, Link], nexthops: Mapping[int, Nexthop]
) -> Attributes:
    devices, gatewayed = _path(document, nexthops)
    words: list[str] = []
    path: list[str] = []
    unknown = [key for key in document if key not in _WORDS and key not in _STATE]
    inexpressible = f"`ip` shows an attribute that fz-iproute does not know: {', '.join(unknown)}" if unknown else ""
    if unknown == ["lock"]:
        inexpressible = LOCKED
    for key, render in _WORDS.items():
        # For a route with a nexthop object, `ip` also prints the object's path, but does not accept both as arguments.
        if key in document and not (key in _PATH and "nhid" in document):
            try:
                arguments = render(document[key], links)
                words += arguments
                if key == "nhid" or key in _PATH:
                    path += arguments
            except _Inexpressible as error:
                inexpressible = inexpressible or str(error)
    if len(words) > _MOST_WORDS:
        inexpressible = f"it has {len(devices)} nexthops, more than one batch line of `ip` can hold"
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
    """The devices of the route, and whether one of its nexthops is a router."""
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
    """No arguments of `ip route add` express this attribute exactly."""


_Links = Mapping[str, Link]
_Render = Callable[[Any, _Links], Sequence[str]]


def _value(value: object) -> str:
    word = str(value)
    if not _VALUE.fullmatch(word):
        raise _Inexpressible(f"{word!r} cannot be written in a batch line of `ip`")
    return word


def _option(name: str) -> _Render:
    return lambda value, links: (name, _value(value))


def _device(name: str, links: _Links) -> tuple[str, str]:
    # Of a link that appeared after the links were read, only the name is known.
    word = links[name].word if name in links else _device_word(name, 0, {"if0": None})
    if word is None:
        raise _Inexpressible(f"the name of its device, {name!r}, cannot be written in a batch line of `ip`")
    return ("dev", word)


def _via(via: Document, links: _Links) -> tuple[str, str, str]:
    return ("via", _value(via["family"]), _value(via["host"]))


def _realms(flow: Document, links: _Links) -> tuple[str, str]:
    to = _value(flow["to"])
    return ("realms", f"{_value(flow['from'])}/{to}" if "from" in flow else to)


def _metrics(metrics: list[Document], links: _Links) -> list[str]:
    # Sorted, so that equal metrics give equal words, in whatever order `ip` prints them.
    words: list[str] = []
    for group in metrics:
        for name, value in sorted(group.items()):
            words += _metric(name, value)
    return words


def _metric(name: str, value: object) -> tuple[str, str]:
    if name in ("rtt", "rttvar", "rto_min"):
        # `ip` prints whole milliseconds. As an argument, a number without a unit means eighths or quarters of one.
        if not value:
            raise _Inexpressible(f"its {name} is below 1 ms, and `ip` prints no fractions")
        return (name, f"{_value(value)}ms")
    if name == "ecn" and value is None:
        return ("features", "ecn")
    word = "congctl" if name == "congestion" else name
    if word not in METRICS:
        raise _Inexpressible(f"fz-iproute does not know its metric {name}")
    return (word, _value(value))


def _flags(flags: list[str], links: _Links) -> list[str]:
    # The other flags (linkdown, dead, offload, …) are state that the kernel sets.
    return [flag for flag in flags if flag == "onlink"]


def _nexthops(hops: list[Document], links: _Links) -> list[str]:
    words: list[str] = []
    for hop in hops:
        if unknown := [key for key in hop if key not in _NEXTHOP_WORDS and key not in _STATE]:
            raise _Inexpressible(f"a nexthop has an attribute that fz-iproute does not know: {', '.join(unknown)}")
        words.append("nexthop")
        for key, render in _NEXTHOP_WORDS.items():
            if key in hop:
                words += render(hop[key], links)
    return words


# How to write each JSON key as arguments. The order matters: options of the whole route must come before the first
# `nexthop`. The key `type` is not here, because Route.words adds it.
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
# The values of keys that `ip` does not print. They must be arguments, because `route add` has other defaults, such as
# scope link for a route without a gateway.
_UNPRINTED: dict[Family, Document] = {
    "inet": {"protocol": "boot", "scope": "global"},
    "inet6": {"protocol": "boot"},
}
# Keys that are no arguments of a copy: counters, caches, and timers, which a copy must not inherit.
_STATE = frozenset({"type", "expires", "cache", "error", "uid", "mark", "used", "users", "age", "table"})
