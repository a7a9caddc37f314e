"""In both layouts: first what the VPN routes explicitly, then the LAN, then the Internet Resource."""

import pytest

from tests.manage.laptop import Laptop, manage

# What status says of it


def losses(laptop: Laptop, config: str) -> list[tuple[str, str, str]]:
    """The LANs and parts that packets do not reach, and the first route that takes them."""
    found = laptop.status(config)["losses"]
    return sorted((dst, loss["extent"], loss["by"].split()[0]) for loss in found for dst in loss["dst"])


@pytest.mark.parametrize(("layout", "synced"), [("single", False), ("tiered", True)])
def test_status_lists_each_lan_that_the_vpn_takes_and_each_route_inside_one(
    layout: str, synced: bool, laptop: Laptop
) -> None:
    laptop.bridge("docker0", "100.64.3.1/24", "fd00:2021:1111:3::1/64")
    inside = ["192.168.188.50/32", "192.168.188.128/26", "fd00:188::50/128"]
    assert [] == losses(laptop, manage(layout=layout, routes=["203.0.113.0/24"]))
    text = manage(layout=layout, routes=["100.64.0.0/11", "10.77.0.0/24", *inside])
    if synced:
        laptop.sync(text)
    assert [
        ("10.77.0.0/24", "whole", "10.77.0.0/24"),
        ("100.64.3.0/24", "whole", "100.64.0.0/11"),
        ("192.168.188.128/26", "part", "192.168.188.128/26"),
        ("192.168.188.50/32", "part", "192.168.188.50"),
        ("fd00:188::50/128", "part", "fd00:188::50"),
    ] == losses(laptop, text)
