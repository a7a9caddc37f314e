"""What `doctor` finds on small machines, word for word, and what its remedies do there."""

import json
from pathlib import Path

import pytest

from fz_iproute.diagnosis.checks.finding import Finding
from fz_iproute.mirror import parse, parse_links
from fz_iproute.mirror.config_text import dump
from tests.manage.laptop import manage
from tests.netns.laptop import Laptop
from tests.netns.namespace import MARK, MIRROR, TIER_INTERNET, TIER_LAN, TUNNEL, Machine, Namespace, removing, run
from tests.netns.remedies import carried_out
from tests.unit.diagnosis.machines import Case, told
from tests.unit.diagnosis.test_findings import CASES
from tests.user_ids import need_user_ids

# The other checks look at files.
OF_THE_KERNEL = (
    *("tunnel", "rules", "mirror", "mark", "shadows", "overrides"),
    *("prefixes", "leak", "other-vpn", "rp_filter"),
)
BUILT = {
    name: case
    for name, case in CASES.items()
    if not (case.facts or case.sysctls or case.config.watch.journal) and case.is_read and case.ip == Case([]).ip
}
LAN_AND_FAR = ("192.168.1.7", "fd00:1::7", "9.9.9.9", "2600::1")


def findings(laptop: Laptop, config: Path) -> list[Finding]:
    checks = json.loads(laptop.fz_done("-c", str(config), "doctor", "--json").stdout)["checks"]
    return [Finding(**each) for each in checks if each["name"] in OF_THE_KERNEL]


def neutral(laptop: Laptop, config: Path, finding: Finding) -> Finding:
    """Without the names of the file and of the namespace."""
    seen, remedy = (
        text.replace(f" -c {config} --netns {laptop.name} ", " ")
        .replace(f" -n {laptop.name} ", " ")
        .replace(str(config), "/etc/fz-iproute/config.toml")
        for text in (finding.seen, finding.remedy)
    )
    return finding._replace(seen=seen, remedy=remedy)


@pytest.mark.parametrize("case", BUILT.values(), ids=BUILT)
def test_what_is_found_and_each_remedy_helps_and_does_no_harm(case: Case, runtime: Path) -> None:
    """Each remedy is carried out on a machine of its own."""
    if any("uidrange" in line for line in case.lines):
        need_user_ids()
    tried = 0
    while True:
        with removing(Laptop(runtime)) as laptop:
            config = laptop.config(dump(case.config))
            laptop.equip(case.lines)
            found = findings(laptop, config)
            assert case.said.strip("\n") == told(neutral(laptop, config, each) for each in found)
            due = [each for each in found if each.level in ("failure", "warning")][tried:]
            if not due:
                return
            tried += 1
            ways = {host: laptop.way(host) for host in LAN_AND_FAR}
            refusal = carried_out(due[0].remedy, config, laptop.fz)
            assert not refusal
            if refusal is None:
                continue
            assert (due[0].name, due[0].seen) not in [(each.name, each.seen) for each in findings(laptop, config)]
            lost = {host: way for host, way in ways.items() if host in LAN_AND_FAR[:2] and way == "eth0"}
            assert lost == {host: laptop.way(host) for host in lost}
            left = [host for host in LAN_AND_FAR[2:] if ways[host] != "eth0" and laptop.way(host) == "eth0"]
            assert [] == left, "they were in the tunnel"


def without_vpn(machine: Machine) -> None:
    for option in ("", "-6 "):
        machine.batch([f"{option}rule del pref 32765", f"{option}route flush table {MIRROR}"], force=True)


def test_where_sync_refuses_to_run_its_own_words_are_the_remedy(machine: Machine) -> None:
    """Two tables swap their parts, once with the tunnel up and once with it down."""
    without_vpn(machine)
    machine.fz("sync", config=manage(layout="tiered"))
    swapped = manage(layout="tiered", tables={"lan": TIER_INTERNET, "internet": TIER_LAN})
    for state in ("up", "down"):
        machine.ip("link", "set", TUNNEL, state)
        refusal = machine.fz_done("sync", config=swapped).stderr
        assert (
            "is in use, and the configuration now gives it another role" in refusal
            and "down` with this configuration first" in refusal
        )
        found = json.loads(machine.fz("doctor", "--json", config=swapped, code=1))["checks"]
        failed = {each["name"]: each["remedy"] for each in found if each["level"] == "failure"}
        assert {"rules", "mirror"} <= failed.keys()
        for remedy in failed.values():
            assert remedy.startswith("table ") and f"--netns {machine.name} down` with this" in remedy


def test_ipv6_leaks_where_the_right_rule_stands_behind_main_and_a_useless_one_before(machine: Machine) -> None:
    machine.fz("sync")
    machine.batch(["-6 rule del pref 32765"])
    machine.batch([f"-6 rule add fwmark {MARK:#x} lookup {MIRROR} pref 32000"])
    machine.batch([f"-6 rule add not fwmark {MARK:#x} lookup {MIRROR} pref 32766"])
    assert "uplink0" == machine.way("2001:db8::1")
    found = json.loads(machine.fz("doctor", "--json", code=1))["checks"]
    (remedy,) = [each["remedy"] for each in found if each["name"] == "leak"]
    for command in remedy.split(" && "):
        run("sh", "-c", command)
    assert TUNNEL == machine.way("2001:db8::1")


def test_routes_that_the_kernel_had_added_for_addresses_come_back(machine: Machine) -> None:
    machine.veth("lan1", "10.1.0.1/24 metric 300", "10.1.0.2/24", "10.3.0.1/20", "10.4.0.1/32", peer="far1")
    machine.fz("sync")
    before = machine.ip_json("route", "show", "dev", "lan1")
    assert ["10.1.0.0/24", "10.3.0.0/20"] == [route["dst"] for route in before]
    machine.ip("route", "flush", "dev", "lan1")
    machine.fz("sync")
    assert [TUNNEL] * 2 == [machine.way(host) for host in ("10.1.0.7", "10.3.0.7")]
    found = {each["seen"]: each["remedy"] for each in json.loads(machine.fz("doctor", "--json"))["checks"]}
    remedy = found["lan1 has the address 10.1.0.1, and main no route to its network"]
    for command in remedy.removesuffix(" sync").split(" && ")[:-1]:
        run("sh", "-c", command)
    assert remedy.endswith(" sync")
    machine.fz("sync")
    assert before == machine.ip_json("route", "show", "dev", "lan1")
    assert ["lan1"] * 2 == [machine.way(host) for host in ("10.1.0.7", "10.3.0.7")]


def test_it_is_known_which_routes_the_kernel_adds_for_addresses(quiet: Namespace) -> None:
    quiet.veth("lan1")
    quiet.veth("lan2")
    peers = ("10.2.0.1 peer 10.3.0.1/20", "10.5.0.1 peer 10.6.0.1/32", "10.7.0.1 peer 10.8.0.1/24 metric 7")
    for address in ("10.1.0.1/24", "10.1.0.2/24", "10.4.0.1/32", "10.9.0.1/31", *peers, "10.10.0.1/24 scope link"):
        quiet.ip("address", "add", *address.split(), "dev", "lan1")
    quiet.ip("address", "add", "10.1.0.3/24", "dev", "lan2")
    links = parse_links.links(quiet.ip_json("link", "show"))
    added = [(route.pop("dst"), route) for route in quiet.ip_json("route", "show")]
    connected = parse.connected(quiet.ip_json("address", "show"), links)
    assert {*parse.routes(added, "inet", links)} == {*connected} and len(added) == 7
