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


@pytest.mark.parametrize("lines", NO_VPN.values(), ids=NO_VPN)
def test_what_is_no_full_tunnel_is_not_found(lines: list[str]) -> None:
    assert [] == found(lines)
