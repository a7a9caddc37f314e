"""Recognises the known VPN clients of data/products.json.

A client is recognised by the form of its rules and routes. Marks, tables and device names only decide between clients
of the same form, because most clients choose another table if theirs is in use.
"""

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pkgutil import get_data
from typing import Literal, NamedTuple

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
        marked = {each.table for each in self.before if each.is_for_marked}
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
    """A VPN client. data/products.json lists them."""

    name: str
    form: Sequence[Trait] = ()  # the traits that its rules and routes always have
    mark: str = ""
    tables: Sequence[int] = ()
    devices: Sequence[str] = ()  # the names of its interfaces, as globs
    telling: bool = False  # the form alone is enough to recognise it
    switch: str = ""  # the client's own command that makes the LAN reachable
    why: str = ""  # why to use that command instead of copies
    firewalls: bool = False  # its firewall cuts the LAN even if the routes keep it
    refusal: str = ""  # why there must be no copies

    def likeness(self, form: Form) -> int:
        """A score: how well the form matches this client. 0 if it does not match."""
        if not form.traits.issuperset(self.form):
            return 0
        numbers = (form.mark is not None and f"{form.mark.value:#x}" == self.mark) + (form.rule.table in self.tables)
        names = any(fnmatchcase(form.interface, glob) for glob in self.devices)
        return 4 * numbers + 2 * names + self.telling


UNKNOWN = Product("unknown")
PRODUCTS = tuple(Product(**fields) for fields in json.loads(get_data("fz_iproute", "data/products.json") or ""))


def product_of(form: Form) -> Product:
    """The client that matches best."""
    best = max(PRODUCTS, key=lambda product: product.likeness(form))
    return best if best.likeness(form) else UNKNOWN
