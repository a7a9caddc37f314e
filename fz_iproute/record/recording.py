"""A machine written down: what `ip` printed there, and how answers to other questions follow from that."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from fz_iproute.mirror.parse import Document, Listed
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.mirror.words import FAMILY_OPTION, RULES_IN_DETAIL

SCHEMA = 1


class Unusable(ValueError):
    """The text is no usable recording; the message says why."""


@dataclass(frozen=True)
class Recording:
    """`outputs` holds the text that `ip` printed, by its arguments: `-json -4 route show table main`."""

    taken: str  # UTC, ISO 8601
    versions: Mapping[str, str]
    config: str  # the effective configuration, as TOML
    sysctls: Mapping[str, str]
    outputs: Mapping[str, str]
    facts: Mapping[str, str] = field(default_factory=dict)  # see record/facts.py


def question_key(family: Family | None, question: str, *options: str) -> str:
    """The arguments of `ip` for a question."""
    return " ".join([*options, *([FAMILY_OPTION[family]] if family else []), question])


def dump(recording: Recording) -> str:
    """The recording as a JSON document."""
    document = {
        "schema": SCHEMA,
        "taken": recording.taken,
        "versions": dict(recording.versions),
        "config": recording.config,
        "sysctls": dict(recording.sysctls),
        "facts": dict(recording.facts),
        "ip": dict(recording.outputs),
    }
    return json.dumps(document, indent=2)


def load(text: str) -> Recording:
    """The recording in a JSON document. Unusable if the text is anything else."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Unusable(f"not JSON: {error}") from None
    except RecursionError:
        raise Unusable("not JSON: nested too deeply") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise Unusable(f'not a snapshot: it has no "schema": {SCHEMA}')
    document.setdefault("facts", {})  # older snapshots have none
    for key, kind in _PARTS.items():
        part = document.get(key)
        if not isinstance(part, kind):
            raise Unusable(f'"{key}" is not {"a text" if kind is str else "an object"}')
        if isinstance(part, dict) and not all(isinstance(value, str) for value in part.values()):
            raise Unusable(f'a value in "{key}" is not a text')
    return Recording(*(document[key] for key in _PARTS))


# In the order of the fields.
_PARTS = {"taken": str, "versions": dict, "config": str, "sysctls": dict, "ip": dict, "facts": dict}


def narrowed(family: Family, question: str) -> tuple[str, list[str]]:
    """The recorded question whose answer contains that of `question`, and the words that select a part of it."""
    if question == "rule show":
        return RULES_IN_DETAIL, []
    words = question.split()
    if words[:3] == ["route", "show", "table"]:
        return " ".join(words[:4]), words[4:]
    return question, []


def chosen(listing: list[Listed], family: Family, selector: list[str]) -> Iterator[Listed]:
    """The routes of a table that `ip route show table T SELECTOR` prints."""
    if not selector:
        yield from listing
        return
    kind, value = selector
    if kind == "scope":
        for dst, rest in listing:
            if rest.get("scope", "global") == value:
                # `ip` leaves out the key that it filters by.
                yield (dst, {key: content for key, content in rest.items() if key != "scope"})
        return
    asked = Prefix.of_route(value, family)
    for route in listing:
        if _fits(kind, Prefix.of_route(route[0], family), asked):
            yield route


def local_documents(addresses: Iterable[Document], family: Family, *, forwards: bool = False) -> Iterator[Document]:
    """The table `local`, if it was not recorded: the kernel derives it from the addresses.

    A machine that `forwards` IPv6 also accepts packets to the first address of each of its networks.
    """
    for link in addresses:
        own = [address for address in link.get("addr_info", ()) if address.get("family") == family]
        if family == "inet":
            for address in own:
                yield from _of_address(address, own, link)
        elif "UP" in link.get("flags", ()):
            common = {"dev": link["ifname"], "protocol": "kernel", "flags": [], "pref": "medium"}
            if "MULTICAST" in link["flags"]:
                yield {"type": "multicast", "dst": "ff00::/8", **common, "metric": 256}
            for address in own:
                yield {"type": "local", "dst": address["local"], **common, "metric": 0}
                network = IPv6Network(f"{address['local']}/{address['prefixlen']}", strict=False)
                if forwards and network.prefixlen < _POINT_TO_POINT[family]:
                    yield {"type": "anycast", "dst": str(network.network_address), **common, "metric": 0}


def _of_address(address: Document, siblings: list[Document], link: Document) -> Iterator[Document]:
    """The IPv4 routes of an address. When the link goes down, the local route stays and the broadcast routes go."""
    network = _network(address)
    # Packets to a secondary address have the primary one as their source.
    primaries = [other for other in siblings if not other.get("secondary") and _network(other) == network]
    source = (primaries or [address])[0]["local"]
    common = {"dev": link["ifname"], "protocol": "kernel", "flags": [], "prefsrc": source}
    yield {"type": "local", "dst": address["local"], **common, "scope": "host"}
    if "UP" not in link.get("flags", ()):
        return
    if "LOOPBACK" in link["flags"] and network.prefixlen < _HOST and not address.get("noprefixroute"):
        yield {"type": "local", "dst": str(network), **common, "scope": "host"}
    last = str(network.broadcast_address)
    given = [address["broadcast"]] if "broadcast" in address else []
    for dst in dict.fromkeys([*given, last] if network.prefixlen < _POINT_TO_POINT["inet"] else given):
        yield {"type": "broadcast", "dst": dst, **common, "scope": "link"}


def _network(address: Document) -> IPv4Network:
    # On a point-to-point link, `address` is the peer.
    return IPv4Network(f"{address.get('address', address['local'])}/{address['prefixlen']}", strict=False)


_HOST = 32
_POINT_TO_POINT = {"inet": 31, "inet6": 127}


def _fits(kind: str, found: Prefix, asked: Prefix) -> bool:
    if kind == "root":
        return asked.covers(found)
    if kind == "match":
        return found.covers(asked)
    return found == asked  # exact
