"""What may have changed is read again."""

import pytest

from fz_iproute.daemon.news import changed_by
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
        *(
            (line, EVERYTHING)
            for line in (
                "[NEXTHOP]id 7 dev eth0",
                "[ADDR]2: eth0",
                "[ADDR]2: eth0    dn 1.1",
                "[ROUTE]",
                "something else",
                "",
            )
        ),
    ],
)
def test_what_may_have_changed_is_read_again(line: str, parts: set[str]) -> None:
    """If in doubt, everything."""
    assert parts == changed_by(line)
