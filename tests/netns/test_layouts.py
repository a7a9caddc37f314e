"""In every layout, the kernel (`ip route get`) sends packets the right way, with and without the mark."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.netns.namespace import LAN, MARK, MIRROR, TUNNEL, Machine

IN_THE_LAN = ["192.168.188.1", "192.168.188.200", "fd00:188::1", "fd00:188::abcd"]
ON_THE_UPLINK = ["10.77.0.1", "fd00:77::1"]
IN_THE_VPN = ["100.64.0.9", "100.96.1.1", "100.100.111.1", "fd00:2021:1111::77"]
ON_THE_INTERNET = ["8.8.8.8", "203.0.113.1", "2001:db8::1"]
TIERED = '[tables]\nlayout = "tiered"\n'
SINGLE = '[tables]\nlayout = "single"\n'


@pytest.fixture(scope="module", params=["single", "auto finds single", "tiered", "auto finds tiered"])
def laid_out(long_lived: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    """A machine in each layout, synced with the configuration for it; nobody changes it."""
    machine = long_lived(Machine)
    if "tiered" in request.param:
        machine.tiers()
    machine.fz("sync", config={"single": SINGLE, "tiered": TIERED}.get(request.param, ""))
    return machine


def test_packets_go_where_they_should(laid_out: Machine) -> None:
    for address in IN_THE_LAN:
        assert (LAN, LAN) == (laid_out.way(address), laid_out.way(address, mark=MARK))
    assert ["uplink0"] * 2 == [laid_out.way(address) for address in ON_THE_UPLINK]
    assert [TUNNEL] * 7 == [laid_out.way(address) for address in (*IN_THE_VPN, *ON_THE_INTERNET)]
    # Main itself sends the tunnel's own addresses into the tunnel, marked or not.
    assert ["uplink0"] * 6 == [
        laid_out.way(address, mark=MARK) for address in (*ON_THE_INTERNET, *IN_THE_VPN[:2], IN_THE_VPN[3])
    ]


def test_a_stale_copy_is_ours_though_the_layout_has_changed_since(machine: Machine) -> None:
    """Its source address is gone, and it would be found before the good copy: the LAN would be unreachable."""
    machine.fz("sync")
    copies = [
        f"{option}route add {line} table {MIRROR}"
        for option, prefix in (("", "192.168.188.0/24"), ("-6 ", "fd00:188::/64"))
        for line in machine.route(prefix)
    ]
    machine.tiers()
    machine.batch(copies)  # the client has left them where they were
    machine.address(LAN, "192.168.77.5/24")  # the device keeps an address, so the kernel keeps the copies
    machine.ip("addr", "del", "192.168.188.112/24", "dev", LAN)
    machine.address(LAN, "192.168.188.50/24")
    machine.ip("-6", "addr", "del", "fd00:188::112/64", "dev", LAN)
    machine.fz("sync")
    assert ([], []) == (machine.route("192.168.188.0/24"), machine.route("fd00:188::/64"))
    assert machine.reaches("192.168.188.1")
    assert "" == machine.fz("plan")
