"""What cannot matter does not wake; what might, does."""

import pytest

from fz_iproute.daemon.events import Interest, is_about_links, matters

INTEREST = Interest(frozenset(["254", "539098368", "539098369"]))


@pytest.mark.parametrize(
    "line",
    [
        "[LINK]2: eth0: <BROADCAST,MULTICAST> mtu 1500",
        "[ADDR]2: eth0    inet 10.0.0.1/24 scope 0 eth0",
        "[RULE]32765: not from all fwmark 0xfd002021 lookup 539098368",
        *("[NEXTHOP]id 7 dev eth0", "", "something else"),
        "[ROUTE]10.0.0.0/24 dev eth0 proto 2 scope 253 src 10.0.0.1",
        "[ROUTE]Deleted 10.0.0.0/24 dev eth0 table 539098368 proto 2 scope 253",
        "[ROUTE]10.0.0.0/24 dev table proto 2 scope 253",
        "[ROUTE]10.0.0.0/24 dev eth0 table",
        "[ROUTE]10.0.0.0/24 dev via proto 2 scope 253",
        "[ROUTE]10.0.0.0/24 proto 3 nexthop dev eth0 weight 1 nexthop via 10.0.0.9 dev eth1 weight 1",
        "[ROUTE]unreachable 10.0.0.0/8 table 539098368",
        "[ROUTE]fe80::/64 dev eth0 proto 2 metric 256 pref medium",
    ],
)
def test_what_may_matter_wakes(line) -> None:
    assert matters(line, INTEREST)


@pytest.mark.parametrize(
    ("line", "if_mirrored", "if_routers"),
    [
        ("[ROUTE]local 10.0.0.1 dev eth0 table 255 proto 2 scope 254 src 10.0.0.1", False, False),
        ("[ROUTE]10.9.0.0/16 dev eth0 table 77 scope 253", False, False),
        ("[ROUTE]10.9.0.0/16 via 10.0.0.9 dev eth0", True, True),
        ("[ROUTE]blackhole 10.9.0.0/16", True, False),
        ("[ROUTE]Deleted unreachable 10.9.0.0/16 metric 7", True, False),
        ("[ROUTE]Deleted 10.9.0.0/16 via 10.0.0.9 dev eth0 proto 4", True, True),
    ],
)
def test_what_cannot_matter_does_not(line: str, if_mirrored: bool, if_routers: bool) -> None:
    """It does where it takes the place of a mirrored route, or where routes through routers are mirrored."""
    assert not matters(line, INTEREST)
    assert if_mirrored == matters(line, INTEREST._replace(known=frozenset(["10.9.0.0/16"])))
    assert if_routers == matters(line, INTEREST._replace(routers=True))


def test_link_lines_are_told_apart() -> None:
    assert is_about_links("[LINK]2: eth0: <UP>")
    assert not is_about_links("[ADDR]2: eth0    inet 10.0.0.1/24")
