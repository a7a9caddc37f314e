"""What is mirrored: for each route of main a verdict, with the setting that made it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from fz_iproute.mirror.config import Lan
from fz_iproute.mirror.model import Attributes, Link, Route, in_rows
from fz_iproute.mirror.prefix import Prefix, PrefixSet

# RFC 1918, RFC 3927, RFC 6598, RFC 4193, RFC 4291: nobody on the internet can be reached there.
PRIVATE = PrefixSet(
    map(
        Prefix.parse,
        ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "fc00::/7", "fe80::/10"],
    )
)

# Where discovery speaks to everybody on the link: mDNS, SSDP, and the broadcasts of older devices.
_TO_ALL = ("224.0.0.0/4", "255.255.255.255")


class Verdict(NamedTuple):
    """A LAN route of main: copied if `refusal` is empty. `warning` is what its owner should know."""

    route: Route
    refusal: str
    warning: str
    claim: Prefix | None = None  # what the VPN routes explicitly, if that is the refusal


# Where IPv6 has room for one route: destination, metric and path.
_Place = tuple[str, int, tuple[str, ...]]


class Policy:
    """The [lan] section, applied to one machine. `tunnels` are the devices that carry the VPN."""

    def __init__(self, lan: Lan, links: Mapping[str, Link], tunnels: Collection[str]) -> None:
        self._lan = lan
        self._links = links
        self._tunnels = tunnels
        self._allow = PrefixSet(lan.allow)
        self._deny = PrefixSet(lan.deny)

    def verdicts(self, main: Iterable[Route], claimed: PrefixSet) -> list[Verdict]:
        """One for each route that is about the LAN: on-link, or through a router that `lan.allow` covers.

        `claimed` is what the VPN routes explicitly in the table that gets the copies; empty where a table of
        its own keeps the LAN out of its way.
        """
        found: list[Verdict] = []
        known: set[_Place] = set()
        for row in in_rows(main):
            dst, attributes = row[0]
            if dst == "default" or attributes.type != "unicast" or not attributes.devices or attributes.expired:
                continue
            if not attributes.on_link and not self._allow:
                continue  # the routes of a router with a full table, which may be a million
            refusal = self._refusal_by_attributes(attributes)
            if not refusal and attributes.on_link and self._is_all_welcome(row, claimed):
                found += [Verdict(route, "", "") for route in row]
            else:
                found += self._one_by_one(row, refusal, claimed, known)
        return found

    def _is_all_welcome(self, row: Sequence[Route], claimed: PrefixSet) -> bool:
        """True if the corner of the address space in which they all lie is mirrored, and without a warning."""
        family = row[0].attributes.family
        if family == "inet6":
            return False  # which may have doubles
        around = Prefix.around((dst for dst, _ in row), family)
        return (
            PRIVATE.covers(around)
            and around.length >= self._lan.min_prefixlen[family]
            and not self._deny.overlapping(around)
            and not claimed.overlapping(around)
        )

    def _one_by_one(
        self, row: Iterable[Route], refusal: str, claimed: PrefixSet, known: set[_Place]
    ) -> Iterator[Verdict]:
        for route in row:
            dst, attributes = route
            prefix = Prefix.of_route(dst, attributes.family)
            if not attributes.on_link and not self._allow.covers(prefix):
                continue
            place = dst, attributes.metric, attributes.path
            if attributes.family == "inet6" and place in known:
                yield Verdict(route, _DOUBLED, "")
            elif refusal:
                yield Verdict(route, refusal, attributes.inexpressible and refusal)
            else:
                yield self._verdict(route, prefix, claimed)
            known.add(place)

    def _verdict(self, route: Route, prefix: Prefix, claimed: PrefixSet) -> Verdict:
        if denied := self._deny.overlapping(prefix):
            return Verdict(route, f"lan.deny has {denied}", "")
        if prefix.length < (least := self._lan.min_prefixlen[prefix.family]):
            return Verdict(route, f"wider than lan.min_prefixlen.{prefix.family} = {least}", "")
        suspect = not PRIVATE.covers(prefix) and not self._allow.covers(prefix)
        if suspect and self._lan.trust == "private":
            return Verdict(route, 'a public prefix: lan.trust = "private", and lan.allow does not have it', "")
        if claim := claimed.covering(prefix):
            return Verdict(route, f"the VPN routes {claim} explicitly", "", claim)
        return Verdict(route, "", _SUSPICION if suspect else "")

    def _refusal_by_attributes(self, attributes: Attributes) -> str:
        if attributes.inexpressible:
            return f"cannot be copied exactly: {attributes.inexpressible}"
        for device in attributes.devices:
            link = self._links.get(device)
            if device in self._tunnels:
                return f"{device} is the tunnel"
            if self._is_loopback(device):
                return f"{device} is a loopback interface"
            if link is not None and not link.up:
                return f"{device} is down"
            if not _matches(device, self._lan.interfaces):
                return f"lan.interfaces does not have {device}"
            if _matches(device, self._lan.exclude_interfaces):
                return f"lan.exclude_interfaces has {device}"
        return ""

    def multicast(
        self, main: Iterable[Route], mirrored: Collection[Route], claimed: Iterable[Prefix]
    ) -> tuple[Route, ...]:
        """With `lan.multicast`, the routes by which multicast and the broadcast of IPv4 leave.

        They take the device of main's best default route if that is a mirrored LAN, else every mirrored one. Without
        those that main has itself, and those that the VPN has, as in `verdicts`.
        """
        if not self._lan.multicast:
            return ()
        shared = [
            device
            for route in mirrored
            if route.attributes.family == "inet"
            for device in route.attributes.devices
            if device in self._links and self._links[device].multicast and self._links[device].word
        ]
        defaults = [route for route in main if route.dst == "default" and len(route.attributes.devices) == 1]
        for route in sorted(defaults, key=lambda route: route.attributes.metric):
            if route.attributes.devices[0] in shared:
                shared = [route.attributes.devices[0]]
                break
        claims = PrefixSet(claimed)
        routes = [
            Route.make("inet", dst, self._links[device], scope="link")
            for dst in _TO_ALL
            if not claims.covers(Prefix.of_route(dst, "inet"))
            for device in dict.fromkeys(shared)
        ]
        return tuple(route for route in routes if route not in mirrored)

    def parted(
        self, table: Iterable[Route], also: Callable[[Route], bool] = lambda route: False
    ) -> tuple[tuple[Route, ...], tuple[Route, ...]]:
        """The routes of a table: ours, which only this policy can have put there, and others'.

        `also` tells what of the rest is ours.
        """
        ours: list[Route] = []
        others: list[Route] = []
        for row in in_rows(table):
            dst, attributes = row[0]
            possible = dst != "default" and self._is_ours_by_attributes(attributes)
            if possible and attributes.on_link:
                ours += row
                continue
            for route in row:
                is_copy = possible and self._allow.covers(Prefix.of_route(route.dst, attributes.family))
                (ours if is_copy or also(route) else others).append(route)
        return tuple(ours), tuple(others)

    def _is_ours_by_attributes(self, attributes: Attributes) -> bool:
        return (
            attributes.type == "unicast"
            and bool(attributes.devices)
            and not attributes.inexpressible
            and not any(device in self._tunnels or self._is_loopback(device) for device in attributes.devices)
        )

    def _is_loopback(self, device: str) -> bool:
        return device in self._links and self._links[device].loopback


# Somebody has replaced another route by this one in main: it is never used, and no other command could add it.
_DOUBLED = "IPv6 takes no second route of this metric by the same path"
_SUSPICION = 'a public prefix: if this network is not yours, set lan.trust = "private"; if it is, add it to lan.allow'


def _matches(device: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(device, glob) for glob in globs)
