"""A copy that is planned ahead, from the lines of the monitor, is the one that a reading finds missing."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fz_iproute.daemon.ahead import MANY, Ahead
from fz_iproute.ip.passes import Plans
from fz_iproute.lab.lab import DEMO
from fz_iproute.log import Log
from fz_iproute.mirror.config_text import parse
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.plan import MISSING
from fz_iproute.mirror.prefix import BEGINNING, BITS, PRIVATE, Prefix
from fz_iproute.record.recorded_ip import RecordedIp, load_recording

TABLE = "route show table 539098368"


class Laptop:
    """That of the demo, in step with the VPN, until a test changes something."""

    def __init__(self) -> None:
        self.recorded = load_recording(DEMO)
        outputs = {key: json.loads(text) for key, text in self.recorded.outputs.items() if key.startswith("-json")}
        self.outputs: dict[str, list[dict[str, Any]]] = outputs
        self.main, self.main6 = (outputs[f"-json {option} route show table main"] for option in ("-4", "-6"))
        self.mirror = outputs[f"-json -4 {TABLE}"]
        for option, main in (("-4", self.main), ("-6", self.main6)):
            outputs[f"-json {option} {TABLE}"] += [each for each in main if each.get("protocol") == "kernel"]

    def source(self) -> RecordedIp:
        """What answers for it."""
        printed = {key: f"{json.dumps(found)}\n" for key, found in self.outputs.items()}
        return RecordedIp(replace(self.recorded, outputs={**self.recorded.outputs, **printed}))


def on_link(dst: str, dev: str, **keys: Any) -> dict[str, Any]:
    """A route as the kernel adds it for an address."""
    return {"dst": dst, "dev": dev, "protocol": "kernel", "scope": "link", "prefsrc": "10.5.0.2", "flags": [], **keys}


ADDED = "[ROUTE]10.5.0.0/24 dev wlp192s0 proto 2 scope 253 src 10.5.0.2 metric 600 "
ROUTE = on_link("10.5.0.0/24", "wlp192s0", metric=600)


def plans(laptop: Laptop, text: str = "") -> Plans:
    """They have looked at the laptop once."""
    made = Plans(laptop.source(), parse(text, "config"), Log("ERROR"))
    made.plan_sync()
    return made


def planned_ahead(made: Plans, *lines: str, others: Iterable[str] = ()) -> list[Command] | None:
    """What `watch` does about these events at once."""
    found = Ahead(made.in_step, others).lines("".join(f"{line}\n" for line in lines)) if made.in_step else None
    return [Command(found[0], line, MISSING) for line in found[1]] if found else None


@pytest.mark.parametrize(
    ("line", "family", "route"),
    [
        (ADDED, "inet", ROUTE),
        (
            "[ROUTE]10.5.0.7 dev enp1s0 proto 16 scope 253 src 10.5.0.2 ",
            "inet",
            on_link("10.5.0.7", "enp1s0", protocol="dhcp"),
        ),
        (
            "[ROUTE]fd00:5::/64 dev wlp192s0 proto 2 metric 256 pref medium",
            "inet6",
            {"dst": "fd00:5::/64", "dev": "wlp192s0", "protocol": "kernel", "metric": 256, "pref": "medium"},
        ),
    ],
)
def test_it_is_what_a_reading_finds_missing(line: str, family: str, route: dict[str, object]) -> None:
    laptop = Laptop()
    ahead = planned_ahead(plans(laptop), line) or []
    (laptop.main if family == "inet" else laptop.main6).append({"flags": [], **route})
    assert [line.split("]")[1].split(maxsplit=1)[0]] == [command.words[4] for command in ahead]
    assert Plans(laptop.source(), parse("", "config"), Log("ERROR")).plan_sync() == ahead


def _without_routes_of_the_vpn() -> Laptop:
    laptop = Laptop()
    for option in ("-4", "-6"):
        table = laptop.outputs[f"-json {option} {TABLE}"]
        table[:] = [route for route in table if route["dst"] == "default" or route.get("protocol") == "kernel"]
    return laptop


LOOKED = plans(_without_routes_of_the_vpn())


@given(
    st.sampled_from([*PRIVATE, *map(Prefix.parse, ["0.0.0.0/0", "::/0", "172.0.0.0/8", "192.0.0.0/8", "f800::/5"])]),
    st.data(),
)
def test_it_copies_all_private_prefixes_that_are_not_wide(around: Prefix, data: st.DataObject) -> None:
    """And no others."""
    bits = BITS[around.family]
    length = data.draw(st.integers(max(8, around.length), bits))
    host = data.draw(st.integers(0, (1 << bits - around.length) - 1))
    prefix = Prefix(around.family, (around.address | host) >> bits - length << bits - length, length)
    rest = "proto 2 scope 253" if around.family == "inet" else "proto 2 metric 256 pref medium"
    line = f"[ROUTE]{prefix} dev wlp192s0 {rest}".replace(f"/{bits} ", " ")
    is_plain = PRIVATE.covers(prefix) and prefix.length >= BEGINNING[prefix.family]
    assert is_plain == bool(planned_ahead(LOOKED, line))


PREFIXES = ["10.5.0.0/24", "10.77.0.0/24", "100.70.0.0/16", "9.5.0.0/24", "172.0.0.0/7", "192.168.188.0/25", "10.5.0.7"]
DEVICES = ["wlp192s0", "enp1s0", "tun-firezone", "lo", "ppp0"]


@given(
    st.lists(st.tuples(st.sampled_from(PREFIXES), st.sampled_from(DEVICES), st.sampled_from([0, 7])), max_size=3),
    st.sampled_from(
        ["", '[lan]\nallow = ["128.0.0.0/1", "0.0.0.0/1"]\nmin_prefixlen = {inet = 7}', "[lan]\nmulticast = true"]
    ),
)
def test_a_reading_would_find_the_same(routes: list[tuple[str, str, int]], text: str) -> None:
    """It may find more: what is not plain."""
    laptop = Laptop()
    lines = []
    made = plans(laptop, text)
    for dst, dev, metric in routes:
        lines.append(f"[ROUTE]{dst} dev {dev} proto 2 scope 253 src 10.5.0.2 metric {metric}")
        laptop.main.append(on_link(dst, dev, metric=metric))
    ahead = planned_ahead(made, *lines) or []
    assert set(ahead) <= set(Plans(laptop.source(), parse(text, "config"), Log("ERROR")).plan_sync())


def test_several_routes_are_copied_together() -> None:
    lines = ["[ADDR]2: wlp192s0    inet 10.5.0.2/24 scope 0 wlp192s0", ADDED, ADDED.replace("10.5.0", "10.6.0")]
    ahead = planned_ahead(plans(Laptop()), *lines) or []
    assert {"10.5.0.0/24", "10.6.0.0/24"} == {command.words[4] for command in ahead}


def _with_a_copy(laptop: Laptop) -> None:
    laptop.mirror.append(ROUTE)


def _by_another_device(laptop: Laptop) -> None:
    laptop.main.append({**ROUTE, "dev": "enp1s0"})
    laptop.mirror.append({**ROUTE, "dev": "enp1s0"})


def _with_a_route_of_the_vpn(laptop: Laptop) -> None:
    laptop.mirror.append({"dst": "10.5.0.0/16", "dev": "tun-firezone", "protocol": "static", "flags": []})


def _with_many_routes_of_the_vpn(laptop: Laptop) -> None:
    laptop.mirror += [
        {"dst": f"100.64.{number >> 8}.{number & 255}", "dev": "tun-firezone", "protocol": "static", "flags": []}
        for number in range(MANY)
    ]


def _out_of_step(laptop: Laptop) -> None:
    laptop.mirror.pop()


def _with_another_card(laptop: Laptop, link_type: str = "ether") -> None:
    link = {"ifindex": 77, "ifname": "wlp192s1", "flags": ["UP"], "link_type": link_type}
    laptop.outputs["-json link show"].append(link)


def _with_a_tunnel(laptop: Laptop) -> None:
    _with_another_card(laptop, "none")


@pytest.mark.parametrize(
    ("alter", "text", "line"),
    [
        pytest.param(_with_a_copy, "", ADDED, id="there is a copy, and main's route is new"),
        pytest.param(_by_another_device, "", ADDED, id="perhaps `ip route replace`"),
        pytest.param(_with_a_route_of_the_vpn, "", ADDED, id="the VPN routes it"),
        pytest.param(_with_many_routes_of_the_vpn, "", ADDED, id="the VPN has very many routes"),
        pytest.param(_out_of_step, "", ADDED, id="something else was due at the last look"),
        pytest.param(_with_a_tunnel, "", ADDED.replace("wlp192s0", "wlp192s1"), id="perhaps a tunnel"),
        pytest.param(None, "", ADDED.replace("wlp192s0", "wlp192s7"), id="an unknown device"),
        pytest.param(None, "", "[ROUTE]10.5.0.1 dev lo proto 2 scope 253", id="loopback"),
        pytest.param(None, "", ADDED.replace("10.5.0", "9.5.0"), id="a public prefix, which brings a warning"),
        pytest.param(None, "", ADDED.replace("10.5.0.0/24", "10.4.0.0/14"), id="wide"),
        pytest.param(None, "[lan]\nmin_prefixlen = {inet = 17}", ADDED.replace("/24", "/16"), id="too wide"),
        pytest.param(None, "[lan]\nmin_prefixlen = {inet = 17}", ADDED, id="the setting is stricter than a look"),
        pytest.param(None, '[lan]\ndeny = ["10.5.0.128/25"]', ADDED, id="denied in part"),
        pytest.param(None, '[lan]\ndeny = ["10.5.0.0/16"]', ADDED, id="denied"),
        pytest.param(
            _with_another_card,
            '[lan]\nexclude_interfaces = ["wlp192s1"]',
            ADDED.replace("wlp192s0", "wlp192s1"),
            id="excluded",
        ),
    ],
)
def test_it_waits_for_the_reading_where_the_case_is_not_plain(
    alter: Callable[[Laptop], None] | None, text: str, line: str
) -> None:
    laptop = Laptop()
    if alter:
        alter(laptop)
    made = plans(laptop, text)
    assert (alter in (_with_a_copy, _out_of_step)) == (made.in_step is None)
    assert planned_ahead(made, line) is None


def test_it_waits_where_the_route_was_changed_lately() -> None:
    """Perhaps another program undoes the copy."""
    made = plans(Laptop())
    assert planned_ahead(made, ADDED)
    assert planned_ahead(made, ADDED, others=["10.5.0.0/24"]) is None


@pytest.mark.parametrize(
    "line",
    [
        "10.4.0.0/16 dev wlp192s0 proto 2 scope 253 src 10.5.0.1 metric 100 ",
        "10.5.0.0/24 dev wlp192s0 proto 2 scope 253 src 10.5.0.1 ",
        "10.5.0.7 dev wlp192s0 scope 253 ",
        "10.255.255.255 dev wlp192s0 scope 253 ",
        "10.255.255.0/24 dev wlp192s0 scope 253 ",
        "fd00:5::/64 dev wlp192s0 proto 9 metric 256 pref medium",
        "fd00:5::7 dev wlp192s0 proto 2 metric 256 pref medium",
    ],
)
def test_a_plain_route_is_copied_word_for_word(line: str) -> None:
    (command,) = planned_ahead(plans(Laptop()), f"[ROUTE]{line}") or ()
    said = " ".join(command.words[4:]).replace("kernel", "2").replace("boot", "3").replace("scope link", "scope 253")
    assert line.split() == said.replace("proto ra", "proto 9").replace("proto 3 ", "").split()


@pytest.mark.parametrize(
    "line",
    [
        "Deleted 10.5.0.0/24 dev wlp192s0 proto 2 scope 253 src 10.5.0.1",
        "10.5.0.0/24 dev wlp192s0 proto 2 scope 253 src 10.5.0.1 linkdown ",
        "10.5.0.0/24 dev wlp192s0 table 7 scope 253",
        "10.5.0.0/24 dev wlp192s0 scope 253 mtu 1400",
        "10.5.0.0/24 dev wlp192s0 proto 77 scope 253",
        "10.5.0.0/24 dev wlp192s0 proto 3",
        f"10.5.0.0/24 dev wlp192s0 scope 253 metric {'9' * 5000}",
        "10.5.0.0/24 via 10.9.0.1 dev wlp192s0 scope 253",
        "10.5.0.0/24 nhid 7 dev wlp192s0 scope 253",
        "10.5.0.0/24 scope 253 src 10.5.0.1",
        "2 10.5.0.1 dev wlp192s0 table 255",
        "2 10.5.0.1 dev wlp192s0 table 7 proto 2 scope 254 src 10.5.0.1",
        "unreachable 10.0.0.0/8",
        "default dev wlp192s0 scope 253",
        "fd00:5::/64 dev wlp192s0 proto 9 metric 256 expires 77sec pref medium",
        "fd00:5::/64 dev wlp192s0 dev enp1s0",
        # `ip` never prints these.
        "10.5.0.0/33 dev wlp192s0 scope 253",
        f"10.5.0.0/{'9' * 5000} dev wlp192s0 scope 253",
        "10.5.0.0.0/24 dev wlp192s0 scope 253",
        "fd00:5::/129 dev wlp192s0",
        "255.255.255.255/0 dev wlp192s0 scope 253",
    ],
)
def test_a_route_with_anything_else_waits(line: str) -> None:
    assert planned_ahead(plans(Laptop()), f"[ROUTE]{line}") is None


ADDRESS = "[ADDR]2: wlp192s0    inet 10.5.0.1/24 scope 0 wlp192s0"
LOCAL = "[ROUTE]2 10.5.0.1 dev wlp192s0 table 255 proto 2 scope 254 src 10.5.0.1 "


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ([ADDRESS], 0),
        ([ADDRESS, LOCAL], 0),
        ([ADDRESS, ADDED, LOCAL.replace("]2", "]3")], 1),
        ([ADDED, ADDED.replace("10.5", "10.6")], 2),
        ([ADDED, ADDED], None),
        ([ADDED, "[ROUTE]fd00:5::/64 dev wlp192s0 proto 2 metric 256 pref medium"], None),
        ([ADDED, ADDRESS.replace("]", "]Deleted ")], None),
        ([ADDED, ADDED + "mtu 1400"], None),
        ([ADDED, "[LINK]2: wlp192s0: <UP>"], None),
        ([ADDED, "[RULE]7: from all lookup 7", ADDRESS], None),
        ([ADDED.replace("]", "]Deleted "), ADDED], None),
        (["netlink receive error", ADDED], None),
    ],
)
def test_it_waits_unless_all_lines_are_about_new_routes_and_addresses(lines: list[str], count: int | None) -> None:
    found = planned_ahead(plans(Laptop()), *lines)
    assert count == (None if found is None else len(found))
