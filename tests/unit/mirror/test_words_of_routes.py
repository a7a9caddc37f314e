"""A value is found by its option, whatever the interfaces are called."""

from pathlib import Path

import pytest

from fz_iproute.mirror.model import Command
from fz_iproute.mirror.words import PROTOCOLS, count, printable, some, sysctl_name
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


def test_of_a_changed_route_only_the_old_options_that_differ_are_told() -> None:
    new = route("10.1.0.0/24", prefsrc="10.1.0.2", metric=7)
    assert "src 10.1.0.3" == new.changed_from(route("10.1.0.0/24", prefsrc="10.1.0.3", metric=7))
    assert "dev eth0 proto kernel scope link metric 7" == new.changed_from(route("10.1.0.0/24", metric=7))


def test_a_word_with_a_space_is_no_word_of_a_command() -> None:
    assert ("route", "del", "10.1.0.0/24") == Command.of("inet", ["route", "del", "10.1.0.0/24"]).words
    with pytest.raises(ValueError, match="a word with a space"):
        Command.of("inet", ["route", "del 10.1.0.0/24"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ipv4/conf/eth0/rp_filter", "net.ipv4.conf.eth0.rp_filter"),
        ("ipv4/conf/eth0.7/rp_filter", "net/ipv4/conf/eth0.7/rp_filter"),
    ],
)
def test_sysctl_takes_slashes_if_a_name_has_a_dot(name: str, expected: str) -> None:
    assert expected == sysctl_name(name)


def test_the_names_of_protocols_have_iproute2s_numbers() -> None:
    files = [Path(folder, "iproute2/rt_protos") for folder in ("/etc", "/usr/share", "/usr/lib")]
    lines = [line.split() for file in files if file.exists() for line in file.read_text().splitlines()]
    numbers = {words[1]: words[0] for words in lines if words and not words[0].startswith("#")}
    if not numbers:
        pytest.skip("there is no rt_protos of iproute2")
    assert {name: PROTOCOLS[name] for name in numbers if name in PROTOCOLS} == {
        name: number for name, number in numbers.items() if name in PROTOCOLS
    }
    assert len(PROTOCOLS.keys() & numbers.keys()) > 15


def test_control_characters_are_spelled_out() -> None:
    assert ("eth0", "ü '", r"a\nb\x1b[31m", r"\udc80") == tuple(
        map(printable, ("eth0", "ü '", "a\nb\x1b[31m", "\udc80"))
    )


@pytest.mark.parametrize(
    ("names", "text", "of_sample"),
    [
        ("a", "a", "a and others"),
        ("a b a", "a, b", "a, b and others"),
        ("a b c", "a, b, c", "a, b, c and others"),
        ("a b c d e", "a, b, c and 2 more", "a, b, c and others"),
    ],
)
def test_three_are_named_and_the_others_counted(names: str, text: str, of_sample: str) -> None:
    assert (text, of_sample) == (some(names.split()), some(names.split(), is_sample=True))


def test_one_is_singular() -> None:
    assert ["0 copies", "1 copy", "2 copies"] == [count(number, "copy", "copies") for number in range(3)]
