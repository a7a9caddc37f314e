"""The routing table that the fakes share behaves like the kernel's: the same routes, the same refusals."""

import json
import os
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, note, seed, settings
from hypothesis import strategies as st

from tests.cli.world import World, link
from tests.netns.namespace import Namespace, run

SEED = int(os.environ.get("FZ_SEED") or random.randrange(2**32))
TABLE = 7000
DEVICES = ["v0", "v1"]
SOURCES = {"inet": ["10.255.0.1", "10.255.0.2"], "inet6": ["fd00:ffff::1", "fd00:ffff::2"]}
DESTINATIONS = {"inet": ["10.1.0.0/24", "default"], "inet6": ["fe80::/64", "default"]}
ANCHOR = {"inet": "10.9.9.0/24 dev v0 scope link", "inet6": "fd00:9:9::/64 dev v0"}  # a table without routes is none


def _optional(name: str, *values: str) -> st.SearchStrategy[str]:
    return st.sampled_from(["", *(f"{name} {value}" for value in values)])


def parts(family: str) -> list[st.SearchStrategy[str]]:
    """The words of a route, in an order that `ip` accepts."""
    paths = [f"dev {device}" for device in DEVICES]
    if family == "inet":
        paths += [f"scope {scope} {path}" for scope in ("link", "global") for path in paths]
        paths += ["via 10.255.0.77 dev v0 onlink", "scope link nexthop dev v0 weight 1 nexthop dev v1 weight 3"]
    return [
        st.sampled_from(DESTINATIONS[family]),
        _optional("metric", "0", "100", "600"),
        _optional("tos", "0x04", "0x10") if family == "inet" else _optional("pref", "low"),
        _optional("proto", "static", "kernel"),
        _optional("src", *SOURCES[family]),
        _optional("mtu", "1400"),
        st.sampled_from(paths),
    ]


@st.composite
def commands(draw: st.DrawFn, family: str) -> list[str]:
    """Commands about a few routes that differ in one or two parts, so that twins are common."""
    strategies = parts(family)
    base = [draw(part) for part in strategies]
    known = []
    for _ in range(draw(st.integers(2, 5))):
        changed = draw(st.sets(st.integers(0, len(base) - 1), max_size=2))
        words = [draw(part) if place in changed else base[place] for place, part in enumerate(strategies)]
        known.append(" ".join(filter(None, words)))
    one = st.tuples(st.sampled_from(["add", "append", "append", "replace", "replace", "del"]), st.sampled_from(known))
    return [f"route {verb} table {TABLE} {words}" for verb, words in draw(st.lists(one, min_size=1, max_size=20))]


@pytest.fixture(scope="module")
def real(long_lived: Callable[[], Namespace]) -> Namespace:
    namespace = long_lived()
    for number, device in enumerate(DEVICES):
        namespace.veth(device, *(addresses[number] for addresses in SOURCES.values()))
    return namespace


@pytest.fixture(scope="module")
def fake(real: Namespace, tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("fake"))
    world.state["links"] = [link(real.index(device), device, "UP") for device in DEVICES]
    return world


class Answer(NamedTuple):
    """What `ip` has printed for a batch."""

    listings: list[list[dict[str, Any]]]
    refusals: list[str]


def answer(argv: list[str], family: str, lines: list[str]) -> Answer:
    option = "-6" if family == "inet6" else "-4"
    text = "".join(f"{line}\n" for line in lines)
    printed = run(*argv, "-json", option, "-force", "-batch", "-", stdin=text, check=False)
    listings = [json.loads(line) for line in printed.stdout.splitlines()]
    # Routes of one destination stay in the kernel's order.
    return Answer([sorted(one, key=lambda route: route["dst"]) for one in listings], printed.stderr.splitlines())


@pytest.mark.parametrize("family", ["inet", "inet6"])
@seed(SEED)
@settings(max_examples=60, deadline=None, print_blob=True)
@given(data=st.data())
def test_the_fake_table_is_the_kernels(family: str, data: st.DataObject, real: Namespace, fake: World) -> None:
    """The routes are the same after each command, and `ip` refuses the same commands in the same words."""
    note(f"FZ_SEED={SEED}")
    lines = data.draw(commands(family), label="commands")
    show = f"route show table {TABLE}"
    lines = [f"route add table {TABLE} {ANCHOR[family]}", *(line for command in lines for line in (command, show))]
    real.ip("-6" if family == "inet6" else "-4", "route", "flush", "table", str(TABLE), check=False)
    fake.state["routes"] = {"inet": {}, "inet6": {}}
    fake.save()
    expected = answer(["ip", "-n", real.name], family, lines)
    assert expected == answer([str(fake.bin / "ip")], family, lines)
