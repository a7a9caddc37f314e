"""The status lists every route of the tables, each once."""

import pytest

from fz_iproute.diagnosis.status import status
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Route
from tests.unit.routes import route, snapshot


@pytest.mark.parametrize(
    ("main", "states"),
    [
        ([], ["stale", "stale"]),
        ([route("10.1.0.0/16", "wlan0")], ["changed", "stale"]),
        ([route("10.1.0.0/16", "wlan0"), route("10.1.0.0/16", "wlan0", metric=7)], ["changed", "changed"]),
    ],
    ids=["none is left", "one is left", "both have changed"],
)
def test_each_of_two_stale_copies_of_one_prefix_is_shown(main: list[Route], states: list[str]) -> None:
    copies = [route("10.1.0.0/16", "eth0"), route("10.1.0.0/16", "eth1", metric=5)]
    seen = snapshot(main, copies)
    lines = status(Config(), seen, {254: seen.main, **seen.tables}).lan
    assert states == [line.state for line in lines]
    assert len({line.route for line in lines}) == 2
