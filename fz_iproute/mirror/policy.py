"""Which routes of main are copied, and which setting decides. Which routes of the VPN's tables are our copies."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from fz_iproute.mirror.config import Lan
from fz_iproute.mirror.model import Attributes, Link, Route, in_rows
from fz_iproute.mirror.prefix import FAMILIES, PRIVATE, Family, Prefix, PrefixSet
from fz_iproute.mirror.split_default import share

# Destinations of discovery: mDNS, SSDP, and the broadcasts of older devices.
TO_ALL = ("224.0.0.0/4", "255.255.255.255")


class Verdict(NamedTuple):
    """A LAN route of main: copied if `refusal` is empty. `warning` is for the owner of the machine."""

    route: Route
    refusal: str
    warning: str
    explicit: Prefix | None = None  # the prefix that the VPN routes explicitly, if that is why


# IPv6 accepts one route of each: destination, metric and path.
_Identity = tuple[str, int, tuple[str, ...]]

_Test = Callable[[Route], bool]


class Policy:
    """The [lan] section, applied to one machine. `tunnels` are the devices that carry the VPN.

    An `idle` one refuses every route, and takes none for ours.
    """

    def __init__(self, lan: Lan, links: Mapping[str, Link], tunnels: Collection[str], *, idle: bool = False) -> None:
        self._idle = idle
        self._lan = lan
        self._links = links
        self._tunnels = tunnels
        self._allow = PrefixSet(lan.allow)
        self._deny = PrefixSet(lan.deny)

    def verdicts(self, main: Iterable[Route], explicit: PrefixSet) -> list[Verdict]:
        """One verdict for each LAN route: on-link, or through a router if `lan.allow` covers it.

        `explicit` is what the VPN routes explicitly in the table that gets the copies. It is empty if the LAN has a
        table of its own.
        """
        found: list[Verdict] = []
        known: set[_Identity] = set()
        for row in in_rows(main):
            dst, attributes = row[0]
            if dst == "default" or attributes.type != "unicast" or not attributes.devices or attributes.expired:
                continue
            if not attributes.on_link and not self._allow:
                continue  # a router with a full table has a million of these
            refusal = self._refusal_by_attributes(attributes)
            is_simple = attributes.on_link and not (refusal or attributes.inexpressible)
            if is_simple and self._copies_all(row, explicit):
                found += [Verdict(route, "", "") for route in row]
            else:
                found += self._one_by_one(row, refusal, explicit, known)
        return list(_without_a_default(found))

    def _copies_all(self, row: Sequence[Route], explicit: PrefixSet) -> bool:
        """True if the narrowest prefix around all of them is copied without a warning. This saves judging each."""
        family = row[0].attributes.family
        if family == "inet6":
            return False  # there may be duplicates
        around = Prefix.around((dst for dst, _ in row), family)
        return (
            PRIVATE.covers(around)
            and around.length >= self._lan.min_prefixlen[family]
            and not self._deny.overlapping(around)
            and not explicit.overlapping(around)
        )

    def _one_by_one(
        self, row: Iterable[Route], refusal: str, explicit: PrefixSet, known: set[_Identity]
    ) -> Iterator[Verdict]:
        for route in row:
            dst, attributes = route
            prefix = Prefix.of_route(dst, attributes.family)
            if not attributes.on_link and not self._allow.covers(prefix):
                continue
            identity = dst, attributes.metric, attributes.path
            if attributes.family == "inet6" and identity in known:
                yield Verdict(route, _DUPLICATE, "")
            elif refusal:
                yield Verdict(route, refusal, "")
            else:
                yield self._verdict(route, prefix, explicit)
            known.add(identity)

    def _verdict(self, route: Route, prefix: Prefix, explicit: PrefixSet) -> Verdict:
        if denied := self._deny.overlapping(prefix):
            return Verdict(route, f"lan.deny has {denied}", "")
        if prefix.length < (least := self._lan.min_prefixlen[prefix.family]):
            return Verdict(route, f"wider than lan.min_prefixlen.{prefix.family} = {least}", "")
        is_public = not PRIVATE.covers(prefix) and not self._allow.covers(prefix)
        if is_public and self._lan.trust == "private":
            return Verdict(route, 'a public prefix: lan.trust = "private", and lan.allow does not have it', "")
        if reason := route.attributes.inexpressible:
            refusal = f"cannot be copied exactly: {reason}"
            return Verdict(route, refusal, refusal)
        if vpns := explicit.covering(prefix):
            return Verdict(route, f"the VPN routes {vpns} explicitly", "", vpns)
        return Verdict(route, "", _PUBLIC if is_public else "")

    def is_plain(self, route: Route, explicit: PrefixSet) -> bool:
        """True if an on-link route is copied without a warning, and its device cannot be a tunnel."""
        attributes = route.attributes
        if not attributes.on_link or self.may_be_by_tunnel(attributes) or self._refusal_by_attributes(attributes):
            return False
        return self._verdict(route, Prefix.of_route(route.dst, attributes.family), explicit) == Verdict(route, "", "")

    def _refusal_by_attributes(self, attributes: Attributes) -> str:
        if self._idle:
            return 'tunnel.interface = "auto" has no VPN to serve'
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
        """With `lan.multicast`, the routes for multicast and the broadcast of IPv4.

        They use the device of main's best default route if a LAN on it is mirrored, else each device with a mirrored
        LAN. Routes that main has itself are left out, and those that the VPN routes explicitly.
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
            for dst in TO_ALL
            if not claims.covers(Prefix.of_route(dst, "inet"))
            for device in dict.fromkeys(shared)
        ]
        return tuple(route for route in routes if route not in mirrored)

    def is_multicast(self, route: Route) -> bool:
        """True for a route of exactly the form that `multicast` makes, by a device that is no known tunnel."""
        if not self._lan.multicast or route.dst not in TO_ALL or self.may_be_by_tunnel(route.attributes):
            return False
        links = [self._links[device] for device in route.attributes.devices]
        return any(link.word and route == Route.make("inet", route.dst, link, scope="link") for link in links)

    def ours_and_others(
        self,
        table: Iterable[Route],
        is_copy: Callable[[Route], bool],
        also: Callable[[Route], bool],
        *,
        is_mirror: bool,
    ) -> tuple[tuple[Route, ...], tuple[Route, ...]]:
        """The routes of a table, as two lists in the kernel's order: ours and somebody else's.

        In a table where only copies are on-link (`is_mirror`), such a route is ours. `is_copy` decides where the device
        may be a tunnel, and in other tables. What `also` accepts is ours too.
        """
        ours: list[Route] = []
        others: list[Route] = []
        for row in in_rows(table):
            dst, attributes = row[0]
            possible = dst != "default" and self._can_be_a_copy(attributes)
            certain = is_mirror and not self.may_be_by_tunnel(attributes)
            if possible and certain and attributes.on_link:
                ours += row
                continue
            possible = possible and (attributes.on_link or bool(self._allow))  # saves reading each destination
            for route in row:
                is_ours = also(route) or (
                    possible
                    and (attributes.on_link or self._allow.covers(Prefix.of_route(route.dst, attributes.family)))
                    and (certain or is_copy(route))
                )
                (ours if is_ours else others).append(route)
        return tuple(ours), tuple(others)

    def _can_be_a_copy(self, attributes: Attributes) -> bool:
        return (
            not self._idle
            and attributes.type == "unicast"
            and bool(attributes.devices)
            and not attributes.inexpressible
            and not any(self._is_loopback(device) for device in attributes.devices)
        )

    def is_by_tunnel(self, attributes: Attributes) -> bool:
        """True if the route uses a device that carries the VPN."""
        return any(device in self._tunnels for device in attributes.devices)

    def may_be_by_tunnel(self, attributes: Attributes) -> bool:
        """True if the route uses a tunnel of any kind, or a device that was not there when the links were read."""
        return self.is_by_tunnel(attributes) or any(
            device not in self._links or self._links[device].may_be_tunnel for device in attributes.devices
        )

    def _is_loopback(self, device: str) -> bool:
        return device in self._links and self._links[device].loopback


def _without_a_default(verdicts: Sequence[Verdict]) -> Iterator[Verdict]:
    """DHCP (option 121) can push many prefixes as on-link: public ones that cover much of the internet are refused.

    It would send that part of it around the tunnel, as a default route would.
    """
    public = [verdict.route for verdict in verdicts if verdict.warning == _PUBLIC]
    refused = {
        route
        for family in FAMILIES
        if _are_a_default([_prefix(route) for route in public if route.attributes.family == family], family)
        for route in public
        if route.attributes.family == family
    }
    for verdict in verdicts:
        yield Verdict(verdict.route, PART_OF_A_DEFAULT, "") if verdict.route in refused else verdict


def _are_a_default(prefixes: Sequence[Prefix], family: Family) -> bool:
    """Several of them do what a single one cannot, because of `min_prefixlen`."""
    return len(set(prefixes)) > 1 and share(prefixes, family) >= _MOST


# What a LAN may have of the internet: eight networks as large as the largest that a company has.
_MOST = 1 / 32
PART_OF_A_DEFAULT = "with other public prefixes it covers much of the internet, and lan.allow does not have it"


def _prefix(route: Route) -> Prefix:
    return Prefix.of_route(route.dst, route.attributes.family)


# The kernel shows such a route after somebody changed another one into it. It is never used, and cannot be added.
_DUPLICATE = "IPv6 takes no second route of this metric by the same path"
_PUBLIC = 'a public prefix: if this network is not yours, set lan.trust = "private"; if it is, add it to lan.allow'


def _matches(device: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(device, glob) for glob in globs)
