"""Address prefixes as numbers, and sets of them that find the member around a prefix in constant time."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from typing import Literal, NamedTuple

Family = Literal["inet", "inet6"]
FAMILIES: tuple[Family, ...] = ("inet", "inet6")
SPOKEN: dict[Family, str] = {"inet": "IPv4", "inet6": "IPv6"}

BITS: dict[Family, int] = {"inet": 32, "inet6": 128}
_AF = {"inet": AF_INET, "inet6": AF_INET6}


class Prefix(NamedTuple):
    """`address` is the network as an integer without its host bits, `length` the number of network bits."""

    family: Family
    address: int
    length: int

    @classmethod
    def of_route(cls, dst: str, family: Family) -> "Prefix":
        """The destination of a route as `ip` prints it: `default`, an address or a prefix. ValueError if it is none."""
        if dst == "default":
            return cls(family, 0, 0)
        host, _, length = dst.partition("/")
        return cls(family, int.from_bytes(_octets(host, family)), int(length) if length else BITS[family])

    @classmethod
    def parse(cls, text: str) -> "Prefix":
        """A prefix in a configuration. ValueError says what is wrong, and the right network for host bits."""
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
        """A single address."""
        return cls(family, address, BITS[family])

    @classmethod
    def around(cls, destinations: Iterable[str], family: Family) -> "Prefix":
        """The narrowest prefix that contains all these destinations of routes. None of them is `default`."""
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

    def covers(self, other: "Prefix") -> bool:
        """True if `other` is equal to or inside this prefix."""
        return (
            self.family == other.family and self.length <= other.length and other.network(self.length) == self.address
        )

    def network(self, length: int) -> int:
        """The address cut to `length` bits."""
        shift = BITS[self.family] - length
        return self.address >> shift << shift

    def __str__(self) -> str:
        host = IPv4Address(self.address) if self.family == "inet" else IPv6Address(self.address)
        return f"{host}/{self.length}"


def check_destinations(destinations: Iterable[str], family: Family) -> None:
    """ValueError if one of them is nothing that `ip` prints as the destination of a route."""
    bits = BITS[family]
    for dst in destinations:
        if dst != "default":
            host, slash, length = dst.partition("/")
            _octets(host, family)
            if slash and not (length.isdecimal() and int(length) <= bits):
                raise ValueError(f"{_shown(dst)} is not a prefix of {family}")


def _octets(host: str, family: Family) -> bytes:
    try:
        # `ipaddress` is slow: with a large LAN, it would take most of the time of a pass.
        return inet_pton(_AF[family], host)
    except OSError:
        raise ValueError(f"{_shown(host)} is not an address of {family}") from None


class PrefixSet:
    """A set of prefixes. A question costs one look-up for each length that occurs, however many members there are."""

    def __init__(self, prefixes: Iterable[Prefix] = ()) -> None:
        lengths: dict[Family, dict[int, dict[int, Prefix]]] = {family: defaultdict(dict) for family in FAMILIES}
        for prefix in prefixes:
            lengths[prefix.family][prefix.length][prefix.address] = prefix
        # Widest first, because a message should name the widest one.
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
        """The widest member that contains `prefix`, or else some member inside it."""
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
    # The longest prefix has 43 characters; a message is a line.
    return repr(text if len(text) <= 60 else f"{text[:60]} …")


# RFC 1918, RFC 3927, RFC 6598, RFC 4193, RFC 4291: the internet does not use these addresses.
PRIVATE = PrefixSet(
    map(
        Prefix.parse,
        ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "fc00::/7", "fe80::/10"],
    )
)
