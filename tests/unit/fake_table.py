"""One family of one routing table, for commands that the planner has made."""

from collections.abc import Iterable, Mapping
from typing import Any

from fz_iproute.mirror.model import Command, Route
from tests import kernel_table


class FakeTable:
    """Holds routes of one family; for each destination they are in the kernel's order."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._groups: dict[str, list[dict[str, Any]]] = {}
        for route in routes:
            group = self._groups.setdefault(route.dst, [])
            group.append(_document(route))
            group.sort(key=lambda document: kernel_table.order(document, document["route"].attributes.family))

    @property
    def routes(self) -> list[Route]:
        return [document["route"] for group in self._groups.values() for document in group]

    def run(self, command: Command, routes: Mapping[tuple[str, ...], Route]) -> str:
        """Carry out the command; `routes` has the route for its words. Returns the refusal or ""."""
        _, verb, _, _, *words = command.words
        route = routes[tuple(words)]
        group = self._groups.setdefault(route.dst, [])
        refusal: str = kernel_table.VERBS[verb](group, _document(route), _named(route), command.family)
        return refusal


def _document(route: Route) -> dict[str, Any]:
    return {**_named(route), "metric": route.attributes.metric, "route": route}


def _named(route: Route) -> dict[str, Any]:
    """What a command with the route's words names, by the keys of `ip -json`."""
    words = list(route.attributes.words)
    start = words.index("nexthop") if "nexthop" in words else len(words)
    single = [word for word in words[:start] if word not in ("onlink", "inet", "inet6")]
    named: dict[str, Any] = dict(zip(single[::2], single[1::2], strict=True))
    named |= {"protocol": named.pop("proto", "boot"), "nexthops": words[start:] or None}
    if "metric" in named:
        named["metric"] = int(named["metric"])
    return named if route.attributes.type == "unicast" else {**named, "type": route.attributes.type}
