"""A prefix is split into parts that the kernel treats alike, and no address is lost or counted twice."""

from hypothesis import given
from hypothesis import strategies as st

from fz_iproute.diagnosis.parts import Bounds
from fz_iproute.mirror.prefix import Prefix, PrefixSet

# Lengths near the end, so that every address can be tried.
PREFIXES = st.lists(
    st.builds(
        lambda length, number: Prefix("inet", number >> 32 - length << 32 - length, length),
        st.integers(24, 32),
        st.integers(0xC0A8BC00, 0xC0A8BCFF),
    ),
    max_size=12,
    unique=True,
)


def longest(prefixes: list[Prefix], address: int) -> Prefix:
    host = Prefix.of_host("inet", address)
    return max((prefix for prefix in prefixes if prefix.covers(host)), key=lambda prefix: prefix.length)


@given(PREFIXES)
def test_every_address_belongs_to_one_part(inside: list[Prefix]) -> None:
    whole = Prefix.parse("192.168.188.0/24")
    order = sorted({whole, *inside}, key=lambda prefix: prefix[1:])
    found = Bounds((), order).parts(whole)
    owners = [longest(order, address) for address in range(whole.address, whole.address + 256)]
    assert {prefix: owners.count(prefix) for prefix in owners} == {part.prefix: part.size for part in found}
    for part in found:
        assert part.prefix == longest(order, part.address)


def test_the_first_address_is_avoided() -> None:
    """The first address of a network may be its own: another one speaks for the hosts."""
    (part,) = Bounds((), ()).parts(Prefix.parse("10.0.0.0/24"))
    assert Prefix.parse("10.0.0.1/32").address == part.address
    assert not PrefixSet([Prefix.parse("10.0.0.0/32")]).covers(Prefix.of_host("inet", part.address))
