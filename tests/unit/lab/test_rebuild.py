"""What `ip` printed becomes commands; no recorded value can become a different command."""

import copy
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fz_iproute.ip.ip import documents_of
from fz_iproute.lab import addresses, devices, printed
from fz_iproute.lab import routes as lab_routes
from fz_iproute.lab.lab import DEMO
from fz_iproute.lab.printed import Lost, Printed
from fz_iproute.mirror import parse_links
from fz_iproute.mirror.ip_json import listed
from fz_iproute.mirror.model import Command, Link
from fz_iproute.mirror.prefix import FAMILIES
from fz_iproute.mirror.words import is_word
from fz_iproute.record.recorded_ip import load_recording
from fz_iproute.record.recording import recorded_tables
from tests.unit.recordings import parent, places

CABLE = {"link_type": "ether", "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"], "mtu": 1500}
LO = {"ifname": "lo", "ifindex": 1, "link_type": "loopback", "flags": ["LOOPBACK", "UP", "LOWER_UP"]}
LINKS = {name: Link(name, index, True, False, name) for index, name in enumerate(("lo", "a0", "b0"), 1)}
CARD = "02:00:00:00:00:07"


def link(name: str, ifindex: int, **rest: Any) -> dict[str, Any]:
    return {"ifname": name, "ifindex": ifindex, **CABLE, **rest}


def of(**parts: Any) -> Printed:
    return Printed(**{"links": [], "addresses": [], "nexthops": [], "rules": {}, "routes": {}, **parts})


def lines(found: Iterable[Command | Lost]) -> list[str]:
    return [" ".join(part.words) if isinstance(part, Command) else f"lost: {part}" for part in found]


A0 = "link add name a0 type veth peer name"


@pytest.mark.parametrize(
    ("documents", "made"),
    [
        ([link("a0", 2)], [f"{A0} far2 netns neighbour"]),
        (
            [link("a0", 2), link("a0.5", 8, link="a0")],
            [f"{A0} far2 netns neighbour", "link add name a0.5 type veth peer name far3 netns neighbour"],
        ),
        (
            [link("a0", 2, master="b0"), link("b0", 3)],
            [f"{A0} far2 netns neighbour", "link add name b0 type bridge", "link set dev a0 master b0"],
        ),
    ],
    ids=["a cable", "a VLAN", "a link with members is a bridge"],
)
def test_how_cables_and_bridges_are_made(documents: list[dict[str, Any]], made: list[str]) -> None:
    wanted, lost = devices.devices([LO, *documents])
    assert lost == []
    found = lines(devices.cables_and_bridges(wanted))
    assert made == [*found, *(line for line in lines(devices.link_states(wanted, LINKS)) if "master" in line)]


def test_a_link_without_a_hardware_address_is_a_tunnel() -> None:
    wanted, _ = devices.devices([LO, link("tun0", 7, link_type="none"), link("ppp0", 8, link_type="ppp")])
    assert ["loopback", "tun", "tun"] == [device.kind for device in wanted]


def test_each_option_of_a_link_has_its_own_command_and_a_link_that_is_down_stays_down() -> None:
    """A refused option, such as the zeroed address of a redacted snapshot, does not stop the others."""
    zero = "00:00:00:00:00:00"
    wanted, _ = devices.devices([LO, link("a0", 2, flags=["BROADCAST"], address=zero), link("b0", 3, address=CARD)])
    assert [
        "link set dev a0 mtu 1500",
        "link set dev a0 multicast off",
        "link set dev b0 mtu 1500",
        f"link set dev b0 address {CARD}",
        "link set dev lo up",
        "link set dev b0 up",
    ] == lines(devices.link_states(wanted, LINKS))


def test_only_names_that_the_kernel_allows_are_possible() -> None:
    odd = ["-x", "#x", "'q", "$(id)", "ü€", "\udcff", "\x01", "dev", "a\\", "x" * 15]
    impossible = ["", ".", "..", "all", "default", "a b", "a/b", "a:b", "a%d", "a\0", "a\n", "x" * 16, "à"]
    assert odd == [name for name in [*odd, *impossible] if printed.is_name(name)]


def routes(*documents: dict[str, Any]) -> tuple[list[str], list[str]]:
    early, late = lab_routes.routes(of(routes={("inet", 254): listed(documents)}), LINKS)
    return lines(early), lines(late)


def test_twins_wait_together_and_keep_their_order() -> None:
    twins = [{"dst": "10.0.0.0/24", "dev": "a0"}, {"dst": "10.0.0.0/24", "gateway": "10.1.0.1", "dev": "b0"}]
    early, late = routes(*twins, {**twins[0], "metric": 5})
    assert [True, False] == ["dev a0" in line for line in late]
    assert 1 == len(early)


def test_a_route_that_has_timed_out_is_not_revived() -> None:
    early, _ = routes({"dst": "10.0.0.0/24", "dev": "a0", "expires": -3})
    assert ["lost: route 10.0.0.0/24 dev a0 proto boot scope global table 254: it has timed out"] == early


def test_a_stale_copy_has_a_source_that_no_link_has() -> None:
    present = [{"ifname": "a0", "addr_info": [{"family": "inet", "local": "10.0.0.7"}]}]
    listing = [("10.0.0.0/24", {"prefsrc": f"10.0.0.{last}"}) for last in (7, 8, 8)]
    assert ["10.0.0.8"] == addresses.missing_sources(of(addresses=present, routes={("inet", 5): listing}))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"table": "254", "protocol": "2"}, "from all lookup main protocol kernel"),
        ({"not": None, "fwmark": "0xfd002021", "table": "7"}, "not from all fwmark 0xfd002021/0xffffffff lookup 7"),
        ({"iif": "a b", "table": "7"}, None),
        ({"iif": "#x", "iif_detached": None, "table": "7"}, "from all iif #x lookup 7"),
        ({"goto": 99, "unresolved": None}, "from all goto 99"),
        ({"l3mdev": None, "protocol": "0"}, "from all l3mdev"),
        ({"l3mdev": None, "action": "7"}, "from all l3mdev unreachable"),
        ({"fwmark": "0x0", "table": "7"}, "from all fwmark 0x0/0xffffffff lookup 7"),
        ({"tos": "0x10 table 9", "table": "7"}, None),
    ],
    ids=str,
)
def test_a_rule_is_rebuilt_whole_or_not_at_all(document: dict[str, Any], words: str | None) -> None:
    found = lab_routes.rules(of(rules={"inet": [{"priority": 5, "src": "all", **document}]}))
    *born, line = lines(found)
    assert ["rule del priority 0", "rule del priority 32766", "rule del priority 32767"] == born
    assert line == f"rule add priority 5 {words}" if words else line.startswith("lost: rule 5: ")


def test_nexthop_objects_come_before_their_groups_and_whole_or_not_at_all() -> None:
    group = {"id": 1, "group": [{"id": 2, "weight": 3}, {"id": 3}], "flags": []}
    objects = [{"id": 2, "blackhole": None}, {"id": 3, "dev": "a0", "encap": "mpls"}]
    users = {("inet6", 254): [("fd00::/64", {"nhid": 2})]}
    found = list(lab_routes.nexthops(of(nexthops=[group, *objects], routes=users), LINKS))
    assert [
        "nexthop add id 2 blackhole",
        "lost: nexthop 3: `ip` shows an attribute that is not known here: encap",
        "nexthop add id 1 group 2,3/3",
    ] == lines(found)
    assert ["inet6", "inet"] == [part.family for part in found if isinstance(part, Command)]  # a group has none


# Fuzzing


def everything(found: Printed) -> Iterator[Command | Lost]:
    wanted, lost = devices.devices(found.links)
    yield from lost
    links = parse_links.links(
        {"ifname": device.name, "ifindex": place, "flags": ["UP"]} for place, device in enumerate(wanted, 1)
    )
    yield from devices.cables_and_bridges(wanted)
    yield from devices.link_states(wanted, links)
    yield from devices.far_states(wanted)
    yield from addresses.routers(found, wanted)
    yield from addresses.addresses(found, links)
    for source in addresses.missing_sources(found):
        yield Command.of("inet", ("address", "add", source, "dev", "lo"))
    early, late = lab_routes.routes(found, links)
    yield from (*early, *late, *lab_routes.nexthops(found, links), *lab_routes.rules(found))


def demo_parts() -> dict[str, Any]:
    """The parts of the demo, and some that it does not have."""
    outputs = {key: documents_of(text.encode()) for key, text in load_recording(DEMO).outputs.items()}
    routes = [
        *outputs["-json -4 route show table main"],
        {"type": "unreachable", "dst": "10.0.0.0/8", "metrics": [{"mtu": 1400}], "flow": {"to": "7"}},
        {"dst": "10.1.0.0/16", "nexthops": [{"gateway": "10.77.0.1", "dev": "enp1s0", "weight": 1}]},
    ]
    return {
        "links": [*outputs["-json link show"], link("br0", 9), link("m0", 10, master="br0"), link("#x", 11)],
        "addresses": outputs["-json address show"],
        "nexthops": [
            {"id": 1, "gateway": "10.77.0.1", "dev": "enp1s0", "protocol": "99", "flags": []},
            {"id": 2, "group": [{"id": 1, "weight": 2}]},
        ],
        "rules": {"inet": [{"priority": 5, "src": "1.2.3.0", "srclen": 24, "iif": "x", "tos": "0x10", "table": "7"}]},
        "routes": {("inet", 254): [[dst, rest] for dst, rest in listed(routes)]},  # unlike a tuple, it may be changed
    }


def test_every_part_is_tried() -> None:
    found = list(everything(Printed(**demo_parts())))
    assert not [part for part in found if isinstance(part, Lost)]
    kinds = {part.words[0] for part in found if isinstance(part, Command)}
    assert {"link", "address", "route", "nexthop", "rule"} == kinds


HOSTILE = st.sampled_from(
    [
        "x\nlink set lo down", "x dev lo", "\\", "x\\", "#", "'", '"x', "", "-force", "\0", "\x1b[31m", "\ud800",
        "x\u2028y", "../../x", "10.0.0.0/99", "::1", -1, 2**70, 1.5, True, None, [], ["x y"], {}, {"x y": "z\n"},
        [[]], [None],
    ]
)  # fmt: skip


PARTS = demo_parts()
PLACES = [path for path in places(PARTS) if len(path) > 2]


@settings(max_examples=300, deadline=None)
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), HOSTILE, st.booleans()), min_size=1, max_size=4))
def test_no_value_of_a_hostile_snapshot_becomes_a_different_command(
    changes: list[tuple[tuple[Any, ...], Any, bool]],
) -> None:
    parts = copy.deepcopy(PARTS)
    for path, hostile, as_key in changes:
        last = path[-1]
        try:
            target = parent(parts, path)
            if as_key and isinstance(target, dict) and isinstance(hostile, str):
                target[hostile] = target.pop(last)
            else:
                target[last] = hostile
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change has taken it away
    try:
        found = list(everything(Printed(**parts)))
    except (KeyError, TypeError, ValueError, AttributeError):
        return  # the lab ends with one line
    for part in found:
        if isinstance(part, Lost):
            assert str(part).isprintable()
            continue
        assert re.fullmatch(r"(link|address|route|rule|nexthop) (add|set|append|del|flush)", " ".join(part.words[:2]))
        odd = [place for place, word in enumerate(part.words) if not is_word(word)]
        assert not odd or part.words[0] in ("link", "rule", "nexthop")  # these run outside of a batch
        assert {part.words[place - 1] for place in odd} <= {"name", "iif", "oif"}
        assert all(printed.is_name(part.words[place]) for place in odd)
        assert part.words[0] in ("link", "rule", "nexthop") or not part.words[-1].endswith("\\")


def test_all_tables_of_the_demo_are_rebuilt() -> None:
    tables = recorded_tables(load_recording(DEMO).outputs)
    known = [(family, table) for family in FAMILIES for table in (253, 254, 539098368, 255)]
    assert known == [table[:2] for table in tables]
