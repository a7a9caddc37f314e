"""Which families the tunnel carries follows from its link and its addresses."""

import pytest

from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Link, Snapshot
from fz_iproute.mirror.tunnel import family_state

UP, DOWN = (Link("tun-firezone", 7, up, False, "tun-firezone") for up in (True, False))


@pytest.mark.parametrize(
    ("link", "numbered", "inet", "inet6"),
    [  # usable, carried, certain
        (None, [], (False, False, True), (False, False, True)),
        (DOWN, ["inet"], (False, False, True), (False, False, True)),
        (UP, [], (True, True, True), (True, True, False)),
        (UP, ["inet"], (True, True, True), (True, False, True)),
        (UP, ["inet6"], (True, False, True), (True, True, True)),
        (UP, ["inet", "inet6"], (True, True, True), (True, True, True)),
    ],
)
def test_a_family_is_carried_unless_link_or_addresses_say_otherwise(link, numbered, inet, inet6) -> None:
    here = Snapshot(
        links={link.name: link} if link else {}, numbered={family: frozenset(["tun-firezone"]) for family in numbered}
    )
    for family, expected in (("inet", inet), ("inet6", inet6)):
        state = family_state(Config(), here, family)
        assert expected == state[:3]
        assert (state.usable and state.carried) == (state.obstacle == "")
