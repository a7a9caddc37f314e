"""What is mirrored: for each route of main a verdict, with the setting that made it."""

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from fz_iproute.core.config import Lan
from fz_iproute.core.model import Attributes, Link, Route
from fz_iproute.core.prefix import Prefix, PrefixSet

# RFC 1918, RFC 3927, RFC 6598, RFC 4193, RFC 4291: nobody on the internet can be reached there.
PRIVATE = PrefixSet(
    map(
        Prefix.parse,
        ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "fc00::/7", "fe80::/10"],
    )
)


class Verdict(NamedTuple):
    """A LAN route of main: copied if `refusal` is empty. `warning` is what its owner should know."""

    route: Route
    refusal: str
    warning: str


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
        found = []
        shape = None
        for route in main:
            dst, attributes = route
            if attributes is not shape:
                # Thousands of routes share a handful of attributes, and mostly follow each other.
                shape = attributes
                possible = attributes.type == "unicast" and bool(attributes.devices) and not attributes.expired
                on_link = attributes.on_link
                refusal = self._refusal_by_attributes(attributes)
            if possible and dst != "default":
                prefix = Prefix.of_route(dst, attributes.family)
                if on_link or self._allow.covers(prefix):
                    found.append(self._verdict(route, prefix, refusal, claimed))
        return found

    def _verdict(self, route: Route, prefix: Prefix, refusal: str, claimed: PrefixSet) -> Verdict:
        attributes = route.attributes
        if refusal:
            return Verdict(route, refusal, refusal if attributes.inexpressible else "")
        if self._deny and (denied := self._deny.covering(prefix) or self._deny.inside(prefix)):
            return Verdict(route, f"lan.deny has {denied}", "")
        if prefix.length < (least := self._lan.min_prefixlen[attributes.family]):
            return Verdict(route, f"wider than lan.min_prefixlen.{attributes.family} = {least}", "")
        suspect = not PRIVATE.covers(prefix) and not self._allow.covers(prefix)
        if suspect and self._lan.trust == "private":
            return Verdict(route, 'a public prefix: lan.trust = "private", and lan.allow does not have it', "")
        if claim := claimed.covering(prefix):
            return Verdict(route, f"the VPN routes {claim} explicitly", "")
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

    def parted(self, mirror: Iterable[Route]) -> tuple[tuple[Route, ...], tuple[Route, ...]]:
        """The routes of the mirror table: ours, which only this policy can have put there, and others'."""
        ours, others = [], []
        shape = None
        for route in mirror:
            dst, attributes = route
            if attributes is not shape:
                shape = attributes
                possible = self._is_ours_by_attributes(attributes)
                on_link = attributes.on_link
            if (
                possible
                and dst != "default"
                and (on_link or self._allow.covers(Prefix.of_route(dst, attributes.family)))
            ):
                ours.append(route)
            else:
                others.append(route)
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


_SUSPICION = 'a public prefix: if this network is not yours, set lan.trust = "private"; if it is, add it to lan.allow'


def _matches(device: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(device, glob) for glob in globs)
