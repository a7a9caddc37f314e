"""For many packets, the simulated decision is that of the kernel."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from itertools import combinations
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fz_iproute.diagnosis.lookup import Decision, Packet
from fz_iproute.diagnosis.reach import Network
from fz_iproute.mirror import ip_json, parse, parse_links, parse_rules
from fz_iproute.mirror.model import Link, Rule
from fz_iproute.mirror.prefix import FAMILIES, Family
from tests.netns.namespace import MAIN, MARK, MIRROR, Namespace, run, wait_until

LOCAL, DEFAULT = 255, 253
TABLES = [100, MIRROR, 7, MAIN]
MISSING = 12345
UP, OTHER, FICKLE = "v0", "v1", "v2"
GROUP = 57841  # of OTHER
REAL_KERNEL = settings(
    max_examples=30,
    deadline=None,
    print_blob=True,
    derandomize=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Land(NamedTuple):
    """The addresses of a family. They are nested, so that rules and routes compete."""

    own: tuple[str, str, str]  # with their lengths, of the three devices
    foreign: str  # a source that no route and no rule names
    prefixes: tuple[str, ...]
    gateway: str
    dsts: tuple[str, ...]
    received: tuple[str, ...]  # destinations of packets from another machine


LANDS: dict[Family, Land] = {
    "inet": Land(
        own=("10.1.1.9/24", "10.1.2.9/24", "10.1.3.9/24"),
        foreign="198.51.100.7",
        prefixes=(
            *("default", "default", "10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.4/30", "10.1.1.5/32"),
            *("10.1.2.128/25", "192.0.2.0/24", "224.0.0.0/4", "255.255.255.255/32"),
        ),
        gateway="10.1.2.77",
        dsts=(
            *("10.1.1.5", "10.1.1.6", "10.1.1.9", "10.1.1.255", "10.1.2.200", "10.1.3.9", "10.9.0.1", "192.0.2.1"),
            *("203.0.113.9", "127.0.0.1", "224.0.0.5", "239.1.1.1", "255.255.255.255", "0.0.0.0"),
        ),
        received=("10.1.1.5", "10.1.1.6", "10.1.1.9", "10.1.1.255", "10.1.2.200", "192.0.2.1", "203.0.113.9"),
    ),
    "inet6": Land(
        own=("fd00:1:1::9/64", "fd00:1:2::9/64", "fd00:1:3::9/64"),
        foreign="2001:db8:7::7",
        prefixes=(
            *("default", "default", "fd00::/8", "fd00:1::/32", "fd00:1:1::/64", "fd00:1:1::4/126", "fd00:1:1::5/128"),
            *("fd00:1:2:0:8000::/65", "2001:db8:2::/48", "fe80::/64", "ff00::/8"),
        ),
        gateway="fe80::77",
        dsts=(
            *("fd00:1:1::5", "fd00:1:1::6", "fd00:1:1::9", "fd00:1:1::", "fd00:1:2:0:8000::1", "fd00:1:3::9"),
            *("fd00:9::1", "2001:db8:2::1", "2001:db8:99::9", "::1", "fe80::5", "ff02::1", "ff05::1"),
        ),
        received=("fd00:1:1::5", "fd00:1:1::9", "fd00:1:2:0:8000::1", "2001:db8:2::1", "2001:db8:99::9", "fe80::5"),
    ),
}

# No VPN, one table, tiers, and the rules of wg-quick.
LAYOUTS = [
    [],
    [f"pref 32765 not fwmark {MARK:#x} lookup {MIRROR}"],
    [f"pref {p} not fwmark {MARK:#x} lookup {t}" for p, t in ((100, MIRROR), (200, 100), (300, 7))],
    ["pref 100 lookup 254 suppress_prefixlength 0", f"pref 200 not fwmark {MARK:#x} lookup {MIRROR}"],
]
USUAL = [f"pref 32766 lookup {MAIN}", f"pref 32767 lookup {DEFAULT}"]


@st.composite
def rules(draw: st.DrawFn, family: Family, tables: Sequence[int]) -> str:
    """The words after `ip rule add`, about the given tables."""
    prefixes = [prefix for prefix in LANDS[family].prefixes if prefix != "default"]
    own = [LANDS[family].own[0], "10.0.0.0/8" if family == "inet" else "fd00::/8"]
    selectors = st.one_of(
        st.sampled_from(["", "fwmark 1", f"fwmark {MARK:#x}", "fwmark 0x20/0xf0", "fwmark 0/0xff"]),
        st.sampled_from(["", "tos 0x10", "ipproto tcp", "ipproto udp", "dport 53", "dport 400-500", "sport 1000"]),
        st.sampled_from(["iif v0", "iif lo", "iif nope", "oif v0", "oif nope", "uidrange 0-0", "uidrange 500-2000"]),
        st.sampled_from(prefixes).map(lambda prefix: f"to {prefix}"),
        st.sampled_from([*own, *own, *own, *prefixes, f"{LANDS[family].foreign}"]).map(lambda prefix: f"from {prefix}"),
        st.sampled_from(["from 0.0.0.0/8" if family == "inet" else "from ::/8"]),
    )
    chosen = {words.split(" ")[0]: words for words in draw(st.lists(selectors, max_size=2))}
    table = st.sampled_from([*tables] * 4 + [LOCAL, MISSING])
    action = draw(
        st.one_of(
            *[table.map(lambda table: f"lookup {table}")] * 3,
            st.tuples(table, st.sampled_from([0, 8, 16, 24, 48])).map(
                lambda both: f"lookup {both[0]} suppress_prefixlength {both[1]}"
            ),
            table.map(lambda table: f"lookup {table} suppress_ifgroup {GROUP}"),
            st.sampled_from([200, 300, 1000, 32766, 40000]).map(lambda priority: f"goto {priority}"),
            st.sampled_from(["l3mdev", "l3mdev unreachable", "l3mdev prohibit"]),
            st.sampled_from(["nop", "blackhole", "unreachable", "prohibit"]),
        )
    )
    inverted = draw(st.sampled_from(["", "", "not"]))
    priority = draw(st.sampled_from([50, 100, 200, 200, 300, 1000, 32765]))
    return " ".join(filter(None, [f"pref {priority}", inverted, *chosen.values(), action]))


@st.composite
def routes(draw: st.DrawFn, family: Family, tables: Sequence[int], prefixes: Sequence[str]) -> str:
    """The words after `ip route append`. The caller adds a protocol that identifies the route."""
    prefix = draw(st.sampled_from(prefixes))
    table = draw(st.sampled_from([*tables] * 4 + [LOCAL]))
    devices = st.sampled_from([UP, UP, OTHER, FICKLE])
    link = " scope link" if family == "inet" else ""
    router = devices.map(lambda device: f"via {LANDS[family].gateway} dev {device} onlink")
    path = st.one_of(
        *[devices.map(lambda device: f"dev {device}{link}")] * 3,
        *[router] * 2,
        st.lists(router, min_size=2, max_size=3).map(lambda hops: " ".join(f"nexthop {hop}" for hop in hops)),
    )
    kinds = ["", "", "", "", "", "refuse", "refuse", "local"]
    # A source must not be a broadcast address, and `ip` does not show local routes of IPv6 in main.
    if family == "inet" and prefix.startswith("10."):
        kinds.append("broadcast")
    if family == "inet6" and table == MAIN:
        kinds.remove("local")
    kind = draw(st.sampled_from(kinds))
    metric = draw(st.sampled_from(["", "", "metric 5", "metric 5", "metric 600"]))
    words = [f"table {table}", metric]
    if family == "inet":
        words.append(draw(st.sampled_from(["", "", "", "tos 0x10", "tos 0xb8"])))
    if kind == "refuse":
        kind = draw(st.sampled_from(["throw", "throw", "unreachable", "blackhole", "prohibit"]))
    elif kind:
        words.append("dev lo" if kind == "local" else f"dev {draw(devices)}")
    else:
        if family == "inet6":
            words.append(draw(st.sampled_from(["", "pref low", "pref high"])))
        words.append(draw(path))
    return " ".join(filter(None, [kind, prefix, *words]))


class World(NamedTuple):
    """The rules, routes and links of the namespace."""

    rules: list[Rule]
    routes: list[tuple[int, Any]]
    links: dict[str, Link]


def ask(land: Namespace, family: Family, lines: list[str], *options: str) -> list[Any]:
    """The answers to the lines of a batch: each a document or an error message of the kernel."""
    option = "-6" if family == "inet6" else "-4"
    argv = ("ip", "-n", land.name, option, "-json", *options, "-force", "-batch", "-")
    done = run(*argv, stdin="".join(f"{line}\n" for line in lines), check=False)
    failed = {
        int(line): words
        for words, line in re.findall(r"(?:RTNETLINK answers|Error): (.*)\nCommand failed -:(\d+)", done.stderr)
    }
    documents = _documents(done.stdout.replace("\\'", "'"))  # as iproute2 5.9 escapes it
    answers = [failed[number] if number in failed else next(documents) for number in range(1, len(lines) + 1)]
    assert not list(documents)
    assert len(failed) == done.stderr.count("Command failed"), done.stderr
    if "Dump was interrupted" in done.stderr:
        return ask(land, family, lines, *options)  # it may lack routes that were there all the time
    return answers


def _documents(printed: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    position = 0
    while printed := printed[position:].lstrip():
        document, position = decoder.raw_decode(printed)
        yield document


def read(land: Namespace, family: Family) -> World:
    tables = [*TABLES, LOCAL, DEFAULT]
    links = parse_links.links(land.ip_json("link"))
    (found,) = ask(land, family, ["rule show"], "-details", "-Numeric")
    dumps = ask(land, family, [f"route show table {table}" for table in tables])
    return World(
        parse_rules.rules(found, family),
        [(table, parse.routes(ip_json.listed(dump), family, links)) for table, dump in zip(tables, dumps, strict=True)],
        links,
    )


def settled(land: Namespace, family: Family) -> World:
    """What is there when two readings agree: a link changes its routes a little after it came or went."""
    found = read(land, family)
    while (again := read(land, family)) != found:
        found = again
    return found


def questions(family: Family) -> Iterator[tuple[str, Packet]]:
    """The arguments of `ip route get` and the packet that they describe."""
    land = LANDS[family]
    own = land.own[0].split("/")[0]
    # Only rules look at these, so a few combinations are enough.
    tcp, udp = ("tcp", 6, 1000, 500, 0), ("udp", 17, 2000, 53, 1000)
    shapes = [(0, 0, *tcp), (0, 0xB0, *udp), (1, 0x10, *tcp), (0x2F, 0, *udp), (MARK, 0x10, *udp)]
    for mark, tos, proto, ipproto, sport, dport, uid in shapes:
        same = f"mark {mark:#x} tos {tos:#x} ipproto {proto} sport {sport} dport {dport}"
        base = Packet(family, 0, mark=mark, tos=tos, ipproto=ipproto, sport=sport, dport=dport)
        for dst in land.dsts:
            sent = base._replace(dst=int(ip_address(dst)), uid=uid)
            sources = [own, ""] if (mark or tos or family == "inet6") else [own, "", land.foreign]
            for source in sources:
                for oif in ("", UP, FICKLE):
                    words = [dst, source and f"from {source}", oif and f"oif {oif}", same, f"uid {uid}"]
                    packet = sent._replace(src=int(ip_address(source)) if source else 0, oif=oif)
                    yield " ".join(filter(None, words)), packet
        for dst in land.received:
            for iif in (UP, OTHER):
                # A received packet counts as root's, but `ip -6 route get` without a uid assumes nobody.
                words = [dst, f"from {land.foreign} iif {iif}", same, "uid 0"]
                src = int(ip_address(land.foreign))
                yield " ".join(words), base._replace(dst=int(ip_address(dst)), src=src, iif=iif, uid=1000)


QUESTIONS = {family: list(questions(family)) for family in FAMILIES}
HERE = ("local", "broadcast", "anycast")
NAMES = {"main": MAIN, "local": LOCAL, "default": DEFAULT}


def disagreement(family: Family, decision: Decision, way: Any, match: Any) -> str:
    """How the kernel differs; `way` is the answer of `ip route get`, `match` that of `ip route get fibmatch`."""
    if isinstance(way, str):
        # Older kernels call a foreign source an invalid argument.
        possible = {decision.error} | ({"Invalid argument"} if decision.outcome == "foreign" else set())
        return "" if way in possible else "another error"
    (leads,) = way
    kinds = {decision.outcome, leads.get("type", "unicast")}
    # With a next hop, IPv4 remembers the type of the first packet. Routes of other prefixes may share the next hop.
    is_remembered = family == "inet" and decision.route and kinds == {"unicast", "multicast"}
    if len(kinds) > 1 and not is_remembered:
        return "another type"
    # `ip` shows lo for packets to this machine.
    if leads["dev"] not in decision.devices and not (leads["dev"] == "lo" and decision.outcome in HERE):
        return "another device"
    if isinstance(match, str):
        return "a route where there is none" if decision.route else ""
    if not decision.route:
        return "no route"
    (route,) = match
    chosen = decision.route
    table = route.get("table", "main")
    if (chosen.dst, decision.table) != (route["dst"], NAMES.get(table) or int(table)):
        return "another prefix or table"
    if chosen.attributes.metric != route.get("metric", 0):
        return "another metric"
    # In IPv6, each nexthop of a multipath route keeps its own protocol.
    proto = f"proto {route.get('protocol', 'boot')}"
    return "" if len(chosen.attributes.devices) > 1 or proto in " ".join(chosen.attributes.words) else "another twin"


def is_hidden(match: Any, world: World) -> bool:
    """IPv6 lists no route that stands between the nexthops of another one: it goes on behind the last of them."""
    if isinstance(match, str) or "nexthops" in match[0]:
        return False
    (route,) = match
    table = route.get("table", "main")
    place = NAMES.get(table) or int(table), route["dst"]
    proto = f"proto {route.get('protocol', 'boot')} "
    listed = ((number, each) for number, found in world.routes for each in found)
    return not any((number, each.dst) == place and proto in f"{each} " for number, each in listed)


def compare(land: Namespace, family: Family) -> int:
    """Compare all answers, which must not differ; return how many were compared."""
    asked = QUESTIONS[family]
    lines = [f"route get {match}{words}" for words, _ in asked for match in ("", "fibmatch ")]
    while True:
        world = settled(land, family)
        answers = ask(land, family, lines)
        if world == read(land, family):
            break
    network = Network(world.links, tuple(world.rules), {table: {family: tuple(found)} for table, found in world.routes})
    compared = 0
    for number, (words, packet) in enumerate(asked):
        decision = network.way(packet)
        way, match = answers[2 * number : 2 * number + 2]
        if decision.doubts or (family == "inet6" and is_hidden(match, world)):
            continue
        compared += 1
        if wrong := disagreement(family, decision, way, match):
            lines = [f"{rule.priority}: {rule}" for rule in world.rules]
            lines += [f"table {table}: {route}" for table, found in world.routes for route in found]
            lines += [f"{link.name}: {'up' if link.up else 'down'}" for link in world.links.values()]
            lines += [f"ip route get {words}", f"said: {decision}", f"kernel: {way}", f"match: {match}"]
            pytest.fail("\n".join([f"{wrong}: ip route get {words}", *lines]))
    return compared


@pytest.fixture(scope="module")
def land(long_lived: Callable[[], Namespace]) -> Namespace:
    namespace = long_lived()
    for key, value in {
        "net.ipv4.ip_forward": 1,
        "net.ipv4.conf.all.rp_filter": 0,
        "net.ipv4.conf.default.rp_filter": 0,
        "net.ipv4.conf.all.accept_local": 1,  # otherwise the kernel also looks up the source of a received packet
        "net.ipv6.conf.all.forwarding": 1,  # otherwise the kernel avoids a route whose router does not answer
        "net.ipv6.conf.default.forwarding": 1,
    }.items():
        namespace.sysctl(key, value)
    for number, device in enumerate((UP, OTHER, FICKLE)):
        namespace.veth(device, *(LANDS[family].own[number] for family in FAMILIES))
    namespace.ip("link", "set", "dev", OTHER, "group", str(GROUP))
    return namespace


def build(land: Namespace, family: Family, rules: Sequence[str], routes: Sequence[str], *, down: bool) -> None:
    """Make these the only rules and routes; table local keeps those of the kernel."""
    protocols = [99 if f"table {LOCAL}" in words else 20 + number for number, words in enumerate(routes)]
    lines = [
        f"link set dev {FICKLE} up",
        f"addr replace {LANDS[family].own[2]} dev {FICKLE}",
        "rule flush",
        *(f"route flush table {table}" for table in [*TABLES, MISSING]),
        f"route flush table {LOCAL} proto 99",
        *(f"rule add {words}" for words in rules),
        *(
            f"route append {words.replace('table', f'proto {protocol} table')}"
            for words, protocol in zip(routes, protocols, strict=True)
        ),
        f"link set dev {FICKLE} {'down' if down else 'up'}",
        "link show dev lo",
    ]
    option = "-6" if family == "inet6" else "-4"
    argv = ("ip", "-n", land.name, option, "-force", "-batch", "-")
    done = run(*argv, stdin="".join(f"{line}\n" for line in lines), check=False)
    assert done.stdout, f"a line was not understood: {done.stderr}"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernel_decides_the_same(family: Family, land: Namespace) -> None:
    compared = 0

    @REAL_KERNEL
    @given(data=st.data())
    def agrees(data: st.DataObject) -> None:
        nonlocal compared
        layout = data.draw(st.sampled_from(LAYOUTS), label="layout")
        usual = data.draw(st.sampled_from([USUAL, USUAL, []]), label="usual")
        # Few tables and prefixes, so that they compete.
        tables = data.draw(st.sampled_from(list(combinations(TABLES, 2))), label="tables")
        prefixes = data.draw(
            st.lists(st.sampled_from(LANDS[family].prefixes), min_size=1, max_size=3), label="prefixes"
        )
        more = data.draw(st.lists(rules(family, tables), max_size=7), label="rules")
        lines = data.draw(st.lists(routes(family, tables, prefixes), min_size=4, max_size=20), label="routes")
        build(land, family, layout + more + usual, lines, down=data.draw(st.booleans(), label="down"))
        compared += compare(land, family)

    agrees()
    assert compared > 2000


# Rules and routes that random choice seldom makes.
SUBTLE: dict[str, tuple[Family, list[str], list[str]]] = {
    "a rule keeps its host bits": (
        "inet",
        [f"pref 100 from {LANDS['inet'].own[0]} lookup 100"],
        [f"default dev {UP} table 100", f"default dev {OTHER} table {MAIN}"],
    ),
    "packets of this machine, of root, and to the last port of a range": (
        "inet",
        [
            "pref 100 to 10.0.0.0/8 iif lo lookup 100",
            "pref 200 to 192.0.2.0/24 uidrange 0-0 lookup 100",
            "pref 300 dport 400-500 lookup 7",
        ],
        [f"default dev {OTHER} table 100", f"default dev {FICKLE} table 7", f"default dev {UP} table {MAIN}"],
    ),
    "of all metrics but the lowest the preferred one wins": (
        "inet6",
        [],
        [
            f"default dev {OTHER} table {MAIN} metric 1",
            f"default dev {FICKLE} table {MAIN} metric 2 pref low",
            f"default dev {FICKLE} table {MAIN} metric 3 pref high",
        ],
    ),
    "a source weakens the device": (
        "inet6",
        [],
        [f"default dev {UP} table {MAIN} metric 1", f"default dev {OTHER} table {MAIN} metric 1 pref high"],
    ),
    "one of two ways is down": (
        "inet6",
        [],
        [
            f"default table {MAIN} nexthop via fe80::77 dev {UP} nexthop via fe80::77 dev {FICKLE}",
            f"fd00::/8 dev {FICKLE} table {MAIN}",
        ],
    ),
    "one of two ways is down, IPv4": (
        "inet",
        [],
        [f"default table {MAIN} nexthop via 10.1.1.77 dev {UP} nexthop via 10.1.3.77 dev {FICKLE}"],
    ),
    "without a VRF, its rules do not fit": (
        "inet",
        ["pref 1000 l3mdev", "pref 2000 l3mdev unreachable"],
        [f"default dev {UP} table {MAIN}"],
    ),
    "an inverted rule of VRFs looks up main": (
        "inet6",
        [f"pref 1000 not iif {OTHER} l3mdev", "pref 1001 not l3mdev suppress_prefixlength 0", "pref 2000 prohibit"],
        [f"default dev {UP} table {MAIN}", f"fd00:1:2::/64 dev {OTHER} table {MAIN}"],
    ),
    "of two ways the group of the first counts": (
        "inet",
        [f"pref 100 lookup 100 suppress_ifgroup {GROUP}", f"pref 200 lookup 7 suppress_ifgroup {GROUP}"],
        [
            f"default table 100 nexthop via 10.1.2.77 dev {OTHER} nexthop via 10.1.1.77 dev {UP}",
            f"default table 7 nexthop via 10.1.1.77 dev {UP} nexthop via 10.1.2.77 dev {OTHER}",
            f"default dev {FICKLE} table {MAIN}",
        ],
    ),
}


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
@pytest.mark.parametrize(("family", "rules", "routes"), SUBTLE.values(), ids=list(SUBTLE))
def test_the_kernel_decides_the_same_in_subtle_cases(
    family: Family, rules: list[str], routes: list[str], down: bool, land: Namespace
) -> None:
    build(land, family, rules + USUAL, routes, down=down)
    assert compare(land, family)


def test_an_expired_route_is_not_used(land: Namespace) -> None:
    build(
        land,
        "inet6",
        USUAL,
        [f"default dev {UP} table {MAIN}", f"fd00::/8 dev {OTHER} table {MAIN} expires 1"],
        down=False,
    )

    def expired() -> bool:
        return any(route.attributes.expired for _, routes in read(land, "inet6").routes for route in routes)

    wait_until(expired, "the route has expired")
    assert compare(land, "inet6")


# How rules are printed

PRINTED = [
    "not from 10.0.0.0/8 to 192.168.1.7 fwmark 0x7/0xff iif lo oif nodev lookup 100",
    "tos 0x10 fwmark 1 lookup main suppress_prefixlength 0",
    "not lookup 8 suppress_prefixlength 3 suppress_ifgroup 2 realms 3/4",
    "uidrange 0-0 sport 5-9 dport 443 lookup 77",
    "realms 4 lookup 77",
    "tun_id 5 lookup 7",
    "fwmark 0/0xff lookup 6",
    "from 10.0.0.7/8 lookup default",
    "l3mdev",
    "l3mdev unreachable",
    "tos 0x10 fwmark 7 goto 32766",
    "goto 99999",
    "nop",
    "to 192.0.2.0/24 dport 7 prohibit",
    "from 192.0.2.7 blackhole",
]


def test_rules_are_printed_as_ip_prints_them_and_deleted_by_their_words(namespace: Namespace) -> None:
    namespace.batch(f"rule add pref {number} {words}" for number, words in enumerate(PRINTED, start=1))
    lines = namespace.ip("rule", "show").splitlines()
    rules = parse_rules.rules(namespace.ip_json("-details", "-Numeric", "rule"), "inet")
    assert [" ".join(line.split()) for line in lines] == [f"{rule.priority}: {rule}" for rule in rules]
    ours = [rule for rule in rules if 0 < rule.priority <= len(PRINTED)]
    namespace.batch(" ".join(("rule del pref", str(rule.priority), *rule.words)) for rule in ours)
    assert len(rules) - len(ours) == len(namespace.ip("rule", "show").splitlines())
