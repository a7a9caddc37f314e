"""A routing table that takes commands as the kernel does: which route `add`, `append`, `replace` and `del` hit."""

from fz_iproute.mirror.model import Command, Route


class FakeTable:
    """One family of one table; `routes` in the order in which `ip` would list them for a destination."""

    def __init__(self, routes: list[Route]) -> None:
        self.routes = list(routes)

    def run(self, command: Command, routes: dict[tuple[str, ...], Route]) -> str:
        """Carry out the command; `routes` gives back the route that its words spell. Returns the refusal or ""."""
        _, verb, _, _, *words = command.words
        return getattr(self, f"_{verb}")(routes[tuple(words)], command.family)

    def _group(self, route: Route) -> list[int]:
        attributes = route.attributes
        return [
            position
            for position, other in enumerate(self.routes)
            if (other.dst, other.attributes.tos, other.attributes.metric)
            == (route.dst, attributes.tos, attributes.metric)
        ]

    def _add(self, route: Route, family: str) -> str:
        if self._group(route):
            return "File exists"
        self.routes.append(route)
        return ""

    def _append(self, route: Route, family: str) -> str:
        group = self._group(route)
        twins = [self.routes[position] for position in group]
        if route in twins or (family == "inet6" and route.attributes.path in [twin.attributes.path for twin in twins]):
            return "File exists"
        self.routes.insert(group[-1] + 1 if group else len(self.routes), route)
        return ""

    def _replace(self, route: Route, family: str) -> str:
        group = self._group(route)
        if not group:
            self.routes.append(route)
        elif route in [self.routes[position] for position in group[1:]]:
            return "File exists"
        else:
            self.routes[group[0]] = route
        return ""

    def _del(self, route: Route, family: str) -> str:
        """IPv4 takes metric 0 and a missing src as wildcards, and hits the lowest metric, then the oldest."""
        given = route.attributes
        words = self._pairs(route)
        for other in sorted(self.routes, key=lambda other: other.attributes.metric):
            found = other.attributes
            if (other.dst, found.tos) != (route.dst, given.tos) or found.path != given.path:
                continue
            if given.metric and found.metric != given.metric:
                continue
            theirs = self._pairs(other)
            if all(theirs.get(key) == value for key, value in words.items() if key != "metric"):
                self.routes.remove(other)
                return ""
        return "No such process"

    @staticmethod
    def _pairs(route: Route) -> dict[str, str]:
        words = route.attributes.words[len(route.attributes.path) :]
        return dict(zip(words[::2], words[1::2], strict=False))
