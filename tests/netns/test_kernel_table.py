"""The routing table that the fakes share behaves like the kernel's: the same routes, the same refusals."""

import json
import os
import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, note, seed, settings
from hypothesis import strategies as st

from tests import kernel_table
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


Document = dict[str, Any]
KEYS = {"via": "gateway", "dev": "dev", "proto": "protocol", "src": "prefsrc"}


def named(words: Iterable[str]) -> Document:
    """The keys that a command names, as `ip -json` spells them."""
    found: Document = {}
    given = iter(words)
    for word in given:
        match word:
            case "onlink":
                found["flags"] = ["onlink"]
            case "nexthop":
                found.setdefault("nexthops", []).append({"weight": 1, "flags": []})
            case "mtu":
                found["metrics"] = [{"mtu": int(next(given))}]
            case "metric":
                found["metric"] = int(next(given))
            case "weight" | "dev" if "nexthops" in found:
                value = next(given)
                found["nexthops"][-1][word] = int(value) if word == "weight" else value
            case _ if "dst" in found:
                found[KEYS.get(word, word)] = next(given)
            case _:
                found["dst"] = word
    return found


def added(given: Document, family: str) -> Document:
    """With what the kernel adds, and without the defaults that `ip` does not print."""
    route = {"flags": [], **given}
    if family == "inet6":
        route = {"pref": "medium", **route, "metric": route.get("metric") or 1024}
        usual = {"protocol": "boot"}
    else:
        route = {"scope": "global" if "gateway" in route or "nexthops" in route else "link", **route}
        usual = {"protocol": "boot", "scope": "global", "metric": 0}
    return {key: value for key, value in route.items() if usual.get(key, ...) != value}


class Answer(NamedTuple):
    """The routes of a table after each command, each destination in the kernel's order; and the refusals."""

    listings: list[list[Document]]
    refusals: list[str]


def expected(family: str, lines: Iterable[str]) -> Answer:
    """What the fakes answer."""
    table: dict[str, list[Document]] = {}
    answer = Answer([], [])
    for number, line in enumerate(lines, start=1):
        _, verb, _, _, *words = line.split()
        given = named(words)
        group = table.setdefault(given["dst"], [])
        if refusal := kernel_table.VERBS[verb](group, added(given, family), given, family):
            answer.refusals.append(f"RTNETLINK answers: {refusal}")
            answer.refusals.append(f"Command failed -:{2 * number - 1}")
        answer.listings.append([dict(route) for dst in sorted(table) for route in table[dst]])
    return answer


def answered(land: Namespace, family: str, lines: Iterable[str]) -> Answer:
    """What `ip` prints for a batch of these commands."""
    option = "-6" if family == "inet6" else "-4"
    text = "".join(f"{line}\nroute show table {TABLE}\n" for line in lines)
    printed = run("ip", "-n", land.name, "-json", option, "-force", "-batch", "-", stdin=text, check=False)
    listings = [json.loads(line) for line in printed.stdout.splitlines()]
    return Answer([sorted(one, key=lambda route: route["dst"]) for one in listings], printed.stderr.splitlines())


@pytest.mark.parametrize("family", ["inet", "inet6"])
@seed(SEED)
@settings(max_examples=60, deadline=None, print_blob=True)
@given(data=st.data())
def test_the_fake_table_is_the_kernels(family: str, data: st.DataObject, real: Namespace) -> None:
    """The routes are the same after each command, and the same commands are refused in the same words."""
    note(f"FZ_SEED={SEED}")
    lines = [f"route add table {TABLE} {ANCHOR[family]}", *data.draw(commands(family), label="commands")]
    real.ip("-6" if family == "inet6" else "-4", "route", "flush", "table", str(TABLE), check=False)
    assert expected(family, lines) == answered(real, family, lines)
