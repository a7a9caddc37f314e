"""The model of the kernel on which remedies are tried: what it refuses, and what is there in the end."""

import pytest

from fz_iproute.diagnosis.machine import shown
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.simulated import Refused, RouteStep, RuleStep, after
from fz_iproute.mirror.prefix import Family
from tests.layouts import route, rule
from tests.unit.routes import LINKS

EXISTS, NO_RULE, NO_ROUTE = "File exists", "No such file or directory", "No such process"
# One after another; tests/netns/test_simulated.py gives them to the kernel, too.
COMMANDS = [
    ("rule add pref 20 lookup 7", ""),
    ("rule add pref 20 lookup 7", EXISTS),
    ("rule add not pref 20 lookup 7", EXISTS),  # `not` is not compared
    ("rule add pref 20 from 192.0.2.7 lookup 7", ""),
    ("rule add pref 20 to 192.0.2.7 lookup 7", ""),
    ("rule add pref 20 from 192.0.2.7 to 192.0.2.7 lookup 7", ""),
    ("rule add pref 20 lookup 8", ""),
    ("rule add pref 30 prohibit", ""),
    ("rule add pref 30 prohibit", EXISTS),
    ("rule add pref 10 from 192.0.2.7 lookup 7", ""),
    ("rule add pref 10 lookup 7", EXISTS),  # only the prefixes that are given are compared
    ("rule add pref 10 fwmark 0x7 lookup 7", ""),
    ("rule add pref 10 fwmark 0x7/0xff lookup 7", ""),
    ("rule add pref 10 suppress_prefixlength 0 lookup 7", ""),
    ("rule add pref 10 suppress_prefixlength 1 lookup 7", ""),
    ("rule add pref 10 iif lo lookup 7", ""),
    ("rule add pref 10 oif lo lookup 7", ""),
    ("rule add pref 10 protocol static fwmark 0x9 lookup 7", ""),
    ("-6 rule add pref 20 lookup 7", ""),
    ("-6 rule del pref 30 prohibit", NO_RULE),
    ("rule del pref 10 fwmark 0x8 lookup 7", NO_RULE),
    ("rule del pref 10 fwmark 0x9 lookup 7 protocol babel", NO_RULE),
    ("rule del pref 10 fwmark 0x7/0xff lookup 7", ""),
    ("rule del pref 10 suppress_prefixlength 1 lookup 7", ""),
    ("rule del pref 10 oif lo lookup 7", ""),
    ("rule del pref 20 to 192.0.2.7 lookup 7", ""),
    ("rule del pref 20 lookup 7", ""),
    ("rule del pref 20 lookup 7", ""),  # the first one that has what is given
    ("rule add pref 40 fwmark 0x7 lookup 7", ""),
    ("rule add pref 40 lookup 7", ""),
    ("rule del pref 40 lookup 7", ""),
    ("rule del pref 20 lookup 9", NO_RULE),
    ("route add 10.9.0.0/16 dev eth0 table 7", ""),
    ("route add 10.9.0.0/16 dev lo table 7", EXISTS),
    ("route add 10.9.0.0/16 dev eth0 metric 9 table 7", ""),
    ("route add 10.9.0.0/16 dev eth0 metric 5 table 7", ""),
    ("route add 10.9.0.0/16 dev lo metric 9 table 7", EXISTS),
    ("route add unreachable 10.9.0.0/16 metric 5 table 7", EXISTS),
    ("route add unreachable 10.9.0.0/16 metric 7 table 7", ""),
    ("route add 10.9.0.0/16 dev eth0 tos 0x10 table 7", ""),
    ("route add 10.9.0.0/16 dev eth0 tos 0x10 table 7", EXISTS),
    ("route add 10.8.0.0/16 dev eth0 metric 4 table 7", ""),
    ("route add 10.7.0.0/16 dev docker0 table 7", "Device for nexthop is not up"),
    ("-6 route add fd07::/64 dev eth0 table 7", ""),
    ("-6 route add throw fd08::/64 dev lo table 7", ""),
    ("-6 route del throw fd07::/64 dev lo table 7", NO_ROUTE),
    ("-6 route del unreachable fd08::/64 dev lo table 7", ""),  # IPv6 does not compare types
    ("route del throw 10.9.0.0/16 metric 7 table 7", NO_ROUTE),  # IPv4 does
    ("route del 10.9.0.0/16 dev lo table 7", NO_ROUTE),
    ("route del 10.9.0.0/16 dev eth0 metric 8 table 7", NO_ROUTE),
    ("route del 10.8.0.0/16 dev eth0 metric 5 table 7", NO_ROUTE),
    ("route del 10.9.0.0/16 dev eth0 metric 9 table 7", ""),
    ("route del 10.9.0.0/16 dev eth0 table 7", ""),
    ("route del 10.9.0.0/16 dev eth0 table 7", ""),  # no metric means any
    ("route del 10.9.0.0/16 dev eth0 table 7", NO_ROUTE),
    ("route add 10.9.0.0/16 dev eth0 metric 3 table 7", ""),
    ("route add 10.6.0.0/16 dev eth0 tos 0x10 metric 3 table 7", ""),
    ("route del 10.6.0.0/16 dev eth0 tos 0x10 table 7", ""),
]
LEFT = """
10: from 192.0.2.7 lookup 7
10: from all fwmark 0x7 lookup 7
10: from all lookup 7 suppress_prefixlength 0
10: from all iif lo lookup 7
10: from all fwmark 0x9 lookup 7
20: from 192.0.2.7 to 192.0.2.7 lookup 7
20: from all lookup 8
30: from all prohibit
40: from all lookup 7
10.8.0.0/16 dev eth0 proto boot scope link metric 4
10.9.0.0/16 dev eth0 proto boot scope link tos 0x10
10.9.0.0/16 dev eth0 proto boot scope link metric 3
unreachable 10.9.0.0/16 proto boot scope global metric 7
"""
NOTHING = Network({**LINKS, "docker0": LINKS["eth0"]._replace(name="docker0", up=False)}, (), {})


def step(line: str) -> RouteStep | RuleStep:
    """The command as a step: `ip` gives a rule the protocol boot."""
    family: Family = "inet6" if line.startswith("-6") else "inet"
    words = line.removeprefix("-6 ")
    verb = "add" if words.split()[1] == "add" else "del"
    if words.startswith("route"):
        return RouteStep(verb, int(line.rpartition(" ")[2]), route(words, family))
    found = rule(words, family)
    return RuleStep(verb, found._replace(protocol=found.protocol or "boot"))


def done(network: Network, line: str) -> tuple[Network, str]:
    """The network after the command, and why it is refused."""
    try:
        return after(network, [step(line)]), ""
    except Refused as refused:
        return network, str(refused)


def test_each_command_is_refused_or_has_its_effect() -> None:
    network = NOTHING
    for line, expected in COMMANDS:
        network, refusal = done(network, line)
        assert expected == refusal, line
    left = [shown(rule) for rule in network.rules if rule.family == "inet"]
    left += map(str, sorted(network.tables[7]["inet"], key=lambda route: route.dst))
    assert LEFT.split("\n")[1:-1] == left
    assert ["fd07::/64"] == [route.dst for route in network.tables[7]["inet6"]]


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ("route add 10.0.0.0/8 via 192.0.2.1 dev eth0 table 7", "whether its gateway can be reached is not known here"),
        ("route add 10.0.0.0/8 dev eth7 table 7", "Device for nexthop is not up"),
    ],
)
def test_what_the_model_does_not_know_is_never_proven(line: str, refusal: str) -> None:
    assert (NOTHING, refusal) == done(NOTHING, line)
