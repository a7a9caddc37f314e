"""Cron mails every line that a job prints: `sync --quiet` tells no state twice, and every error each time."""

from collections.abc import Callable

import pytest

from tests.cli.world import TABLE, Done, World, gatewayed, lan

AUTO = '[tunnel]\ninterface = "auto"\n'
OTHER = 77


def vpn_is_off(world: World) -> None:
    world.batch("rule del pref 32765")
    world.vpn.close()
    for family in ("inet", "inet6"):
        world.mirror(family)


def another_vpn_is_on(world: World) -> None:
    """One that needs copies."""
    vpn_is_off(world)
    a_second_vpn_is_on(world)


def a_second_vpn_is_on(world: World) -> None:
    world.land.tunnel("wg7")
    world.batch(f"rule add not fwmark 0x4d lookup {OTHER} pref 500", f"route add default dev wg7 table {OTHER}")


def each_vpn_takes_a_family(world: World) -> None:
    a_second_vpn_is_on(world)
    world.land.batch(["rule del pref 500", "-6 rule del pref 32765"])


def tunnel_is_down(world: World) -> None:
    world.land.ip("link", "set", "dev", "tun-firezone", "down")
    for family in ("inet", "inet6"):
        world.mirror(family)


def odd_lans(world: World) -> None:
    """Public ones, huge ones, one that the VPN routes, one that cannot be copied exactly, and one with other parts."""
    for dst in ("8.8.4.0/24", "0.0.0.0/1", "100.64.3.0/24", *(f"{number}.0.0.0/8" for number in range(20, 30))):
        world.add("inet", lan(dst, "wlan0"))
    parts = [gatewayed("10.20.7.0/24", "10.20.0.1", dev="wlan0"), "blackhole 10.20.8.0/24"]
    world.add("inet", lan("10.9.0.0/16", words="mtu lock 1400"), *parts)
    world.add("inet6", lan("2001:db8:188::/64", proto="ra"))


def a_public_lan(world: World) -> None:
    world.add("inet", lan("8.8.4.0/24", "wlan0"))


STATES: dict[str, tuple[Callable[[World], None], str]] = {
    "the VPN is off": (vpn_is_off, ""),
    "the tunnel is down": (tunnel_is_down, ""),
    "another VPN is on": (another_vpn_is_on, ""),
    "two VPNs are on": (a_second_vpn_is_on, ""),
    "auto, the VPN is on": (lambda world: None, AUTO),
    "auto, the VPN is off": (vpn_is_off, AUTO),
    "auto, another VPN is on": (another_vpn_is_on, AUTO),
    "auto, two VPNs are on": (each_vpn_takes_a_family, AUTO),
    "a public prefix": (a_public_lan, ""),
    "odd LANs": (odd_lans, ""),
    "odd LANs, some allowed": (odd_lans, '[lan]\nallow = ["10.20.7.0/24", "8.0.0.0/7"]\nprune = false\n'),
    "odd LANs, refused": (
        odd_lans, '[lan]\ntrust = "private"\nexclude_interfaces = ["wlan*"]\ndeny = ["192.168.1.0/24"]\n'
    ),
}  # fmt: skip


def sync(world: World, *options: str) -> Done:
    return world.run(*options, "sync", "--quiet")


@pytest.mark.parametrize("name", STATES)
def test_no_state_is_told_twice(world: World, name: str) -> None:
    change, config = STATES[name]
    change(world)
    options = ["-c", world.config(config)] if config else []
    sync(world, *options)
    assert (0, "", "") == sync(world, *options)


def test_a_public_prefix_is_told_once(world: World) -> None:
    a_public_lan(world)
    (line,) = sync(world).lines
    assert line.startswith("warning: 8.8.4.0/24 dev wlan0 ")
    assert 'lan.trust = "private"' in line and "lan.allow" in line
    assert "8.8.4.0/24" in world.copies("inet")


ERRORS: dict[str, tuple[int, Callable[[World], None], str]] = {
    "ip refuses": (3, lambda world: world.fails("route add", exit=2, stderr="RTNETLINK answers: No space left"), ""),
    "ip fails": (3, lambda world: world.fails("route show", exit=1, stderr="Cannot open netlink socket"), ""),
    "a broken file": (2, lambda world: None, "[lan]\ntrust = 7\n"),
    "a table with two parts": (2, lambda world: None, f"[tables]\nlan = {TABLE}\ninternet = {TABLE}\n"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_told_each_time(world: World, name: str) -> None:
    code, change, config = ERRORS[name]
    change(world)
    options = ["-c", world.config(config)] if config else []
    first, second = (sync(world, *options) for _ in range(2))
    assert first == second
    assert (code, True) == (first.code, bool(first.errors))
