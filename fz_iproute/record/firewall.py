"""Records what the nft tables of VPN clients do with new TCP connections that this machine opens. It changes nothing.

Each chain that filters outgoing packets becomes a line `chain FAMILY TABLE NAME POLICY`. Below it, each rule that may
decide about an unmarked TCP connection becomes a line. It starts with the verdict, `accept` or `drop`. Then follow the
conditions of the rule: destinations (`to PREFIX`, or `noto PREFIX` for excluded ones) and interfaces (`dev NAME`, or
`nodev NAME`). `maybe` says that the rule has more conditions, which are not recorded.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network, summarize_address_range
from typing import Any

from fz_iproute.errors import IpUnusable
from fz_iproute.ip.ip import Ip

KNOWN = ("mullvad", "cloudflare-warp", "nordvpn*", "wg-quick-*")
_DEEPEST = 8  # how many jumps inside each other are followed; nft allows 16
_MOST_RULES = 10_000  # chains that jump to each other would multiply

_Document = Mapping[str, Any]


def firewall(ip: Ip) -> str | None:
    """The record; None if nft is not installed, not permitted, or prints something unexpected."""
    try:
        tables = [part["table"] for part in _listed(ip, "tables") if "table" in part]
        lines: list[str] = []
        for table in tables:
            if any(fnmatchcase(table["name"], known) for known in KNOWN):
                parts = _listed(ip, "table", table["family"], table["name"])
                lines += _Table(parts).lines()
        if not all(line.isprintable() for line in lines):
            raise ValueError("a line break in a name would make two lines of one")
        return "".join(f"{line}\n" for line in lines)
    except (IpUnusable, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _listed(ip: Ip, *words: str) -> list[_Document]:
    answer = ip.start_other("nft", "-j", "list", *words).answer()
    if answer.code != 0:
        raise ValueError(answer.words)
    found: list[_Document] = json.loads(answer.stdout)["nftables"]
    return found


# The conditions of a rule, as they are recorded in its line. None if no unmarked packet of a new TCP connection meets
# them.
_Conditions = tuple[str, ...] | None

_WHOLE = {"ipv4": "0.0.0.0/0", "ip": "0.0.0.0/0", "ipv6": "::/0", "ip6": "::/0"}
_UNKNOWN = ("maybe",)


class _Table:
    """One table, as `nft -j` lists it."""

    def __init__(self, parts: Iterable[_Document]) -> None:
        self._chains: list[_Document] = []
        self._rules: dict[str, list[_Document]] = {}
        self._sets: dict[str, list[Any]] = {}
        self._followed = 0  # how many rules
        for part in parts:
            if chain := part.get("chain"):
                self._chains.append(chain)
            elif rule := part.get("rule"):
                self._rules.setdefault(rule["chain"], []).append(rule)
            elif named := part.get("set"):
                self._sets[named["name"]] = named.get("elem", [])

    def lines(self) -> Iterator[str]:
        for chain in self._chains:
            if chain.get("hook") == "output" and chain.get("type") == "filter":
                yield f"chain {chain['family']} {chain['table']} {chain['name']} {chain.get('policy', 'accept')}"
                yield from self._verdicts(chain["name"], (), 0)

    def _verdicts(self, chain: str, before: tuple[str, ...], depth: int) -> Iterator[str]:
        """The lines of a chain to which a rule with the conditions `before` has jumped."""
        for rule in self._rules.get(chain, ()) if depth < _DEEPEST else ():
            self._followed += 1
            if self._followed > _MOST_RULES:
                raise ValueError("too many jumps")
            conditions = before
            for expression in rule.get("expr", ()):
                ((kind, value),) = expression.items()
                if kind == "match":
                    found = self._match(value)
                    if found is None:
                        break
                    conditions += found
                elif kind in ("jump", "goto"):
                    yield from self._verdicts(value["target"], conditions, depth + 1)
                elif kind in ("accept", "drop", "reject"):
                    yield " ".join(["accept" if kind == "accept" else "drop", *conditions])
                elif kind in ("vmap", "return", "queue"):
                    yield from (f"{verdict} maybe" for verdict in ("accept", "drop"))

    def _match(self, match: _Document) -> _Conditions:
        left, negated = match["left"], match["op"] == "!="
        if isinstance(left, dict) and "&" in left:
            left = left["&"][0]  # ignore the mask: for the mark 0, it makes no difference
        ((kind, what),) = left.items() if isinstance(left, dict) else ((left, {}),)
        values = list(self._members(match["right"]))
        key = what.get("field" if kind == "payload" else "key") if isinstance(what, dict) else None

        def each(word: str, found: Iterable[str]) -> _Conditions:
            return tuple(part for value in found for part in (f"no{word}" if negated else word, value))

        def only(*expected: str | int) -> _Conditions:
            return () if any(value in values for value in expected) != negated else None

        match kind, key:
            case "payload", "daddr":
                return each("to", (prefix for value in values for prefix in _prefixes(value)))
            case ("payload", "protocol" | "nexthdr") | (_, "l4proto"):
                return only("tcp", 6)
            case "payload", _:
                return None if what.get("protocol") in ("udp", "icmp", "icmpv6") else _UNKNOWN
            case _, "oifname" | "oif":
                return each("dev", map(str, values))
            case _, "mark":
                return only(0)
            case "ct", "state":
                return only("new")
            case _, "nfproto" | "protocol" if not negated:
                return each("to", (_WHOLE.get(value, "") for value in values))
        return _UNKNOWN

    def _members(self, right: Any) -> Iterator[Any]:
        if isinstance(right, str) and right.startswith("@"):
            right = self._sets[right[1:]]
        if isinstance(right, dict) and "set" in right:
            right = right["set"]
        for member in right if isinstance(right, list) else [right]:
            yield member["elem"]["val"] if isinstance(member, dict) and "elem" in member else member


def _prefixes(value: Any) -> list[str]:
    if isinstance(value, str):
        return [str(ip_network(value))]
    if "prefix" in value:
        return [str(ip_network(f"{value['prefix']['addr']}/{value['prefix']['len']}"))]
    first, last = (ip_address(end) for end in value["range"])
    return [str(network) for network in summarize_address_range(first, last)]
