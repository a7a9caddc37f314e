"""Finds overlaps of LANs with the prefixes that the VPN routes explicitly. The VPN wins there."""

from collections.abc import Iterator
from typing import NamedTuple

from fz_iproute.mirror.desired import Desired, explicit
from fz_iproute.mirror.prefix import Family, Prefix, PrefixSet


class Shadow(NamedTuple):
    """A LAN, and a prefix of the VPN that takes all of it or a part."""

    lan: Prefix
    tunnel: Prefix
    whole: bool


def shadows(goal: Desired, family: Family) -> Iterator[Shadow]:
    """Every LAN inside a prefix of the VPN, and every prefix of the VPN inside a LAN."""
    here = goal.contents[family][goal.layout.user]
    routes = [*here.others, *here.wanted, *here.ours]
    copies = set(goal.judged[family].wanted)
    prefixes = PrefixSet(explicit((route for route in routes if route not in copies), family))
    lans = dict.fromkeys(
        Prefix.of_route(verdict.route.dst, family)
        for verdict in goal.judged[family].verdicts
        if not verdict.refusal or verdict.explicit
    )
    for lan in lans:
        if around := prefixes.covering(lan):
            yield Shadow(lan, around, whole=True)
        for inside in sorted(prefixes.inside(lan)):
            yield Shadow(lan, inside, whole=False)
