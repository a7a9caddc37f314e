"""Decides which routes of main are copied, and names the setting that refuses one.

Also recognises which routes of the VPN's tables are our copies.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import NamedTuple

from fz_iproute.mirror.config import Lan
from fz_iproute.mirror.model import Attributes, Link, Route, in_rows
from fz_iproute.mirror.prefix import FAMILIES, PRIVATE, Family, Prefix, PrefixSet
from fz_iproute.mirror.split_default import share
from fz_iproute.mirror.words import is_word

# Where programs send packets to discover devices: mDNS and SSDP (multicast), and the broadcasts of older devices.
TO_ALL = ("224.0.0.0/4", "255.255.255.255")


class Verdict(NamedTuple):
    """Whether a LAN route of main is copied."""

    route: Route
    refusal: str  # why it is not copied; "" if it is
    warning: str  # what the owner of the machine should know about it; mostly ""
    explicit: Prefix | None = None  # if the VPN's explicit route to this prefix is the reason for the refusal
    is_idle: bool = False  # the reason is that `auto` serves no VPN now

    @property
    def is_accepted(self) -> bool:
        """True if the settings accept the route, even if an explicit route of the VPN wins, or there is no VPN."""
        return not self.refusal or self.explicit is not None or self.is_idle


class Plain(NamedTuple):
    """Describes plain routes: through one of these devices, to a private prefix that overlaps none of `others`.

    The prefix has at least the length `shortest`.
    """

    devices: frozenset[str]
    others: frozenset[Prefix]
    shortest: int


# In IPv6, a table has only one route for each destination, metric and path.
_Identity = tuple[str, int, tuple[str, ...]]

_Test = Callable[[Route], bool]


class Policy:
    """The [lan] section, applied to the links of one machine. `tunnels` are the devices that carry the VPN.

    While there is no VPN to serve, the policy is `idle`: it refuses each route, and considers none to be ours.
    """

    def __init__(self, lan: Lan, links: Mapping[str, Link], tunnels: Collection[str], *, idle: bool = False) -> None:
        self._idle = idle
        self._lan = lan
        self._links = links
        self._tunnels = tunnels
        self._allow = PrefixSet(lan.allow)
        self._deny = PrefixSet(lan.deny)

    def allowing(self, prefix: Prefix) -> "Policy":
        """The same policy, but with the prefix in `lan.allow`."""
        lan = replace(self._lan, allow=(*self._lan.allow, prefix))
        return Policy(lan, self._links, self._tunnels, idle=self._idle)

    def verdicts(self, main: Iterable[Route], explicit: PrefixSet) -> list[Verdict]:
        """One verdict for each LAN route of main: on-link, or through a router and covered by `lan.allow`.

        `explicit` has the destinations of the VPN's explicit routes in the table that gets the copies. It is empty if
        the copies have a table of their own.
        """
        found: list[Verdict] = []
        known: set[_Identity] = set()
        for row in in_rows(main):
            dst, attributes = row[0]
            if dst == "default" or attributes.type != "unicast" or not attributes.devices or attributes.expired:
                continue
            if not attributes.on_link and not self._allow:
                continue  # skipped early, because a machine with a full BGP table has a million of these
            refusal = self._refusal_by_devices(attributes.devices)
            is_simple = attributes.on_link and not (refusal or attributes.inexpressible)
            if is_simple and self._copies_all(row, explicit):
                found += [Verdict(route, "", "") for route in row]
            else:
                found += self._one_by_one(row, refusal, explicit, known)
        return list(_without_too_much_internet(found))

    def _copies_all(self, row: Sequence[Route], explicit: PrefixSet) -> bool:
        """True if all routes of the row are certainly copied without a warning. This saves judging each of them.

        It checks the narrowest prefix around all of them, and answers False in doubt.
        """
        family = row[0].attributes.family
        if family == "inet6":
            return False  # there may be duplicates, which _one_by_one refuses
        return self._is_plain(Prefix.around((dst for dst, _ in row), family), explicit)

    def _is_plain(self, prefix: Prefix, explicit: PrefixSet) -> bool:
        """True if routes to any part of the prefix are certainly copied without a warning. It ignores their devices."""
        return (
            not self._idle
            and PRIVATE.covers(prefix)
            and prefix.length >= self._lan.min_prefixlen[prefix.family]
            and not self._deny.overlapping(prefix)
            and not explicit.overlapping(prefix)
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
            return Verdict(route, f"the VPN's table has its own route to {vpns}", "", vpns)
        if self._idle:
            return Verdict(route, 'tunnel.interface = "auto" has no VPN to serve', "", is_idle=True)
        return Verdict(route, "", _PUBLIC if is_public else "")

    def plain(self, explicit: PrefixSet, family: Family) -> Plain:
        """The on-link routes of a family that are certainly copied without a warning."""
        others = frozenset(prefix for prefix in (*self._deny, *explicit) if prefix.family == family)
        return Plain(self._lans, others, self._lan.min_prefixlen[family])

    @cached_property
    def _lans(self) -> frozenset[str]:
        """The devices whose routes are copied, without those that may be tunnels. Each is one word for `ip`."""
        if self._idle:
            return frozenset()
        devices = (device for device in self._links if is_word(device) and not self._may_be_tunnel(device))
        return frozenset(device for device in devices if not self._refusal_by_devices([device]))

    def _refusal_by_devices(self, devices: Iterable[str]) -> str:
        for device in devices:
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
        """The routes that `lan.multicast` adds, for IPv4 multicast and broadcast.

        They use the device of main's best default route if one of the `mirrored` routes uses it, else each device of
        the `mirrored` routes. There is no route inside a prefix that the VPN routes explicitly (`claimed`), and none
        that is `mirrored` anyway.
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
        """True for a route that equals one of those that `multicast` makes, unless its device may be a tunnel."""
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
        """Split the routes of a table into ours and others, both in the kernel's order.

        `is_mirror`: on-link routes in this table are copies, so they are ours unless their device may be a tunnel. In
        all other cases, `is_copy` decides. Placeholders and tunnel routes are ours, too, if `also` accepts them.
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
            possible = possible and (attributes.on_link or bool(self._allow))  # avoids parsing each destination
            for route in row:
                is_ours = also(route) or (
                    possible
                    and (attributes.on_link or self._allow.covers(route.prefix))
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
        """True if the route uses a tunnel of any kind, or a device that appeared after the links were read."""
        return any(self._may_be_tunnel(device) for device in attributes.devices)

    def _may_be_tunnel(self, device: str) -> bool:
        return device in self._tunnels or device not in self._links or self._links[device].may_be_tunnel

    def _is_loopback(self, device: str) -> bool:
        return device in self._links and self._links[device].loopback


def _without_too_much_internet(verdicts: Sequence[Verdict]) -> Iterator[Verdict]:
    """The verdicts, but with public prefixes refused if together they cover much of the internet.

    A hostile network can push many on-link prefixes with DHCP option 121. Their copies would send traffic around the
    tunnel, as a default route would.
    """
    public = [verdict.route for verdict in verdicts if verdict.warning == _PUBLIC]
    refused: set[Route] = set()
    for family in FAMILIES:
        routes = [route for route in public if route.attributes.family == family]
        if _cover_too_much([route.prefix for route in routes], family):
            refused.update(routes)
    for verdict in verdicts:
        yield Verdict(verdict.route, PART_OF_A_DEFAULT, "") if verdict.route in refused else verdict


def _cover_too_much(prefixes: Sequence[Prefix], family: Family) -> bool:
    """True if several prefixes together cover too much of the internet. `min_prefixlen` limits a single one."""
    return len(set(prefixes)) > 1 and share(prefixes, family) >= _TOO_MUCH


# As much as a /5, or eight networks of the largest size that a company owns (/8).
_TOO_MUCH = 1 / 32
PART_OF_A_DEFAULT = "with other public prefixes it covers much of the internet, and lan.allow does not have it"


# `ip -6 route replace` can change one route into a duplicate of another. The kernel lists it, but never uses it, and
# nobody can add such a route to another table.
_DUPLICATE = "it is a duplicate: IPv6 accepts no second route with this metric and path"
_PUBLIC = 'a public prefix: if this network is not yours, set lan.trust = "private"; if it is, add it to lan.allow'


def _matches(device: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(device, glob) for glob in globs)
