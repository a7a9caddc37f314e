"""Our rules: all their attributes, and each of them once. The rules of others are never touched."""

from collections.abc import Sequence

import pytest

from tests.manage.laptop import MARK, MIRROR, PRIORITIES, TIER_LAN, TIERS, Laptop, State, manage, our_rule
from tests.netns.rtnetlink import FAMILIES, RawRoute

SINGLE, TIERED = manage(), manage(layout="tiered")
PRIORITY = {SINGLE: 32765, TIERED: 100}
OURS = f"not fwmark {MARK:#x} lookup {MIRROR}"


def expected(family: str, priorities: Sequence[int], tables: Sequence[int], **mark: int) -> list[object]:
    return [our_rule(family, priority, table, **mark) for priority, table in zip(priorities, tables, strict=True)]


@pytest.mark.parametrize(
    ("config", "priorities", "tables"),
    [
        (SINGLE, [32765], [MIRROR]),
        (manage(layout="auto"), [32765], [MIRROR]),
        (TIERED, PRIORITIES, TIERS),
        (manage(layout="tiered", rules={"tiered": [7, 8, 32764]}), [7, 8, 32764], TIERS),
    ],
    ids=["single", "auto", "tiered", "other priorities"],
)
def test_each_table_has_one_rule_with_exactly_these_attributes(
    config: str, priorities: Sequence[int], tables: Sequence[int], laptop: Laptop
) -> None:
    laptop.sync(config)
    for family in FAMILIES:
        assert expected(family, priorities, tables) == laptop.added_rules(family)


@pytest.mark.parametrize("config", [SINGLE, TIERED])
def test_duplicates_that_come_later_go_one_by_one_and_our_rule_stays(config: str, laptop: Laptop) -> None:
    laptop.sync(config)
    whole = laptop.state()
    for option in ("", "-6 "):
        laptop.batch(f"{option}rule add {OURS} pref {priority}" for priority in (1, 50, 150, 250, 32764))
    lines = [line for line in laptop.sync(config) if " rule " in line]
    assert 10 == len(lines)
    assert [] == [line for line in lines if " rule add " in line or "protocol kernel" in line]
    assert whole == laptop.state()
    laptop.batch(f"{option}rule add {OURS} pref {PRIORITY[config]}" for option in ("", "-6 "))
    laptop.sync(config)
    assert whole == laptop.state()


OTHERS = [
    # `ip` ignores `not` when it looks for duplicates, and when it deletes.
    f"fwmark {MARK:#x} lookup {MIRROR} pref 32764 protocol kernel",
    f"fwmark {MARK:#x} lookup {MIRROR} pref 40",  # not inverted
    f"not fwmark {MARK:#x}/0xff00ffff lookup {MIRROR} pref 41",
    f"not fwmark {MARK:#x} from 10.0.0.0/8 lookup {MIRROR} pref 42",
    f"not fwmark {MARK:#x} to 10.0.0.0/8 lookup {MIRROR} pref 43",
    f"not fwmark {MARK:#x} iif lo lookup {MIRROR} pref 44",
    f"not fwmark {MARK:#x} oif wlp192s0 lookup {MIRROR} pref 45",
    f"not fwmark {MARK:#x} ipproto tcp lookup {MIRROR} pref 46",
    f"not fwmark {MARK:#x} tos 0x10 lookup {MIRROR} pref 47",
    f"not fwmark {MARK:#x} uidrange 0-0 lookup {MIRROR} pref 48",
    f"not fwmark {MARK:#x} lookup {MIRROR} suppress_prefixlength 0 pref 49",
    f"not fwmark {MARK:#x} dport 53 lookup {MIRROR} pref 50",
    f"not fwmark {MARK:#x} unreachable pref 51",
    f"not fwmark {MARK:#x} lookup 77 pref 52",
    f"not fwmark 0x77 lookup {MIRROR} pref 53",
    "not fwmark 0x51820 lookup 51820 pref 54",  # wg-quick
    "not fwmark 0x51820 lookup 51820 protocol kernel pref 55",
    f"lookup {MIRROR} pref 56",
    "lookup main suppress_prefixlength 0 pref 57",
    "fwmark 0x80000/0xff0000 lookup 52 pref 5230 protocol kernel",  # tailscale
    "goto 32766 pref 58",
    f"not fwmark {MARK:#x} lookup main pref 59 protocol kernel",  # the form of our rules, but a table of the kernel's
    f"not fwmark {MARK:#x} lookup default pref 60 protocol kernel",
    f"not fwmark {MARK:#x} lookup local pref 61 protocol kernel",
]  # fmt: skip


def kernels(state: State) -> dict[tuple[str, int], list[RawRoute]]:
    """The routes of the tables main and default."""
    return {place: routes for place, routes in state.tables.items() if place[1] in (253, 254)}


@pytest.mark.parametrize("config", [SINGLE, TIERED])
def test_the_rules_of_others_stay_as_they_are(config: str, laptop: Laptop) -> None:
    laptop.batch(f"rule add {line}" for line in OTHERS)
    laptop.batch(f"-6 rule add {line.replace('10.0.0.0/8', 'fd00::/8')}" for line in OTHERS)
    before = laptop.state()
    laptop.sync(config)
    assert kernels(before) == kernels(laptop.state())
    for family in FAMILIES:
        ours = set(expected(family, *((PRIORITIES, TIERS) if config is TIERED else ([32765], [MIRROR]))))
        assert before.rules[family] == [rule for rule in laptop.rules(family) if rule not in ours]
        assert ours <= set(laptop.rules(family))
    laptop.down(config)
    assert before == laptop.state()


def test_auto_does_not_follow_the_tiers_of_another_mark(laptop: Laptop) -> None:
    laptop.batch([f"rule add not fwmark 0x77 lookup {TIER_LAN} pref 200 protocol kernel"])
    laptop.sync(manage(layout="auto"))
    assert [200, 32765] == [rule.priority for rule in laptop.added_rules("inet")]


@pytest.mark.parametrize("fwmark", ["0x2021/0xffff", "0x20000000/0xf0000000"])
@pytest.mark.parametrize("config", ["single", "tiered"])
def test_a_mark_with_a_mask_is_in_the_rules(config: str, fwmark: str, laptop: Laptop) -> None:
    text = manage(fwmark=fwmark, layout=config)
    laptop.sync(text)
    mark, mask = (int(part, 0) for part in fwmark.split("/"))
    layout = (PRIORITIES, TIERS) if config == "tiered" else ([32765], [MIRROR])
    assert expected("inet", *layout, mark=mark, mask=mask) == laptop.added_rules("inet")
    assert [] == laptop.sync(text)
    ways = [laptop.way("8.8.8.8", mark=packet) for packet in (mark, mark | mask ^ 2**32 - 1, mark ^ mask & -mask)]
    assert ["uplink0", "uplink0", "tun-firezone"] == ways
