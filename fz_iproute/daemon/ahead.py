"""Plans copies of new routes of main from events of `ip monitor`, without reading the tables again."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.prefix import BEGINNING, Family, beginning
from fz_iproute.mirror.words import PROTOCOLS

# If the VPN has more routes than these in the table with the copies, the routes of that family wait for the pass,
# because it would take too long to prepare for them.
MANY = 1_000


class Ahead:
    """Plans copies, given the result of the last look. Nothing was due then, and nothing else has changed since.

    If that turns out to be wrong, `ip` refuses to add what is there already, and the next pass corrects the rest.
    `others` are destinations that wait for the pass, too.
    """

    def __init__(self, last: Desired, others: Iterable[str] = ()) -> None:
        self._start = f"route add table {last.layout.mirror}"
        self._known = set(others)  # also the destinations that are in the table with the copies, or should be there
        self._plain: dict[Family, _Plain] = {}
        for family, found in last.by_family.items():
            mirror = found.contents.get(last.layout.mirror)
            plain = found.policy.plain(found.claimed, family)
            if mirror and len(mirror.others) <= MANY and plain.shortest <= BEGINNING[family]:
                self._known |= {route.dst for route in (*mirror.wanted, *mirror.others)}
                self._plain[family] = _Plain(plain.devices, tuple({beginning(prefix) for prefix in plain.others}))

    def lines(self, text: str) -> tuple[Family, list[str]] | None:
        """The batch lines that copy the new routes in this text, and their family. No lines if it has no such route.

        `text` is lines of `ip monitor`. None unless the next pass would certainly run the same, without a warning.

        This runs between an event and its copy, after a pause that has emptied the caches of the CPU. So it calls as
        few functions as possible, and leaves each doubt to the pass.
        """
        lines: list[str] = []
        family: Family = "inet"
        end = 0
        while end < len(text):
            event = _EVENTS.match(text, end)
            if event is None:
                return None
            end = event.end()
            dst, device, protocol, scope, options = event.groups("")
            if not dst:
                continue
            last_family, family = family, "inet6" if ":" in dst else "inet"
            name, words, plain = _PROTOCOLS.get(protocol), _SCOPES[family].get(scope), self._plain.get(family)
            if name is None or words is None or plain is None or (lines and family != last_family):
                return None
            if device not in plain.devices or dst in self._known or dst.startswith(plain.others):
                return None
            self._known.add(dst)
            lines.append(f"{self._start} {dst} dev {device} proto {name}{words}{options}")
        return family, lines


class _Plain(NamedTuple):
    """As policy.Plain, but `others` are beginnings of destinations."""

    devices: frozenset[str]
    others: tuple[str, ...]


# Private destinations with at least the length `BEGINNING`. It costs nothing to let the pattern judge that.
_DST = (
    r"(?:10\.\d+|192\.168|172\.(?:1[6-9]|2\d|3[01])|169\.254|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7]))"
    r"\.\d+\.\d+(?:/(?:1[6-9]|2\d|3[0-2]))?"
    r"|f(?:[cd][\da-f]|e[89ab])[\da-f]:[\da-f:]+(?:/(?:4[89]|[5-9]\d|1[01]\d|12[0-8]))?"
)
# An event about a new route of main, through a device and without rare options. `ip` prints options in this order.
_ROUTE = (
    rf"\[ROUTE\]({_DST}) dev (\S+)(?: proto (\d+))?( scope 253)?"
    r"((?: src \S+)?(?: metric \d{1,10})?(?: pref [a-z]+)?) ?\n"
)
# An event about a new address, or about a route of type local or broadcast that the kernel adds to table local with it.
_BESIDE = r"(?:\[(?:ADDR\]\d|ROUTE\][23] \S+ dev \S+ table 255 ).*\n)"
# One match for all of these, because each match costs time.
_EVENTS = re.compile(f"{_BESIDE}*{_ROUTE}{_BESIDE}*|{_BESIDE}+", re.ASCII)
# `ip` does not print the protocol boot.
_PROTOCOLS = {number: name for name, number in PROTOCOLS.items()} | {"": "boot"}
# What `ip` prints about the scope of a route that may be copied, and the words of the copy.
_SCOPES: dict[Family, dict[str, str]] = {"inet": {" scope 253": " scope link"}, "inet6": {"": ""}}
