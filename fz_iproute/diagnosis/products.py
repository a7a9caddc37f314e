"""The known VPN clients: the form of their rules, their marks and tables, and how each of them treats the LAN.

A client is recognised by the form of its rules and routes. Marks, tables and device names only decide between clients
of the same form, because most clients choose another table if theirs is in use.
"""

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from fz_iproute.mirror.config import FIREZONE_MARK, Config
from fz_iproute.mirror.model import Mark, Route, Rule
from fz_iproute.mirror.words import DEFAULT, MAIN

# Properties of the rules and routes of a VPN:
Trait = Literal[
    "in main",  # its routes are in table main
    "in parts",  # it has a split default route
    "marked out",  # its rule is for all packets but those with its mark
    "for all",  # its rule has no selectors
    "main first",  # an earlier rule looks up main, but ignores its default route (suppress_prefixlength)
    "marked to main",  # earlier rules send marked packets to the tables main and default
    "by port",  # an earlier rule selects by a port
    "mark is table",  # the mark and the table have the same number
    "boot",  # its route has the protocol boot
    "static",  # its route has the protocol static
    "no device",  # it has no tunnel device: its routes leave by the device of the uplink
]


class Form(NamedTuple):
    """The rules and routes of one VPN, for one family."""

    interface: str
    mark: Mark | None  # packets with this mark stay out of the tunnel
    rule: Rule  # leads to the table with the default route into the tunnel
    route: Route  # the route into the tunnel
    before: Sequence[Rule]  # the rules that come before
    has_device: bool = True  # False for an IPsec VPN, whose `interface` is the uplink

    @property
    def traits(self) -> frozenset[Trait]:
        """The properties by which a client can be recognised."""
        rule, mark = self.rule, self.mark
        marked = {each.table for each in self.before if each.mark and not each.inverted}
        found: dict[Trait, bool] = {
            "in main": rule.table == MAIN,
            "in parts": self.route.dst != "default",
            "marked out": rule.inverted and rule.mark is not None,
            "for all": not (rule.mark or rule.src or rule.dst or rule.iif or rule.oif),
            "main first": any(
                each.table == MAIN and "suppress_prefixlen" in dict(each.options) for each in self.before
            ),
            "marked to main": {MAIN, DEFAULT} <= marked,
            "by port": any("dport" in dict(each.options) for each in self.before),
            "mark is table": mark is not None and mark.value == rule.table,
            "boot": self.route.attributes.is_of("boot"),
            "static": self.route.attributes.is_of("static"),
            "no device": not self.has_device,
        }
        return frozenset(trait for trait, has in found.items() if has)


class Product(NamedTuple):
    """A VPN client."""

    name: str
    form: tuple[Trait, ...]  # the traits that its rules and routes always have
    mark: int | None = None
    tables: Collection[int] = ()
    devices: tuple[str, ...] = ()  # the names of its interfaces, as globs
    telling: bool = False  # the form alone is enough to recognise it
    switch: str = ""  # the client's own command that makes the LAN reachable
    why: str = ""  # why to use that command instead of copies
    firewalls: bool = False  # its firewall cuts the LAN even if the routes keep it
    refusal: str = ""  # why there must be no copies

    def likeness(self, form: Form) -> int:
        """A score: how well the form matches this client. 0 if it does not match."""
        if not form.traits.issuperset(self.form):
            return 0
        numbers = (form.mark is not None and form.mark.value == self.mark) + (form.rule.table in self.tables)
        names = any(fnmatchcase(form.interface, glob) for glob in self.devices)
        return 4 * numbers + 2 * names + self.telling


_WG_QUICK: tuple[Trait, ...] = ("marked out", "main first", "mark is table")

FIREZONE = Product("Firezone", ("marked out",), FIREZONE_MARK.value, Config().tables.ids, ("tun-firezone",))
UNKNOWN = Product("unknown", ())
PRODUCTS = (
    FIREZONE,
    Product("NetBird", ("main first", "marked out"), 0x1BD00, (7120,), ("wt0", "wt[0-9]*")),
    Product(
        "Tailscale",
        ("marked to main", "for all"),
        0x80000,
        (52,),
        ("tailscale*",),
        telling=True,
        switch="tailscale set --exit-node-allow-lan-access",
        why="it changes its table itself and would undo copies, but it keeps the LAN if this is set",
    ),
    Product(
        "Mullvad",
        ("main first", "marked out"),
        0x6D6F6C65,
        (1836018789,),
        ("wg*-mullvad",),
        switch="mullvad lan set allow",
        why="routes are not enough, because its firewall (nft table mullvad) cuts the LAN unless this is set",
        firewalls=True,
    ),
    Product(
        "NordVPN",
        ("marked out",),
        0xE1F1,
        (205,),
        ("nordlynx", "nordtun"),
        switch="nordvpn set lan-discovery enabled",
        why="its firewall cuts the LAN too, unless this is set",
    ),
    Product("Cloudflare WARP", ("marked out",), 0x100CF, (65743,), ("CloudflareWARP",)),
    Product(
        "sing-box or mihomo",
        ("by port", "main first"),
        tables=(2022,),
        telling=True,
        refusal="a copy would let DNS packets to the LAN get around its DNS hijack",
    ),
    Product("Netmaker", ("main first", "for all"), tables=(111,), devices=("netmaker*", "nm-*")),
    Product("Outline", ("marked out",), 0x711E, (7113,), ("outline-tun*",)),
    Product("ProtonVPN", ("main first", "marked out"), devices=("proton*", "pvpn*")),
    Product("wg-quick", (*_WG_QUICK, "boot"), telling=True),
    Product("NetworkManager", (*_WG_QUICK, "static"), telling=True),
    Product("ZeroTier", ("in main", "in parts"), devices=("zt*",)),
    Product("Nebula", ("in main",), devices=("nebula*",)),
    Product("OpenVPN", ("in main", "in parts"), devices=("tun[0-9]*", "tap[0-9]*")),
    Product(
        "strongSwan",
        ("no device",),
        tables=(220,),
        telling=True,
        refusal="it has no tunnel device: the kernel's IPsec policies decide (`ip xfrm policy`)",
    ),
)


def product_of(form: Form) -> Product:
    """The client that matches best."""
    best = max(PRODUCTS, key=lambda product: product.likeness(form))
    return best if best.likeness(form) else UNKNOWN


# By the number of a table, the name of the client that normally uses it.
BY_TABLE = {table: product.name for product in PRODUCTS for table in product.tables}
