"""A parsed route holds everything that `ip` shows of it, or says what it cannot express."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fz_iproute.mirror import ip_json, journal, parse, parse_links, parse_rules
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.parse_links import links as links_of
from tests.unit.routes import LINKS, route

USUAL = "proto boot scope global"
METRICS = "mtu window ssthresh cwnd advmss reordering hoplimit initcwnd initrwnd quickack fastopen_no_cookie"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"dev": "eth0"}, f"dev eth0 {USUAL}"),
        ({"dev": "eth0", "scope": "link", "protocol": "kernel"}, "dev eth0 proto kernel scope link"),
        ({"dev": "eth0", "prefsrc": "10.0.0.1", "metric": 600}, f"dev eth0 {USUAL} src 10.0.0.1 metric 600"),
        ({"dev": "eth0", "tos": "0x10"}, f"dev eth0 {USUAL} tos 0x10"),
        ({"dev": "eth0", "flow": {"to": "3"}}, f"dev eth0 {USUAL} realms 3"),
        ({"dev": "eth0", "flow": {"from": "2", "to": "3"}}, f"dev eth0 {USUAL} realms 2/3"),
        ({"dev": "eth0", "metrics": [{"rtt": 100, "mtu": 1400}]}, f"dev eth0 {USUAL} mtu 1400 rtt 100ms"),
        ({"dev": "eth0", "metrics": [{"ecn": None, "congestion": "x"}]}, f"dev eth0 {USUAL} congctl x features ecn"),
        ({"gateway": "10.0.0.9", "dev": "eth0", "flags": ["onlink"]}, f"via 10.0.0.9 dev eth0 {USUAL} onlink"),
        ({"via": {"family": "inet6", "host": "fe80::1"}, "dev": "eth0"}, f"via inet6 fe80::1 dev eth0 {USUAL}"),
        ({"nhid": 7, "dev": "eth0", "gateway": "10.0.0.1"}, f"nhid 7 {USUAL}"),
        *(({"dev": "eth0", "metrics": [{key: 9}]}, f"dev eth0 {USUAL} {key} 9") for key in METRICS.split()),
        *(({"dev": "eth0", "metrics": [{key: 9}]}, f"dev eth0 {USUAL} {key} 9ms") for key in ("rttvar", "rto_min")),
        (
            {
                "nexthops": [
                    {"dev": "eth0", "weight": 1, "flow": {"to": "9"}},
                    {"dev": "eth1", "flags": ["onlink", "dead"]},
                ]
            },
            f"{USUAL} nexthop dev eth0 weight 1 realms 9 nexthop dev eth1 onlink",
        ),
        ({"dev": "eth0", "flags": ["linkdown", "dead"], "expires": 9, "cache": []}, f"dev eth0 {USUAL}"),
        ({"dev": "eth0", "pref": "medium"}, f"dev eth0 {USUAL} pref medium"),
    ],
)
def test_each_key_becomes_an_argument_that_a_journal_may_hold(document, words) -> None:
    (found,) = parse.routes(ip_json.listed([{"dst": "10.0.0.0/24", **document}]), "inet", LINKS)
    assert (words, "") == (" ".join(found.attributes.words), found.attributes.inexpressible)
    line = f"ip route add table 500 {found}"
    assert [line] == [command.line for command in journal.parse([f"{line}\n"])[0].commands]


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"dev": "eth0", "encap": "seg6", "segs": []}, "encap, segs"),
        ({"dev": "eth0", "metrics": [{"warp": 9}]}, "warp"),
        ({"dev": "eth0", "metrics": [{"rtt": 0}]}, "rtt"),
        ({"dev": "eth0", "protocol": "my proto"}, "my proto"),
        ({"dev": "eth0", "metrics": [{"mtu": 1400}], "lock": None}, "lock"),
        ({"nexthops": [{"dev": "eth0", "weight": 1, "encap": "mpls"}]}, "encap"),
        ({"nexthops": [{"dev": "eth0", "weight": 1}] * 130}, "130 nexthops"),
        ({"dev": "#x"}, "the name of its device, '#x'"),  # a link that has come after the links were read
    ],
)
def test_an_attribute_that_cannot_be_expressed_is_named(document, named) -> None:
    (found,) = parse.routes(ip_json.listed([{"dst": "10.0.0.0/24", **document}]), "inet", LINKS)
    assert named in found.attributes.inexpressible


# Each route that manage mode and `lan.multicast` make, and what `ip -json` prints of it besides the destination.
@pytest.mark.parametrize(
    ("dst", "device", "scope", "metric", "printed"),
    [
        ("10.0.0.0/24", "eth0", "global", 0, {"dev": "eth0", "flags": []}),
        ("10.0.0.0/24", "#x", "global", 0, {"dev": "#x"}),
        ("10.0.0.1/32", "eth0", "global", 0, {"dev": "eth0"}),
        ("224.0.0.0/4", "eth0", "link", 0, {"dev": "eth0", "scope": "link"}),
        ("default", "", "global", 7, {"type": "unreachable", "metric": 7}),
        ("fd00::1/128", "eth0", "global", 0, {"dev": "eth0", "metric": 1024, "pref": "medium"}),
        ("fd00::/64", "eth0", "link", 5, {"dev": "eth0", "metric": 5, "pref": "medium"}),
        ("default", "", "global", 7, {"type": "unreachable", "dev": "lo", "metric": 7, "pref": "medium"}),
    ],
)
def test_a_made_route_equals_what_ip_prints_of_it(dst, device, scope, metric, printed) -> None:
    family = "inet6" if "pref" in printed else "inet"
    document = {"dst": dst.removesuffix("/32").removesuffix("/128"), "protocol": "static", **printed}
    links = {**LINKS, **links_of([{"ifindex": 7, "ifname": "#x", "flags": ["UP"]}])}
    (expected,) = parse.routes(ip_json.listed([document]), family, links)
    assert expected == Route.make(family, dst, links.get(device), scope=scope, metric=metric)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (route("10.0.0.0/24"), True),
        (route("10.0.0.0/24", scope=None), False),
        (route("10.0.0.0/24", type="broadcast"), False),
        (route("10.0.0.0/24", via={"family": "inet6", "host": "fe80::1"}), False),
        (route("fe80::/64"), True),
        (route("fd00::/64", gateway="fe80::1"), False),
        (route("fd00::/64", type="unreachable"), False),
    ],
)
def test_on_link_is_scope_link_in_ipv4_and_no_gateway_in_ipv6(found, expected) -> None:
    assert expected == found.attributes.on_link


def test_the_devices_of_a_route_are_those_that_its_paths_name() -> None:
    assert ("eth1",) == route(
        "10.0.0.0/24", None, nexthops=[{"gateway": "10.1.1.1"}, {"dev": "eth1"}]
    ).attributes.devices


@pytest.mark.parametrize(
    ("nhid", "devices", "on_link"), [(1, ("eth0",), True), (2, ("eth1",), False), (3, ("eth0", "eth1"), False)]
)
def test_a_route_that_names_only_its_nexthop_object_or_group_takes_its_path(nhid, devices, on_link) -> None:
    objects = [{"id": 1, "dev": "eth0"}, {"id": 2, "gateway": "10.0.0.1", "dev": "eth1"}]
    nexthops = parse_links.nexthops([*objects, {"id": 3, "group": [{"id": 1}, {"id": 2}]}])
    listing = ip_json.listed([{"dst": "10.0.0.0/24", "nhid": nhid, "scope": "link"}])
    assert parse.needs_nexthops(listing)
    (found,) = parse.routes(listing, "inet", LINKS, nexthops)
    assert (devices, on_link) == (found.attributes.devices, found.attributes.on_link)


@pytest.mark.parametrize(
    ("names", "numbered"),
    [
        (['a"b', "a'b", "$x", ";x", "-x", "dev", "ü€", "a@b", "*", "a\\"], False),
        (["#x", "a#b", "'q", '"q', "\x01", "a\x1b[31m", "\udcff"], True),
    ],
)
def test_only_names_that_a_batch_line_or_a_terminal_would_misread_go_by_number(names, numbered) -> None:
    links = links_of([{"ifindex": number, "ifname": name, "flags": ["UP"]} for number, name in enumerate(names)])
    words = [f"if{number}" if numbered else name for number, name in enumerate(names)]
    assert words == [link.word for link in links.values()]


@pytest.mark.parametrize(
    ("name", "keys", "outage"),
    [
        ("eth0", {"flags": ["UP"]}, ""),
        ("eth0", {"flags": []}, "is down"),
        ("eth0", {"flags": ["UP", "NO-CARRIER"]}, "has no carrier"),
        ("eth0", {"flags": [], "link_type": "infiniband"}, "is down"),
        ("eth0.5", {"flags": ["UP", "NO-CARRIER", "M-DOWN"], "link": "eth0"}, "has no carrier"),
        ("br0", {"flags": ["UP", "NO-CARRIER"]}, "has no carrier"),
        ("eth1", {"flags": [], "master": "br0"}, ""),
        ("lo", {"flags": ["LOOPBACK"], "link_type": "loopback"}, ""),
        ("dummy0", {"flags": ["NOARP"]}, ""),
        ("gretap0", {"flags": [], "link": None}, ""),
        ("wg0", {"flags": ["NOARP"], "link_type": "none"}, ""),
        ("tap0", {"flags": []}, ""),
        ("ppp0", {"flags": ["POINTOPOINT"], "link_type": "ppp"}, ""),
        ("docker0", {"flags": ["UP", "NO-CARRIER"]}, ""),
        ("br-0a1b2c3d4e5f", {"flags": ["UP", "NO-CARRIER"]}, ""),
        ("virbr0", {"flags": ["UP", "NO-CARRIER"]}, ""),
    ],
)
def test_only_a_network_card_that_does_not_work_has_an_outage(name, keys, outage) -> None:
    (link,) = links_of([{"ifindex": 7, "ifname": name, **keys}]).values()
    assert outage == link.outage


def test_a_name_that_cannot_be_written_is_reported_where_another_link_bears_its_number() -> None:
    links = links_of([{"ifindex": 7, "ifname": "#x", "flags": []}, {"ifindex": 8, "ifname": "if7", "flags": []}, {}])
    (found,) = parse.routes(ip_json.listed([{"dst": "10.0.0.0/24", "dev": "#x"}]), "inet", links)
    assert "'#x'" in found.attributes.inexpressible


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"ipproto": "ipproto-6", "sport_start": 4, "sport_end": 5, "table": "7"},
            "from all ipproto tcp sport 4-5 lookup 7",
        ),
        ({"dport": 7, "dport_mask": "0xffff", "table": "7"}, "from all dport 7 lookup 7"),
        ({"sport": 22, "sport_mask": "0xffff", "dport": 7, "table": "7"}, "from all sport 22 dport 7 lookup 7"),
        ({"sport": 22, "sport_mask": "0xfff0", "table": "7"}, "from all sport 22 sport_mask 0xfff0 lookup 7"),
        (
            {"l3mdev": None, "ipproto": "ipproto-6", "action": "7"},
            "from all lookup [l3mdev-table] ipproto tcp unreachable",
        ),
        ({"iif": "eth9", "iif_detached": None, "table": "7"}, "from all iif eth9 [detached] lookup 7"),
        ({"src": "192.0.2.7", "table": "7"}, "from 192.0.2.7 lookup 7"),
        ({"src": "192.0.2.0", "srclen": 24, "table": "7"}, "from 192.0.2.0/24 lookup 7"),
    ],
)
def test_a_rule_is_written_as_ip_prints_it(keys, said) -> None:
    """What other versions print than the installed one, or only at times. tests/netns/test_lookup.py has the rest."""
    (rule,) = parse_rules.rules([{"priority": 7, "src": "all", **keys}], "inet")
    assert (7, said) == (rule.priority, str(rule))


@pytest.mark.parametrize(
    ("keys", "action"),
    [
        ({"table": "7"}, "lookup"),
        ({"action": "7"}, "unreachable"),
        ({"action": "prohibit"}, "prohibit"),
        ({"goto": 9}, "goto"),
        ({"nop": None}, "nop"),
        ({"l3mdev": None}, "l3mdev"),
        ({}, "unknown"),
    ],
)
def test_the_action_of_a_rule(keys: dict[str, object], action: str) -> None:
    (rule,) = parse_rules.rules([{"priority": 7, "src": "all", **keys}], "inet")
    assert action == rule.action


@pytest.mark.parametrize("name", ["a'b", "'", "\\'", "\\\\''\\", '"\'"'])
def test_a_quote_that_is_escaped_as_old_versions_do_is_read(name: str) -> None:
    new = json.dumps([{"ifname": name}])
    old = "".join("\\'" if sign == "'" else json.dumps(sign)[1:-1] for sign in name)
    assert [{"ifname": name}] == ip_json.documents_of(new.encode())
    assert [{"ifname": name}] == ip_json.documents_of(f'[{{"ifname": "{old}"}}]'.encode())


@pytest.mark.parametrize(
    ("keys", "needed"),
    [
        ({"table": "firezone"}, True),
        ({"table": "main", "suppress_ifgroup": "guests"}, True),
        ({"goto": 9, "tos": "0x10"}, True),
        ({"table": "main"}, False),
        ({"table": "7"}, False),
        ({"goto": 9}, False),
    ],
)
def test_a_rule_with_a_name_of_this_machine_needs_a_reading_with_numbers(keys: dict[str, object], needed: bool) -> None:
    assert needed is parse_rules.needs_numbers([{"priority": 7, "src": "all", **keys}])


def test_the_name_of_a_table_is_not_guessed() -> None:
    with pytest.raises(ip_json.Unparsable):
        parse_rules.rules([{"priority": 7, "src": "all", "table": "firezone"}], "inet")


def test_ip_prints_control_characters_of_a_name_as_they_are() -> None:
    assert [{"ifname": "a\x1bb"}] == ip_json.documents_of(b'[{"ifname": "a\x1bb"}]')


def test_the_name_of_a_group_is_not_guessed() -> None:
    assert [7, 0, None] == list(map(parse_links.group_number, ("7", "default", "guests")))


@pytest.mark.parametrize("document", [{}, {"dst": None}, {"dst": "10.0.0.0/24; rm"}, {"dst": "1", "metrics": 3}])
def test_documents_of_another_shape_are_an_error(document) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        parse.routes(ip_json.listed([document]), "inet", LINKS)


# Listings

NAMES = st.sampled_from(["eth0", 'a"dst":"b', "},{", '"', "\\", "}]", "[{", "\n", "\udc80", "x'", "dst", "{}"])
ROUTES = st.fixed_dictionaries(
    {"dst": st.sampled_from(["default", "10.0.0.0/24", "10.0.1.0/24", "fd00::/64", "", "\\", '"'])},
    optional={
        "dev": NAMES,
        "protocol": NAMES,
        "metric": st.integers(0, 9),
        "metrics": st.just([{"mtu": 1400}, {"advmss": 7}]),
        "nexthops": st.lists(st.fixed_dictionaries({"dev": NAMES, "dst": NAMES}), max_size=3),
        "flags": st.lists(NAMES, max_size=2),
        "cache": st.none(),
    },
)


@given(st.lists(st.tuples(ROUTES, st.sampled_from(["", "unreachable", "},{", 'x"dst":"']))), st.booleans())
def test_a_listing_is_read_as_the_json_that_it_is(found: list[tuple[dict[str, Any], str]], spaced: bool) -> None:
    """Even if names look like the ends of documents, and with any spacing."""
    # The type stands in front.
    documents = [{"type": kind, **document} if kind else document for document, kind in found]
    text = json.dumps(documents, separators=None if spaced else (",", ":"), ensure_ascii=False)
    octets = text.encode("utf-8", "surrogateescape")
    assert documents == [{"dst": dst, **rest} for dst, rest in ip_json.listing_of(octets)]


def test_routes_of_one_shape_share_it() -> None:
    same = '"dev":"eth0","metrics":[{"mtu":1400}],"flags":[]'
    first, second, third = (f'"dst":"10.0.{n}.0/24",{same}' for n in range(3))
    text = f'[{{{first}}},{{{second}}},{{"type":"throw",{third}}}]'
    *unicast, throw = (rest for _, rest in ip_json.listing_of(text.encode()))
    assert {"type": "throw", **unicast[0]} == throw
    one, other = (rest for _, rest in ip_json.listing_of(f"[{{{first}}},{{{second}}}]".encode()))
    assert one is other


def test_a_scope_that_the_question_filters_by_is_that_of_each_route_and_of_no_other_listing() -> None:
    documents = [{"dst": "10.0.0.0/24", "dev": "eth0"}, {"dst": "10.0.1.0/24", "dev": "eth0"}]
    for separators in ((",", ":"), (", ", ": ")):
        text = json.dumps(documents, separators=separators).encode()
        for scope, rest in (("link", {"dev": "eth0", "scope": "link"}), ("", {"dev": "eth0"})):
            assert [("10.0.0.0/24", rest), ("10.0.1.0/24", rest)] == ip_json.listing_of(text, scope)


@pytest.mark.parametrize(
    "text",
    [
        "", "[", "[]]", "{}", "[1]", '"x"', "[{]", "[{}", '[{"dst":"10.0.0.0/24"}', '[{"dst":"10.0.0.0/24"},]',
        '[{"dst":"10.0.0.0/24"}{"dst":"10.0.1.0/24"}]', '[{"dst":"10.0.0.0/24"},{"dst":"10.0.1.0/24"},{"dst":"10.0.',
        '[{"dst":"10.0.0.0/24"},{"dst":"10.0.1.0/24",}]', '[{"dst":"10.0.0.0/24"},{"dst":"10.0.1.0/24"}],{',
        '[{"dst":"10.0.0.0/24"},{"dst":"10.0.1.0/24"},{}', "[{}]", '[{"dst":"10.0.0.0/24"},{"dev":"eth0"}]',
        '[{"dst":"10.0.0.0/24"},{"dev":"eth0","via":{"dst":"10.0.1.0/24"}}]',
        '[{"dev":"a","via":{"dst":""}},{"dst":"default"}]',
        '[{"dst":"10.0.0.0/24"},{"dst":"10.0.1.0/24,"dst":"10.0.2.0/24"}]',
    ],
)  # fmt: skip
def test_a_text_that_is_not_a_whole_listing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ip_json.listing_of(text.encode())


def test_the_first_of_two_destinations_is_that_of_the_route() -> None:
    """`encap ip` also prints the destination of its own header."""
    twice = b'{"dst":"10.0.0.0/24","encap":"ip","id":0,"dst":"192.0.2.1","dev":"eth0"}'
    text = b'[%s,{"dst":"10.0.1.0/24","dev":"eth0"}]' % twice
    assert ["10.0.0.0/24", "10.0.1.0/24"] == [dst for dst, _ in ip_json.listing_of(text)]


def test_a_line_of_a_batch_holds_at_most_500_words_of_a_route() -> None:
    for words, fits in ((500, True), (501, False)):
        # proto and scope are four words; a device and a weight are five for each next hop, without a weight three.
        weighted, plain = next((a, b) for b in range(5) for a in range(101) if 5 * a + 3 * b == words - 4)
        hops = [{"dev": "eth0", "weight": 1}] * weighted + [{"dev": "eth0"}] * plain
        (found,) = parse.routes([("10.0.0.0/8", {"nexthops": hops})], "inet", LINKS)
        assert (words, fits) == (len(found.attributes.words), found.attributes.inexpressible == "")


def test_a_link_that_came_after_the_others_has_no_index_yet() -> None:
    (found,) = parse.routes([("10.0.0.0/8", {"dev": "'new"})], "inet", LINKS)
    assert "cannot be written in a batch line" in found.attributes.inexpressible


@pytest.mark.parametrize(
    ("links", "names"),
    [
        ({"eth0": None}, ["eth0"]),
        ({"eth0": None, "eth0.5": "eth0"}, ["eth0.5"]),
        ({"lan1": "far1", "far1": "lan1"}, ["lan1", "far1"]),  # both ends of a cable
        ({"eth0": None, "docker0": None, "tap0": None}, ["eth0"]),
    ],
)
def test_a_network_card_needs_an_address_unless_another_link_is_above_it(
    links: dict[str, str | None], names: list[str]
) -> None:
    documents = [
        {"ifindex": 7, "ifname": name, "flags": [], **({"link": link} if link else {})} for name, link in links.items()
    ]
    assert names == [link.name for link in links_of(documents).values() if link.needs_address]
