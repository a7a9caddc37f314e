"""Turns the JSON of `ip` into routes of the model. It reports attributes that it does not know."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fz_iproute.mirror.ip_json import Document, Listed
from fz_iproute.mirror.model import LOCKED, Attributes, Link, Nexthop, Route
from fz_iproute.mirror.parse_links import device_word, has_gateway
from fz_iproute.mirror.prefix import Family, Prefix, check_destinations
from fz_iproute.mirror.words import METRICS, printable

_VALUE = re.compile(r"[\w.:/+-]+", re.ASCII)

# `ip -batch` stops at a line of more than 512 words. Some are needed for `route append table N DST`.
_MOST_WORDS = 500


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


def connected(documents: Iterable[Document], links: Mapping[str, Link]) -> tuple[Route, ...]:
    """From `ip -json address show`: the IPv4 routes that the kernel adds to main for the networks of addresses."""
    listing: list[Listed] = []
    for document in documents:
        for own in document.get("addr_info", ()):
            if own.get("family") != "inet" or own["scope"] == "host" or own.get("secondary"):
                continue
            dst = Prefix.of_route(f"{own.get('address', own['local'])}/{own['prefixlen']}", "inet")  # of the peer
            if dst.length < 32 or "address" in own:
                rest = {"dev": document["ifname"], "protocol": "kernel", "scope": "link", "prefsrc": own["local"]}
                network = str(dst._replace(address=dst.network(dst.length))).removesuffix("/32")
                listing.append((network, rest | {key: own[key] for key in own.keys() & {"metric"}}))
    return routes(listing, "inet", links)


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
        gatewayed=any(has_gateway(hop) for hop in hops),
    )


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
    word = links[name].word if name in links else device_word(name, 0, {"if0": None})
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
    if name == "ecn":
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
