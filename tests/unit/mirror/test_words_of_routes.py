"""A value is found by its option, whatever the interfaces are called."""

import pytest

from tests.unit.routes import gatewayed, route


@pytest.mark.parametrize("device", ["src", "via", "proto", "metric", "dev", "onlink", "nexthop", "eth0"])
@pytest.mark.parametrize(
    ("option", "value"), [("src", "10.1.0.2"), ("via", ""), ("proto", "kernel"), ("metric", "7"), ("mtu", "")]
)
def test_an_interface_with_the_name_of_an_option(device: str, option: str, value: str) -> None:
    found = route("10.1.0.0/24", device, prefsrc="10.1.0.2", metric=7).attributes
    assert value == found.value(option)
    assert device == found.value("dev")


def test_the_address_of_a_router_is_found_behind_its_family() -> None:
    assert "10.1.0.1" == gatewayed("10.2.0.0/16", "10.1.0.1", "via").attributes.value("via")
    found = route("10.2.0.0/16", "src", via={"family": "inet6", "host": "fe80::1"}, scope=None).attributes
    assert "fe80::1" == found.value("via")
