"""What may have changed is read again; a plain new route is understood."""

import pytest

from fz_iproute.daemon.news import changed_by, new_routes
from fz_iproute.mirror.model import EVERYTHING


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("[ADDR]2: eth0    inet 10.0.0.1/24 brd 10.0.0.255 scope 0 eth0", {"inet"}),
        ("[ADDR]Deleted 2: inet6    inet 10.0.0.1/24 scope 0 inet6", {"inet"}),
        ("[ADDR]2: inet    inet6 fe80::1/64 scope 253", {"inet6"}),
        ("[ROUTE]10.0.0.0/24 dev eth0 proto 2 scope 253 src 10.0.0.1", {"inet"}),
        ("[ROUTE]Deleted 10.0.0.7 dev eth0 table 539098368 proto 2 scope 253", {"inet"}),
        ("[ROUTE]unreachable 10.0.0.0/8 table 539098368", {"inet"}),
        ("[ROUTE]10.0.0.0/8 via inet6 fe80::1 dev eth0", {"inet"}),
        ("[ROUTE]fe80::/64 dev eth0.7 proto 2 metric 256 pref medium", {"inet6"}),
        ("[ROUTE]Deleted 7 fd00::/64 dev lo metric 1024 pref medium", {"inet6"}),
        ("[ROUTE]::ffff:10.0.0.1 dev eth0 metric 1024 pref medium", {"inet6"}),
        # Which family has this default route?
        ("[ROUTE]default dev tun-firezone table 539098368 proto 4 scope 0", {"inet", "inet6"}),
        ("[ROUTE]Deleted default via 10.0.0.1 dev eth0", {"inet", "inet6"}),
        ("[ROUTE]6 default table 539098368", {"inet", "inet6"}),
        ("[LINK]2: eth0: <BROADCAST,MULTICAST> mtu 1500", EVERYTHING),
        ("[RULE]32765: not from all fwmark 0xfd002021 lookup 539098368", EVERYTHING),
        *((line, EVERYTHING) for line in ("[NEXTHOP]id 7 dev eth0", "[ADDR]2: eth0", "[ROUTE]", "something else", "")),
    ],
)
def test_what_may_have_changed_is_read_again(line: str, parts: set[str]) -> None:
    """If in doubt, everything."""
    assert parts == changed_by(line)


@pytest.mark.parametrize(
    "line",
    [
        "10.0.0.0/24 dev eth0 proto 2 scope 253 src 10.0.0.1 metric 100 ",
        "10.0.0.0/24 dev eth0 proto 2 scope 253 src 10.0.0.1 ",
        "10.0.0.7 dev table scope 253 ",
        "fd00::/64 dev eth0 proto 9 metric 256 pref medium",
    ],
)
def test_a_plain_route_that_main_has_got_is_understood(line: str) -> None:
    """What becomes of it, tests/unit/ip/test_passes.py compares with what the parser makes of the JSON."""
    (route,) = new_routes([f"[ROUTE]{line}"]) or ()
    said = f"{route.dst} {route.words}".replace("kernel", "2").replace("boot", "3").replace("scope link", "scope 253")
    assert line.split() == said.replace("proto ra", "proto 9").replace("proto 3 ", "").split()


@pytest.mark.parametrize(
    "line",
    [
        "Deleted 10.0.0.0/24 dev eth0 proto 2 scope 253 src 10.0.0.1",
        "10.0.0.0/24 dev eth0 proto 2 scope 253 src 10.0.0.1 linkdown ",
        "10.0.0.0/24 dev eth0 table 7 scope 253",
        "10.0.0.0/24 dev eth0 scope 253 mtu 1400",
        "10.0.0.0/24 dev eth0 proto 77 scope 253",
        "10.0.0.0/24 dev 'eth0 scope 253",
        "10.0.0.0/24 dev eth0 proto 3",
        f"10.0.0.0/24 dev eth0 scope 253 metric {'9' * 5000}",
        "10.0.0.0/24 via 10.9.0.1 dev eth0 scope 253",
        "10.0.0.0/24 nhid 7 dev eth0 scope 253",
        "10.0.0.0/24 scope 253 src 10.0.0.1",
        "2 10.0.0.1 dev eth0 table 255 proto 2 scope 254 src 10.0.0.1",
        "unreachable 10.0.0.0/8",
        "default dev eth0 scope 253",
        "fd00::/64 dev eth0 proto 9 metric 256 expires 77sec pref medium",
        "fd00::/64 dev eth0 dev eth1",
    ],
)
def test_a_route_with_anything_else_is_not(line: str) -> None:
    """Then a pass reads it."""
    assert not new_routes([f"[ROUTE]{line}"])


ADDRESS, ARRIVAL = "[ADDR]2: eth0    inet 10.0.0.1/24 scope 0 eth0", "[ROUTE]10.0.0.0/24 dev eth0 scope 253"


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ([ADDRESS], 0),
        ([ADDRESS, "[ROUTE]2 10.0.0.1 dev eth0 table 255 proto 2 scope 254 src 10.0.0.1 "], 0),
        ([ADDRESS, ARRIVAL], 1),
        ([ADDRESS, ARRIVAL, "[ROUTE]3 10.0.0.255 dev eth0 table 255 proto 2 scope 253 src 10.0.0.1 "], 1),
        ([ARRIVAL, ARRIVAL.replace("10.0", "10.1")], 2),
        ([ARRIVAL, ADDRESS.replace("]", "]Deleted ")], None),
        ([ARRIVAL, ARRIVAL + " mtu 1400"], None),
        ([ARRIVAL, "[LINK]2: eth0: <UP>"], None),
        ([ARRIVAL, "[RULE]7: from all lookup 7", ADDRESS], None),
        (["[ROUTE]Deleted 10.0.0.0/24 dev eth0 scope 253", ARRIVAL], None),
        ([ARRIVAL, "[ROUTE]2 10.0.0.1 dev eth0 table 7 proto 2 scope 254 "], None),
    ],
)
def test_routes_are_new_only_where_nothing_else_has_changed(lines: list[str], count: int | None) -> None:
    found = new_routes(lines)
    assert count == (None if found is None else len(found))
