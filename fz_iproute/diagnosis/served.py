"""Tells which VPN a configuration serves."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from fz_iproute.diagnosis.detect import Vpn
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.words import printable, table_name


class Followed(NamedTuple):
    """What `tunnel.interface = "auto"` stands for now."""

    config: Config  # for the VPN that is served; unchanged, still with "auto", if none is
    said: str  # the result in words
    is_doubtful: bool = False  # more than one VPN could be served


def followed(config: Config, vpns: Sequence[Vpn]) -> Followed:
    """Choose the VPN that `auto` stands for.

    If copies help more than one, it is the one that has most copies, because they may be all that keeps the LAN
    reachable; else the first one. So the choice depends on nothing but the machine, and stays once it is made.
    """
    served = [(vpn, vpn.config) for vpn in vpns if vpn.config]
    if not served:
        others = "; ".join(f"{vpn.headline}, but {vpn.why}" for vpn in vpns)
        return Followed(config, f"auto: {others or 'no VPN takes all traffic here'}")
    vpn, found = max(served, key=lambda each: each[0].copies)
    if len(served) == 1:
        return Followed(found, f"auto: {vpn.headline}; copies go to table {table_name(vpn.table)}")
    names = " and ".join(printable(each.interface) for each, _ in served)
    words = f"auto: it serves only one VPN, but {names} need copies: name one in tunnel.interface"
    return Followed(found, f"{words}; until then, {printable(vpn.interface)} is served", is_doubtful=True)


def absent(config: Config, links: Collection[str], vpns: Sequence[Vpn]) -> str:
    """Why no rule leads to the VPN's table: its interface is missing, or another VPN takes all traffic.

    "" if the interface exists and no other VPN takes all traffic: then this VPN may work without such a rule. If the
    configuration says `auto`, what that stands for.
    """
    if config.is_auto:
        return followed(config, vpns).said
    name = printable(config.tunnel.interface)
    if config.tunnel.interface in links:
        others = " and ".join(f"{vpn.headline} by table {table_name(vpn.table)}" for vpn in vpns)
        return f"{no_rule(config)}, but {others}" if others else ""
    if vpns:
        return f"no {name} here, but {' and '.join(vpn.headline for vpn in vpns)}"
    return f"no {name} here, and {no_rule(config)}: the VPN is off, or has other names"


def no_rule(config: Config) -> str:
    """Says that no rule leads to the table of the copies."""
    return f"no rule leads to table {' or '.join(map(str, sorted(config.tables.mirrors)))}"
