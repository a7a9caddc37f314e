"""What `detect` says of the layouts of VPN clients, with their usual numbers and with others."""

import dataclasses
from collections.abc import Sequence
from typing import Any, get_args

import pytest

from fz_iproute.diagnosis.detect import Vpn, as_document, as_text, detect, missing
from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.products import PRODUCTS, Trait
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.served import absent, followed
from fz_iproute.diagnosis.status import status
from fz_iproute.diagnosis.summary import summary
from fz_iproute.mirror import config_text
from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.model import Snapshot
from fz_iproute.mirror.prefix import Prefix
from tests.layouts import LAYOUTS, NO_VPN, Layout, copied, machine, named
from tests.unit.diagnosis.machines import FIREZONE, OWN, TIERED, Case


def found(lines: Sequence[str]) -> list[Vpn]:
    return detect(Config(), *on(lines))


def on(lines: Sequence[str]) -> tuple[Snapshot, Network]:
    seen, tables = machine([*OWN, *lines])
    return seen, Network.of(seen, tables)


@pytest.mark.parametrize("layout", [pytest.param(layout, id=name) for name, layout in named(LAYOUTS)])
def test_a_layout_is_recognised_by_its_form(layout: Layout) -> None:
    vpns = found(layout.lines)
    (said,) = as_document(vpns)["vpns"]
    keys = ("product", "interface", "families", "fwmark", "table", "lan", "advice")
    expected = (*layout[1:3], layout.families.split(), *layout[4:])
    assert dict(zip(keys, expected, strict=True)) == {key: said[key] for key in keys}, as_text(vpns, lambda vpn: "")
    if layout.advice == "mirror":
        assert vpns[0].config == config_text.parse(said["config"], "config")


@pytest.mark.parametrize("layout", [pytest.param(layout, id=name) for name, layout in named(LAYOUTS)])
def test_a_tunnel_that_looks_like_an_ethernet_is_found_if_the_user_names_it(layout: Layout) -> None:
    seen, network = on(layout.lines)
    unlike = {name: link._replace(may_be_tunnel=False) for name, link in seen.links.items()}
    blind = dataclasses.replace(seen, links=unlike)
    without, configured = (replace(Config(), tunnel={"interface": each}) for each in ("other0", layout.interface))
    sighted, unsighted = (seen, network), (blind, Network.of(blind, network.tables))
    is_blind = layout.interface not in {vpn.interface for vpn in detect(without, *unsighted)}
    assert is_blind is (layout.product != "strongSwan"), "strongSwan uses no device of its own"
    assert detect(without, *sighted) == detect(without, *unsighted, layout.interface)
    assert detect(configured, *sighted) == detect(configured, *unsighted)


@pytest.mark.parametrize("lines", NO_VPN.values(), ids=NO_VPN)
def test_what_is_no_full_tunnel_is_not_found_even_if_a_user_names_the_uplink(lines: list[str]) -> None:
    assert [] == found(lines)
    configured = replace(Config(), tunnel={"interface": "eth0"})
    assert [] == detect(configured, *on(lines)) == detect(Config(), *on(lines), "eth0")


@pytest.mark.parametrize("of", ["mark", "table"])
@pytest.mark.parametrize(
    "name", ["Firezone up to 1.5.3", "NetBird", "Mullvad", "NordVPN", "Cloudflare WARP", "Outline"]
)
def test_a_client_is_known_by_one_of_its_numbers_alone(name: str, of: str) -> None:
    layout = LAYOUTS[name]
    moved = (f" {layout.table}", " 4242") if of == "mark" else (f" {layout.mark} ", " 0x42 ")
    (vpn,) = found([f"{line} ".replace(*moved).replace(f" {layout.interface} ", " vpn9 ") for line in layout.lines])
    assert (layout.product, "vpn9") == (vpn.product.name, vpn.interface)


def test_the_products_have_known_traits_and_the_first_is_the_one_of_the_defaults() -> None:
    assert {trait for product in PRODUCTS for trait in product.form} <= set(get_args(Trait))
    assert str(Config().tunnel.fwmark) == PRODUCTS[0].mark and Config().tables.ids == set(PRODUCTS[0].tables)


def test_detect_does_not_promise_a_lan_that_a_firewall_cuts() -> None:
    text = as_text(found(LAYOUTS["Mullvad"].lines), lambda vpn: "")
    assert "LAN      kept by the routes: packets take 172.17.0.0/16 of table main" in text
    why = "copies are not enough, because Mullvad's firewall (nft table mullvad) cuts the LAN, too"
    assert f"advice   client: {why}; run `mullvad lan set allow`" in text


OUTLINE, TAILSCALE, NETBIRD, TIERS = (
    list(LAYOUTS[name].lines) for name in ("Outline", "Tailscale", "NetBird", "Firezone from 1.5.5")
)
OTHER_TIERS = [line.replace("0xfd002021", "0x77").replace("firezone", "7").replace("5390983", "8") for line in TIERS]
HALVES = [f"route add {half} dev tun0" for half in ("0.0.0.0/1", "128.0.0.0/1", "192.168.1.0/25", "192.168.1.128/25")]
WHOLE = "192.168.1.0/24"
TO_LAN, TO_CONTAINERS = (f"route add {lan} dev outline-tun1 table 7113" for lan in ("192.168.1.0/24", "172.17.0.0/16"))
COPIES = [f"route add {lan} table 7113" for lan in ("192.168.1.0/24 dev eth0", "172.17.0.0/16 dev docker0")]
LEAK = "; IPv6 leaves by eth0, outside the VPN"
BY_TABLE = "default of table 7113, by rule 28958 (not from all fwmark 0x711e lookup 7113)"
BY_ROUTE = BY_TABLE.replace("default", WHOLE)


@pytest.mark.parametrize(
    ("lines", "by", "why"),
    [
        (OUTLINE, BY_TABLE, f"copies bring back the LAN (172.17.0.0/16, 192.168.1.0/24){LEAK}"),
        (
            [*OUTLINE, *NO_VPN["thirty bridges"]],
            BY_TABLE,
            "copies bring back the LAN (10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16 and 29 more)" + LEAK,
        ),
        (
            [*OUTLINE, TO_LAN],
            f"default of table 7113, {BY_ROUTE}",
            f"copies bring back the LAN (172.17.0.0/16), but not 192.168.1.0/24: {BY_ROUTE}{LEAK}",
        ),
        (
            [*OUTLINE, TO_LAN, TO_CONTAINERS],
            f"172.17.0.0/16 of table 7113, {BY_ROUTE}",
            f"copies cannot bring back 172.17.0.0/16, 192.168.1.0/24{LEAK}",
        ),
        (
            [*OUTLINE, TO_LAN, COPIES[1]],
            BY_ROUTE,
            f"copies in table 7113 keep 172.17.0.0/16, fd00:1::/64, but cannot bring back 192.168.1.0/24{LEAK}",
        ),
        (
            HALVES,
            "192.168.1.0/25 of table main, by rule 32766 (from all lookup main)",
            "copies cannot bring back 192.168.1.0/24: the VPN's routes are in table main; look for a setting of the "
            "VPN's client" + LEAK,
        ),
        (
            [*OUTLINE, "rule add unreachable pref 5"],  # nothing of it is asked
            "rule 5 (from all unreachable)",
            "the LAN is not cut by this VPN; "
            "packets to 172.17.0.0/16, 192.168.1.0/24 are refused: rule 5 (from all unreachable)",
        ),
        (
            [*NETBIRD, "route add throw 192.168.1.64/26"],  # the rest of main's LAN stays reachable
            "172.17.0.0/16 of table main, by rule 105 (from all lookup main suppress_prefixlength 0)",
            "no LAN is cut except for 192.168.1.64/26",
        ),
        (
            [*OUTLINE, *COPIES, "route add 192.168.1.64/26 dev outline-tun1 table 7113"],
            "172.17.0.0/16 of table 7113, by rule 28958 (not from all fwmark 0x711e lookup 7113)",
            "copies in table 7113 keep the LAN except for 192.168.1.64/26; if fz-iproute makes them, "
            "leave it installed" + LEAK,
        ),
    ],
)
def test_what_decides_about_the_lan_is_said(lines: list[str], by: str, why: str) -> None:
    (said,) = as_document(found(lines))["vpns"]
    assert (by, why) == (said["by"].removeprefix("packets take "), said["why"])


INTO_OUTLINE = "IPv4 goes into outline-tun1 (IPv6 leaves by eth0)"
NO_RULE = "no rule leads to table 539098368 or 539098369"
AUTO = replace(Config(), tunnel={"interface": "auto"})
BESIDE = [line.replace("7113", "7114").replace("0x711e", "0x7").replace("outline-tun1", "wg5") for line in OUTLINE]


@pytest.mark.parametrize(
    ("lines", "interface", "said"),
    [
        ([], "auto", "no VPN takes all traffic here"),
        (
            [*OUTLINE, "-6 route del default"],
            "outline-tun1",
            "IPv4 goes into outline-tun1 (IPv6 has no route); copies go to table 7113",
        ),
        (
            [*OUTLINE, "-6 rule add unreachable pref 5"],
            "outline-tun1",
            "IPv4 goes into outline-tun1 (IPv6 is refused); copies go to table 7113",
        ),
        (
            [*OUTLINE, "-6 route del default", "-6 route add default dev tun7"],
            "outline-tun1",
            "IPv4 goes into outline-tun1 (IPv6 goes into tun7); copies go to table 7113",
        ),
        (
            [*OUTLINE, *(f"-6 {line}" for line in BESIDE)],  # another one for IPv6
            "outline-tun1",
            "it serves only one VPN, but outline-tun1 and wg5 need copies: name one in tunnel.interface; until then, "
            "outline-tun1 is served",
        ),
        (
            LAYOUTS["NetBird"].lines,
            "auto",
            "all traffic goes into wt0 (IPv4 and IPv6), but no LAN is cut",
        ),
    ],
)
def test_auto_serves_the_one_vpn_that_needs_copies(lines: list[str], interface: str, said: str) -> None:
    served = followed(AUTO, detect(AUTO, *on(lines)))
    assert (interface, f"auto: {said}") == (served.config.tunnel.interface, served.said)
    assert ("only one" in said) is served.is_doubtful


@pytest.mark.parametrize(
    ("copies", "interface"), [([], "outline-tun1"), ([7114], "wg5"), ([7113], "outline-tun1"), ([7113, 7114], "wg5")]
)
def test_of_two_vpns_auto_serves_the_one_that_has_most_copies(copies: list[int], interface: str) -> None:
    """One copy may be the VPN's own, or a remainder. Without any copies, it is the first VPN."""
    lines = [*OUTLINE, *(f"-6 {line}" for line in BESIDE)]
    lines += [f"route add 172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 table {it}" for it in copies]
    lines += [f"-6 route add fd00:1::/64 dev eth0 proto kernel table {table}" for table in copies if table == 7114]
    served = followed(AUTO, detect(AUTO, *on(lines)))
    assert (interface, True) == (served.config.tunnel.interface, served.is_doubtful)
    assert served.said.endswith(
        f" and wg5 need copies: name one in tunnel.interface; until then, {interface} is served"
    )


@pytest.mark.parametrize(
    ("lines", "links", "said"),
    [
        ([], [], f"no tun-firezone here, and {NO_RULE}: the VPN is off, or has other names"),
        ([], ["tun-firezone"], ""),
        (OUTLINE, [], f"no tun-firezone here, but {INTO_OUTLINE}"),
        (
            OUTLINE,
            ["tun-firezone"],
            f"{NO_RULE}, but {INTO_OUTLINE} by table 7113",
        ),
    ],
)
def test_a_tunnel_without_rules_is_told_with_what_is_there_instead(
    lines: list[str], links: list[str], said: str
) -> None:
    assert said == absent(Config(), links, found(lines))


def test_a_link_local_prefix_is_no_lan_that_is_cut() -> None:
    lines = [*LAYOUTS["Firezone 1.5.4"].lines, "-6 route add fe80::/64 dev eth0 proto kernel"]
    assert "copies bring back the LAN (fd00:1::/64)" == found(lines)[0].why


@pytest.mark.parametrize(
    "lan",
    [
        {"interfaces": ("wlan*",)},
        {"exclude_interfaces": ("*",)},
        {"deny": (Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0"))},
    ],
    ids=lambda lan: next(iter(lan)),
)
def test_lans_that_the_configuration_leaves_out_are_not_called_kept(lan: dict[str, Any]) -> None:
    config, names = replace(Config(), lan=lan), "172.17.0.0/16, 192.168.1.0/24, fd00:1::/64"
    left_out = f"the configuration leaves out {names}"
    (vpn,) = detect(config, *on(FIREZONE))
    assert ("none", left_out, "nothing", left_out) == (vpn.lan, vpn.by, vpn.advice, vpn.why)
    (vpn,) = detect(config, *on(LAYOUTS["wg-quick"].lines))
    assert "no LAN is cut" == vpn.why, "packets reach them"


@pytest.mark.parametrize("layout", ["single", "tiered"])
def test_the_layout_of_the_configuration_is_corrected(layout: str) -> None:
    """In another layout, the copies get into a table that no packet is looked up in."""
    config = replace(Config(), tables={"layout": layout})
    for lines, is_tiered in ((FIREZONE, False), (TIERED, True)):
        (vpn,) = detect(config, *on(lines))
        assert vpn.config and ("mirror", is_tiered) == (vpn.advice, vpn.config.tables.layout == "tiered")
        keys = {("tables", "layout"): "tiered" if is_tiered else "single"}
        assert (keys if is_tiered != (layout == "tiered") else {}) == missing(config, vpn.config)
        seen, network = on(lines)
        assert not any(lan.lost for lan in Judgement.reading(vpn.config, seen, network).lans_then.values())


def test_a_vpn_behind_another_one_is_told() -> None:
    first, second = found([*TAILSCALE, *OUTLINE])
    assert "all traffic goes into tailscale0 (IPv4 and IPv6)" == first.headline
    assert "outline-tun1 would carry all traffic, but another rule comes first" == second.headline
    into = "packets to 172.17.0.0/16, 192.168.1.0/24 enter tailscale0: default of table 52, by rule 5270"
    assert second.reasons.startswith(f"the LAN is not cut by this VPN; {into}") and second.cut, second.reasons


@pytest.mark.parametrize(
    ("lines", "tables"),
    [
        (OUTLINE, ['layout = "single"', "single = 7113"]),
        (
            [line.replace("7113", "539098370") for line in OUTLINE],  # the number of another table of ours
            ['layout = "single"', "single = 539098370", "user = 539098370", "lan = 539098368", "internet = 539098369"],
        ),
        (OTHER_TIERS, ['layout = "tiered"', "single = 868", "user = 868", "lan = 869", "internet = 870"]),
        (
            [*OTHER_TIERS, "route add 10.5.0.0/16 dev tun-7 table 869"],  # no table for copies alone
            ['layout = "single"', "single = 870"],
        ),
    ],
)
def test_the_configuration_names_the_tables(lines: list[str], tables: list[str]) -> None:
    (said,) = as_document(found(lines))["vpns"]
    assert tables == said["config"].partition("[tables]\n")[2].splitlines()


# What becomes of packets to the LAN, whoever decides about it

SERVED = [*LAYOUTS["Firezone up to 1.5.3"].lines, *copied(539098368)]
KEPT = "copies in table 539098368 keep"
INSTALLED = "; if fz-iproute makes them, leave it installed"
OF_SERVED = f"{KEPT} 172.17.0.0/16, fd00:1::/64{INSTALLED}"
BY_ROUTER = ["route add default via 192.168.1.1 dev eth0 table 900", "rule add pref 50 to 192.168.1.0/24 lookup 900"]


def refusing(selectors: str, action: str) -> str:
    return f"rule add pref 50 {selectors} {action}"


@pytest.mark.parametrize(
    ("lines", "lan", "why"),
    [
        *(
            (
                [refusing(f"to {WHOLE}", action)],
                f"cut ({WHOLE})",
                f"{OF_SERVED}; packets to {WHOLE} are refused: rule 50",
            )
            for action in ("blackhole", "prohibit", "unreachable")
        ),
        (
            [refusing(f"from 192.168.1.5 to {WHOLE}", "blackhole")],
            f"cut ({WHOLE})",
            f"{OF_SERVED}; packets to {WHOLE} are refused: rule 50",
        ),
        (
            [refusing("to 192.168.1.0/26", "blackhole")],
            "kept except for 192.168.1.0/26",
            f"{KEPT} the LAN except for 192.168.1.0/26{INSTALLED}; packets to 192.168.1.0/26, a part of a LAN, are re",
        ),
        (
            ["route add blackhole 192.168.1.192/26 table 539098368"],
            "kept except for 192.168.1.192/26",
            f"{KEPT} the LAN except for 192.168.1.192/26{INSTALLED}",
        ),
        (
            BY_ROUTER,
            f"cut ({WHOLE})",
            f"{OF_SERVED}; packets to {WHOLE} leave by eth0 through the router 192.168.1.1: default of table 900, by",
        ),
        (["route add 10.9.0.0/24 dev tun9 proto kernel scope link src 10.9.0.2"], "kept", f"{KEPT} the LAN{INSTALLED}"),
        (["-6 route add fd09::2 dev tun9 proto kernel metric 256"], "kept", f"{KEPT} the LAN{INSTALLED}"),
        (
            ["-6 rule del not fwmark 0xfd002021 lookup 539098368 pref 32765"],
            "kept",
            "; IPv6 leaves by eth0, outside the",
        ),
    ],
)
def test_what_cuts_the_lan_is_told_though_it_is_not_the_vpn(lines: list[str], lan: str, why: str) -> None:
    (vpn,) = found([*SERVED, *lines])
    assert lan == vpn.lan and why in vpn.reasons, vpn.reasons
    assert "nothing" == vpn.advice


def test_a_copy_with_a_source_that_is_gone_cuts_the_lan_until_the_next_sync() -> None:
    (vpn,) = found([line.replace("192.168.1.5 table", "192.168.1.99 table") for line in SERVED])
    assert (f"cut ({WHOLE})", "mirror", f"copies bring back the LAN ({WHOLE})") == (vpn.lan, vpn.advice, vpn.reasons)
    assert "packets get the source 192.168.1.99, which this machine no longer has" == vpn.by


def test_of_a_configuration_file_only_the_missing_keys_are_shown() -> None:
    (vpn,) = found(OUTLINE)
    started = replace(Config(), tunnel={"interface": "outline-tun1"}, lan={"prune": False})
    assert as_text([vpn], lambda vpn: "", started).endswith(
        '\n\n    [tunnel]\n    fwmark = 0x711e\n\n    [tables]\n    layout = "single"\n    single = 7113'
    )


# A second VPN beside the configured one

SECOND = ["route add default dev wg9 table 900", "rule add not fwmark 0x900 lookup 900 pref 100"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (SECOND, "IPv6 enters it, IPv4 goes into wg9 by rule 100, table 900"),
        ([f"-6 {line}" for line in SECOND], "IPv4 enters it, IPv6 goes into wg9 by rule 100, table 900"),
        (
            [*SECOND, *(f"-6 {line}" for line in SECOND)],
            "packets to the internet do not enter it: IPv4 and IPv6 go into wg9 by rule 100, table 900",
        ),
    ],
)
def test_status_names_a_second_vpn(lines: list[str], said: str) -> None:
    said = f"tun-firezone is up; {said}; copies in table 539098368"
    assert said == summary(status(Config(), *Case([*SERVED, *lines]).read())).vpn


def test_doctor_names_the_lan_that_a_second_vpn_cuts_and_who_says_more() -> None:
    found = Case([*SERVED, *SECOND]).findings()
    (of_lan,) = [each for each in found if each.name == "shadows" and each.level == "failure"]
    assert of_lan.seen.startswith("packets to 172.17.0.0/16, 192.168.1.0/24 enter wg9: default of table 900, by rule ")
    remedies = {each.remedy for each in found if each.level == "failure"}
    shows = "`fz-iproute detect --interface wg9` shows the configuration that keeps its LAN"
    assert all(shows in remedy for remedy in remedies)


def test_the_second_vpn_is_served_by_the_configuration_that_detect_prints() -> None:
    """Then nothing is left to write, and its own network and those of other tunnels are no LANs."""
    lines = [*SERVED, *SECOND, "route add 10.9.0.0/24 dev wg9 proto kernel scope link src 10.9.0.2"]
    (config,) = [vpn.config for vpn in found(lines) if vpn.interface == "wg9"]
    assert config
    for copies in ([], copied(900)):
        (vpn,) = [vpn for vpn in detect(config, *on([*lines, *copies])) if vpn.interface == "wg9"]
        assert (config, True, {}) == (vpn.config, vpn.is_configured, missing(config, config))
        assert {"172.17.0.0/16", "192.168.1.0/24", "fd00:1::/64"} == {str(lan) for lan in (*vpn.cut, *vpn.kept)}


def test_lans_that_the_settings_leave_out_are_not_said_to_be_kept() -> None:
    config = replace(Config(), lan={"interfaces": ("wlan9",)})
    (vpn,) = detect(config, *on(OUTLINE))
    assert ("none", (), ()) == (vpn.lan, vpn.cut, vpn.kept)


@pytest.mark.parametrize("is_allowed", [True, False])
def test_a_network_behind_a_router_is_a_lan_if_it_is_copied(*, is_allowed: bool) -> None:
    routed = Prefix.parse("10.0.9.0/24")
    route = f"route add {routed} via 192.168.1.1 dev eth0"
    config = replace(Config(), lan={"allow": (routed,)}) if is_allowed else Config()
    for lines, lans in ((FIREZONE, "cut"), ([*SERVED, f"{route} table 539098368"], "kept")):
        (vpn,) = detect(config, *on([*lines, route]))
        assert is_allowed is (routed in getattr(vpn, lans))
