"""Layouts that real clients leave behind: packets, not rules, tell where the copies have to be."""

import pytest

from tests.netns.namespace import MARK, MIRROR, TIER_INTERNET, TIER_LAN, TUNNEL, TUNNEL_ROUTES, Machine

HOSTS = {"192.168.188.1": "wlp192s0", "fd00:188::1": "wlp192s0", "8.8.8.8": TUNNEL, "2600::1": TUNNEL}


def old_client_after_a_new_one(machine: Machine) -> None:
    """A newer client never deletes its rules; the older one keeps all routes in the first table, and has one rule."""
    machine.tiers()
    machine.batch(f"{option}route flush table {TIER_INTERNET}" for option in ("", "-6 "))
    for prefix in ("default", "::/0"):
        machine.tunnel_route(prefix, MIRROR)
    machine.batch(
        f"{option}rule add not from all fwmark {MARK:#x} lookup {MIRROR} pref 32765" for option in ("", "-6 ")
    )


def split_default(machine: Machine) -> None:
    for option in ("", "-6 "):
        machine.batch([f"{option}route del default dev {TUNNEL} table {MIRROR}"])
    for prefix in ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"):
        machine.tunnel_route(prefix, MIRROR)


def split_default_in_the_first_tier(machine: Machine) -> None:
    old_client_after_a_new_one(machine)
    split_default(machine)


@pytest.mark.parametrize("change", [old_client_after_a_new_one, split_default, split_default_in_the_first_tier])
def test_the_lan_is_reached_and_nothing_else_leaves_the_tunnel(change: object, machine: Machine) -> None:
    assert callable(change)
    machine.fz("sync")
    change(machine)
    machine.fz("sync")
    assert HOSTS == {host: machine.way(host) for host in HOSTS}
    resource = TUNNEL_ROUTES[0].split("/")[0].replace("64.0", "64.9")
    assert TUNNEL == machine.way(resource)
    assert "" == machine.fz("plan")
    if change is old_client_after_a_new_one:
        assert str(TIER_LAN) not in machine.ip("route", "show", "table", "all")
