"""What `detect` says of the layouts of VPN clients, with their usual numbers and with others."""

from collections.abc import Sequence

import pytest

from fz_iproute.diagnosis.detect import Vpn, as_document, as_text, detect
from fz_iproute.mirror import config as configuration
from fz_iproute.mirror.config import Config
from tests.layouts import LAYOUTS, NO_VPN, Layout, machine, named


def found(lines: Sequence[str]) -> list[Vpn]:
    return detect(Config(), *machine(lines))


@pytest.mark.parametrize("layout", [pytest.param(layout, id=name) for name, layout in named(LAYOUTS)])
def test_a_layout_is_recognised_by_its_form(layout: Layout) -> None:
    vpns = found(layout.lines)
    (said,) = as_document(vpns)["vpns"]
    keys = ("product", "interface", "families", "fwmark", "table", "lan", "advice")
    expected = (*layout[1:3], layout.families.split(), *layout[4:])
    assert dict(zip(keys, expected, strict=True)) == {key: said[key] for key in keys}, as_text(vpns)
    if layout.advice == "mirror":
        assert vpns[0].config == configuration.parse(said["config"], "config")


def test_detect_does_not_promise_a_lan_that_a_firewall_cuts() -> None:
    text = as_text(found(LAYOUTS["Mullvad"].lines))
    assert "LAN      kept by the routes: 192.168.1.0/24 of table main" in text
    assert "advice   client: routes are not enough, because its firewall (nft table mullvad) cuts the LAN" in text


OUTLINE, TAILSCALE, TIERS = (list(LAYOUTS[name].lines) for name in ("Outline", "Tailscale", "Firezone from 1.5.5"))
OTHER_TIERS = [line.replace("0xfd002021", "0x77").replace("firezone", "7").replace("5390983", "8") for line in TIERS]
HALVES = [f"route add {half} dev tun0" for half in ("0.0.0.0/1", "128.0.0.0/1", "192.168.1.0/25", "192.168.1.128/25")]
TO_LAN, TO_CONTAINERS = (f"route add {lan} dev outline-tun1 table 7113" for lan in ("192.168.1.0/24", "172.17.0.0/16"))
BY_TABLE = "default of table 7113, by rule 28958 (not from all fwmark 0x711e lookup 7113)"


@pytest.mark.parametrize(
    ("lines", "by", "why"),
    [
        (OUTLINE, BY_TABLE, "copies bring back the LAN (192.168.1.0/24, 172.17.0.0/16)"),
        (
            [*OUTLINE, TO_LAN],
            BY_TABLE.replace("default", "192.168.1.0/24"),
            "copies bring back the LAN (172.17.0.0/16), but not 192.168.1.0/24: the VPN routes 192.168.1.0/24 itself",
        ),
        (
            [*OUTLINE, TO_LAN, TO_CONTAINERS],
            BY_TABLE.replace("default", "192.168.1.0/24"),
            "192.168.1.0/24, 172.17.0.0/16: the VPN routes 192.168.1.0/24 itself",
        ),
        (
            HALVES,
            "192.168.1.0/25 of table main, by rule 32766 (from all lookup main)",
            "192.168.1.0/24: its routes are in table main, where copies change nothing",
        ),
        (
            [*OUTLINE, "rule add unreachable pref 5"],  # nothing of it is asked
            "rule 5 (from all unreachable)",
            "another VPN takes the LAN",
        ),
    ],
)
def test_what_decides_about_the_lan_is_said(lines: list[str], by: str, why: str) -> None:
    (said,) = as_document(found(lines))["vpns"]
    assert (by, why) == (said["by"], said["why"])


def test_a_vpn_behind_another_one_is_told() -> None:
    first, second = found([*TAILSCALE, *OUTLINE])
    assert "all traffic goes into tailscale0 (IPv4 and IPv6)" == first.headline
    assert "outline-tun1 would carry all traffic, but another rule comes first" == second.headline
    assert ("another VPN takes the LAN", True) == (second.why, second.is_cut)


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


@pytest.mark.parametrize("lines", NO_VPN.values(), ids=NO_VPN)
def test_what_is_no_full_tunnel_is_not_found(lines: list[str]) -> None:
    assert [] == found(lines)
