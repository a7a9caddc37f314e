"""Replaces names and addresses by new ones, consistently. Without the secret, nobody can find out the old addresses.

Addresses are renamed bit by bit, so that every prefix keeps its members (as in Xu et al., "Prefix-Preserving IP
Address Anonymization", 2002). Addresses stay inside prefixes that have a meaning, for example private ones.
"""

from collections.abc import Collection, Iterable
from hashlib import sha256
from ipaddress import ip_address, ip_network

from fz_iproute.mirror.ip_json import Document
from fz_iproute.mirror.prefix import BITS, Family, Prefix
from fz_iproute.mirror.words import MODEMS, OF_GUESTS, TUNS

# Addresses in these prefixes are not renamed, because they mean the same on every machine.
_FROZEN = ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "::/127", "ff00::/8"]
# Addresses in these prefixes stay inside. In the last two prefixes, an address contains an IPv4 address.
_CLOSED = ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "240.0.0.0/4"]
_CLOSED += ["2000::/3", "fd00::/8", "fc00::/7", "fe80::/10", "fe80::/64", "::/8", "::ffff:0:0/96", "64:ff9b::/96"]


class Names:
    """New names: `net1` for an interface, or `tap1` if the start of its name tells something; `name1` for all else.

    The new names of `drop_ins` keep their order, because a later drop-in overrides earlier ones.
    """

    def __init__(self, interfaces: Iterable[str], drop_ins: Collection[str] = ()) -> None:
        self.known = {name: f"{place:04}.conf" for place, name in enumerate(sorted(drop_ins), 1)}
        for number, name in enumerate(interfaces, 1):
            start = next((start for start in (*TUNS, *MODEMS, *OF_GUESTS) if name.startswith(start)), "net")
            self.known[name] = f"{start}{number}"

    def new(self, name: str) -> str:
        """The new name. An empty name stays empty."""
        return self.known.setdefault(name, f"name{len(self.known)}") if name else name


class Addresses:
    """New addresses. The first and the last address of a network, anycast and broadcast, stay first and last.

    The networks are those in `documents`, the output of `ip address show`.
    """

    def __init__(self, secret: bytes, documents: Iterable[Document]) -> None:
        self._secret = secret
        self._flips: dict[tuple[Family, int, int], bool] = {}
        self._frozen = [Prefix.parse(text) for text in _FROZEN]
        self._marked = [*self._frozen, *(Prefix.parse(text) for text in _CLOSED)]
        self._ends: set[tuple[Family, int, int]] = set()
        for document in documents:
            for address in document.get("addr_info", ()):
                for host in {address.get("local"), address.get("address")} - {None}:  # "address" is that of the peer
                    self._note_ends(f"{host}/{address['prefixlen']}")

    def _note_ends(self, text: str) -> None:
        network = ip_network(text, strict=False)
        family: Family = "inet" if network.version == 4 else "inet6"
        bits = BITS[family]
        for end in (int(network.network_address), int(network.broadcast_address)):
            self._ends.update((family, end >> (bits - place), place) for place in range(network.prefixlen, bits))

    def prefix(self, prefix: Prefix) -> Prefix:
        """The new prefix, of the same length."""
        family, address, length = prefix
        found = 0
        for place in range(length):
            bit = address >> (BITS[family] - 1 - place) & 1
            found = found << 1 | bit ^ self._flip(family, address >> (BITS[family] - place), place)
        return Prefix(family, found << (BITS[family] - length), length)

    def new(self, text: str) -> str | None:
        """The new address or prefix; None if the text is neither, or has a zone."""
        host, slash, length = text.partition("/")
        try:
            parsed = ip_address(host)
        except ValueError:
            return None
        family: Family = "inet" if parsed.version == 4 else "inet6"
        bits = BITS[family]
        if "%" in host or (slash and not (length.isascii() and length.isdecimal() and int(length) <= bits)):
            return None
        # If the text is a network, its host bits stay 0. If it is an address with a length, all bits are renamed.
        is_network = slash and not int(parsed) & ((1 << bits - int(length)) - 1)
        new = self.prefix(Prefix(family, int(parsed), int(length) if is_network else bits))
        return f"{ip_address(new.address.to_bytes(bits // 8, 'big'))}{slash}{length}"

    def _flip(self, family: Family, head: int, length: int) -> bool:
        """True if the bit after these first bits is inverted. `head` are the first bits, and `length` their number."""
        key = family, head, length
        if key not in self._flips:
            node = Prefix(family, head << (BITS[family] - length), length)
            bound = (
                key in self._ends
                or any(prefix.covers(node) for prefix in self._frozen)
                or any(prefix.length > length and node.covers(prefix) for prefix in self._marked)
            )
            seed = self._secret + f"{family} {head:x} {length}".encode()
            self._flips[key] = not bound and bool(sha256(seed).digest()[0] & 1)
        return self._flips[key]
