"""Short ways to write routes, links and snapshots in tests."""

from typing import Any

from fz_iproute.mirror import ip_json, parse
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Link, Route, Rule, Snapshot
from fz_iproute.mirror.prefix import FAMILIES, Family

LINKS = {
    name: Link(name, ifindex, up=True, loopback=name == "lo", word=name)
    for ifindex, name in enumerate(["lo", "eth0", "eth1", "wlan0", "tun-firezone"], start=1)
}


def route(dst: str, dev: str = "eth0", **keys: Any) -> Route:
    """A route as `ip -json` shows it; on-link by default."""
    family: Family = "inet6" if ":" in dst else "inet"
    usual = {"protocol": "kernel", "flags": []}
    usual |= {"scope": "link"} if family == "inet" else {"metric": 256, "pref": "medium"}
    document = {"dst": dst, "dev": dev, **usual, **keys}
    (listed,) = ip_json.listed([{key: value for key, value in document.items() if value is not None}])
    return parse.routes([listed], family, LINKS)[0]


def gatewayed(dst: str, gateway: str, dev: str = "eth0", **keys: Any) -> Route:
    """A route through a router."""
    return route(dst, dev, **{"gateway": gateway, "scope": None, **keys})


def tunnel(dst: str, **keys: Any) -> Route:
    """A route into the VPN, as Firezone adds it."""
    return route(dst, "tun-firezone", **{"protocol": "static", "scope": None, **keys})


def snapshot(main: list[Route], mirror: list[Route] | None = None, **fields: Any) -> Snapshot:
    """A machine with one VPN table."""

    def split(routes: list[Route]) -> dict[Family, tuple[Route, ...]]:
        return {family: tuple(each for each in routes if each.attributes.family == family) for family in FAMILIES}

    nothing = split([])
    tables = dict.fromkeys(Config().tables.ids, nothing) | {Config().tables.single: split(mirror or [])}
    return Snapshot(**{"links": LINKS, "main": split(main), "tables": tables, **fields})


def lookup(table: int, priority: int = 100, family: Family = "inet", **fields: Any) -> Rule:
    """A rule that looks up a table."""
    return Rule(family, priority, "lookup", table, **fields)
