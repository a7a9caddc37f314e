"""What `doctor` finds on small machines, in its own words. tests/netns proves that its remedies help."""

from collections.abc import Sequence
from typing import Any

import pytest

from fz_iproute.diagnosis.checks import CHECKS
from fz_iproute.diagnosis.remedy import Setting
from fz_iproute.diagnosis.status import status
from fz_iproute.diagnosis.summary import summary
from fz_iproute.mirror.config import Config, keys_of, replace
from fz_iproute.mirror.model import Mark
from fz_iproute.mirror.prefix import Prefix
from fz_iproute.verbs.brief import drawn
from fz_iproute.verbs.screen import Screen
from tests.layouts import LAYOUTS, NO_VPN, both
from tests.unit.diagnosis.machines import (
    FIREZONE,
    HALVES,
    MIRROR,
    OWN,
    SERVED,
    SHORT,
    STALE,
    TIERS,
    WIREGUARD,
    Case,
    told,
    vpn,
    without,
)

TAILSCALE, NETBIRD = LAYOUTS["Tailscale"].lines, LAYOUTS["NetBird"].lines
OUTLINE = LAYOUTS["Outline"].lines
SPARED = "rule add lookup main suppress_prefixlength 0 pref 105"
BY_DOCKER = "via 172.17.0.2 dev docker0"
IN_USE = {"networkd": "in use"}
TO_LAN6 = "-6 route add fd00:1::/64 dev eth0 proto kernel metric 256 table 539098368"
TAP = [
    "route add 10.8.0.0/24 dev br9 proto kernel scope link src 10.8.0.2",
    "route add local 10.8.0.2 dev br9 scope host table 255",
]
STRICT = {"ipv4/conf/eth0/rp_filter": "1"}
MANAGED = replace(Config(), tunnel={"mode": "manage", "internet": True})


def of(interface: str, **tables: object) -> Config:
    """The configuration for another VPN."""
    return replace(Config(), tunnel={"interface": interface}, tables={"layout": "single", **tables})


OF_TAILSCALE = replace(
    of("tailscale0", single=52), tunnel={"interface": "tailscale0", "fwmark": Mark(0x80000, 0xFF0000)}
)


CASES = {
    "all is well": Case(SERVED, ""),
    "copies are missing": Case(
        FIREZONE,
        """
mirror failure: 3 commands are due, the first: ip route add table VPN 172.17.0.0/16 dev docker0 proto kernel scope
link src 172.17.0.1 (missing) → fz-iproute sync
""",
    ),
    "copies are missing, although watch runs": Case(
        FIREZONE,
        """
mirror failure: 3 commands are due, the first: ip route add table VPN 172.17.0.0/16 dev docker0 proto kernel scope
link src 172.17.0.1 (missing) → see the log of `watch` (`journalctl -u fz-iproute`): either another program undoes
its commands, and has to stop that, or `ip` refuses them
""",
        facts={"watch.process": "30"},
    ),
    "a copy is stale": Case(
        [*without("192.168.1.0/24", SERVED), STALE],
        """
mirror failure: the copy of 192.168.1.0/24 is stale, its source 192.168.1.99 is gone: no program can connect there;
1 command is due: ip route replace table VPN 192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.5
(changed, was src 192.168.1.99) → fz-iproute sync
""",
    ),
    "main treats parts of the LAN otherwise": Case(
        [
            *SERVED,
            "route add 192.168.1.48/28 via 192.168.1.1 dev eth0",
            "route add unreachable 192.168.1.66",
            "route add 192.168.1.1 dev eth0",
            "route add 192.168.1.128/25 dev docker0",
        ],
        """
mirror failure: 2 commands are due, the first: ip route add table VPN 192.168.1.1 dev eth0 proto boot scope link
(missing) → `fz-iproute plan` shows what sync would do: not all of it is for the better here
overrides warning: 192.168.1.48/28 via 192.168.1.1 dev eth0 proto boot scope global in main is overridden by the
copy of 192.168.1.0/24 → decide how 192.168.1.48/28 should be reached: main has 192.168.1.48/28 via 192.168.1.1 dev
eth0 proto boot scope global
overrides warning: unreachable 192.168.1.66 proto boot scope global in main is overridden by the copy of
192.168.1.0/24 → to keep all of 192.168.1.0/24 in the tunnel, [lan]: deny = ["192.168.1.0/24"], then fz-iproute
sync; or refuse 192.168.1.66/32 in a firewall
""",
    ),
    "main has routes that are not copied": Case(
        [
            *SERVED,
            "route add 10.0.0.0/16 via 192.168.1.1 dev eth0",
            "route add 10.0.0.0/7 via 192.168.1.1 dev eth0",
            "route add 99.0.0.0/16 via 192.168.1.1 dev eth0",
            "route add 10.9.0.0/24 via 10.8.0.1 dev tun-firezone",
            "route add 192.168.1.0/25 via 192.168.1.1 dev eth0",
        ],
        """
overrides warning: 192.168.1.0/25 via 192.168.1.1 dev eth0 proto boot scope global in main is overridden by the copy
of 192.168.1.0/24 → [lan]: allow = ["192.168.1.0/25"], then fz-iproute sync
overrides info: packets to 10.0.0.0/16, which main has routes for, go into the tunnel → [lan]: allow =
["10.0.0.0/16"], then fz-iproute sync
""",
    ),
    "the VPN takes a LAN that has a copy": Case(
        [*SERVED, *vpn("192.168.0.0/16")],
        """
mirror failure: 1 command is due: ip route del table VPN 192.168.1.0/24 dev eth0 proto kernel scope link src
192.168.1.5 (stale: the VPN's table has its own route to 192.168.0.0/16) → the VPN routes 192.168.1.0/24 explicitly:
renumber that LAN, or, if you need the VPN's hosts there more, run `fz-iproute sync`, which gives its addresses to
the VPN
""",
    ),
    "the VPN takes a LAN whose route main has lost": Case(
        [*SERVED, "-6 route del fd00:1::/64", "-6 route add fd00:1::/64 dev tun-firezone table 539098368"],
        """
mirror failure: main has lost the route of fd00:1::/64, but eth0 still has the address fd00:1::5 → the VPN routes
fd00:1::/64 explicitly: renumber that LAN, or, if you need the VPN's hosts there more, run `fz-iproute sync`, which
gives its addresses to the VPN; `ip -6 route add fd00:1::/64 dev eth0 proto kernel metric 256 pref medium` gives
main its route back
""",
    ),
    "the VPN takes a part of a LAN": Case(
        [*SERVED, *vpn("192.168.1.64/26"), "route add 192.168.1.64/26 via 192.168.1.1 dev eth0"],
        """
overrides info: packets to 192.168.1.64/26, which main has routes for, go into the tunnel → no safe remedy is known:
if you did this ([lan]: allow = ["192.168.1.64/26"], then fz-iproute sync), `doctor` would say: packets to
192.168.1.64/26 enter tun-firezone: 192.168.1.64/26 of table VPN, by rule 32765 (not from all fwmark MARK lookup
VPN)
""",
    ),
    "the VPN takes a LAN in two halves": Case(
        [*SERVED, *vpn("192.168.1.0/25", "192.168.1.128/25")],
        """
shadows failure: packets to 192.168.1.0/24 enter tun-firezone: 192.168.1.0/25 of table VPN, 192.168.1.128/25 of
table VPN, by rule 32765 (not from all fwmark MARK lookup VPN) → renumber the LAN, or, if you don't need it, [lan]:
deny = ["192.168.1.0/24"], then fz-iproute sync
""",
    ),
    "the VPN's table refuses a part of a LAN": Case(
        [*SERVED, *vpn("192.168.1.64/26", "10.9.0.0/16", verb="prohibit ", dev="")],
        """
shadows warning: packets to 192.168.1.64/26, a part of a LAN, are refused: prohibit 192.168.1.64/26 of table VPN, by
rule 32765 (not from all fwmark MARK lookup VPN) → ip route del table VPN prohibit 192.168.1.64/26 proto boot scope
global  # undo: ip route add table VPN prohibit 192.168.1.64/26 proto boot scope global
""",
    ),
    "copies in a table that is not asked": Case(
        [*TIERS, *HALVES],
        """
shadows failure: packets to 172.17.0.0/16, 192.168.1.0/24 enter tun-firezone: 128.0.0.0/1 of table VPN, by rule 100
(not from all fwmark MARK lookup VPN) → [tables]: layout = "single", then fz-iproute sync
""",
    ),
    "suspicious prefixes": Case(
        [
            *SERVED,
            "route add 10.99.0.0/16 dev eth0 proto dhcp scope link",
            "route add 192.168.1.77 dev eth0 proto dhcp scope link",
            "route add 198.51.100.0/24 dev eth0",
            "-6 route add 2001:db8:7::/64 dev eth0",
            "route add 8.0.0.0/7 dev eth0",
        ],
        """
mirror failure: 4 commands are due, the first: ip route add table VPN 10.99.0.0/16 dev eth0 proto dhcp scope link
(missing) → fz-iproute sync
prefixes warning: 8.0.0.0/7 dev eth0 proto boot scope link: wider than lan.min_prefixlen.inet = 8, so not copied →
leave it as it is: its packets stay in the tunnel; only if this network is yours, [lan]: min_prefixlen = { inet = 7
}, then fz-iproute sync
prefixes warning: 10.99.0.0/16 dev eth0 proto dhcp scope link: pushed by DHCP, and copied by this configuration →
[lan]: deny = ["10.99.0.0/16"], then fz-iproute sync; or, if you want it, [lan]: allow = ["10.99.0.0/16"]
prefixes warning: 198.51.100.0/24: public, and copied by this configuration → [lan]: allow = ["198.51.100.0/24"];
or, if this network is not yours, [lan]: trust = "private", then fz-iproute sync
prefixes info: 2001:db8:7::/64: public, and copied by this configuration → [lan]: allow = ["2001:db8:7::/64"]; or,
if this network is not yours, [lan]: trust = "private", then fz-iproute sync
""",
    ),
    "a wide public prefix of IPv6": Case(
        [*SERVED, "-6 route add 2001:db8:8::/60 dev eth0"],
        """
mirror failure: 1 command is due: ip -6 route add table VPN 2001:db8:8::/60 dev eth0 proto boot metric 1024 pref
medium (missing) → fz-iproute sync
prefixes warning: 2001:db8:8::/60: public, and copied by this configuration → [lan]: allow = ["2001:db8:8::/60"];
or, if this network is not yours, [lan]: trust = "private", then fz-iproute sync
""",
    ),
    "another interface": Case(
        [line.replace("tun-firezone", "wg9") for line in SERVED],
        """
tunnel failure: there is no tun-firezone, but wg9 carries the VPN → [tunnel]: interface = "wg9"
""",
    ),
    "another interface that takes a part": Case(
        [line.replace("tun-firezone", "wg9") for line in without("default", SERVED)],
        """
tunnel failure: there is no tun-firezone, but table VPN leads into wg9 → [tunnel]: interface = "wg9"
""",
    ),
    "no interface": Case(
        without("dev tun-firezone", SERVED),
        """
tunnel failure: there is no tun-firezone → start the VPN's client, or, if its interface has another name, [tunnel]:
interface = "NAME", then fz-iproute sync
""",
    ),
    "a rule that stands twice": Case(
        [*SERVED, "rule add not fwmark 0xfd002021 lookup 539098368 pref 32764"],
        """
rules warning: 2 rules (inet) say the same, with priority 32764, 32765: not from all fwmark MARK lookup VPN → ip
rule del priority 32764 not from all fwmark MARK lookup VPN  # undo: ip rule add priority 32764 not from all fwmark
MARK lookup VPN
""",
    ),
    "rules in the wrong order": Case(
        [line.replace("pref 200", "pref 50") for line in TIERS],
        """
rules failure: out of order (inet): 100: not from all fwmark MARK lookup VPN, 50: not from all fwmark MARK lookup
COPIES, 300: not from all fwmark MARK lookup 539098370 → ip rule add priority 200 not from all fwmark MARK lookup
COPIES protocol boot && ip rule del priority 50 not from all fwmark MARK lookup COPIES  # undo: ip rule add priority
50 not from all fwmark MARK lookup COPIES && ip rule del priority 200 not from all fwmark MARK lookup COPIES
protocol boot
rules failure: out of order (inet6): 100: not from all fwmark MARK lookup VPN, 50: not from all fwmark MARK lookup
COPIES, 300: not from all fwmark MARK lookup 539098370 → ip -6 rule add priority 200 not from all fwmark MARK lookup
COPIES protocol boot && ip -6 rule del priority 50 not from all fwmark MARK lookup COPIES  # undo: ip -6 rule add
priority 50 not from all fwmark MARK lookup COPIES && ip -6 rule del priority 200 not from all fwmark MARK lookup
COPIES protocol boot
""",
    ),
    "a routed network that is allowed, and not copied yet": Case(
        [*SERVED, "route add 10.5.0.0/16 via 192.168.1.1 dev eth0"],
        """
mirror failure: 1 command is due: ip route add table VPN 10.5.0.0/16 via 192.168.1.1 dev eth0 proto boot scope
global (missing) → fz-iproute sync
""",
        replace(Config(), lan={"allow": (Prefix.parse("10.5.0.0/16"),)}),
    ),
    "main in front": Case(
        [*SERVED, "rule add lookup main pref 5"],
        """
leak failure: IPv4 to the internet leaves by eth0, outside the tunnel: default of table main, by rule 5 (from all
lookup main) → ip rule del priority 5 from all lookup main  # undo: ip rule add priority 5 from all lookup main
""",
    ),
    "main in front for a source": Case(
        [*SERVED, "rule add from 192.168.1.5 lookup main pref 5"],
        """
leak warning: IPv4 from 192.168.1.5/32 to the internet leaves by eth0, outside the tunnel: default of table main, by
rule 5 (from 192.168.1.5 lookup main) → keep rule 5 if hosts outside connect to this one: their answers need it;
else `ip rule del priority 5 from 192.168.1.5 lookup main`
""",
    ),
    "a rule for the answers of one uplink": Case(
        [
            *SERVED,
            "rule add from 192.168.1.0/24 lookup 7 pref 5",
            "route add default via 192.168.1.1 dev eth0 table 7",
        ],
        """
shadows failure: packets to 192.168.1.0/24 leave by eth0 through the router 192.168.1.1: default of table 7, by rule
5 (from 192.168.1.0/24 lookup 7) → ip rule add priority 4 from 192.168.1.0/24 lookup main suppress_prefixlength 0
protocol boot  # undo: ip rule del priority 4 from 192.168.1.0/24 lookup main suppress_prefixlength 0 protocol boot
leak warning: IPv4 from 192.168.1.0/24 to the internet leaves by eth0, outside the tunnel: default of table 7, by
rule 5 (from 192.168.1.0/24 lookup 7) → keep rule 5 if hosts outside connect to this one: their answers need it;
else `ip rule del priority 5 from 192.168.1.0/24 lookup 7`
""",
    ),
    "a rule for all human users": Case(
        [*SERVED, "rule add uidrange 1000-60000 lookup 7 pref 5", "route add default dev tun-firezone table 7"],
        """
shadows failure: packets to 172.17.0.0/16, 192.168.1.0/24 enter tun-firezone: default of table 7, by rule 5 (from
all uidrange 1000-60000 lookup 7) → ip rule del priority 5 from all uidrange 1000-60000 lookup 7  # undo: ip rule
add priority 5 from all uidrange 1000-60000 lookup 7
""",
    ),
    "main refuses its router": Case(
        [*SERVED, "route add unreachable 192.168.1.1"],
        """
overrides warning: unreachable 192.168.1.1 proto boot scope global in main is overridden by the copy of
192.168.1.0/24 → to keep all of 192.168.1.0/24 in the tunnel, [lan]: deny = ["192.168.1.0/24"], then fz-iproute
sync; or refuse 192.168.1.1/32 in a firewall
""",
    ),
    "on-link, but with another scope": Case(
        [*SERVED, "route add 10.6.6.0/24 dev eth0 scope global"],
        """
overrides info: packets to 10.6.6.0/24, which main has routes for, go into the tunnel → [lan]: allow =
["10.6.6.0/24"], then fz-iproute sync
""",
    ),
    "a jump over the VPN": Case(
        [*SERVED, "rule add goto 32766 pref 5"],
        """
leak failure: IPv4 to the internet leaves by eth0, outside the tunnel: default of table main, by rule 5 (from all
goto 32766), rule 32766 (from all lookup main) → ip rule del priority 5 from all goto 32766  # undo: ip rule add
priority 5 from all goto 32766
""",
    ),
    "another mark": Case(
        [line.replace("fwmark 0xfd002021", "fwmark 0x7") for line in SERVED],
        """
mark failure: 32765: not from all fwmark 0x7 lookup VPN sends packets marked MARK into the tunnel → [tunnel]: fwmark
= 0x7
""",
    ),
    "marked packets are refused": Case(
        [*SERVED, "rule add fwmark 0xfd002021 unreachable pref 5"],
        """
mark failure: 5: from all fwmark MARK unreachable (inet) sends packets marked MARK nowhere (unreachable) → decide
whether rule 5 should hold for the VPN's client too
""",
    ),
    "marked packets are for this machine": Case(
        [*SERVED, "rule add fwmark 0xfd002021 lookup 77 pref 5", "route add local default dev lo table 77"],
        """
mark failure: 5: from all fwmark MARK lookup 77 (inet) sends packets marked MARK to this machine itself → decide
whether rule 5 should hold for the VPN's client too
""",
    ),
    "marks of two VPNs": Case(
        [
            *SERVED,
            "rule add fwmark 0x2021/0xffff lookup 77 pref 5",
            "route add default via 192.168.1.1 dev eth0 table 77",
        ],
        """
mark warning: 5: from all fwmark 0x2021/0xffff lookup 77 (inet) takes packets marked MARK too: the marks of two VPNs
overlap → give one of the two VPNs another mark (here: tunnel.fwmark)
""",
    ),
    "no network": Case(
        [*SERVED, "route del default", "-6 route del default"],
        """
mark warning: packets marked MARK have no route to the internet → connect this machine to a network, or find out why
main has no default route: `ip route show table main`
""",
    ),
    "no rule to main, which has a default route": Case(
        [*SERVED, "-6 route del default", "rule del pref 32766 lookup main"],
        """
rules failure: no rule looks up main (inet) → ip rule add priority 32766 from all lookup main protocol kernel  #
undo: ip rule del priority 32766 from all lookup main protocol kernel
mark warning: packets marked MARK have no route to the internet → ip rule add priority 32766 from all lookup main
protocol kernel  # undo: ip rule del priority 32766 from all lookup main protocol kernel
""",
    ),
    "a rule past main, which has a default route": Case(
        [*SERVED, "-6 route del default", "rule add fwmark 0xfd002021 goto 32767 pref 5"],
        """
mark warning: packets marked MARK have no route to the internet → find out which rule keeps them from main's default
route: `ip rule show`
""",
    ),
    "no rule for IPv6": Case(
        without("-6 rule", SERVED),
        """
rules failure: no rule looks up table VPN (inet6) → ip -6 rule add priority 32765 not from all fwmark MARK lookup
VPN protocol boot  # undo: ip -6 rule del priority 32765 not from all fwmark MARK lookup VPN protocol boot
leak failure: IPv6 to the internet leaves by eth0, outside the tunnel: default of table main, by rule 32766 (from
all lookup main) → ip -6 rule add priority 32765 not from all fwmark MARK lookup VPN protocol boot  # undo: ip -6
rule del priority 32765 not from all fwmark MARK lookup VPN protocol boot
""",
    ),
    "no default route of IPv6, and no copies": Case(
        without("-6 route add default", FIREZONE),
        """
mirror failure: 3 commands are due, the first: ip route add table VPN 172.17.0.0/16 dev docker0 proto kernel scope
link src 172.17.0.1 (missing) → fz-iproute sync
leak failure: IPv6 to the internet leaves by eth0, outside the tunnel: default of table main, by rule 32766 (from
all lookup main) → fz-iproute sync && ip -6 route add table VPN unreachable default dev lo proto static metric
4294967295 pref medium  # blocks IPv6 to the internet; undo: ip -6 route del table VPN unreachable default dev lo
proto static metric 4294967295 pref medium
""",
    ),
    "no default route of IPv6 in manage mode": Case(
        without("-6 rule", SERVED),
        """
rules failure: no rule looks up table VPN (inet6) → fz-iproute sync
mirror failure: 6 commands are due, the first: ip rule add priority 32765 not fwmark MARK lookup VPN protocol kernel
(missing) → fz-iproute sync
leak failure: IPv6 to the internet leaves by eth0, outside the tunnel: default of table main, by rule 32766 (from
all lookup main) → fz-iproute sync
""",
        config=MANAGED,
    ),
    "main in front for IPv6": Case(
        [*SERVED, "-6 rule add lookup main pref 5"],
        """
leak failure: IPv6 to the internet leaves by eth0, outside the tunnel: default of table main, by rule 5 (from all
lookup main) → ip -6 rule del priority 5 from all lookup main  # undo: ip -6 rule add priority 5 from all lookup
main
""",
    ),
    "main in front for a part of IPv6": Case(
        [*SERVED, "-6 rule add to 2600::/12 lookup main pref 5"],
        """
leak warning: IPv6 to 2600::/12 leaves by eth0, outside the tunnel: default of table main, by rule 5 (from all to
2600::/12 lookup main) → ip -6 rule del priority 5 from all to 2600::/12 lookup main  # undo: ip -6 rule add
priority 5 from all to 2600::/12 lookup main
""",
    ),
    "Tailscale alone": Case(
        TAILSCALE,
        """
tunnel failure: there is no tun-firezone, but all traffic goes into tailscale0 (IPv4 and IPv6) by rule 5270, table
52 → Tailscale changes its table itself and would undo copies; run `tailscale set --exit-node-allow-lan-access`
rules info: no rule leads to the VPN's table, and there is no tun-firezone
mirror info: no rule leads to table VPN, so copies have no effect
""",
    ),
    "Tailscale in front": Case(
        [*SERVED, *TAILSCALE],
        """
shadows failure: packets to 172.17.0.0/16, 192.168.1.0/24 enter tailscale0: default of table 52, by rule 5270 (from
all lookup 52) → decide which VPN should carry these packets: rule 5270 belongs to another one; tailscale0:
Tailscale changes its table itself and would undo copies; run `tailscale set --exit-node-allow-lan-access`
shadows failure: packets to fd00:1::/64 enter tailscale0: default of table 52, by rule 5270 (from all lookup 52) →
decide which VPN should carry these packets: rule 5270 belongs to another one; tailscale0: Tailscale changes its
table itself and would undo copies; run `tailscale set --exit-node-allow-lan-access`
leak failure: IPv4 to the internet goes into tailscale0: default of table 52, by rule 5270 (from all lookup 52) →
decide which VPN should carry these packets: rule 5270 belongs to another one; tailscale0: Tailscale changes its
table itself and would undo copies; run `tailscale set --exit-node-allow-lan-access`
leak failure: IPv6 to the internet goes into tailscale0: default of table 52, by rule 5270 (from all lookup 52) →
decide which VPN should carry these packets: rule 5270 belongs to another one; tailscale0: Tailscale changes its
table itself and would undo copies; run `tailscale set --exit-node-allow-lan-access`
""",
    ),
    "NetBird behind": Case(
        [*SERVED, *(line.replace("pref 10", "pref 4000") for line in NETBIRD)],
        """
other-vpn warning: wt0 (NetBird) is never asked (table 7120, rule 40006), because rule 32765 comes first → decide
which VPN should carry all packets, and disconnect the other one
""",
    ),
    "Tailscale for a part of the VPN": Case(
        [*SERVED, *without("default dev", TAILSCALE), *vpn("100.66.0.0/16", dev=" dev tailscale0", table=52)],
        """
leak warning: IPv4 to 100.66.0.0/16 goes into tailscale0: 100.66.0.0/16 of table 52, by rule 5270 (from all lookup
52) → decide which VPN should carry these packets: rule 5270 belongs to another one
""",
    ),
    "Tailscale for others": Case(
        [*SERVED, *without("default dev", TAILSCALE), *vpn("10.77.0.0/16", dev=" dev tailscale0", table=52)],
        """
leak info: IPv4 to 10.77.0.0/16 goes into tailscale0: 10.77.0.0/16 of table 52, by rule 5270 (from all lookup 52)
""",
    ),
    "networkd": Case(
        [*SERVED, "route add 10.99.0.0/16 dev eth0", *vpn("10.99.0.0/16", dev=" dev eth0")],
        """
networkd warning: systemd-networkd may delete 1 copy such as 10.99.0.0/16 and 2 rules such as 32765: not from all
fwmark MARK lookup VPN → mkdir -p FOLDER && printf '[Network] ManageForeignRoutes=no
ManageForeignRoutingPolicyRules=no ' > FOLDER/zz-fz-iproute.conf && systemctl restart systemd-networkd
""",
        facts=IN_USE,
    ),
    "networkd that keeps routes": Case(
        [*SERVED, "route add 10.99.0.0/16 dev eth0", *vpn("10.99.0.0/16", dev=" dev eth0")],
        """
networkd warning: systemd-networkd may delete 2 rules such as 32765: not from all fwmark MARK lookup VPN → mkdir -p
FOLDER && printf '[Network] ManageForeignRoutes=no ManageForeignRoutingPolicyRules=no ' > FOLDER/zz-fz-iproute.conf
&& systemctl restart systemd-networkd
""",
        facts={**IN_USE, "/etc/systemd/networkd.conf": "[Network]\nManageForeignRoutes=no\n"},
    ),
    "strict rp_filter with src_valid_mark": Case(
        SERVED,
        """
rp_filter warning: eth0, by which the VPN's client sends, has strict rp_filter → sysctl -w
net.ipv4.conf.eth0.rp_filter=2  # until the next boot
""",
        sysctls={**STRICT, "ipv4/conf/all/src_valid_mark": "1"},
    ),
    "strict rp_filter on a LAN without a copy": Case(
        without("docker0 proto kernel scope link", SERVED),
        """
mirror failure: 1 command is due: ip route add table VPN 172.17.0.0/16 dev docker0 proto kernel scope link src
172.17.0.1 (missing) → fz-iproute sync
rp_filter warning: docker0 has strict rp_filter, and 172.17.0.0/16 is not copied → sysctl -w
net.ipv4.conf.docker0.rp_filter=2  # until the next boot
""",
        sysctls={"ipv4/conf/docker0/rp_filter": "1"},
    ),
    "a name server in the LAN": Case(
        SERVED,
        """
dns warning: /etc/resolv.conf: 192.168.1.1 is in the copied LAN 192.168.1.0/24 → in /etc/resolv.conf, replace
192.168.1.1 by a server behind the tunnel: nameserver ADDRESS
""",
        facts={"/etc/resolv.conf": "nameserver 192.168.1.1\nnameserver 8.8.8.8\n"},
    ),
    "ip does not answer": Case(
        SERVED,
        """
ip failure: ip: no such file → install iproute2 5.3 or newer
""",
        facts={"ip.error": "ip: no such file"},
        ip="",
        is_read=False,
    ),
    "ip fails": Case(
        SERVED,
        """
ip failure: it did not answer → fz-iproute status --verbose
""",
        is_read=False,
    ),
    "ip is too old": Case(
        SERVED,
        """
ip failure: iproute2-5.2.0 is too old → install iproute2 5.3 or newer
""",
        ip="iproute2-5.2.0",
    ),
    "two on-link halves of the internet": Case(
        [*SERVED, "route add 0.0.0.0/1 dev eth0", "route add 128.0.0.0/1 dev eth0"],
        """
prefixes warning: 0.0.0.0/1, 128.0.0.0/1: public, on-link, and together much of the internet, so not copied → leave
it as it is: their packets stay in the tunnel; only if this network is yours, [lan]: allow = ["0.0.0.0/1",
"128.0.0.0/1"], then fz-iproute sync
""",
        config=replace(Config(), lan={"min_prefixlen": {"inet": 1, "inet6": 48}}),
    ),
    "the tunnel is down": Case(
        [*without("dev tun-firezone", SERVED), "link set dev tun-firezone down"],
        """
tunnel failure: tun-firezone is down → reconnect the VPN's client: setting tun-firezone up again does not bring back
its routes
""",
    ),
    "main's default route leads into the tunnel": Case(
        [*SERVED, "route del default", "route add default dev tun-firezone"],
        """
mark failure: 32766: from all lookup main sends packets marked MARK into the tunnel → ip route del default dev
tun-firezone proto boot scope link  # undo: ip route add default dev tun-firezone proto boot scope link
""",
    ),
    "the VPN behind main": Case(
        [line.replace("pref 32765", "pref 40000") for line in SERVED],
        """
leak failure: IPv4 to the internet leaves by eth0, outside the tunnel: default of table main, by rule 32766 (from
all lookup main) → ip rule add priority 32765 not from all fwmark MARK lookup VPN && ip rule del priority 40000 not
from all fwmark MARK lookup VPN  # undo: ip rule add priority 40000 not from all fwmark MARK lookup VPN && ip rule
del priority 32765 not from all fwmark MARK lookup VPN
leak failure: IPv6 to the internet leaves by eth0, outside the tunnel: default of table main, by rule 32766 (from
all lookup main) → ip -6 rule add priority 32765 not from all fwmark MARK lookup VPN && ip -6 rule del priority
40000 not from all fwmark MARK lookup VPN  # undo: ip -6 rule add priority 40000 not from all fwmark MARK lookup VPN
&& ip -6 rule del priority 32765 not from all fwmark MARK lookup VPN
""",
    ),
    "a host in front of a VPN without a mark": Case(
        [
            *(line.replace("tun-firezone", "tun0").replace("not fwmark 0xfd002021 ", "") for line in SERVED),
            "rule add to 99.1.1.1 lookup main pref 5",
        ],
        config=of("tun0"),
    ),
    "another table in front": Case(
        [*SERVED, "rule add lookup 77 pref 5", "route add 100.64.0.0/11 via 192.168.1.1 dev eth0 table 77"],
        """
leak failure: IPv4 to 100.64.0.0/11 leaves by eth0, outside the tunnel: 100.64.0.0/11 of table 77, by rule 5 (from
all lookup 77) → ip rule del priority 5 from all lookup 77  # undo: ip rule add priority 5 from all lookup 77
""",
    ),
    "a tap with a table of its own": Case(
        [*TAP, "rule add not fwmark 0x9 lookup 900 pref 1000", "route add default via 10.8.0.1 dev br9 table 900"],
        """
tunnel info: no tun-firezone here, and no rule for it; IPv4 to the internet leaves by br9 (rule 1000, table 900) →
if br9 is the tap of a VPN, `fz-iproute detect --interface br9` shows what to do
rules info: no rule leads to the VPN's table, and there is no tun-firezone
mirror info: no rule leads to table VPN, so copies have no effect
shadows failure: packets to 10.8.0.0/24, 172.17.0.0/16, 192.168.1.0/24 leave by br9 through the router 10.8.0.1:
default of table 900, by rule 1000 (not from all fwmark 0x9 lookup 900) → if br9 is the tap of a VPN, see
`fz-iproute detect --interface br9`; else find out who has made that: `ip route show table 900`
""",
    ),
    "a tap with two halves in main": Case(
        [*TAP, *(f"route add {half} via 10.8.0.1 dev br9" for half in ("0.0.0.0/1", "128.0.0.0/1"))],
        """
tunnel info: no tun-firezone here, and no rule for it; IPv4 to the internet leaves by br9 (rule 32766, table main) →
if br9 is the tap of a VPN, `fz-iproute detect --interface br9` shows what to do
rules info: no rule leads to the VPN's table, and there is no tun-firezone
mirror info: no rule leads to table VPN, so copies have no effect
""",
    ),
    "WireGuard alone": Case(
        both(*WIREGUARD),
        """
tunnel failure: there is no tun-firezone, but all traffic goes into wg0 (IPv4 and IPv6) by rule 32765, table 51820 →
[tunnel]: interface = "wg0", fwmark = 0xca6c; section [tables]: layout = "single", single = 51820, then fz-iproute
sync
rules info: no rule leads to the VPN's table, and there is no tun-firezone
mirror info: no rule leads to table VPN, so copies have no effect
""",
    ),
    "a journal that cannot be read": Case(
        SERVED,
        """
repeats info: could not look: /var/log/j cannot be read
""",
        config=replace(Config(), watch={"journal": "/var/log/j"}),
    ),
    "Outline alone": Case(
        OUTLINE,
        """
tunnel failure: there is no tun-firezone, but IPv4 goes into outline-tun1 (IPv6 leaves by eth0) by rule 28958, table
7113 → [tunnel]: interface = "outline-tun1", fwmark = 0x711e; section [tables]: layout = "single", single = 7113,
then fz-iproute sync
rules info: no rule leads to the VPN's table, and there is no tun-firezone
mirror info: no rule leads to table VPN, so copies have no effect
leak warning: outline-tun1: IPv6 leaves by eth0, outside the VPN → let outline-tun1 carry all traffic, or block the
rest, in the settings of this VPN
""",
    ),
    "Tailscale as configured, beside a rule that spares the LAN": Case(
        [*TAILSCALE, "route add 192.168.0.0/16 dev tailscale0 table 52", *both(SPARED)],
        """
mirror warning: 2 commands are due, the first: ip route add table 52 172.17.0.0/16 dev docker0 proto kernel scope
link src 172.17.0.1 (missing) → fz-iproute sync
""",
        config=OF_TAILSCALE,
    ),
    "two halves in main, as configured": Case(
        LAYOUTS["OpenVPN def1"].lines,
        """
rules info: no rule leads to the VPN's table
mirror info: no rule leads to table VPN, so copies have no effect
""",
        config=of("tun0"),
    ),
    "rules that look at the interface": Case(
        [
            *both("route add default dev tun0 table 2022", "rule add not iif lo lookup 2022 pref 9003"),
            "rule add from 0.0.0.0 iif lo lookup 2022 pref 9003",
        ],
        """
mirror failure: 3 commands are due, the first: ip route add table 2022 172.17.0.0/16 dev docker0 proto kernel scope
link src 172.17.0.1 (missing) → fz-iproute sync
leak failure: IPv6 to the internet leaves by eth0, outside the tunnel: default of table main, by rule 32766 (from
all lookup main) → let tun0 carry all traffic, or block the rest, in the settings of this VPN
""",
        config=of("tun0", single=2022),
    ),
    "another table is configured": Case(
        FIREZONE,
        """
rules info: no rule leads to the VPN's table
mirror failure: no rule looks up table 77, which the settings name for copies → [tables]: single = VPN, then
fz-iproute sync
shadows failure: packets to 172.17.0.0/16, 192.168.1.0/24 enter tun-firezone: default of table VPN, by rule 32765
(not from all fwmark MARK lookup VPN) → [tables]: single = VPN, then fz-iproute sync
shadows failure: packets to fd00:1::/64 enter tun-firezone: default of table VPN, by rule 32765 (not from all fwmark
MARK lookup VPN) → [tables]: single = VPN, then fz-iproute sync
""",
        config=replace(Config(), tables={"layout": "single", "single": 77}),
    ),
    "another table is configured, but good copies are left": Case(
        SERVED,
        """
rules info: no rule leads to the VPN's table
mirror warning: no rule looks up table 77, which the settings name for copies → [tables]: single = VPN, then
fz-iproute sync
""",
        config=replace(Config(), tables={"layout": "single", "single": 77}),
    ),
    "another layout is configured, and sync leaves the copies": Case(
        SERVED,
        """
mirror warning: no rule looks up table COPIES, which the settings name for copies → [tables]: layout = "auto", then
fz-iproute sync
""",
        config=replace(Config(), tables={"layout": "tiered"}),
    ),
    "another table is configured for the copies of three": Case(
        TIERS,
        """
mirror warning: no rule looks up table 77, which the settings name for copies → [tables]: layout = "auto", then
fz-iproute sync
""",
        config=replace(Config(), tables={"layout": "tiered", "lan": 77}),
    ),
    "no rule of IPv6 for the last tier": Case(
        without("-6 rule add not fwmark 0xfd002021 lookup 539098370", TIERS),
        """
rules failure: no rule looks up table 539098370 (inet6) → ip -6 rule add priority 300 not from all fwmark MARK
lookup 539098370 protocol boot  # undo: ip -6 rule del priority 300 not from all fwmark MARK lookup 539098370
protocol boot
leak failure: IPv6 to the internet leaves by eth0, outside the tunnel: default of table main, by rule 32766 (from
all lookup main) → ip -6 rule add priority 300 not from all fwmark MARK lookup 539098370 protocol boot  # undo: ip
-6 rule del priority 300 not from all fwmark MARK lookup 539098370 protocol boot
""",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_found(case: Case) -> None:
    assert case.said.strip("\n") == told(case.findings())


@pytest.mark.parametrize("lines", NO_VPN.values(), ids=NO_VPN)
def test_a_network_card_that_is_no_tap_is_not_taken_for_one(lines: Sequence[str]) -> None:
    assert [] == Case(lines).machine.taps


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_remedy_sets_what_is_set_already(case: Case) -> None:
    machine = case.machine
    now = keys_of(machine.config)
    steps = [
        step for check in CHECKS for found in check.look(machine) for each in found.remedies for step in each.steps
    ]
    for step in steps:
        assert not isinstance(step, Setting) or now[step.section, step.key] != step.value


WIDER = {
    "192.168.1.0/24": ("192.168.0.0/16", "192.168.1.0/25", "192.168.1.128/25"),
    "fd00:1::/64": ("fd00:1::/48", "fd00:1::/65", "fd00:1:0:0:8000::/65"),
}
UNFOUND = "goes into the tunnel, so programs may not find printers"
OFF = without("lookup 539098368", SERVED)
ELSEWHERE = [*SERVED, "rule add to 192.168.1.0/24 lookup 77 pref 5"]
NOT_TO_IT = without("192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.5 table", SERVED)
PARTS = ("192.168.1.0/25", "192.168.1.128/25")
CUT = "packets to 192.168.1.0/24"


@pytest.mark.parametrize(
    ("lines", "seen"),
    [
        (
            [*SERVED, "rule add to 192.168.0.0/16 prohibit pref 5"],
            f"{CUT} are refused: rule 5 (from all to 192.168.0.0/16",
        ),
        (
            [*SERVED, "rule add to 192.168.1.0/24 blackhole pref 5"],
            f"{CUT} are refused: rule 5 (from all to 192.168.1.0",
        ),
        (
            [*SERVED, "rule add from 192.168.1.5 unreachable pref 5"],
            f"{CUT} are refused: rule 5 (from 192.168.1.5 unre",
        ),
        ([*ELSEWHERE, "route add prohibit default table 77"], f"{CUT} are refused: prohibit default of table 77, by"),
        (
            [*ELSEWHERE, f"route add default {BY_DOCKER} table 77"],
            f"{CUT} leave by docker0 through the router 172.17.0",
        ),
        ([*ELSEWHERE, "route add default dev wg9 table 77"], f"{CUT} enter wg9: default of table 77, by rule 5 (from"),
        (
            [*SERVED, "rule add lookup 52 pref 9", "route add 192.168.1.0/24 dev tailscale0 table 52"],
            f"{CUT} enter tailscale0: 192.168.1.0/24 of table 52, by rule 9 (from all lookup 52)",
        ),
        (
            [*NOT_TO_IT, *vpn("192.168.1.0/24", verb="blackhole ", dev="")],
            f"{CUT} are refused: blackhole 192.168.1.0/24",
        ),
        (
            [*SERVED, *vpn(*PARTS, verb="unreachable ", dev="")],
            f"{CUT} are refused: unreachable 192.168.1.0/25 of table {MIRROR}, unreachable 192.168.1.128/25 of table",
        ),
        ([*NOT_TO_IT, *vpn("192.168.0.0/16")], f"{CUT} enter tun-firezone: 192.168.0.0/16 of table {MIRROR}, by rule"),
        ([*SERVED, *vpn(*PARTS)], f"{CUT} enter tun-firezone: 192.168.1.0/25 of table {MIRROR}, 192.168.1.128/25 of"),
        (
            [*TIERS, *HALVES],
            "packets to 172.17.0.0/16, 192.168.1.0/24 enter tun-firezone: 128.0.0.0/1 of table 5390983",
        ),
        (
            [*OFF, "rule add to 192.168.0.0/16 prohibit pref 5"],
            f"{CUT} are refused: rule 5 (from all to 192.168.0.0/16",
        ),
        (
            [*OFF, *(f"route add unreachable {part}" for part in PARTS)],
            f"{CUT} are refused: unreachable 192.168.1.0/25 of table main, unreachable 192.168.1.128/25 of table main",
        ),
        (
            [*ELSEWHERE, "route add 192.168.1.0/24 dev eth0 src 192.168.1.99 table 77"],
            f"{CUT} get the source 192.168.1.99, which this machine no longer has",
        ),
        (both(*WIREGUARD), "there is no tun-firezone, but all traffic goes into wg0"),
    ],
)
def test_a_lan_that_is_cut_is_a_failure(lines: list[str], seen: str) -> None:
    """However it is cut: by a rule or a route, of this VPN or of another program."""
    assert [seen] == [each.seen[: len(seen)] for each in Case(lines).findings() if seen in each.seen]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_doctor_fails_if_status_shows_a_lan_that_is_cut(case: Case) -> None:
    if case.is_read:
        cut = [line for line in status(case.config, *case.read()).lan if line.is_stuck]
        assert not cut or any(each.level == "failure" for each in case.findings())


LAN_OF = {"": "192.168.1.0/24", "-6 ": "fd00:1::/64"}


@pytest.mark.parametrize("kind", ["unreachable", "blackhole", "prohibit"])
@pytest.mark.parametrize("option", LAN_OF)
@pytest.mark.parametrize("is_copied", [True, False])
@pytest.mark.parametrize("prefixes", [["{}"], ["wider"], ["lower", "upper"]])
def test_routes_of_the_vpns_table_that_refuse_a_lan_are_deleted(
    kind: str, option: str, is_copied: bool, prefixes: list[str]
) -> None:
    lan = LAN_OF[option]
    wider, lower, upper = WIDER[lan]
    places = {"{}": lan, "wider": wider, "lower": lower, "upper": upper}
    lines = SERVED if is_copied else without(f"{lan} dev eth0 proto kernel scope link src 192.168.1.5 table", SERVED)
    lines = [line for line in lines if is_copied or not (lan in line and "table" in line)]
    refusals = [f"{option}route add {kind} {places[each]} metric 3 table {MIRROR}" for each in prefixes]
    found = [each for each in Case([*lines, *refusals]).findings() if each.level == "failure"]
    assert found
    for each in found:
        assert "explicitly" not in each.seen + each.remedy
        is_only_missing = "(missing)" in each.seen and len(prefixes) == 2
        deletions = [f"ip {option}route del table {MIRROR} {kind} {places[part]} " for part in prefixes]
        assert is_only_missing or all(deletion in each.remedy for deletion in deletions)


@pytest.mark.parametrize("kind", ["unreachable", "blackhole", "prohibit"])
@pytest.mark.parametrize("option", LAN_OF)
@pytest.mark.parametrize(("metric", "is_said"), [(5, True), (2000, False)])
def test_a_refusal_of_a_whole_lan_in_main_is_named_although_the_copy_hides_it(
    kind: str, option: str, metric: int, is_said: bool
) -> None:
    lan = LAN_OF[option]
    route = f"{option}route add {lan} dev eth0 proto kernel metric 600{'' if option else ' scope link'}"
    lines = [*without(f"route add {lan}", SERVED), f"{option}route del {lan}", route, f"{route} table {MIRROR}"]
    found = Case([*lines, f"{option}route add {kind} {lan} metric {metric}"]).findings("overrides")
    found = [each for each in found if each.level == "warning"]
    assert is_said == bool(found)
    for each in found:
        assert each.seen.startswith(f"main refuses all of the LAN {lan}: {kind}")
        assert each.remedy.startswith(f"ip {option}route del {kind} {lan} ")


@pytest.mark.parametrize(
    ("lines", "config", "said"),
    [
        (SERVED, Config(), f"{UNFOUND}: [lan]: multicast = true, then fz-iproute sync"),
        (SERVED, replace(Config(), lan={"multicast": True}), f"{UNFOUND}: fz-iproute sync"),
        ([*SERVED, "route del 192.168.1.0/24"], Config(), f"{UNFOUND}: "),  # a sync would cut the LAN
        (
            [*FIREZONE, f"route add 192.168.1.128/25 {BY_DOCKER}"],
            Config(),
            f"{UNFOUND}: no safe remedy is known: if you did this ([lan]: multicast = true, then fz-iproute sync), "
            f"`doctor` would say: 192.168.1.128/25 {BY_DOCKER} proto boot scope global in main is overridden "
            "by the copy of 192.168.1.0/24",
        ),
        (without("default", SERVED), Config(), "stays out of tun-firezone, and leaves by eth0 only: "),
    ],
)
def test_discovery(lines: list[str], config: Config, said: str) -> None:
    (each,) = Case(lines, config=config).findings("multicast")
    assert f"discovery (224.0.0.251, 255.255.255.255) {said}" == f"{each.seen}: {each.remedy}".replace(
        next(iter(SHORT)), ""
    )


HALF = "0.0.0.0/1 leaves by eth0, outside the tunnel: 0.0.0.0/1 of table main, by rule 50 (from all lookup main sup"
HALF_IN_MAIN = ["rule add lookup main suppress_prefixlength 0 pref 50", "route add 0.0.0.0/1 via 192.168.1.1 dev eth0"]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (
            without("rule", SERVED),
            [
                f"no packet uses the routes in there: IPv{n} to the internet leaves by eth0, outside the tunnel"
                for n in "46"
            ],
        ),
        (without("rule", without("default", SERVED)), ["no packet uses the routes in there"] * 2),
    ],
)
def test_what_leaves_outside_the_tunnel_is_said(lines: list[str], why: list[str]) -> None:
    assert why == [each.why for each in Case(lines).findings("rules")]


@pytest.mark.parametrize(
    ("lines", "seen"),
    [
        (HALF_IN_MAIN, f"IPv4 to {HALF}"),
        (
            ["rule add to 8.0.0.0/8 prohibit pref 50"],
            "IPv4 to 8.0.0.0/8 is refused: rule 50 (from all to 8.0.0.0/8 p",
        ),
        (
            ["rule add to 0.0.0.0/1 goto 32767 pref 50"],
            "IPv4 to 0.0.0.0/1 has no route: rule 50 (from all to 0.0.0.0/1",
        ),
        (
            ["rule add to 8.0.0.0/8 lookup main pref 50"],
            "IPv4 to 8.0.0.0/8 leaves by eth0, outside the tunnel: default",
        ),
    ],
)
def test_a_rule_in_front_that_takes_a_part_is_told(lines: list[str], seen: str) -> None:
    (found,) = [each for each in Case([*SERVED, *lines]).findings("leak") if each.level != "ok"]
    assert found.seen.startswith(seen) and found.remedy.startswith("ip rule del priority 50")


def test_each_name_server_is_named_with_its_way() -> None:
    servers = ["192.168.1.5", "192.168.1.7", "100.64.0.9", "8.8.8.8"]
    facts = {"/etc/resolv.conf": "".join(f"nameserver {server}\n" for server in servers)}
    lines = without("default", SERVED)
    ways = ["on this machine", "to the LAN by eth0", "into tun-firezone", "out of eth0"]
    expected = "; ".join(f"/etc/resolv.conf: {server} ({way})" for server, way in zip(servers, ways, strict=True))
    expected += "; whether they answer was not tried"
    assert [expected] == [each.seen for each in Case(lines, facts=facts).findings("dns")]


@pytest.mark.parametrize(("others", "level"), [([], "warning"), (["8.8.8.8"], "info")])
def test_a_name_server_to_which_no_packet_gets_is_not_ok(others: list[str], level: str) -> None:
    facts = {"/etc/resolv.conf": "".join(f"nameserver {server}\n" for server in ["10.9.9.9", *others])}
    lines = [*SERVED, "rule add to 10.9.9.9 prohibit pref 5"]
    (found,) = Case(lines, facts=facts).findings("dns")
    assert (level, "/etc/resolv.conf: 10.9.9.9 (out of reach)") == (found.level, found.seen)


@pytest.mark.parametrize(
    ("server", "more", "level", "said"),
    [
        ("fe80::1%eth0", [], "warning", "fe80::1 is in the copied LAN fe80::/64"),
        ("fe80::1%tun-firezone", [], "ok", "fe80::1 (into tun-firezone)"),
        ("8.8.4.4", [], "ok", "8.8.4.4 (into tun-firezone)"),
        (
            "8.8.4.4",
            ["rule add to 8.8.4.4 lookup main pref 9"],
            "warning",
            "8.8.4.4 is asked by eth0, around the tunnel",
        ),
        ("8.8.4.4", ["rule add dport 53 lookup main pref 9"], "warning", "8.8.4.4 is asked by eth0, around the tunnel"),
        ("8.8.4.4", ["rule add to 8.8.4.4 prohibit pref 9"], "warning", "8.8.4.4 (out of reach)"),
    ],
)
def test_where_queries_to_a_name_server_go(server: str, more: list[str], level: str, said: str) -> None:
    lines = [*SERVED, "-6 route add fe80::/64 dev eth0", "-6 route add fe80::/64 dev tun-firezone", *more]
    (found,) = Case(lines, facts={"/etc/resolv.conf": f"nameserver {server}\n"}).findings("dns")
    assert level == found.level and said in found.seen
    if "out of reach" in said:
        assert f"`fz-iproute explain {server}` says why" == found.remedy


def test_a_rule_to_the_local_table_that_comes_late_is_put_in_front() -> None:
    """The packets to this machine's own addresses did not go out before, so that they stay here is no harm."""
    case = Case([*SERVED, *OWN, "rule add lookup local pref 40000", "rule del lookup local pref 0"])
    (found,) = [each for each in case.findings("rules") if "comes after" in each.seen]
    assert found.remedy.startswith("ip rule add priority 0 ")


def test_a_rule_that_sends_a_lan_into_the_tunnel_is_to_be_deleted() -> None:
    rule = "to 192.168.1.0/24 lookup 300"
    case = Case([*SERVED, f"rule add {rule} pref 60", "route add default dev tun-firezone table 300"])
    (found,) = [each for each in case.findings("shadows") if each.level == "failure"]
    assert found.remedy.startswith(f"ip rule del priority 60 from all {rule}")


@pytest.mark.parametrize("route", ["default via 192.168.1.1 dev eth0 metric 5000", "128.0.0.0/1 dev eth0 scope link"])
def test_a_wide_route_by_a_network_card_makes_it_no_tunnel(route: str) -> None:
    """Its LANs are copied, counted and told as before."""
    found = status(Config(), *Case([*FIREZONE, f"route add {route} table {MIRROR}"]).read())
    states = {(line.route.dst, line.state) for line in found.lan if line.route.attributes.devices == ("eth0",)}
    assert {("192.168.1.0/24", "missing"), ("fd00:1::/64", "missing")} <= states


@pytest.mark.parametrize(
    ("lan", "level", "remedy"),
    [
        ({"interfaces": ("wlan*",)}, "warning", 'section [lan]: interfaces = ["wlan*", '),
        ({"interfaces": ("eth0",)}, "", ""),
        ({"interfaces": ("eth*", "x")}, "", ""),
        ({"exclude_interfaces": ("*",)}, "info", "change that in /etc/fz-iproute/config.toml"),
        ({"exclude_interfaces": ("docker*",)}, "", ""),
        ({"deny": (Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0"))}, "info", "change that in /etc"),
        ({"deny": (Prefix.parse("0.0.0.0/0"),)}, "", ""),
    ],
)
def test_settings_that_leave_out_every_lan_are_told_and_status_sends_there(
    lan: dict[str, Any], level: str, remedy: str
) -> None:
    case = Case(FIREZONE, config=replace(Config(), lan=lan))
    found = [each for each in case.findings("shadows") if "leave out every LAN" in each.seen]
    assert [level] * bool(level) == [each.level for each in found]
    assert all(remedy in each.remedy for each in found)
    said = drawn(summary(status(case.config, *case.read())), None, str, Screen(80))
    assert level == "" or "LAN    0 of 3 reachable   → doctor" in said


def test_a_rule_that_shares_its_priority_has_no_undo() -> None:
    """The kernel would put it behind the other one."""
    lines = [*SERVED, "rule add lookup main pref 5"]
    for others, is_undone in ([], True), (["rule add to 198.51.100.0/24 lookup main pref 5"], False):
        (leak, *_) = Case([*lines, *others]).findings("leak")
        assert "ip rule del priority 5 from all lookup main" in leak.remedy
        assert is_undone == ("undo" in leak.remedy)
