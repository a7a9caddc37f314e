"""While no rule looks up the mirror, good copies stay in the tables that rules do look up."""

import pytest

from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.desired import desired
from fz_iproute.mirror.model import Mark, Rule
from fz_iproute.mirror.plan import plan
from tests.unit.routes import lookup, route, snapshot

MIRROR, OTHER = Config().tables.single, Config().tables.lan
COPY = route("192.168.1.0/24")
STALE = route("10.9.0.0/24")
OBSERVE = replace(Config(), tables={"layout": "single"})
MANAGE = replace(OBSERVE, tunnel={"mode": "manage"})


@pytest.mark.parametrize(
    ("config", "rules", "stays"),
    [
        (OBSERVE, [lookup(OTHER)], True),
        (OBSERVE, [lookup(OTHER, mark=Mark(7), inverted=True)], True),  # for all but the VPN's own packets
        (OBSERVE, [lookup(OTHER), lookup(MIRROR, family="inet6")], True),
        (OBSERVE, [], False),
        (OBSERVE, [lookup(MIRROR)], False),
        (OBSERVE, [lookup(OTHER), lookup(MIRROR)], False),
        (OBSERVE, [lookup(OTHER, mark=Mark(7))], False),
        (OBSERVE, [lookup(OTHER, family="inet6")], False),
        (MANAGE, [lookup(OTHER)], False),
    ],
)
def test_a_good_copy_in_another_table_stays_while_it_may_be_the_only_one(
    config: Config, rules: list[Rule], *, stays: bool
) -> None:
    seen = snapshot([COPY], rules=tuple(rules))
    there = {"inet": (COPY, STALE), "inet6": ()}
    goal = desired(config, snapshot([COPY], rules=tuple(rules), tables={**seen.tables, OTHER: there}))
    assert ((COPY,) if stays else ()) == goal.contents["inet"][OTHER].wanted
    deleted = [command.line for command in plan(goal) if f"del table {OTHER}" in command.line]
    assert [f"route del table {OTHER} {each}" for each in (STALE, *([] if stays else [COPY]))] == sorted(deleted)
