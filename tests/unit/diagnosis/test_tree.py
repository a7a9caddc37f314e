"""What `status --routes` draws of small machines, beside what it draws of one where only copies are missing."""

import re
from collections.abc import Mapping

import pytest

from fz_iproute.diagnosis.status import Status, status
from fz_iproute.diagnosis.tree import draw
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.config import replace as configured
from fz_iproute.mirror.prefix import Family, Prefix
from tests.layouts import LAYOUTS
from tests.unit.diagnosis.machines import BACKSTOP, FIREZONE, HELD, SERVED, STALE, TIERS, Case, vpn, without
from tests.unit.diagnosis.test_sentence import IN_MAIN

CLOSED = {"mode": "manage", "on_down": "closed", "routes": tuple(map(Prefix.parse, ("100.64.0.0/11", "fd00:77::/48")))}
REFUSED_PART = [*vpn("192.168.1.8/29", verb="unreachable ", dev=""), *vpn("10.9.0.0/16", verb="unreachable ", dev="")]
ON_IPV4: Mapping[Family, frozenset[str]] = {"inet": frozenset(["tun-firezone"])}


CASES = {
    "routes of main that are not copied": Case(
        [*FIREZONE, *IN_MAIN, "route add 100.64.7.0/24 via 192.168.1.1 dev eth0", "route add throw 10.6.0.0/24"],
        """
         + 10.128.0.0/16 dev eth0 proto boot scope link
         + 10.128.0.0/9 dev docker0 proto boot scope link
         + 100.64.0.0/10 dev eth0 proto boot scope link
         + 100.96.7.0/24 dev eth0 proto boot scope link
         · 10.66.0.0/24 dev tun-firezone proto kernel scope link  # tun-firezone is the tunnel
lost    packets to 100.64.0.0/11, a part of a LAN, enter tun-firezone: 100.64.0.0/11 of table 539098368, by rule 3…
main    10.0.0.0/16 via 192.168.1.1 dev eth0 proto boot scope global  # lan.allow = ["10.0.0.0/16"] would copy it
main    10.1.0.0/16 proto boot scope global nexthop via 192.168.1.1 dev eth0 nexthop via 172.17.0.2 dev docker0  #…
main    10.2.0.0/16 via 192.168.1.1 dev eth0 proto boot scope global mtu 1400  # lan.allow = ["10.2.0.0/16"] would…
main    10.7.0.0/24 via 10.66.0.1 dev tun-firezone proto boot scope global  # it leads into the tunnel
main    10.8.0.0/24 dev eth0 proto boot scope global  # lan.allow = ["10.8.0.0/24"] would copy it
main    unreachable 10.9.0.0/24 proto boot scope global  # it rejects packets
main    100.64.7.0/24 via 192.168.1.1 dev eth0 proto boot scope global  # the VPN's table has its own route to 100…
main    fd00:8::/64 dev eth0 proto boot metric 1024 pref medium  # it has expired
main    fd00:8::/48 via fd00:1::1 dev eth0 proto boot metric 1024 pref medium  # lan.allow = ["fd00:8::/48"] would…
main    fd00:9::/64 dev eth0 proto boot metric 1024 pref medium  # it has expired
""",
    ),
    "parts of LANs that the VPN routes": Case(
        [*SERVED, *vpn("192.168.1.64/26", "172.17.0.0/17", "172.17.128.0/17"), *REFUSED_PART],
        """
           unreachable 10.9.0.0/16 proto boot scope global
           172.17.0.0/17 dev tun-firezone proto boot scope link
           172.17.128.0/17 dev tun-firezone proto boot scope link
           unreachable 192.168.1.8/29 proto boot scope global
           192.168.1.64/26 dev tun-firezone proto boot scope link
         = 172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1
         = 192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.5
         = fd00:1::/64 dev eth0 proto kernel metric 256 pref medium
lost    packets to 172.17.0.0/16 enter tun-firezone: 172.17.0.0/17 of table 539098368, 172.17.128.0/17 of table 53…
lost    packets to 192.168.1.8/29, a part of a LAN, are refused: unreachable 192.168.1.8/29 of table 539098368, by…
lost    packets to 192.168.1.64/26, a part of a LAN, enter tun-firezone: 192.168.1.64/26 of table 539098368, by ru…
""",
    ),
    "copies elsewhere and a placeholder": Case(
        [
            *TIERS,
            "route add 203.0.113.0/24 dev eth0",
            HELD.replace("dev tun-firezone", "").replace("add", "add throw"),
            HELD.replace("dev tun-firezone", "").replace("add", "add throw").replace("539098368", "539098369"),
            "route add 192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.5 table 539098370",
        ],
        """
observe, layout tiered: the VPN's own routes in table 539098368, copies in 539098369, its default route in 5390983…
  100    not from all fwmark 0xfd002021 lookup 539098368
         - throw 203.0.113.0/24 proto 245 scope global  # no copy is refused here any more
  200    not from all fwmark 0xfd002021 lookup 539098369
         = 172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1
         = 192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.5
         = throw 203.0.113.0/24 proto 245 scope global
           # a public prefix: lan.trust = "private", and lan.allow does not have it; a placeholder keeps the VPN's…
         · 203.0.113.0/24 dev eth0 proto boot scope link
           # a public prefix: lan.trust = "private", and lan.allow does not have it
  300    not from all fwmark 0xfd002021 lookup 539098370
         - 192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.5  # copies belong in table 539098369 now
  100    not from all fwmark 0xfd002021 lookup 539098368
  200    not from all fwmark 0xfd002021 lookup 539098369
         = fd00:1::/64 dev eth0 proto kernel metric 256 pref medium
  300    not from all fwmark 0xfd002021 lookup 539098370
""",
        config=configured(Config(), lan={"trust": "private"}),
    ),
    "manage mode": Case(
        [
            *FIREZONE[:2],
            BACKSTOP,
            "rule add pref 32764 not fwmark 0xfd002021 lookup 539098368",
            *vpn("100.64.0.0/11", dev=" dev tun-firezone proto static scope global"),
        ],
        """
tun-firezone is up; IPv4 is blocked, IPv6 leaves by eth0
manage, layout single: copies go to table 539098368
- 32764  not from all fwmark 0xfd002021 lookup 539098368
         = 100.64.0.0/11 dev tun-firezone proto static scope global
         + unreachable 100.64.0.0/11 proto static scope global metric 4294967295
         + default dev tun-firezone proto static scope global
         = unreachable default proto static scope global metric 4294967295
+ 32765  not from all fwmark 0xfd002021 lookup 539098368
- 32765  not from all fwmark 0xfd002021 lookup 539098368
+ 32765  not from all fwmark 0xfd002021 lookup 539098368
         + unreachable default dev lo proto static metric 4294967295 pref medium
- 32765  not from all fwmark 0xfd002021 lookup 539098368
waits   inet6: fd00:77::/48, default  # tun-firezone has no IPv6 address
""",
        config=configured(Config(), tunnel={**CLOSED, "internet": True}),
        numbered=ON_IPV4,
    ),
    "manage mode without a tunnel": Case(
        [*FIREZONE[:2], BACKSTOP],
        """
tun-firezone is missing; IPv4 is blocked, IPv6 leaves by eth0
manage, layout single: copies go to table 539098368
+ 32765  not from all fwmark 0xfd002021 lookup 539098368
         - unreachable default proto static scope global metric 4294967295
           # the configuration has no such route here
- 32765  not from all fwmark 0xfd002021 lookup 539098368
+ 32765  not from all fwmark 0xfd002021 lookup 539098368
- 32765  not from all fwmark 0xfd002021 lookup 539098368
waits   inet: 100.64.0.0/11  # tun-firezone is missing
waits   inet6: fd00:77::/48  # tun-firezone is missing
""",
        config=configured(Config(), tunnel=CLOSED),
    ),
    "another VPN": Case(
        LAYOUTS["NetBird without IPv6"].lines,
        """
no tun-firezone here, but IPv4 goes into wt0 (IPv6 is refused)
  105    from all lookup main suppress_prefixlength 0
  106    not from all fwmark 0x1bd00 lookup 7120
  no rule  leads to table 539098368
  105    from all lookup main suppress_prefixlength 0
  106    not from all fwmark 0x1bd00 lookup 7120
  no rule  leads to table 539098368
""",
    ),
    "another VPN in front": Case(
        [*without("dev tun-firezone", SERVED), *LAYOUTS["Tailscale"].lines],
        """
tun-firezone is missing; packets to the internet do not enter it: IPv4 and IPv6 go into tailscale0 by rule 5270, t…
  5210   from all fwmark 0x80000/0xff0000 lookup main
  5230   from all fwmark 0x80000/0xff0000 lookup default
  5250   from all fwmark 0x80000/0xff0000 unreachable
  5270   from all lookup 52
         = 172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1
         = 192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.5
  5210   from all fwmark 0x80000/0xff0000 lookup main
  5230   from all fwmark 0x80000/0xff0000 lookup default
  5250   from all fwmark 0x80000/0xff0000 unreachable
  5270   from all lookup 52
         = fd00:1::/64 dev eth0 proto kernel metric 256 pref medium
lost    packets to 172.17.0.0/16, 192.168.1.0/24 enter tailscale0: default of table 52, by rule 5270 (from all loo…
lost    packets to fd00:1::/64 enter tailscale0: default of table 52, by rule 5270 (from all lookup 52)
""",
    ),
}


def found(case: Case) -> Status:
    return status(case.config, *case.read())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_drawn(case: Case) -> None:
    """On a screen of 115 columns."""
    plain = draw(found(Case(FIREZONE, "")), width=115).splitlines()
    drawn = [line for line in draw(found(case), width=115).splitlines() if line not in plain]
    assert case.said.strip("\n").splitlines() == drawn


GONE = "which this machine no longer has"
BY_ROUTER = "via 172.17.0.2 dev docker0"
IN_FRONT = "rule add to 192.168.1.0/24 lookup 77 pref 5"


@pytest.mark.parametrize(
    ("lines", "lost"),
    [
        (FIREZONE, "enter tun-firezone"),
        (
            [*SERVED, IN_FRONT, f"route add default {BY_ROUTER} table 77"],
            "leave by docker0 through the router 172.17.0.2",
        ),
        ([*SERVED, IN_FRONT, "route add unreachable default table 77"], "are refused"),
        ([*without("192.168.1.0/24", SERVED), STALE], f"get the source 192.168.1.99, {GONE}"),
        ([*SERVED, "rule add from 192.168.1.5 lookup 77 pref 5", "route add default dev wg9 table 77"], "enter wg9"),
    ],
)
def test_what_becomes_of_packets_to_a_lan(lines: list[str], lost: str) -> None:
    (line,) = [line for line in found(Case(lines, "")).lan if line.route.dst == "192.168.1.0/24"]
    assert lost == line.lost


def test_marks_are_in_colour() -> None:
    text = draw(found(CASES["manage mode"]), colour=True)
    assert {("32", "="), ("33", "+"), ("33", "-")} == set(re.findall("\x1b\\[(3.)m(.)\x1b", text))
