"""Decisions and their doubts. tests/netns/test_lookup.py compares decisions with the kernel's."""

from ipaddress import ip_address
from typing import Any

import pytest

from fz_iproute.diagnosis.lookup import Decision, Packet, within_link
from fz_iproute.diagnosis.reach import Network
from fz_iproute.mirror.model import Route, Rule
from fz_iproute.mirror.prefix import Family
from tests.unit.routes import LINKS, gatewayed, lookup, route

MAIN = lookup(254, 32766)
SPLIT = {254: [gatewayed("default", "192.168.5.1")]}


def packet(dst: str, **fields: Any) -> Packet:
    family: Family = "inet6" if ":" in dst else "inet"
    fields = {key: int(ip_address(value)) if key == "src" else value for key, value in fields.items()}
    return Packet(family, int(ip_address(dst)), **fields)


def way(asked: Packet, rules: list[Rule], tables: dict[int, list[Route]], **down: bool) -> Decision:
    links = LINKS | {name: LINKS[name]._replace(up=False) for name in down}
    found = {table: {asked.family: tuple(routes)} for table, routes in tables.items()}
    return Network(links, tuple(rules), found).way(asked)


@pytest.mark.parametrize(
    ("rule", "doubt"),
    [
        (lookup(254, options=(("ipproto", "ipproto-6"),)), "whether the packet is of ipproto tcp"),
        (lookup(254, options=(("uid_start", "0"), ("uid_end", "9"))), "whether the packet is of uid 0-9"),
        (lookup(254, options=(("flowlabel", "0x7"),)), "whether the packet is of flowlabel 0x7"),
        (lookup(254, options=(("suppress_ifgroup", "guests"),)), "the group of eth0 is not known"),
        (Rule("inet", 100, "dance", 0), "an unknown action"),
    ],
)
def test_what_cannot_be_judged_is_a_doubt(rule: Rule, doubt: str) -> None:
    decision = way(packet("192.0.2.1"), [rule, MAIN], SPLIT)
    (said,) = decision.doubts
    assert said.startswith(f"rule 100: {'cannot tell ' if 'whether' in doubt else ''}{doubt}")
    assert ("eth0",) == decision.devices


@pytest.mark.parametrize("rule", [Rule("inet", 100, "l3mdev", 0), lookup(254, options=(("suppress_ifgroup", "5"),))])
def test_what_only_the_files_and_details_of_the_machine_tell_is_a_doubt(rule: Rule) -> None:
    """The table of a VRF, and the number of a group that `ip link` names."""
    links = LINKS | {"eth0": LINKS["eth0"]._replace(group=None, in_vrf=True)}
    network = Network(links, (rule, MAIN), {254: {"inet": tuple(SPLIT[254])}})
    decision = network.way(packet("192.0.2.1", oif="eth0"))
    (said,) = decision.doubts
    assert "whether the packet is of a VRF" in said or "the group of eth0 is not known" in said


def test_ipv4_assumes_that_a_destination_without_a_route_is_on_the_link() -> None:
    decision = way(packet("192.0.2.1", oif="eth1"), [lookup(7)], SPLIT)
    assert ("unicast", None, ("eth1",)) == (decision.outcome, decision.route, decision.devices)
    assert "none" == way(packet("2001:db8::1", oif="eth1"), [lookup(7, family="inet6")], {}).outcome
    assert "none" == way(packet("192.0.2.1", oif="eth1"), [lookup(7)], SPLIT, eth1=False).outcome


def test_a_multipath_route_uses_the_devices_that_are_up() -> None:
    hops = [{"gateway": "192.0.2.9", "dev": dev, "weight": 1, "flags": []} for dev in ("eth0", "eth1", "wlan0")]
    decision = way(packet("203.0.113.1"), [MAIN], {254: [route("default", None, nexthops=hops)]}, eth1=False)
    assert (("eth0", "wlan0"), []) == (decision.devices, decision.doubts)


@pytest.mark.parametrize(("expired", "device"), [(False, "wlan0"), (True, "eth1")])
def test_ipv6_ranks_all_metrics_but_the_lowest_by_preference_alone(expired: bool, device: str) -> None:
    routes = [
        route("default", "wlan0", metric=1, pref="low", expires=-1 if expired else 9),
        route("default", "eth0", metric=2, pref="medium"),
        route("default", "eth1", metric=3, pref="high"),
    ]
    assert (device,) == way(packet("2001:db8::1"), [lookup(254, family="inet6")], {254: routes}).devices


def test_equal_defaults_through_routers_are_a_doubt() -> None:
    tables = {254: [gatewayed("default", "192.0.2.1"), gatewayed("default", "192.0.2.2", "eth1")]}
    (doubt,) = way(packet("203.0.113.1"), [MAIN], tables).doubts
    assert "whose router answers" in doubt
    tables = {254: [gatewayed("default", "192.0.2.1"), gatewayed("default", "192.0.2.2", "eth1", metric=7)]}
    assert [] == way(packet("203.0.113.1"), [MAIN], tables).doubts


@pytest.mark.parametrize(("pref", "rivals", "doubts"), [("medium", 0, 0), ("medium", 1, 1), ("low", 0, 1)])
def test_a_preference_that_ip_does_not_show_is_a_doubt(pref: str, rivals: int, doubts: int) -> None:
    """Each nexthop of an IPv6 route has its own; it is printed for the first."""
    one = route("2001:db8::/32", "eth0", metric=1024, pref=pref)
    both = one._replace(attributes=one.attributes._replace(devices=("eth0", "eth1")))
    others = [route("2001:db8::/32", "eth1", metric=1024)] * rivals
    rule = Rule("inet6", 100, "lookup", 254)
    decision = way(packet("2001:db8::1"), [rule], {254: [both, *others]})
    assert doubts == len(decision.doubts)


@pytest.mark.parametrize(
    ("family", "result", "doubts"), [("inet", "suppressed", 0), ("inet6", "decides", 1)], ids=["inet", "inet6"]
)
def test_of_several_nexthops_ipv4_looks_at_the_group_of_the_first(family: Family, result: str, doubts: int) -> None:
    links = LINKS | {name: LINKS[name]._replace(group=group) for name, group in (("eth0", 5), ("eth1", 0))}
    hops = [{"dev": dev, "weight": 1, "flags": []} for dev in ("eth0", "eth1")]
    both = route("default", None, nexthops=hops)
    both = both._replace(attributes=both.attributes._replace(family=family))
    rule = lookup(254, family=family, options=(("suppress_ifgroup", "5"),))
    destination = packet("192.0.2.1" if family == "inet" else "2001:db8::1")
    decision = Network(links, (rule,), {254: {family: (both,)}}).way(destination)
    assert (result, doubts) == (decision.steps[0].result, len(decision.doubts))


@pytest.mark.parametrize("needs_device", [True, False])
def test_addresses_that_need_a_device_are_known(needs_device: bool) -> None:
    addresses = ["fe80::1", "febf:ffff::1", "ff02::1", "ffff::1", "::1"] if needs_device else OF_ANY_DEVICE
    assert {needs_device} == {within_link(packet(address).family, packet(address).dst) for address in addresses}


OF_ANY_DEVICE = ["fe7f::1", "fec0::1", "feff::1", "::2", "::", "0.0.0.1", "255.0.0.1"]
