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
from fz_iproute.mirror.model import Mark, Route, Rule
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix
from fz_iproute.mirror.words import RULES_IN_DETAIL
from tests.netns.namespace import Namespace, run
from tests.unit.diagnosis.test_simulated import COMMANDS, LEFT

TABLES = [100, 101]
OWN = {"inet": "10.1.1.9/24", "inet6": "fd00:1::9/64"}
PREFIXES = {"inet": ["default", "10.1.0.0/16", "10.1.1.7"], "inet6": ["default", "fd00:1::/48", "fd00:1::7"]}


def rule_step(draw: Callable[[Any], Any], family: Family) -> RuleStep:
    prefix = Prefix.parse(OWN[family].split("/")[0] + ("/32" if family == "inet" else "/128"))
    rule = Rule(
        family,
        draw(st.sampled_from([10, 20])),
        "lookup",
        draw(st.sampled_from(TABLES)),
        inverted=draw(st.booleans()),
        src=draw(st.sampled_from([None, prefix])),
        mark=draw(st.sampled_from([None, Mark(7), Mark(7, 0xFF)])),
        iif=draw(st.sampled_from(["", "", "lo"])),
        options=draw(st.sampled_from([(), (("suppress_prefixlen", "0"),)])),
        protocol=draw(st.sampled_from(["kernel", "boot"])),
    )
    return RuleStep(draw(st.sampled_from(["add", "add", "del"])), rule)


def route_step(draw: Callable[[Any], Any], family: Family) -> RouteStep:
    dst = draw(st.sampled_from(PREFIXES[family]))
    document: dict[str, Any] = {"dst": dst, "protocol": "static", "flags": []}
    kind = draw(st.sampled_from(["unicast", "unicast", "unreachable", "throw"]))
    if kind != "unicast":
        document["type"] = kind
    metric = draw(st.sampled_from([0, 5, 2**32 - 1]))
    if metric or family == "inet6":
        document["metric"] = metric or 1024
    if family == "inet6":
        document["pref"] = "medium"
        document["dev"] = "lo" if kind != "unicast" else "v0"
    elif kind == "unicast":
        document |= {"dev": "v0", "scope": "link"}
    (route,) = parse.routes(ip_json.listed([document]), family, {})
    return RouteStep(draw(st.sampled_from(["add", "add", "del"])), draw(st.sampled_from(TABLES)), route)


def line(step: RuleStep | RouteStep) -> str:
    if isinstance(step, RouteStep):
        return f"route {step.verb} table {step.table} {' '.join(step.route.words)}"
    return f"rule {step.verb} priority {step.rule.priority} {step.rule} protocol {step.rule.protocol}"


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
        max_examples=25, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def agrees(data: st.DataObject) -> None:
        option = "-6" if family == "inet6" else "-4"
        before = read(land, family)
        steps = [
            (rule_step if data.draw(st.booleans()) else route_step)(data.draw, family)
            for _ in range(data.draw(st.integers(1, 12)))
        ]
        network = before
        for step in steps:
            done = run("ip", "-n", land.name, option, *line(step).split(), check=False)
            note(f"{line(step)}: {done.stderr.strip()}")
            try:
                network = after(network, [step])
            except Refused as refused:
                assert str(refused) in done.stderr, f"the kernel took {line(step)}"
            else:
                assert not done.stderr, f"the kernel refused {line(step)}"
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
    for route in routes:
        found.setdefault(route.dst, []).append(route)
    return found
