"""Prefixes as numbers agree with the standard library's networks."""

from ipaddress import ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fz_iproute.mirror.prefix import BEGINNING, BITS, PRIVATE, Prefix, PrefixSet, beginning, check_destinations

NETWORKS = st.ip_addresses().flatmap(
    lambda address: st.integers(0, address.max_prefixlen).map(
        lambda length: ip_network(f"{address}/{length}", strict=False)
    )
)


@given(NETWORKS)
def test_a_prefix_is_printed_as_it_was_written(network) -> None:
    assert str(network) == str(Prefix.parse(str(network)))


@given(NETWORKS, NETWORKS)
def test_covers_is_supernet_of(one, other) -> None:
    expected = one.version == other.version and other.subnet_of(one)
    assert expected == Prefix.parse(str(one)).covers(Prefix.parse(str(other)))


@given(st.lists(NETWORKS, max_size=8), NETWORKS)
@example([ip_network("10.0.0.0/8"), ip_network("10.1.0.0/16")], ip_network("10.0.0.0/8"))
def test_a_set_answers_as_its_members_would(members, asked) -> None:
    prefix = Prefix.parse(str(asked))
    found = PrefixSet(Prefix.parse(str(member)) for member in members)
    alike = [member for member in members if member.version == asked.version]
    covers = [member for member in alike if asked.subnet_of(member)]
    widest = min(covers, key=lambda member: member.prefixlen) if covers else None
    assert str(widest) == str(found.covering(prefix))
    inside = {str(member) for member in alike if member.subnet_of(asked) and member != asked}
    assert inside == set(map(str, found.inside(prefix)))
    assert any(member.overlaps(asked) for member in alike) == (found.overlapping(prefix) is not None)


@given(st.sampled_from(list(PRIVATE)), st.data())
def test_what_overlaps_a_prefix_begins_like_it(private, data) -> None:
    bits = BITS[private.family]
    length, host = data.draw(st.integers(BEGINNING[private.family], bits)), data.draw(st.integers(0, 2**bits - 1))
    dst = ip_network(((host % (1 << bits - private.length) | private.address), length), strict=False)
    around = dst.supernet(new_prefix=data.draw(st.integers(0, length)))
    inside = ip_network((dst[data.draw(st.integers(0, dst.num_addresses - 1))], bits))
    for overlapping in (around, dst, inside):
        assert str(dst).startswith(beginning(Prefix.parse(str(overlapping))))


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("10.5.7.9/32", "10.5."),
        ("10.5.0.0/16", "10.5."),
        ("10.4.0.0/15", "10."),
        ("0.0.0.0/1", ""),
        ("fd00:5:7:9::/64", "fd00:5:7:"),
        ("fd00:0:7::/48", "fd00:"),
        ("fd00:5:7::/47", "fd00:5:"),
        ("fc00::/7", ""),
    ],
)
def test_how_destinations_begin(prefix, expected) -> None:
    assert expected == beginning(Prefix.parse(str(ip_network(prefix, strict=False))))


@pytest.mark.parametrize(
    ("dst", "family", "expected"),
    [
        ("default", "inet", "0.0.0.0/0"),
        ("default", "inet6", "::/0"),
        ("192.0.2.1", "inet", "192.0.2.1/32"),
        ("fd00::1", "inet6", "fd00::1/128"),
        ("10.0.0.0/8", "inet", "10.0.0.0/8"),
    ],
)
def test_destinations_as_ip_prints_them(dst, family, expected) -> None:
    assert expected == str(Prefix.of_route(dst, family))


def test_host_bits_are_an_error_that_names_the_network() -> None:
    with pytest.raises(ValueError, match=r"the network is 192\.168\.1\.0/24"):
        Prefix.parse("192.168.1.7/24")


@given(st.lists(NETWORKS, min_size=1, max_size=8))
def test_the_prefix_around_others_is_their_narrowest_supernet(networks) -> None:
    networks = [network for network in networks if network.version == networks[0].version]
    family, host = ("inet", "/32") if networks[0].version == 4 else ("inet6", "/128")
    texts = [str(network).removesuffix(host) for network in networks]
    expected = networks[0]
    while not all(network.subnet_of(expected) for network in networks):
        expected = expected.supernet()
    assert str(expected) == str(Prefix.around(texts, family))


@pytest.mark.parametrize("dst", ["10.0.0.0/33", "10.0.0.0/x", "10.0.0.0/", "10.0.0.0/-1", "10.0.0", "fd00::/64"])
def test_a_destination_that_ip_does_not_print_is_refused(dst: str) -> None:
    check_destinations(["default", "10.0.0.0/32", "10.0.0.7", "0.0.0.0/0"], "inet")
    with pytest.raises(ValueError, match="IPv4"):
        check_destinations(["10.0.0.0/8", dst], "inet")
