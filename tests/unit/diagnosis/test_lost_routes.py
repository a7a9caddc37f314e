"""A `sync` that would cut a LAN is no advice, and a network card without a LAN is named."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from fz_iproute.diagnosis.checks.copies import mirror
from fz_iproute.diagnosis.checks.lan import shadowed
from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.lookup import Packet, usual
from fz_iproute.diagnosis.outages import Outage, together
from fz_iproute.diagnosis.remedy import COMMENT
from fz_iproute.diagnosis.sentence import Case as Question
from fz_iproute.diagnosis.sentence import sentence
from fz_iproute.diagnosis.status import status
from fz_iproute.diagnosis.summary import summary
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.config import replace as configured
from fz_iproute.mirror.prefix import Prefix
from tests.unit.diagnosis.machines import FIREZONE, HALVES, MIRROR, SERVED, Case, vpn, without

LOST = [*SERVED, "route del 192.168.1.0/24"]
LOST6 = [*SERVED, "-6 route del fd00:1::/64"]
ADD = "ip route add 192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.5"
ADD6 = "ip -6 route add fd00:1::/64 dev eth0 proto kernel metric 256 pref medium"
TO_IT = "192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.5 table"
OLD_SOURCE = [*without(TO_IT, LOST), f"route add {TO_IT.replace('1.5', '1.99')} {MIRROR}"]


@pytest.mark.parametrize(
    ("lines", "remedies"),
    [
        (LOST, [ADD]),
        (LOST6, [ADD6]),
        ([*LOST, "-6 route del fd00:1::/64"], [ADD, ADD6]),
        (OLD_SOURCE, [f"{ADD} && fz-iproute sync"]),
        ([*LOST, "route add 10.1.1.0/24 dev docker0"], [f"{ADD} && fz-iproute sync"] * 2),
    ],
    ids=["IPv4", "IPv6", "both", "the copy has an old source", "more is due"],
)  # fmt: skip
def test_main_gets_its_route_back_and_no_remedy_is_a_sync_that_cuts_the_lan(
    lines: list[str], remedies: list[str]
) -> None:
    machine = Case(lines)
    found = machine.findings("mirror")
    assert remedies == [each.remedy.partition(COMMENT)[0] for each in found]
    assert all("main has lost the route of" in each.seen for each in found[: len(machine.machine.lost_routes)])
    said = summary(status(machine.config, *machine.read()))
    assert said.is_due and said.is_lost_then and said.is_worse_then, "status does not advise a sync either"
    assert [] == [each.remedy for each in machine.findings() if each.remedy == "fz-iproute sync"]


CLAIMED = [*LOST, *vpn("192.168.0.0/16")]
CLAIMED6 = [*LOST6, f"-6 route add fd00:1::/64 dev tun-firezone table {MIRROR}"]


@pytest.mark.parametrize(
    ("lines", "claimed", "add"), [(CLAIMED, "192.168.0.0/16", ADD), (CLAIMED6, "fd00:1::/64", ADD6)]
)
def test_a_sync_that_cuts_a_lan_for_the_vpns_own_route_is_no_advice_either(
    lines: list[str], claimed: str, add: str
) -> None:
    machine = Case(lines)
    (found,) = machine.findings("mirror")
    assert "main has lost the route of" in found.seen and "so cut this LAN" in found.why
    assert found.remedy.startswith(f"the VPN routes {claimed} explicitly: renumber that LAN, or, if you need")
    assert found.remedy.endswith(f"; `{add}` gives main its route back")
    said = summary(status(machine.config, *machine.read()))
    assert said.is_due and said.is_worse_then
    assert [] == [each.remedy for each in machine.findings() if each.remedy == "fz-iproute sync"]


def test_an_explicit_route_that_may_be_a_part_of_the_default_route_is_made_one() -> None:
    config = configured(Config(), tunnel={"split_default": "explicit"})
    (found,) = Case([*without("docker0", LOST), *HALVES], config=config).findings("mirror")
    setting = 'set in /etc/fz-iproute/config.toml, section [tunnel]: split_default = "auto"'
    assert f"{setting}, then {ADD} && fz-iproute sync" == found.remedy.partition(COMMENT)[0]


TWINS = [
    *without("192.168.1.0/24 ", SERVED),
    "route del 192.168.1.0/24",
    *(f"route add 192.168.1.0/24 dev docker0 scope link metric 100{table}" for table in ("", f" table {MIRROR}")),
    f"route add 192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.5 metric 700 table {MIRROR}",
]


@pytest.mark.parametrize(
    ("lines", "config"),
    [
        (SERVED, Config()),
        (FIREZONE, Config()),
        ([*LOST, "route add 192.168.1.0/25 dev eth0"], Config()),
        ([*LOST, "route add 192.168.1.0/24 dev eth0 metric 5"], Config()),
        ([*LOST6, f"-6 route add fd00:1::/64 dev tun-firezone metric 5 table {MIRROR}"], Config()),
        (TWINS, Config()),
        (LOST, configured(Config(), lan={"deny": (Prefix.parse("192.168.1.0/24"),)})),
        (LOST, configured(Config(), lan={"prune": False})),
        ([*SERVED, *vpn("10.7.0.0/24", dev=" dev eth0")], Config()),
    ],
    ids=["in step", "no copy", "netmask", "metric", "VPN", "twin", "denied", "not pruned", "never an address"],
)  # fmt: skip
def test_a_lan_that_main_has_or_that_should_go_is_not_lost(lines: list[str], config: Config) -> None:
    seen, network = Case(lines, config=config).read()
    assert [] == Judgement(config, seen, network).lost_routes


def test_a_lan_that_the_machine_has_left_is_not_lost() -> None:
    seen, network = Case(LOST).read()
    tables = {**network.tables, 255: {"inet": (), "inet6": ()}}
    assert [] == Judgement(Config(), seen, replace(network, tables=tables)).lost_routes


@pytest.mark.parametrize(("lines", "host"), [(LOST, "192.168.1.7"), (LOST6, "fd00:1::7")])
def test_explain_does_not_advise_a_sync_that_cuts_the_lan(lines: list[str], host: str) -> None:
    seen, network = Case(lines).read()
    prefix = Prefix.parse(host)
    packet = Packet(prefix.family, prefix.address)
    case = Question(Judgement(Config(), seen, network), packet, network.way(packet), "fz-iproute sync")
    assert "run `" not in sentence(case)
    assert "`fz-iproute sync` would cut this LAN" in sentence(case)


def named(found: Iterable[Outage]) -> list[tuple[str, str]]:
    """The names of the cards, and what is said of them."""
    return [(", ".join(outage.name for outage in same), said) for same, said in together(found)]


BROADCAST = "route add broadcast 192.168.1.255 dev eth0 scope link src 192.168.1.5 table 255"


BY_TABLE_100 = [
    "route del 192.168.1.0/24",
    "route add 192.168.1.0/24 dev eth0 table 100",
    "rule add lookup 100 pref 150",
]


@pytest.mark.parametrize(
    ("lines", "change", "said"),
    [
        (SERVED, {}, []),
        (SERVED, {"outage": "has no carrier"}, ["has no carrier: 192.168.1.0/24, fd00:1::/64 cannot be reached"]),
        ([*FIREZONE, *LOST], {"outage": "is down"}, ["is down: fd00:1::/64 cannot be reached"]),
        ([*FIREZONE, *LOST6, "route del 192.168.1.0/24"], {"outage": "is down"}, ["is down: no LAN is reached by it"]),
        ([*FIREZONE, BROADCAST], {}, []),
        (
            [*FIREZONE, BROADCAST, "route del 192.168.1.0/24"],
            {},
            ["has the address 192.168.1.5, and main no route to its network"],
        ),
        (
            [*FIREZONE, BROADCAST, *BY_TABLE_100],
            {},
            ["reaches 192.168.1.0/24 by rule 150, table 100, and main has no route to it"],
        ),
        (
            [*FIREZONE, BROADCAST, *BY_TABLE_100[:-1]],
            {},
            ["has the address 192.168.1.5, and main no route to its network"],
        ),
        ([*LOST, BROADCAST], {}, []),  # the copy still reaches it
        ([*FIREZONE, "route del 192.168.1.0/24"], {}, []),  # an address of a single host
        ([*FIREZONE, BROADCAST, "route del 192.168.1.0/24"], {"needs_address": False}, []),
    ],
)
def test_a_network_card_that_does_not_reach_its_lan_is_named(
    lines: list[str], change: dict[str, object], said: list[str]
) -> None:
    seen, network = Case(lines).read()
    links = {**seen.links, "eth0": seen.links["eth0"]._replace(**{"needs_address": True, **change})}
    network = replace(network, links=links)
    found = Judgement(Config(), replace(seen, links=links), network).outages
    assert [("eth0", each) for each in said] == named(found)


def test_a_network_card_without_an_address_is_named() -> None:
    seen, network = Case(SERVED).read()
    links = {**seen.links, "eth7": seen.links["eth0"]._replace(name="eth7", needs_address=True)}
    network = replace(network, links=links)
    judged = Judgement(Config(), seen, network)
    assert [("eth7", "has no address: no LAN is reached by it")] == named(judged.outages)
    packet = Packet("inet", Prefix.parse("10.9.9.9").address)
    case = Question(judged, packet, network.way(packet), "fz-iproute sync")
    assert sentence(case).endswith("; main has no LAN with this address: eth7 has no address")


def test_a_link_local_address_is_an_address() -> None:
    own = ["-6 route add local fe80::7 dev eth7 table 255", "-6 route add fe80::/64 dev eth7 proto kernel metric 256"]
    seen, network = Case([*SERVED, *own]).read()
    links = {**seen.links, "eth7": seen.links["eth7"]._replace(needs_address=True)}
    found = Judgement(Config(), seen, replace(network, links=links)).outages
    assert [("eth7", "has only a link-local address")] == named(found)


def test_unused_sockets_are_named_together() -> None:
    seen, network = Case(SERVED).read()
    links = {name: seen.links["eth0"]._replace(name=name, outage="has no carrier") for name in ("eth7", "eth8")} | {
        "eth9": seen.links["eth0"]._replace(name="eth9", outage="is down")
    }
    found = Judgement(Config(), seen, replace(network, links={**links, **seen.links})).outages
    expected = [("eth7, eth8", "each has no carrier: no LAN is reached by them")]
    assert [*expected, ("eth9", "is down: no LAN is reached by it")] == named(found)


@pytest.mark.parametrize(
    ("lan", "kind", "lans"),
    [
        ({}, "wrong", 3),
        ({"exclude_interfaces": ("eth0",)}, "left out", 2),
        ({"deny": (Prefix.parse("192.168.0.0/16"),)}, "left out", 2),
    ],
)
def test_a_lan_that_main_has_lost_counts_unless_it_is_left_out(lan: dict[str, object], kind: str, lans: int) -> None:
    lines = [*without(f"{TO_IT} {MIRROR}", SERVED), BROADCAST, "route del 192.168.1.0/24"]
    config = configured(Config(), lan=lan)
    seen, network = Case(lines, config=config).read()
    links = {**seen.links, "eth0": seen.links["eth0"]._replace(needs_address=True)}
    said = summary(status(config, replace(seen, links=links), replace(network, links=links)))
    (item,) = (each for each in said.items if "no route to its network" in each.why)
    assert (kind, "eth0", lans) == (item.kind, item.what, said.lans)
    assert not (said.is_good and kind == "wrong")


@pytest.mark.parametrize("lines", [LOST, LOST6])
def test_a_copy_that_main_has_lost_is_no_leak(lines: list[str]) -> None:
    assert ["ok"] == [each.level for each in Case(lines).findings("leak")]


@pytest.mark.parametrize("is_out", [False, True])
def test_a_copy_that_cannot_help_because_a_card_has_no_carrier_is_not_urgent(*, is_out: bool) -> None:
    case = Case([line for line in SERVED if not ("eth0" in line and f"table {MIRROR}" in line)])
    seen, network = case.read()
    links = seen.links | {"eth0": seen.links["eth0"]._replace(outage="has no carrier" if is_out else "")}
    network = replace(network, links=links)
    judged = replace(case.machine, snapshot=replace(seen, links=links), network=network)
    (due,) = mirror(judged)
    assert ("warning" if is_out else "failure") == due.level
    said = summary(status(Config(), judged.snapshot, network))
    assert said.is_due and not said.is_lost_then and said.is_early is is_out
    outage = "eth0 has no carrier: 192.168.1.0/24, fd00:1::/64 cannot be reached"
    (vpn,) = judged.vpns
    assert ([outage] if is_out else []) == vpn.besides
    packet = usual("inet", Prefix.parse("192.168.1.7/32").address)
    answer = sentence(Question(judged, packet, network.way(packet), "fz-iproute sync"))
    ending = ", but eth0 has no carrier" if is_out else ""
    assert answer.endswith(f"192.168.1.0/24 is not in the VPN's table yet; run `fz-iproute sync`{ending}")


@pytest.mark.parametrize("metric", [0, 50, 700])
@pytest.mark.parametrize("is_copied", [True, False])
def test_of_a_lan_on_two_cards_the_card_that_packets_take_counts(metric: int, *, is_copied: bool) -> None:
    """The kernel prefers a route by its metric, although its card has no carrier."""
    lan = "192.168.1.0/24"
    route = f"route add {lan} dev docker0 scope link src 192.168.1.6 metric {metric}"
    lines = ["route add local 192.168.1.6 dev docker0 scope host table 255", f"route del {lan}", route]
    lines.append(f"route add {lan} dev eth0 proto kernel scope link src 192.168.1.5 metric 100")
    copies = [f"{line} table {MIRROR}" for line in lines[2:]] if is_copied else []
    case = Case([*without(f"{lan} ", SERVED), *lines, *copies])
    seen, network = case.read()
    links = seen.links | {"docker0": seen.links["docker0"]._replace(outage="has no carrier")}
    seen, network = replace(seen, links=links), replace(network, links=links)
    said = summary(status(Config(), seen, network))
    is_preferred = metric < 100
    lines = [line for line in status(Config(), seen, network).lan if line.route.dst == lan]
    assert len(lines) == 2 and all(bool(line.lost) is (is_preferred or not is_copied) for line in lines)
    assert is_copied is (lan in {line.route.dst for line in said.others}) or is_preferred
    machine = replace(case.machine, snapshot=seen, network=network)
    (found,) = [each for each in shadowed(machine) if "carrier" in each.seen]
    assert is_preferred is found.seen.endswith(f"{lan} cannot be reached; {lan} is also on eth0")
    assert (["ip link set docker0 down"] if is_preferred else []) == [each.words for each in found.remedies]
