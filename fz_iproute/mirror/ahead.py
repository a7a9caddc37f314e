"""Plans copies of new routes of main without reading the tables again."""

from collections.abc import Collection
from typing import NamedTuple

from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.plan import MISSING
from fz_iproute.mirror.prefix import Family, Prefix


class NewRoute(NamedTuple):
    """An on-link route that main has got. `words` are the arguments that follow the destination in `ip route add`."""

    family: Family
    dst: str
    device: str
    words: str


class Ahead:
    """Plans copies, given the result of the last look. Nothing was due then, and nothing else has changed since.

    If that turns out to be wrong, `ip` refuses to add what is there already, and the next pass corrects the rest. This
    runs between an event and its copy, so it does as little as possible, and leaves each doubt to the pass.
    """

    def __init__(self, last: Desired) -> None:
        self._start = f"route add table {last.layout.mirror}"
        self._families = {
            family: (found.policy, found.claimed, {route.dst for route in (*mirror.wanted, *mirror.others)})
            for family, found in last.by_family.items()
            if (mirror := found.contents.get(last.layout.mirror))
        }

    def copies(self, routes: Collection[NewRoute]) -> list[Command]:
        """The commands that copy the routes. Empty unless the next pass would certainly copy all of them, silently."""
        if len({route.dst for route in routes}) < len(routes):
            return []
        commands = []
        for family, dst, device, words in routes:
            if family not in self._families:
                return []
            policy, claimed, known = self._families[family]
            if dst in known or not policy.is_plain(device, Prefix.of_route(dst, family), claimed):
                return []
            commands.append(Command(family, f"{self._start} {dst} {words}", MISSING))
        return commands
