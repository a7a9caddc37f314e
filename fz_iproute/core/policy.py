"""What is mirrored: for each route of main a verdict, with the setting that made it."""

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache

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


class Policy:
    """The [lan] section, applied to one machine.

    `tunnels` are the devices that carry the VPN.
    """

    def __init__(self, lan: Lan, links: Mapping[str, Link], tunnels: Collection[str]) -> None:
        self._lan = lan
        self._links = links
        self._tunnels = tunnels
        self._allow = PrefixSet(lan.allow)
        self._deny = PrefixSet(lan.deny)
        # Thousands of routes share a handful of attributes.
        self._device_refusal = lru_cache(maxsize=None)(self._device_refusal)  # type: ignore[method-assign]

    def concerns(self, route: Route) -> bool:
        """True if the route is about the LAN at all: on-link, or through a router that `lan.allow` covers."""
        attributes = route.attributes
        if route.dst == "default" or attributes.type != "unicast" or attributes.expired:
            return False
        return attributes.on_link or self._allows(route)

    def refusal(self, route: Route) -> str:
        """Why this route of main is not copied, or "". It must be one that `concerns` the LAN."""
        attributes = route.attributes
        if reason := self._device_refusal(attributes):
            return reason
        prefix = Prefix.of_route(route.dst, attributes.family)
        if denied := self._deny.covering(prefix) or self._deny.inside(prefix):
            return f"lan.deny has {denied}"
        if prefix.length < (least := self._lan.min_prefixlen[attributes.family]):
            return f"wider than lan.min_prefixlen.{attributes.family} = {least}"
        if self._lan.trust == "private" and not PRIVATE.covers(prefix) and not self._allow.covers(prefix):
            return 'a public prefix: lan.trust = "private", and lan.allow does not have it'
        return ""

    def suspicion(self, route: Route) -> str:
        """Why copying this route, though the policy allows it, deserves a warning, or ""."""
        prefix = Prefix.of_route(route.dst, route.attributes.family)
        if PRIVATE.covers(prefix) or self._allow.covers(prefix):
            return ""
        return 'a public prefix: if this network is not yours, set lan.trust = "private"; if it is, add it to lan.allow'

    def owns(self, route: Route) -> bool:
        """True for a route of the mirror table that only this policy can have put there."""
        attributes = route.attributes
        return (
            route.dst != "default"
            and attributes.type == "unicast"
            and not attributes.inexpressible
            and not any(device in self._tunnels or self._is_loopback(device) for device in attributes.devices)
            and (attributes.on_link or self._allows(route))
        )

    def _allows(self, route: Route) -> bool:
        return bool(self._allow) and self._allow.covers(Prefix.of_route(route.dst, route.attributes.family))

    def _is_loopback(self, device: str) -> bool:
        return device in self._links and self._links[device].loopback

    def _device_refusal(self, attributes: Attributes) -> str:
        """The part of the verdict that is the same for every destination."""
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


def _matches(device: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(device, glob) for glob in globs)
