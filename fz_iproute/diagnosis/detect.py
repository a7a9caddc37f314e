"""`detect`: finds every VPN that takes all traffic.

For each VPN it tells whether the LAN is still reachable, which route and rule decide that, and which configuration
makes the copies that bring the LAN back.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

from fz_iproute.diagnosis.full_tunnel import forms
from fz_iproute.diagnosis.internet import all_traffic, leak
from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.lans import Fate, Key, Lan, decided_by, explained, lans, losses
from fz_iproute.diagnosis.products import Form, Product, product_of
from fz_iproute.diagnosis.reach import Network
from fz_iproute.errors import UsageError
from fz_iproute.mirror import config as configuration
from fz_iproute.mirror import config_text
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Mark, Snapshot
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix
from fz_iproute.mirror.words import KERNEL_TABLES, printable, some, table_name

Advice = Literal["nothing", "mirror", "client", "refuse"]


class Vpn(NamedTuple):
    """A VPN that takes all traffic, and what becomes of the LANs, whatever the reason."""

    product: Product
    interface: str
    mark: Mark | None  # packets with this mark stay out of the tunnel
    table: int  # has the default route into the tunnel
    priority: int  # of the rule that leads to this table
    families: tuple[Family, ...]  # the families whose traffic it takes
    headline: str  # see internet.all_traffic
    cut: tuple[Prefix, ...]  # the LANs that most packets do not reach
    kept: tuple[Prefix, ...]  # the other LANs
    holes: tuple[str, ...]  # the parts of kept LANs that packets do not reach
    by: str  # the route and the rule that decide whether the LAN is cut
    advice: Advice
    why: str  # the reason for the advice
    elsewhere: tuple[str, ...]  # what else is cut, and neither by this VPN nor for want of copies
    unplugged: tuple[str, ...]  # which LANs cannot be reached, whatever the routes are
    leak: str  # see internet.leak
    released: str  # see Judgement.released
    copies: int  # how many routes of its tables are copies
    is_configured: bool  # the present configuration names this VPN
    config: Config | None  # makes the copies that keep the LAN reachable; None if copies do not help

    @property
    def lan(self) -> str:
        """Whether the LAN is reachable. The firewall of some VPNs cuts it although the routes keep it."""
        if self.cut:
            return f"cut ({some(map(str, self.cut))})" if self.kept else "cut"
        if not self.kept:
            return "none"
        kept = "kept by the routes" if self.product.firewalls else "kept"
        return f"{kept} except for {some(self.holes)}" if self.holes else kept

    @property
    def besides(self) -> list[str]:
        """What the user should know besides the advice."""
        return [*self.elsewhere, *self.unplugged, *filter(None, (self.leak, self.released))]

    @property
    def reasons(self) -> str:
        """The reason for the advice, with what the user should know besides."""
        return "; ".join((self.why, *self.besides))


def detect(config: Config, snapshot: Snapshot, network: Network, interface: str | None = None) -> list[Vpn]:
    """Find every VPN that takes all traffic.

    `network` is that of the snapshot. Section [lan] of `config` decides what counts as a LAN.
    If a user has named an interface, as `interface` or in `config`, it may be a tunnel, even if it does not look like
    one. A tap does not.
    """
    found = _forms(network)
    named = [link for name, link in snapshot.links.items() if name in (interface, config.tunnel.interface)]
    for link in (link._replace(may_be_tunnel=True) for link in named if not link.may_be_tunnel):
        other = replace(network, links={**network.links, link.name: link})
        found_there = _forms(other)
        if any(name == link.name for name, _ in found_there):
            network, found = other, found_there
    return [_Judge(config, snapshot, network, each).vpn() for each in found.values()]


def _forms(network: Network) -> dict[tuple[str, int], dict[Family, Form]]:
    """The form of each VPN that takes all traffic, by its interface and table, and by family."""
    found: dict[tuple[str, int], dict[Family, Form]] = defaultdict(dict)
    for family in FAMILIES:
        for form in forms(network, family):
            found[form.interface, form.rule.table].setdefault(family, form)
    return found


@dataclass(frozen=True)
class _Judge:
    """Judges one VPN. `forms` are the rules and routes by which it takes each family."""

    config: Config
    snapshot: Snapshot
    network: Network
    forms: Mapping[Family, Form]

    def vpn(self) -> Vpn:
        form, product = self.form, product_of(self.form)
        headline = all_traffic(self.network, form.interface)
        advice, why = self._advice(product)
        cut = list(_cut(self._lans).values())
        kept = [lan.most for lan in self._lans.values() if lan.most and not lan.lost]
        # What this VPN cuts is told first.
        deciding = [fate for fate in cut if not self._is_elsewhere(fate)] or cut[:1] or kept[:1]
        return Vpn(
            product=product,
            interface=form.interface,
            mark=form.mark,
            table=form.rule.table,
            priority=form.rule.priority,
            families=tuple(self.forms),
            headline=headline or f"{printable(form.interface)} would carry all traffic, but another rule comes first",
            cut=tuple(lan.prefix for lan in self._lans.values() if lan.lost),
            kept=tuple(lan.prefix for lan in self._lans.values() if not lan.lost),
            holes=self._holes,
            by=explained(deciding) or self._left_out or "main has no LAN to copy, apart from link-local networks",
            advice=advice,
            why=why,
            elsewhere=tuple(self._elsewhere()),
            unplugged=tuple(self._unplugged()),
            leak=leak(self.network, form.interface),
            released=self._judged.released,
            copies=sum(map(len, self._judged.copies.values())),
            is_configured=self._judged.config is self.config,
            config=None if product.refusal or product.switch else self._served,
        )

    @property
    def form(self) -> Form:
        """The form of the first family that the VPN takes."""
        return next(iter(self.forms.values()))

    @cached_property
    def _judged(self) -> Judgement:
        """The machine with the configuration for this VPN: the present one if it already names it, else a new one."""
        config, form = self.config, self.form
        judged, tiers = Judgement.reading(config, self.snapshot, self.network), _tiers(self.network, form)
        is_named = config.tunnel.interface == form.interface and form.mark in (None, config.tunnel.fwmark)
        layout = judged.goal.layout
        # Without manage mode, the table of the default route tells the layout: copies would have no effect elsewhere.
        tables = layout.tables if config.manages else [layout.internet]
        is_right = is_named and form.rule.table in tables and (not tiers or layout.mirror in (*tiers, form.rule.table))
        return judged if is_right else Judgement.reading(_naming(config, form, tiers), self.snapshot, self.network)

    @cached_property
    def _lans(self) -> dict[Key, Lan]:
        """What becomes of packets to each LAN that no setting leaves out, and that has room for hosts."""
        return _with_hosts(self._judged.lans)

    @property
    def _left_out(self) -> str:
        """`the configuration leaves out 10.0.0.0/24`, for the LANs that packets do not reach; "" if there are none."""
        cut = _cut(_with_hosts(self._judged.lans, is_wanted=False))
        return f"the configuration leaves out {_names(cut)}" if cut else ""

    @property
    def _holes(self) -> tuple[str, ...]:
        """The parts of reached LANs that packets do not reach."""
        kept = (lan for lan in self._lans.values() if not lan.lost)
        return tuple(dict.fromkeys(lan.part_name(fate) for lan in kept for fate in lan.missed))

    @cached_property
    def _still_cut(self) -> dict[Key, Fate]:
        """The LANs that are cut after a `sync`."""
        return _cut(_with_hosts(self._judged.lans_then))

    def _is_elsewhere(self, fate: Fate) -> bool:
        """True if something else than this VPN decides about these packets."""
        return self.form.rule.table != fate.decision.table and self.form.interface not in fate.decision.devices

    def _elsewhere(self) -> Iterator[str]:
        """What else than this VPN cuts LANs, or parts of them: `packets to 10.0.0.0/24 are refused: rule 5 (…)`."""
        found = {
            key: lan for key, lan in self._lans.items() if not (self._served and lan.lost) or key in self._still_cut
        }
        for loss in losses(self.network, found):
            if loss.extent != "some packets" and any(map(self._is_elsewhere, loss.fates)):
                yield str(loss)

    def _unplugged(self) -> Iterator[str]:
        """The network cards without a link: `eth0 has no carrier: 10.0.0.0/24 cannot be reached`."""
        found: dict[str, list[Key]] = defaultdict(list)
        for key, lan in self._lans.items():
            found[self.network.outage(lan.routes[0].attributes.devices)].append(key)
        return (f"{why}: {_names(keys)} cannot be reached" for why, keys in found.items() if why)

    def _advice(self, product: Product) -> tuple[Advice, str]:
        cut = _cut(self._lans)
        taken = [key for key, fate in cut.items() if not self._is_elsewhere(fate)]
        if product.refusal:
            return "refuse", product.refusal
        if product.switch and (taken or product.firewalls):
            return "client", f"{product.why}; run `{product.switch}`"
        regained = [key for key in cut if self._served and key not in self._still_cut]
        others = [key for key in taken if key not in regained]
        if regained:
            by = decided_by(self._still_cut[key].decision for key in others)
            but = f", but not {_names(others)}{by and ': '}{by}" if others else ""
            return "mirror", f"copies bring back the LAN ({_names(regained)}){but}"
        except_for = f" except for {some(self._holes)}" if self._holes else ""
        keep = ""
        if self._served:  # the LANs are reachable now only because of the copies
            kept = _names(key for key in self._lans if key not in cut) if cut else "the LAN"
            keep = f"copies in table {self._judged.goal.layout.mirror} keep {kept}{except_for}"
        if taken:
            start = f"{keep}, but" if keep else "copies"
            return "refuse", f"{start} cannot bring back {_names(taken)}{self._barred and ': '}{self._barred}"
        if self._served:
            return "nothing", f"{keep}; if fz-iproute makes them, leave it installed"
        if cut:
            return "nothing", "the LAN is not cut by this VPN"
        return "nothing", self._left_out or f"no LAN is cut{except_for}"

    @cached_property
    def _barred(self) -> str:
        """Why no configuration for this VPN can make copies; "" if one can."""
        if self.form.rule.table in KERNEL_TABLES:
            where = f"the VPN's routes are in table {table_name(self.form.rule.table)}"
            return f"{where}; look for a setting of the VPN's client"
        try:
            config_text.parse(config_text.dump(self._judged.config), "the configuration would be refused")
        except UsageError as error:
            return str(error).partition("\n")[0]
        return ""

    @cached_property
    def _served(self) -> Config | None:
        """The configuration for this VPN if copies help: at least one LAN is cut now, or would be without them."""
        if self._barred:
            return None
        without = _cut(_with_hosts(lans(self._without_copies(), self._judged.goal)))
        has_use = not self._still_cut.keys() >= {*_cut(self._lans), *without}
        return self._judged.config if has_use else None

    def _without_copies(self) -> Network:
        """The network without its present copies, including copies that other programs have made."""
        tables = {table: dict(families) for table, families in self.network.tables.items()}
        for (table, family), copies in self._judged.copies.items():
            tables[table][family] = tuple(route for route in tables[table][family] if route not in copies)
        # The same network remembers its decisions.
        return self.network if tables == self.network.tables else replace(self.network, tables=tables)


def _with_hosts(found: Mapping[Key, Lan], *, is_wanted: bool = True) -> dict[Key, Lan]:
    return {key: lan for key, lan in found.items() if lan.is_wanted is is_wanted and lan.fates and not key[1]}


def _cut(found: Mapping[Key, Lan]) -> dict[Key, Fate]:
    """The LANs that most packets do not reach, and what becomes of these packets."""
    return {key: lan.most for key, lan in found.items() if lan.most and lan.lost}


def _names(keys: Iterable[Key]) -> str:
    return some(str(dst) for dst, _ in keys)


# The configuration


def _tiers(network: Network, form: Form) -> tuple[int, int] | None:
    """The tables of the layout `tiered`: the first has the VPN's own routes, the second gets the copies.

    None unless exactly two other tables have an earlier rule that is the same except for its priority and table.
    """
    same = form.rule._replace(priority=0, table=0)
    like = [rule for rule in form.before if rule._replace(priority=0, table=0) == same]
    tables = list(dict.fromkeys(rule.table for rule in like if rule.table not in KERNEL_TABLES))
    if len(tables) != 2 or form.rule.table in tables or form.mark is None:
        return None
    routes = (route for routes in network.tables.get(tables[1], {}).values() for route in routes)
    has_own = any(form.interface in route.attributes.devices for route in routes)
    return None if has_own else (tables[0], tables[1])


def _naming(config: Config, form: Form, tiers: tuple[int, int] | None) -> Config:
    """The configuration, with the VPN of this form instead of the one that it names."""
    tunnel: dict[str, Any] = {"interface": form.interface, "mode": "observe"}
    tunnel |= {"fwmark": form.mark} if form.mark else {}
    table = form.rule.table
    if tiers:
        tables: dict[str, Any] = {"layout": "tiered", "user": tiers[0], "lan": tiers[1], "internet": table}
        return configuration.replace(config, tunnel=tunnel, tables={**tables, "single": tiers[0]})
    tables = {"layout": "single", "single": table}
    if table in (config.tables.lan, config.tables.internet):
        # The layout `single` does not use the tables of `tiered`, but no two of all these may have the same number.
        spare = [number for number in config.tables.ids if number != table]
        tables |= {"user": table, "lan": spare[0], "internet": spare[1]}
    return configuration.replace(config, tunnel=tunnel, tables=tables)


def differences(before: Config, after: Config) -> list[tuple[str, str, Any]]:
    """The section, the name and the new value of each key that has another value in `after`."""
    was = configuration.keys_of(before)
    return [(*place, value) for place, value in configuration.keys_of(after).items() if value != was[place]]


def toml_of(config: Config) -> str:
    """A configuration file: it names the tunnel, and contains each key whose value is not the default."""
    keys: dict[tuple[str, str], Any] = {("tunnel", "interface"): config.tunnel.interface}
    # Name Firezone's mark, although it is the default. With another VPN, the default means that it has no mark.
    if config.tunnel.interface == Config().tunnel.interface:
        keys["tunnel", "fwmark"] = config.tunnel.fwmark
    keys |= {(section, key): value for section, key, value in differences(Config(), config)}
    return config_text.document_of(keys)


def missing(written: Config, wanted: Config) -> dict[tuple[str, str], Any]:
    """The keys that a configuration lacks to serve the VPN of the wanted one, with their values."""
    keys = differences(written, wanted)
    return {(section, key): value for section, key, value in keys if section in ("tunnel", "tables")}


def candidates(vpns: Sequence[Vpn]) -> list[Vpn]:
    """The VPNs that `--write` chooses from: those that lack copies; if there are none, those that have copies."""
    served = [vpn for vpn in vpns if vpn.config]
    return [vpn for vpn in served if vpn.advice == "mirror"] or served


# What is printed


def as_document(vpns: Sequence[Vpn]) -> dict[str, Any]:
    """For programs: the VPNs as a JSON document."""
    return {
        "vpns": [
            {
                "product": vpn.product.name,
                "interface": vpn.interface,
                "fwmark": str(vpn.mark) if vpn.mark else None,
                "table": vpn.table,
                "families": list(vpn.families),
                "lan": "cut" if vpn.cut else "kept",
                "by": vpn.by,
                "advice": vpn.advice,
                "why": vpn.reasons,
                "config": toml_of(vpn.config) if vpn.config else "",
            }
            for vpn in vpns
        ]
    }


def as_text(vpns: Sequence[Vpn], next_step: Callable[[Vpn], str], written: Config | None = None) -> str:
    """For people: a paragraph for each VPN. If copies would help, it has the next command and the configuration.

    `written` is what the configuration file says, if there is one. If it lacks some keys, only these are shown.
    """
    return "\n\n".join(_paragraph(vpn, next_step, written) for vpn in vpns)


def _paragraph(vpn: Vpn, next_step: Callable[[Vpn], str], written: Config | None) -> str:
    lines = [
        ("product", vpn.product.name),
        ("table", table_name(vpn.table)),
        ("fwmark", str(vpn.mark) if vpn.mark else "none"),
        ("LAN", f"{vpn.lan}: {vpn.by}"),
        ("advice", f"{vpn.advice}: {vpn.why}"),
        *(("but", each) for each in vpn.besides),
        ("next", next_step(vpn)),
    ]
    text = [vpn.headline, *(f"  {name:<8} {printable(value)}" for name, value in lines if value)]
    if vpn.advice == "mirror" and vpn.config:
        lacking = missing(written, vpn.config) if written else {}
        keys = config_text.document_of(lacking) if lacking else toml_of(vpn.config)
        text += ["", *(f"    {line}".rstrip() for line in keys.splitlines())]
    return "\n".join(text).rstrip()
