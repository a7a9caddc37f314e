"""In both layouts: first what the VPN routes explicitly, then the LAN, then the Internet Resource."""

import pytest

from tests.manage.laptop import Laptop, manage

# What status says of it


def shadows(laptop: Laptop, config: str) -> list[str]:
    return [line for line in laptop.fz("status", "--routes", config=config).splitlines() if line.startswith("shadow")]


@pytest.mark.parametrize(("layout", "synced"), [("single", False), ("tiered", True)])
def test_status_lists_each_lan_that_the_vpn_takes_and_each_route_inside_one(
    layout: str, synced: bool, laptop: Laptop
) -> None:
    laptop.bridge("docker0", "100.64.3.1/24", "fd00:2021:1111:3::1/64")
    inside = ["192.168.188.50/32", "192.168.188.128/25", "fd00:188::50/128"]
    assert [] == shadows(laptop, manage(layout=layout, routes=["203.0.113.0/24"]))
    text = manage(layout=layout, routes=["100.64.0.0/11", "10.77.0.0/24", *inside])
    if synced:
        laptop.sync(text)
    assert [
        "shadow  10.77.0.0/24 of the VPN takes all of the LAN 10.77.0.0/24",
        "shadow  100.64.0.0/11 of the VPN takes all of the LAN 100.64.3.0/24",
        "shadow  192.168.188.128/25 of the VPN is inside the LAN 192.168.188.0/24",
        "shadow  192.168.188.50/32 of the VPN is inside the LAN 192.168.188.0/24",
        "shadow  fd00:188::50/128 of the VPN is inside the LAN fd00:188::/64",
    ] == sorted(shadows(laptop, text))
    document = {(shadow["lan"], shadow["tunnel"], shadow["whole"]) for shadow in laptop.status(text)["shadows"]}
    assert {("10.77.0.0/24", "10.77.0.0/24", True), ("192.168.188.0/24", "192.168.188.50/32", False)} <= document
