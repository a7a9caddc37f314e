"""Plans copies of new routes of main from events of `ip monitor`, without reading the tables again."""

import re
from bisect import bisect
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_pton

from fz_iproute.mirror.desired import Desired
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.plan import MISSING
from fz_iproute.mirror.policy import Plain
from fz_iproute.mirror.prefix import BITS, Family
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
        self._plain: dict[Family, Plain] = {}
        for family, found in last.by_family.items():
            mirror = found.contents.get(last.layout.mirror)
            if mirror and len(mirror.others) <= MANY:
                self._known |= {route.dst for route in (*mirror.wanted, *mirror.others)}
                self._plain[family] = found.policy.plain(found.claimed, family)

    def commands(self, text: str) -> list[Command] | None:
        """The commands that copy the new routes in these lines. Empty if the lines are only about new addresses.

        The commands are of one family. None unless the next pass would certainly run them, too, without a warning.

        This runs between an event and its copy, after a pause that has emptied the caches of the CPU. So it calls as
        few functions as possible, and leaves each doubt to the pass.
        """
        commands: list[Command] = []
        end = 0
        while end < len(text):
            event = _EVENT.match(text, end)
            if event is None:
                return None
            end = event.end()
            dst, device, protocol, scope, options = event.groups("")
            if not dst:
                continue
            family: Family = "inet6" if ":" in dst else "inet"
            name, words = _PROTOCOLS.get(protocol), _SCOPES[family].get(scope)
            plain = self._plain.get(family)
            if name is None or words is None or plain is None or device not in plain.devices or dst in self._known:
                return None
            host, _, length = dst.partition("/")
            try:
                first = int.from_bytes(inet_pton(_AF[family], host))
                size = 1 << BITS[family] - int(length) if length else 1
            except (OSError, ValueError):
                return None
            place = bisect(plain.starts, first) - 1
            if place < 0 or first + size > plain.ends[place] or size > plain.largest:
                return None
            if commands and commands[0].family != family:
                return None
            self._known.add(dst)
            commands.append(Command(family, f"{self._start} {dst} dev {device} proto {name}{words}{options}", MISSING))
        return commands


# An event about a new route of main, through a device and without rare options. `ip` prints options in this order. Or
# an event about a new address, or about a route of type local or broadcast that the kernel adds to table local with it.
_EVENT = re.compile(
    r"(?:\[ROUTE\](\d[\d.]+(?:/\d+)?|[\da-f]*:[\da-f:.]+(?:/\d+)?) dev (\S+)(?: proto (\d+))?( scope 253)?"
    r"((?: src \S+)?(?: metric \d{1,10})?(?: pref [a-z]+)?) ?"
    r"|\[ADDR\]\d.*|\[ROUTE\][23] \S+ dev \S+ table 255 .*)\n",
    re.ASCII,
)
# `ip` does not print the protocol boot.
_PROTOCOLS = {number: name for name, number in PROTOCOLS.items()} | {"": "boot"}
# What `ip` prints about the scope of a route that may be copied, and the words of the copy.
_SCOPES: dict[Family, dict[str, str]] = {"inet": {" scope 253": " scope link"}, "inet6": {"": ""}}
_AF = {"inet": AF_INET, "inet6": AF_INET6}
