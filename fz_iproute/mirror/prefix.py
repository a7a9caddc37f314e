"""Address prefixes as numbers, and sets of prefixes that quickly find the member around an address."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import takewhile
from socket import AF_INET, AF_INET6, inet_pton
from typing import Literal, NamedTuple

Family = Literal["inet", "inet6"]
FAMILIES: tuple[Family, ...] = ("inet", "inet6")
FAMILY_NAMES: dict[Family, str] = {"inet": "IPv4", "inet6": "IPv6"}

BITS: dict[Family, int] = {"inet": 32, "inet6": 128}
_AF = {"inet": AF_INET, "inet6": AF_INET6}


class Prefix(NamedTuple):
    """An address prefix. `address` is an integer whose host bits are 0, `length` the number of network bits."""

    family: Family
    address: int
    length: int

    @classmethod
    def of_route(cls, dst: str, family: Family) -> "Prefix":
        """Parse the destination of a route as `ip` prints it: `default`, an address or a prefix. Else ValueError."""
        if dst == "default":
            return cls(family, 0, 0)
        host, _, length = dst.partition("/")
        return cls(family, int.from_bytes(_octets(host, family)), int(length) if length else BITS[family])

    @classmethod
    def parse(cls, text: str) -> "Prefix":
        """Parse a prefix of the configuration. ValueError says what is wrong; for host bits, it names the network."""
        try:
            network = ip_network(text)
        except ValueError:
            try:
                meant = ip_network(text, strict=False)
            except ValueError:
                raise ValueError(f"{_shown(text)} is not an IPv4 or IPv6 prefix") from None
            raise ValueError(f"{_shown(text)} has host bits set; the network is {meant}") from None
        family: Family = "inet" if network.version == 4 else "inet6"
        return cls(family, int(network.network_address), network.prefixlen)

    @classmethod
    def of_host(cls, family: Family, address: int) -> "Prefix":
        """The prefix of a single address (/32 or /128)."""
        return cls(family, address, BITS[family])

    @classmethod
    def around(cls, destinations: Iterable[str], family: Family) -> "Prefix":
        """The narrowest prefix that contains all these destinations of routes, of which none may be `default`."""
        hosts, lengths = [], set()
        for dst in destinations:
            host, _, length = dst.partition("/")
            hosts.append(_octets(host, family))
            lengths.add(length)
        bits = BITS[family]
        low, high = int.from_bytes(min(hosts)), int.from_bytes(max(hosts))
        common = bits - (low ^ high).bit_length()
        around = min(common, *(int(length) if length else bits for length in lengths))
        return cls(family, low >> bits - around << bits - around, around)

    @property
    def host(self) -> int:
        """One of the addresses: the second one, since the first may be that of the network itself, or the only one."""
        return self.address + (self.length < BITS[self.family])

    @property
    def last(self) -> int:
        """The last address. In an IPv4 network, it is the broadcast address."""
        return self.address | (1 << BITS[self.family] - self.length) - 1

    def covers(self, other: "Prefix") -> bool:
        """True if `other` is equal to or inside this prefix."""
        return (
            self.family == other.family and self.length <= other.length and other.network(self.length) == self.address
        )

    def network(self, length: int) -> int:
        """The first `length` bits of the address; the others are 0."""
        shift = BITS[self.family] - length
        return self.address >> shift << shift

    def __str__(self) -> str:
        host = IPv4Address(self.address) if self.family == "inet" else IPv6Address(self.address)
        return f"{host}/{self.length}"


def beginning(prefix: Prefix) -> str:
    """How `ip` begins to print the destinations that overlap the prefix. "" if they have no common beginning.

    Only for private destinations with at least the length `BEGINNING`.
    """
    address, length = prefix.address, min(prefix.length, BEGINNING[prefix.family])
    if prefix.family == "inet":
        return "".join(f"{octet}." for octet in address.to_bytes(4)[: length // 8])
    groups = (address >> shift & 0xFFFF for shift in range(112, 112 - length // 16 * 16, -16))
    return "".join(f"{group:x}:" for group in takewhile(bool, groups))  # `ip` may leave out groups that are zero


# How many bits `beginning` looks at.
BEGINNING: dict[Family, int] = {"inet": 16, "inet6": 48}


def check_destinations(destinations: Iterable[str], family: Family) -> None:
    """ValueError unless each is a destination as `ip` prints it for routes of this family."""
    bits = BITS[family]
    for dst in destinations:
        if dst != "default":
            host, slash, length = dst.partition("/")
            _octets(host, family)
            if slash and not (length.isdecimal() and int(length) <= bits):
                raise ValueError(f"{_shown(dst)} is not an {FAMILY_NAMES[family]} prefix")


def _octets(host: str, family: Family) -> bytes:
    try:
        # The module `ipaddress` is slow: with thousands of routes, it would take most of the time of a pass.
        return inet_pton(_AF[family], host)
    except OSError:
        raise ValueError(f"{_shown(host)} is not an {FAMILY_NAMES[family]} address") from None


class PrefixSet:
    """A set of prefixes. A search costs one dictionary lookup for each prefix length that occurs in the set."""

    def __init__(self, prefixes: Iterable[Prefix] = ()) -> None:
        lengths: dict[Family, dict[int, dict[int, Prefix]]] = {family: defaultdict(dict) for family in FAMILIES}
        for prefix in prefixes:
            lengths[prefix.family][prefix.length][prefix.address] = prefix
        # Sorted by length, because messages should name the widest member.
        self._lengths = {
            family: [(length, BITS[family] - length, found[length]) for length in sorted(found)]
            for family, found in lengths.items()
        }

    def covering(self, prefix: Prefix) -> Prefix | None:
        """The widest member that is equal to `prefix` or contains it."""
        family, address, own = prefix
        for length, shift, networks in self._lengths[family]:
            if length > own:
                break
            if found := networks.get(address >> shift << shift):
                return found
        return None

    def covers(self, prefix: Prefix) -> bool:
        """True if some member is equal to `prefix` or contains it."""
        return self.covering(prefix) is not None

    def overlapping(self, prefix: Prefix) -> Prefix | None:
        """A member that shares addresses with `prefix`: the widest around it, or else any member inside it."""
        if not self._lengths[prefix.family]:
            return None
        return self.covering(prefix) or next(self.inside(prefix), None)

    def inside(self, prefix: Prefix) -> Iterator[Prefix]:
        """The members that are strictly inside `prefix`."""
        for length, _, networks in self._lengths[prefix.family]:
            if length > prefix.length:
                yield from filter(prefix.covers, networks.values())

    def __iter__(self) -> Iterator[Prefix]:
        for lengths in self._lengths.values():
            for _, _, networks in lengths:
                yield from networks.values()

    def __bool__(self) -> bool:
        return any(self._lengths.values())


def _shown(text: str) -> str:
    # The text may be of any length, but a message is one line. No prefix has more than 43 characters.
    return repr(text if len(text) <= 60 else f"{text[:60]} …")


# Addresses that are not routed on the internet: RFC 1918, RFC 3927, RFC 6598, RFC 4193, RFC 4291.
PRIVATE = PrefixSet(
    map(
        Prefix.parse,
        ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "fc00::/7", "fe80::/10"],
    )
)
