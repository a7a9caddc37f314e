"""The model of the kernel on which remedies are tried does what the kernel does: the same commands, the same result."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from fz_iproute.diagnosis.machine import shown
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.simulated import Refused, RouteStep, RuleStep, after
from fz_iproute.mirror import ip_json, parse, parse_links, parse_rules
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import RULES_IN_DETAIL
from tests.layouts import route, rule
from tests.netns.namespace import Namespace, run
from tests.unit.diagnosis.test_simulated import COMMANDS, LEFT

TABLES = [100, 101]
OWN = {"inet": "10.1.1.9/24", "inet6": "fd00:1::9/64"}
PREFIXES = {"inet": ["default", "10.1.0.0/16", "10.1.1.7"], "inet6": ["default", "fd00:1::/48", "fd00:1::7"]}


def rule_line(draw: Callable[[Any], Any], family: Family) -> str:
    own = OWN[family].split("/")[0]
    words = [
        f"rule {draw(st.sampled_from(['add', 'add', 'del']))}",
        draw(st.sampled_from(["", "not"])),
        draw(st.sampled_from(["", f"from {own}"])),
        draw(st.sampled_from(["", "fwmark 0x7", "fwmark 0x7/0xff"])),
        draw(st.sampled_from(["", "", "iif lo"])),
        f"lookup {draw(st.sampled_from(TABLES))}",
        draw(st.sampled_from(["", "suppress_prefixlength 0"])),
        f"pref {draw(st.sampled_from([10, 20]))}",
        draw(st.sampled_from(["protocol kernel", "protocol boot"])),
    ]
    return " ".join(filter(None, words))


def route_line(draw: Callable[[Any], Any], family: Family) -> str:
    kind = draw(st.sampled_from(["", "", "unreachable", "throw"]))
    verb, dst = draw(st.sampled_from(["add", "add", "del"])), draw(st.sampled_from(PREFIXES[family]))
    if family == "inet":
        path, usual = "" if kind else "dev v0 scope link", ""
    else:
        path, usual = "dev lo" if kind else "dev v0", "metric 1024"
    metric = draw(st.sampled_from([usual, "metric 5", f"metric {2**32 - 1}"]))
    words = [f"route {verb}", kind, dst, path, "proto static", metric, f"table {draw(st.sampled_from(TABLES))}"]
    return " ".join(filter(None, words))


def step(line: str, family: Family) -> RuleStep | RouteStep:
    what, verb, *words = line.split()
    if what == "rule":
        return RuleStep(verb, rule(line, family))  # type: ignore[arg-type]
    return RouteStep(verb, int(words[-1]), route(line, family))  # type: ignore[arg-type]


def read(land: Namespace, family: Family) -> Network:
    option = "-6" if family == "inet6" else "-4"
    rules = parse_rules.rules(land.ip_json(option, *RULES_IN_DETAIL.split()), family)
    links = parse_links.links(land.ip_json("link"))
    tables = {
        table: {
            family: parse.routes(
                ip_json.listed(land.ip_json(option, "route", "show", "table", str(table))), family, links
            )
        }
        for table in TABLES
    }
    return Network(links, tuple(rules), tables)


@pytest.fixture(scope="module")
def land(long_lived: Callable[[], Namespace]) -> Namespace:
    namespace = long_lived()
    namespace.veth("v0", *OWN.values())
    # A table that does not exist cannot be listed.
    for table in TABLES:
        for option in ("-4", "-6"):
            namespace.ip(
                option, "route", "add", "throw", "192.0.2.1" if option == "-4" else "2001:db8::1", "table", str(table)
            )
    return namespace


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_does_what_the_kernel_does(family: Family, land: Namespace) -> None:
    @settings(
        max_examples=15, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def agrees(data: st.DataObject) -> None:
        option = "-6" if family == "inet6" else "-4"
        before = read(land, family)
        lines = [
            (rule_line if data.draw(st.booleans()) else route_line)(data.draw, family)
            for _ in range(data.draw(st.integers(10, 40)))
        ]
        network = before
        for line in lines:
            done = run("ip", "-n", land.name, option, *line.split(), check=False)
            note(f"{line}: {done.stderr.strip()}")
            try:
                network = after(network, [step(line, family)])
            except Refused as refused:
                assert str(refused) in done.stderr, f"the kernel took {line}"
            else:
                assert not done.stderr, f"the kernel refused {line}"
        found = read(land, family)
        assert network.rules == found.rules
        for table in TABLES:
            assert by_destination(network.tables[table][family]) == by_destination(found.tables[table][family])

    agrees()


def test_the_kernel_refuses_what_the_model_refuses_and_has_the_same_in_the_end(namespace: Namespace) -> None:
    namespace.veth("eth0")
    namespace.ip("link", "add", "name", "docker0", "type", "bridge")
    for line, refusal in COMMANDS:
        done = run("ip", "-n", namespace.name, *line.split(), check=False)
        assert refusal in done.stderr and bool(refusal) is bool(done.returncode), (line, done.stderr)
    rules = parse_rules.rules(namespace.ip_json(*RULES_IN_DETAIL.split()), "inet")
    routes = parse.routes(ip_json.listed(namespace.ip_json("route", "show", "table", "7")), "inet", {})
    added = (rule for rule in rules if 0 < rule.priority < 32766)
    assert LEFT.split("\n")[1:-1] == [*map(shown, added), *map(str, routes)]


def by_destination(routes: tuple[Route, ...]) -> dict[str, list[Route]]:
    found: dict[str, list[Route]] = {}
    for each in routes:
        found.setdefault(each.dst, []).append(each)
    return found
