"""Which LAN routes are copied, with the setting that decides; and which routes of the VPN's tables are copies."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fz_iproute.mirror import parse, parse_links
from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.desired import desired, is_absent, layout_of
from fz_iproute.mirror.model import Route, Rule
from fz_iproute.mirror.plan import plan
from fz_iproute.mirror.policy import Policy, Verdict
from fz_iproute.mirror.prefix import Prefix, PrefixSet
from tests.unit.routes import LINKS, gatewayed, lookup, route, snapshot, tunnel


def refusal(lan: Route, mirror: list[Route] | None = None, **settings) -> str:
    (verdict,) = desired(replace(Config(), lan=settings), snapshot([lan], mirror)).verdicts
    return verdict.refusal


TIERED = replace(Config(), tables={"layout": "tiered"})


def prefixes(*texts: str) -> tuple[Prefix, ...]:
    return tuple(Prefix.parse(text) for text in texts)


@pytest.mark.parametrize(
    ("lan", "settings", "named"),
    [
        (route("10.0.0.0/24"), {"deny": prefixes("10.0.0.0/24")}, "lan.deny has 10.0.0.0/24"),
        (route("10.0.0.0/24"), {"deny": prefixes("10.0.0.0/8")}, "lan.deny has 10.0.0.0/8"),
        (route("10.0.0.0/8"), {"deny": prefixes("10.9.0.0/24")}, "lan.deny has 10.9.0.0/24"),
        (route("10.0.0.0/24"), {"deny": prefixes("0.0.0.0/0")}, "lan.deny has 0.0.0.0/0"),
        (route("fd00:1::/64"), {"deny": prefixes("fc00::/7")}, "lan.deny has fc00::/7"),
        (route("fd00:1::/64"), {"deny": prefixes("fd00:1::9/128")}, "lan.deny has fd00:1::9/128"),
        (route("0.0.0.0/1"), {}, "lan.min_prefixlen.inet = 8"),
        (route("fd00::/40"), {}, "lan.min_prefixlen.inet6 = 48"),
        (route("203.0.113.0/24"), {"trust": "private"}, 'lan.trust = "private"'),
        (route("10.0.0.0/24"), {"interfaces": ("wl*",)}, "lan.interfaces"),
        (route("10.0.0.0/24"), {"exclude_interfaces": ("eth?",)}, "lan.exclude_interfaces"),
        (tunnel("100.64.0.1", scope="link"), {}, "tun-firezone is the tunnel"),
        (route("::1", "lo"), {}, "lo is a loopback interface"),
        # Nothing refuses these.
        (route("203.0.113.0/24"), {}, ""),
        (route("203.0.113.0/24"), {"trust": "private", "allow": prefixes("203.0.113.0/24")}, ""),
        (route("192.168.1.0/24"), {"trust": "private"}, ""),
        (route("169.254.0.0/16"), {"trust": "private"}, ""),
        (route("100.80.0.0/16"), {"trust": "private"}, ""),
        (route("fd00::/64"), {"trust": "private"}, ""),
        (route("fe80::/64"), {"trust": "private"}, ""),
        (route("0.0.0.0/1"), {"min_prefixlen": {"inet": 1, "inet6": 48}}, ""),
        (gatewayed("10.8.0.0/16", "10.0.0.1"), {"allow": prefixes("10.8.0.0/15")}, ""),
    ],
)
def test_a_refusal_names_the_setting(lan, settings, named) -> None:
    said = refusal(lan, **settings)
    assert named in said
    assert bool(named) == bool(said)


def test_routes_that_are_not_about_the_lan_get_no_verdict() -> None:
    others = [route("default"), gatewayed("default", "10.0.0.1"), gatewayed("10.8.0.0/16", "10.0.0.1")]
    others += [route("10.0.0.255", type="broadcast"), route("fd00::/64", expires=-1)]
    assert () == desired(Config(), snapshot(others)).verdicts


@pytest.mark.parametrize(
    ("claim", "refused"),
    [
        (tunnel("10.0.0.0/24"), True),
        (tunnel("10.0.0.0/8"), True),
        (route("10.0.0.0/8", type="unreachable"), True),
        (tunnel("default"), False),
        (tunnel("10.0.0.0/25"), False),
        (tunnel("10.1.0.0/24"), False),
    ],
)
def test_what_the_vpn_routes_explicitly_wins_in_a_single_table(claim, refused: bool) -> None:
    said = f"the VPN's table has its own route to {claim.dst}" if refused else ""
    assert said == refusal(route("10.0.0.0/24"), [claim])
    (tiered,) = desired(TIERED, snapshot([route("10.0.0.0/24")], [claim])).verdicts
    assert "" == tiered.refusal


def test_a_link_that_is_down_is_not_mirrored() -> None:
    links = {**LINKS, "eth0": LINKS["eth0"]._replace(up=False)}
    (verdict,) = desired(Config(), snapshot([route("10.0.0.0/24")], links=links)).verdicts
    assert "eth0 is down" == verdict.refusal


@pytest.mark.parametrize("dst", ["203.0.113.0/24", "2001:db8::/64"])
def test_a_public_prefix_is_mirrored_with_a_warning(dst) -> None:
    (verdict,) = desired(Config(), snapshot([route(dst)])).verdicts
    assert ("", True) == (verdict.refusal, "lan.trust" in verdict.warning)


def test_routes_that_cannot_be_copies_are_not_ours() -> None:
    others = [tunnel("default"), tunnel("100.64.0.0/11"), route("default"), gatewayed("10.9.0.0/24", "10.0.0.1")]
    others += [route("10.9.0.0/24", **keys) for keys in ({"scope": None}, {"type": "unreachable"}, {"encap": "mpls"})]
    assert () == desired(Config(), snapshot([], others)).contents["inet"][Config().tables.single].ours


def test_somebody_elses_copy_of_a_route_with_a_locked_metric_stays() -> None:
    """No command of ours could make it."""
    keys = {"metrics": [{"mtu": 1400}]}
    main, theirs = [route("10.0.0.0/24", lock="", **keys)], [route("10.0.0.0/24", **keys), route("10.1.0.0/24")]
    assert ["10.1.0.0/24"] == [command.words[4] for command in plan(desired(Config(), snapshot(main, theirs)))]


# Routes by a device that may be a tunnel


@pytest.mark.parametrize(
    ("name", "link_type", "flags", "expected"),
    [
        ("wg0", "none", "POINTOPOINT NOARP", True),
        ("tap0", "ether", "BROADCAST MULTICAST", True),
        ("ppp0", "ppp", "POINTOPOINT MULTICAST NOARP", True),
        *(("vpn", link_type, "NOARP", True) for link_type in ("rawip", "gre", "ipip", "sit")),
        ("eth0", "ether", "BROADCAST MULTICAST", False),
        ("dummy0", "ether", "BROADCAST NOARP", False),
        ("ib0", "infiniband", "BROADCAST MULTICAST", False),
        ("lo", "loopback", "LOOPBACK", False),
    ],
)
def test_a_link_that_is_no_ethernet_may_be_a_tunnel(name: str, link_type: str, flags: str, expected: bool) -> None:
    document = {"ifname": name, "ifindex": 7, "link_type": link_type, "flags": ["UP", *flags.split()]}
    link = parse_links.links([document])[name]
    assert (expected, "MULTICAST" in flags) == (link.may_be_tunnel, link.multicast)


@pytest.mark.parametrize(
    ("master", "flags", "expected"),
    [
        ("br0", "BROADCAST MULTICAST", True),
        ("bond0", "BROADCAST MULTICAST MASTER", True),
        ("vrf0", "NOARP MASTER", False),
        ("gone", None, True),
        (None, None, False),
    ],
)
def test_a_link_with_a_master_is_a_port_unless_that_is_a_vrf(master: str, flags: str, expected: bool) -> None:
    document = {"ifname": "vnet0", "ifindex": 7, "flags": ["UP"]} | ({"master": master} if master else {})
    masters = [{"ifname": master, "ifindex": 8, "flags": flags.split()}] if flags else []
    found = parse_links.links([document, *masters])
    assert [expected, *(False for _ in masters)] == [link.is_port for link in found.values()]


WITH_TUNNELS = LINKS | {
    name: LINKS["eth0"]._replace(name=name, ifindex=ifindex, word=name, may_be_tunnel=True)
    for ifindex, name in enumerate(["tun-corp", "wg0", "ppp0", "wwan0"], start=10)
}
WRONG = replace(Config(), tunnel={"interface": "tun9"})
ALLOWING = replace(WRONG, lan={"allow": prefixes("10.8.0.0/16")})
MODEM = route("10.64.64.64", "ppp0", prefsrc="10.64.64.1")
REDIALLED = route("10.64.64.65", "ppp0", prefsrc="10.64.64.2")


def is_ours(theirs: Route, main: list[Route], config: Config = WRONG) -> bool:
    goal = desired(config, snapshot(main, [theirs], links=WITH_TUNNELS))
    contents = goal.contents[theirs.attributes.family][config.tables.single]
    assert (theirs in contents.ours) != (theirs in contents.others)
    return theirs in contents.ours


@pytest.mark.parametrize(
    ("ours", "theirs", "main"),
    [
        (False, route("100.64.0.0/11", "tun-corp", protocol="boot"), []),
        (False, route("100.64.0.0/11", "tun-corp", protocol="static"), [route("fe80::/64", "tun-corp")]),
        (False, route("fd00:2021:1111::/48", "tun-corp", protocol="static"), [route("fe80::/64", "tun-corp")]),
        (False, route("fd00:2021:1111::/48", "wg0"), [route("fd00:6::/64", "wg0")]),
        # NetworkManager puts the connected routes of a device into its `route-table`.
        (False, route("10.6.0.0/24", "wg0", prefsrc="10.6.0.2"), []),
        (False, route("10.6.0.0/24", "wg0", prefsrc="10.6.0.2"), [route("10.7.0.0/24", "wg0", prefsrc="10.6.0.2")]),
        (False, route("10.6.0.0/24", "wg0"), [REDIALLED, route("10.7.0.0/24", "wg0", prefsrc="10.6.0.2")]),
        (False, route("10.6.0.0/24", "wg0", prefsrc="10.6.0.2"), [route("10.6.0.0/24", prefsrc="10.6.0.3")]),
        # A static route does not tell which source addresses the device has.
        (
            False,
            route("10.6.0.0/24", "wg0", prefsrc="10.6.0.2"),
            [route("10.7.0.0/24", "wg0", prefsrc="10.6.0.3", protocol="static")],
        ),
        (False, route("10.6.0.0/24", "appeared-since"), []),
        (False, route("10.64.0.0/24", "wwan0", protocol="static"), [route("default", "wwan0")]),
        (True, MODEM, [MODEM]),
        (True, route("fd00:6::/64", "wg0"), [route("fd00:6::/64", "wg0")]),
        (True, route("10.9.0.0/24", "wg0", protocol="static"), [route("10.9.0.0/24", "wg0", protocol="static")]),
        (True, MODEM, [REDIALLED]),  # stale: its source address is gone
        (True, route("10.9.0.0/24", "eth0", protocol="static"), []),
        (True, route("fd00:9::/64", "eth0", protocol="static"), []),
    ],
)
def test_what_may_be_the_vpns_own_is_ours_only_with_proof(ours: bool, theirs: Route, main: list[Route]) -> None:
    for lan in ([], [route("192.168.1.0/24")]):
        assert ours == is_ours(theirs, [*main, *lan])


def test_a_route_through_a_router_behind_a_tunnel_is_ours_only_if_main_has_it() -> None:
    routed = gatewayed("10.8.1.0/24", "10.64.64.64", "ppp0")
    assert [False, True] == [is_ours(routed, main, ALLOWING) for main in ([MODEM], [MODEM, routed])]


@pytest.mark.parametrize("dst", ["10.6.0.0/24", "fd00:6::/64"])
def test_a_copy_that_was_ours_at_the_last_look_is_ours_when_main_loses_it(dst: str) -> None:
    copy = route(dst, "wwan0")
    last = desired(WRONG, snapshot([copy], [], links=WITH_TUNNELS))
    for _ in range(2):
        last = desired(WRONG, snapshot([], [copy], links=WITH_TUNNELS), last)
        assert ["del"] == [command.words[1] for command in plan(last)]


@pytest.mark.parametrize("dst", ["100.64.0.0/11", "fd00:2021:1111::/48"])
def test_once_the_vpns_default_used_a_device_it_stays_a_tunnel(dst: str) -> None:
    """Even an Ethernet one, and also when the default route goes because the Internet Resource is switched off."""
    default = route("default", "eth1", scope=None, protocol="static")
    own = route(dst, "eth1")
    last = desired(WRONG, snapshot([], [default, own]))
    for main in ([], [own]):
        last = desired(WRONG, snapshot(main, [own]), last)
        assert [] == plan(last)


def test_without_a_default_route_the_configured_tunnels_routes_are_the_vpns_and_the_copies_ours() -> None:
    lan, own = route("10.0.0.0/24"), [tunnel("100.64.0.0/11", scope="link"), tunnel("fd00:2021:1111::/48")]
    seen = snapshot([], [lan, *own])
    assert ["10.0.0.0/24"] == [command.words[4] for command in plan(desired(Config(), seen))]


@pytest.mark.parametrize(
    ("setting", "tables", "expected"),
    [
        ("auto", [], ("single", 539098368)),
        ("auto", [539098368], ("single", 539098368)),
        ("auto", [539098368, 539098369], ("tiered", 539098369)),
        ("single", [539098369], ("single", 539098368)),
        ("tiered", [], ("tiered", 539098369)),
    ],
)
def test_the_layout_follows_the_rules_unless_it_is_set(setting, tables, expected) -> None:
    rules = [lookup(table, family="inet6") for table in tables]
    assert expected == layout_of(replace(Config(), tables={"layout": setting}), rules)[:3:2]


@pytest.mark.parametrize(("setting", "expected"), [("auto", "single"), ("tiered", "tiered")])
def test_the_vpns_default_route_tells_the_layout_unless_it_is_set(setting: str, expected: str) -> None:
    rules = [lookup(table, family="inet6") for table in (539098368, 539098369)]
    seen = snapshot([], [tunnel("default")], rules=rules)
    assert expected == desired(replace(Config(), tables={"layout": setting}), seen).layout.name


# Some are apart, some side by side, some inside of others.
NETWORKS = "10.0.0.0/8 10.1.0.0/16 10.1.2.0/24 10.1.2.7 10.2.0.0/15 172.16.0.0/12 192.168.0.0/16 192.168.1.0/24"
PREFIXES = st.sampled_from(f"{NETWORKS} 192.0.0.0/7 203.0.113.0/24 203.0.113.9 8.0.0.0/6 0.0.0.0/1".split())
FEW = st.lists(PREFIXES, max_size=1)
SETTINGS = st.fixed_dictionaries(
    {
        "deny": FEW.map(lambda texts: prefixes(*texts)),
        "allow": FEW.map(lambda texts: prefixes(*texts)),
        "trust": st.sampled_from(["any", "private"]),
        "min_prefixlen": st.sampled_from([{"inet": 8}, {"inet": 16}]),
    }
)


@settings(max_examples=300)
@given(st.lists(PREFIXES, min_size=1, max_size=6), FEW, SETTINGS)
def test_a_route_gets_the_same_verdict_among_others_and_alone(destinations, claimed, lan) -> None:
    policy = Policy(replace(Config(), lan=lan).lan, LINKS, ["tun-firezone"])
    claims = PrefixSet(prefixes(*claimed))
    rest = {"dev": "eth0", "protocol": "kernel", "scope": "link"}
    row = parse.routes([(dst, rest) for dst in destinations], "inet", LINKS)
    alone = [verdict for dst in destinations for verdict in policy.verdicts([route(dst)], claims)]
    assert alone == policy.verdicts(row, claims)


@pytest.mark.parametrize(
    ("lans", "is_refused"),
    [
        (["20.0.0.0/6", "28.0.0.0/6"], True),  # 1/32 of the internet
        (["20.0.0.0/6", "28.0.0.0/7"], False),
        (["20.0.0.0/6", "20.0.0.0/6"], False),  # a prefix twice is one, which lan.min_prefixlen judges
        (["16.0.0.0/4"], False),
        (["20.0.0.0/6", "10.0.0.0/8", "192.168.0.0/16"], False),  # private ones are no part of it
        (["2a00::/9", "2b00::/8"], True),
        (["2a00::/9"], False),
    ],
)
def test_public_prefixes_that_cover_much_of_the_internet_are_refused_together(
    lans: list[str], is_refused: bool
) -> None:
    config = replace(Config(), lan={"min_prefixlen": {"inet": 1, "inet6": 1}})
    main = [route(lan, device) for lan, device in zip(lans, ("eth0", "eth1", "wlan0"), strict=False)]
    verdicts = desired(config, snapshot(main)).verdicts
    private = ("10.", "192.168.")
    assert {is_refused} == {bool(verdict.refusal) for verdict in verdicts if not verdict.route.dst.startswith(private)}
    assert not any(verdict.refusal for verdict in verdicts if verdict.route.dst.startswith(private))


def test_of_duplicates_in_ipv6_one_is_copied() -> None:
    """`ip -6 route replace` can make them. The kernel would refuse the second copy."""
    same = route("fd00:1::/64")
    other = route("fd00:1::/64", protocol="static")
    verdicts = desired(Config(), snapshot([same, other, same, route("fd00:1::/64", metric=7)])).verdicts
    assert [True, False, False, True] == [not verdict.refusal for verdict in verdicts]
    assert not any(verdict.refusal for verdict in desired(Config(), snapshot([route("10.0.0.0/24")] * 2)).verdicts)


def test_an_on_link_route_by_a_card_is_a_copy_in_the_table_that_gets_the_copies() -> None:
    stale = route("10.9.0.0/24", protocol="static")
    goal = desired(Config(), snapshot([], [tunnel("default"), stale]))
    assert (stale,) == goal.contents["inet"][Config().tables.single].ours


def test_while_no_route_tells_which_device_is_the_tunnel_an_on_link_route_may_be_the_vpns() -> None:
    """A tap looks like a network card."""
    unknown = route("10.9.0.0/24", protocol="static")
    goal = desired(Config(), snapshot([], [unknown], rules=(lookup(Config().tables.single),)))
    assert (unknown,) == goal.contents["inet"][Config().tables.single].others


def test_an_on_link_route_by_a_card_is_no_copy_in_another_table_of_the_vpn() -> None:
    tables = Config().tables
    theirs = route("10.9.0.0/24", protocol="static")
    seen = snapshot([], [tunnel("default")])
    found = {**seen.tables, tables.lan: {"inet": (theirs,), "inet6": ()}}
    goal = desired(Config(), snapshot([], tables=found))
    assert (theirs,) == goal.contents["inet"][tables.lan].others


LANS = [route("10.0.0.0/24"), route("10.1.0.0/24", "eth1")]
ROUTERS = [gatewayed("default", "10.0.0.1", "eth0", metric=20), gatewayed("default", "10.1.0.1", "eth1", metric=10)]
TO_ALL = ["224.0.0.0/4", "255.255.255.255"]


@pytest.mark.parametrize(
    ("main", "table", "devices"),
    [
        (LANS, [], ["eth0", "eth1"]),
        (LANS[:1], [], ["eth0"]),
        ([*LANS, *ROUTERS], [], ["eth1"]),  # the better default route
        ([*LANS[:1], *ROUTERS], [], ["eth0"]),  # no LAN at the better one
        ([*LANS, tunnel("default", metric=1)], [], ["eth0", "eth1"]),
        # wlan0 has no multicast, and `ip` would misread the name of the other device.
        ([*LANS, route("10.2.0.0/24", "wlan0"), route("10.3.0.0/24", "-4")], [], ["eth0", "eth1"]),
        ([route("fd00:1::/64")], [], []),
        (LANS, [tunnel("224.0.0.0/3")], []),
        ([], [], []),
    ],
)
def test_multicast_leaves_by_the_devices_of_mirrored_lans(main: list[Route], table: list[Route], devices) -> None:
    config = replace(Config(), lan={"multicast": True, "min_prefixlen": {"inet": 3, "inet6": 48}})
    links = {**LINKS, "wlan0": LINKS["wlan0"]._replace(multicast=False), "-4": LINKS["eth0"]._replace(word=None)}
    for chosen, expected in ((config, devices), (replace(config, lan={"multicast": False}), [])):
        goal = desired(chosen, snapshot(main, table, links=links))
        made = [each for each in goal.contents["inet"][goal.layout.mirror].wanted if each.dst in TO_ALL]
        assert [(dst, device) for dst in TO_ALL for device in expected] == [
            (each.dst, *each.attributes.devices) for each in made
        ]


# Links whose kind is known: tunnels, and network cards.
KNOWN = {name: link._replace(may_be_tunnel=name == "tun-firezone") for name, link in LINKS.items()}
KNOWN["tun9"] = KNOWN["tun-firezone"]._replace(name="tun9", word="tun9")
VPN = tunnel("default")


@pytest.mark.parametrize("table", [Config().tables.single, Config().tables.lan])  # the mirror, and that of a former one
@pytest.mark.parametrize(("device", "is_ours"), [("eth0", True), ("tun-firezone", False), ("tun9", False)])
def test_a_multicast_route_into_a_tunnel_is_somebody_elses(device: str, table: int, *, is_ours: bool) -> None:
    config = replace(Config(), lan={"multicast": True})
    there = Route.make("inet", TO_ALL[0], KNOWN[device], scope="link")
    tables = snapshot([], [VPN]).tables
    tables = {**tables, table: {"inet": (*tables[table]["inet"], there), "inet6": ()}}
    contents = desired(config, snapshot(LANS, tables=tables, links=KNOWN)).contents["inet"][table]
    assert [is_ours, not is_ours] == [there in contents.ours, there in contents.others]


@pytest.mark.parametrize(
    ("interface", "table", "tunnels"),
    [
        ("tun-firezone", [VPN], {"tun-firezone"}),
        ("tun-firezone", [VPN, route("default", "eth1", metric=9, scope=None)], {"tun-firezone"}),
        ("wg7", [VPN], {"wg7", "tun-firezone"}),  # it may appear
        # A network card that leads to a LAN is configured by mistake.
        ("eth0", [VPN], {"tun-firezone"}),
        ("eth0", [VPN, LANS[0]], {"tun-firezone"}),
        # A network card that has routes of the VPN is its device.
        ("eth0", [tunnel("100.64.0.0/11"), route("default", scope=None)], {"eth0"}),
        ("eth0", [VPN, route("10.99.0.0/16", scope=None)], {"eth0", "tun-firezone"}),
        ("eth0", [], {"eth0"}),  # nothing tells
    ],
)
def test_which_devices_carry_the_vpn(interface: str, table: list[Route], tunnels: set[str]) -> None:
    config = replace(Config(), tunnel={"interface": interface})
    assert tunnels == desired(config, snapshot(LANS, table, links=KNOWN)).tunnels


@pytest.mark.parametrize(
    ("verdict", "is_accepted"),
    [
        (Verdict(LANS[0], "", ""), True),
        (Verdict(LANS[0], "refused", ""), False),
        (Verdict(LANS[0], "the VPN has its own route", "", Prefix.parse("10.0.0.0/8")), True),
        (Verdict(LANS[0], "no VPN to serve", "", is_idle=True), True),
    ],
)
def test_what_the_settings_accept(verdict: Verdict, *, is_accepted: bool) -> None:
    assert is_accepted is verdict.is_accepted


def test_while_auto_serves_no_vpn_all_lans_are_accepted_and_none_is_copied() -> None:
    config = replace(Config(), tunnel={"interface": "auto"})
    verdicts = desired(config, snapshot(LANS)).verdicts
    assert [(True, True)] * 2 == [(bool(verdict.refusal), verdict.is_accepted) for verdict in verdicts]


@pytest.mark.parametrize(
    ("tunnel_settings", "rules", "expected"),
    [
        ({}, [], True),
        ({}, [lookup(Config().tables.single)], False),
        ({"mode": "manage"}, [], False),
        ({"interface": "auto"}, [], False),
    ],
)
def test_when_the_vpn_is_absent(tunnel_settings: dict[str, str], rules: list[Rule], *, expected: bool) -> None:
    config = replace(Config(), tunnel=tunnel_settings)
    assert expected is is_absent(config, snapshot(LANS, rules=tuple(rules)))
