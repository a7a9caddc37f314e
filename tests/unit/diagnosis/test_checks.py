"""Each check of doctor finds what it is there for, and nothing on a healthy machine."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fz_iproute.diagnosis.checks import CHECKS, examine
from fz_iproute.diagnosis.checks.finding import Finding
from fz_iproute.diagnosis.machine import Machine
from fz_iproute.mirror.config import FIREZONE_MARK, Config, replace
from fz_iproute.mirror.model import Mark, Route, Rule
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.record.recording import Recording
from tests.unit.routes import LINKS, gatewayed, lookup, route, snapshot, tunnel

SINGLE = Config().tables.single
LANS = [route("192.168.1.0/24"), route("fd00:1::/64")]
VPN = [tunnel("default"), tunnel("100.64.0.0/11"), tunnel("fd00:2021::/48")]
FACTS = {
    "uid": "0",
    "capabilities": "000001ffffffffff",
    "config.path": "/etc/fz-iproute/config.toml",
    "config.mode": "0644",
    "config.uid": "0",
    "networkd": "not in use",
    "/etc/resolv.conf": "nameserver 100.100.111.1\n",
    "/etc/iproute2/rt_tables": "254 main\n",
}


def rules(*more: Rule, mark: Mark = FIREZONE_MARK, without: int = 0) -> tuple[Rule, ...]:
    """The kernel's own, that of the VPN, and more."""
    found = []
    for family in ("inet", "inet6"):
        ours = lookup(SINGLE, 32765, family, inverted=True, mark=mark)
        kernel = [lookup(255, 0, family), lookup(254, 32766, family), lookup(253, 32767, family)]
        mine = [rule for rule in more if rule.family == family]
        found += sorted([*kernel, *([] if without == SINGLE else [ours]), *mine], key=lambda rule: rule.priority)
    return tuple(found)


def split(routes: Sequence[Route]) -> dict[Family, list[Route]]:
    return {
        "inet": [each for each in routes if each.attributes.family == "inet"],
        "inet6": [each for each in routes if each.attributes.family == "inet6"],
    }


def v6_default(**keys: Any) -> Route:
    """`default` looks the same in both families: this one is of IPv6."""
    return route("::/0", **{"metric": 1024, **keys})._replace(dst="default")


V6_DEFAULT = v6_default(dev="tun-firezone", protocol="static")


def machine(
    config: Config | None = None,
    *,
    main: Sequence[Route] = (*LANS, gatewayed("default", "192.168.1.1"), v6_default(gateway="fe80::1")),
    mirror: Sequence[Route] = (*VPN, V6_DEFAULT, *LANS),
    tables: Mapping[int, list[Route]] | None = None,
    facts: Mapping[str, str | None] | None = None,
    sysctls: Mapping[str, str] | None = None,
    version: str = "ip utility, iproute2-6.1.0",
    **fields: Any,
) -> Machine:
    """A healthy laptop with the Internet Resource active, but for what is given. A fact that is None is left out."""
    recording = Recording(
        taken="2026-01-02T03:04:05Z",
        versions={"ip": version},
        config="",
        sysctls={"ipv4/conf/all/rp_filter": "0"} if sysctls is None else sysctls,
        outputs={},
        facts={name: value for name, value in {**FACTS, **(facts or {})}.items() if value is not None},
    )
    on_link = [each for each in main if each.attributes.on_link]
    seen = snapshot(on_link, list(mirror), **{"rules": rules(), **fields})
    looked_up = {254: main, SINGLE: mirror, **(tables or {})}
    return Machine(recording, config or Config(), seen, {table: split(routes) for table, routes in looked_up.items()})


def troubles(found: list[Finding]) -> dict[str, str]:
    """The levels of what is not well, by name, but what is so by default."""
    usual = {("multicast", "info"), ("fight", "info")}
    return {each.name: each.level for each in found if each.level != "ok" and (each.name, each.level) not in usual}


def only(name: str, subject: Machine) -> list[Finding]:
    """What one check does not find well."""
    return [each for each in examine(subject) if each.name == name and each.level != "ok"]


def test_a_healthy_machine_has_no_troubles() -> None:
    found = examine(machine())
    assert {} == troubles(found)
    assert [check.name for check in CHECKS] == [each.name for each in found]


def test_whatever_is_not_well_says_why_and_every_name_is_a_check() -> None:
    found = examine(machine(rules=rules(lookup(254, 10)), sysctls={"ipv4/conf/eth0/rp_filter": "1"}))
    for each in found:
        assert each.name in {check.name for check in CHECKS}
        if each.level in ("warning", "failure"):
            assert each.why
            assert each.remedy


UNPRIVILEGED = {"capabilities": "0000000000000000"}
JOURNAL = replace(Config(), watch={"journal": "/var/log/j"})


@pytest.mark.parametrize(
    ("name", "level", "changed"),
    [
        ("permission", "warning", {"facts": UNPRIVILEGED}),
        ("permission", "info", {"facts": {"capabilities": None}}),
        ("config", "failure", {"facts": {"config.mode": "0646"}}),
        ("config", "warning", {"facts": {"config.mode": "0664"}}),
        ("config", "warning", {"facts": {"config.uid": "1000"}}),
        ("config", "failure", {"facts": {"config.error": "/c: lan: is a section\n/c: tables: is one too"}}),
        ("config", "warning", {"facts": {"config.error": "/c: Permission denied", "uid": "1000"}}),
        ("tunnel", "failure", {"links": LINKS | {"tun-firezone": LINKS["tun-firezone"]._replace(up=False)}}),
        ("tunnel", "failure", {"config": replace(Config(), tunnel={"interface": "wg0"})}),
        ("rules", "failure", {"rules": rules(without=SINGLE)}),
        ("rules", "failure", {"rules": rules(lookup(254, 10))}),
        ("rules", "failure", {"rules": rules(Rule("inet", 10, "prohibit", 0))}),
        ("rules", "failure", {"rules": rules(Rule("inet6", 10, "goto", 0, options=(("goto", "32766"),)))}),
        ("rules", "warning", {"rules": rules(lookup(254, 10, dst=Prefix.parse("100.64.0.0/12")))}),
        ("mark", "failure", {"rules": rules(mark=Mark(7))}),
        ("mark", "failure", {"rules": rules(lookup(SINGLE, 32764))}),
        ("mirror", "failure", {"mirror": [*VPN, V6_DEFAULT]}),
        ("networkd", "warning", {"facts": {"networkd": "in use"}}),
        ("other-vpn", "info", {"rules": rules(lookup(52, 5270)), "tables": {52: [route("10.9.0.0/16", "wlan0")]}}),
        ("other-vpn", "warning", {"rules": rules(lookup(52, 5270)), "tables": {52: [route("100.64.0.9", "wlan0")]}}),
        ("other-vpn", "warning", {"rules": rules(lookup(52, 32766)), "tables": {52: [route("10.9.0.0/16", "wlan0")]}}),
        ("rp_filter", "failure", {"sysctls": {"ipv4/conf/all/rp_filter": "1"}}),
        ("rp_filter", "warning", {"sysctls": {"ipv4/conf/all/rp_filter": "1", "ipv4/conf/all/src_valid_mark": "1"}}),
        ("rp_filter", "info", {"sysctls": {}}),
        ("dns", "warning", {"facts": {"/etc/resolv.conf": "search x\nnameserver fd00:1::1%eth0\n"}}),
        ("dhcp", "warning", {"facts": {"dhcp.servers": "192.168.1.1 100.64.0.9"}}),
        ("dns", "info", {"facts": {"/etc/resolv.conf": None}}),
        ("ipv6-leak", "failure", {"mirror": [*VPN, *LANS]}),
        ("rt_tables", "failure", {"facts": {"/etc/iproute2/rt_tables": f"7 {SINGLE}"}}),
        ("rt_tables", "warning", {"facts": {"/etc/iproute2/rt_tables.d/x.conf": "7 a\n8 a\n"}}),
        ("rt_tables", "warning", {"facts": {"/etc/iproute2/rt_tables.d/x.conf": "254 haupt\n"}}),
        ("fight", "info", {"config": JOURNAL}),
    ],
)
def test_one_cause_one_finding(name: str, level: str, changed: dict[str, Any]) -> None:
    assert {level} == {each.level for each in only(name, machine(**changed))}


@pytest.mark.parametrize(
    "changed",
    [
        {"sysctls": {"ipv4/conf/all/rp_filter": "1", "ipv4/conf/eth0/rp_filter": "2"}},
        {"sysctls": {"ipv4/conf/wlan0/rp_filter": "1"}},
        {"facts": {"config.uid": "1000", "uid": "1000"}},
        {"facts": {"/etc/resolv.conf": "nameserver 127.0.0.53\nnameserver nonsense\n"}},
        {"facts": {"/usr/share/iproute2/rt_tables": "254 main\n0xfe main\n77 mine # x\n"}},
        {"facts": {"netns": "x", "networkd": "in use"}},
        {"rules": rules(lookup(254, 10, options=(("suppress_prefixlen", "0"),)))},  # wg-quick's
        {"rules": rules(lookup(254, 10, mark=Mark(0x80000, 0xFF0000)))},  # Tailscale's
        {"rules": rules(lookup(254, 10, dst=Prefix.parse("192.168.1.0/24")))},
    ],
)
def test_what_is_no_trouble(changed: dict[str, Any]) -> None:
    assert {} == troubles(examine(machine(**changed)))


def test_the_marks_of_two_vpns_overlap() -> None:
    config = replace(Config(), tunnel={"fwmark": Mark(0x80001)})
    tailscale = lookup(52, 5210, mark=Mark(0x80000, 0xFF0000))
    subject = machine(config, rules=rules(tailscale, mark=Mark(0x80001)), tables={52: [route("default", "wlan0")]})
    (found,) = only("mark", subject)
    assert "warning" == found.level
    assert "5210" in found.seen


def test_a_leak_that_the_configuration_allows_is_no_failure() -> None:
    config = replace(Config(), tunnel={"mode": "manage", "internet": True, "internet_leak": "allow"})
    numbered: dict[Family, frozenset[str]] = {"inet": frozenset(["tun-firezone"])}
    (found,) = only("ipv6-leak", machine(config, mirror=[*VPN, *LANS], numbered=numbered))
    assert "info" == found.level
    assert '[tunnel] internet_leak = "block", then fz-iproute sync' in found.remedy


@pytest.mark.parametrize(
    ("lan", "level"),
    [
        (route("198.51.100.0/24"), "warning"),
        (route("2001:db8:1::/64"), "info"),  # a home network has one
        (route("128.0.0.0/1"), "warning"),
        (route("2000::/3"), "warning"),
        (route("10.99.0.0/16", protocol="dhcp"), "warning"),
        (route("192.168.1.1", protocol="dhcp"), ""),  # networkd's way to the router
        (route("169.254.0.0/16"), ""),
    ],
)
def test_prefixes_that_nobody_has_at_home(lan: Route, level: str) -> None:
    found = only("prefixes", machine(main=[*LANS, lan]))
    assert [level] * bool(level) == [each.level for each in found]


def test_a_remedy_keeps_what_a_list_has_already() -> None:
    config = replace(Config(), lan={"deny": (Prefix.parse("10.1.0.0/16"),)})
    (found,) = only("prefixes", machine(config, main=[*LANS, route("128.0.0.0/1")]))
    assert found.remedy.startswith('in /etc/fz-iproute/config.toml: [lan] deny = ["10.1.0.0/16", "128.0.0.0/1"]; or')


def test_remedies_name_the_namespace_and_the_file() -> None:
    facts = {"netns": "a b", "config.path": "/x y.toml"}
    dotted = LINKS | {"eth0.7": LINKS["eth0"]._replace(name="eth0.7")}
    main = [*LANS, gatewayed("default", "192.168.1.1", "eth0.7")]
    subject = machine(facts=facts, mirror=[*VPN], main=main, links=dotted, sysctls={"ipv4/conf/eth0.7/rp_filter": "1"})
    found = {each.name: each.remedy for each in examine(subject)}
    assert "fz-iproute -c '/x y.toml' --netns 'a b' sync" == found["mirror"]
    assert "ip netns exec 'a b' sysctl -w net/ipv4/conf/eth0.7/rp_filter=2" == found["rp_filter"]


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        ({}, "warning"),
        ({"/etc/systemd/networkd.conf": "[Network]\nManageForeignRoutingPolicyRules = no\n"}, "ok"),
        ({"/etc/systemd/networkd.conf": "[Other]\nManageForeignRoutingPolicyRules=no\n"}, "warning"),
        ({"/etc/systemd/networkd.conf": "[Network]\n#ManageForeignRoutingPolicyRules=no\n"}, "warning"),
        ({"/usr/lib/systemd/networkd.conf.d/10.conf": "[Network]\nManageForeignRoutingPolicyRules=OFF\n"}, "ok"),
        (
            {  # the later name counts, wherever it is
                "/usr/lib/systemd/networkd.conf.d/90.conf": "[Network]\nManageForeignRoutingPolicyRules=yes\n",
                "/etc/systemd/networkd.conf.d/10.conf": "[Network]\nManageForeignRoutingPolicyRules=no\n",
            },
            "warning",
        ),
        (
            {  # of one name, that in /etc alone
                "/usr/lib/systemd/networkd.conf.d/90.conf": "[Network]\nManageForeignRoutingPolicyRules=yes\n",
                "/etc/systemd/networkd.conf.d/90.conf": "[Network]\nManageForeignRoutingPolicyRules=no\n",
            },
            "ok",
        ),
    ],
)
def test_networkd_is_configured_as_its_manual_says(facts: dict[str, str], level: str) -> None:
    found = [each for each in examine(machine(facts={"networkd": "in use", **facts})) if each.name == "networkd"]
    assert [level] == [each.level for each in found]


def test_without_ip_the_rest_is_looked_at() -> None:
    whole = machine(facts={"ip.error": "ip: not found in PATH; install iproute2"})
    recording = Recording("2026-01-02T03:04:05Z", {}, "", {}, {}, whole.facts)
    found = examine(Machine(recording, Config(), None, {}))
    levels = {each.name: each.level for each in found}
    assert [check.name for check in CHECKS] == list(levels)
    assert "failure" == levels["ip"]
    assert {"ok"} == {levels[name] for name in ("permission", "config", "rt_tables")}
    assert {"info"} == {levels[check.name] for check in CHECKS if check.needs_ip}


@pytest.mark.parametrize(
    ("version", "level"),
    [("ip utility, iproute2-ss180129", "failure"), ("ip utility, iproute2-5.2.0", "failure"), ("", "ok")],
)
def test_an_ip_that_is_too_old(version: str, level: str) -> None:
    assert level == next(each.level for each in examine(machine(version=version)) if each.name == "ip")


def test_a_record_that_somebody_has_edited_is_no_reason_to_fall_over() -> None:
    facts = {"capabilities": "many", "config.mode": "rw", "journal": "# 2026-01-02 x\nip a\n"}
    subject = machine(JOURNAL, facts=facts, sysctls={"ipv4/conf/eth0/rp_filter": "strict"})
    levels = {each.name: each.level for each in examine(subject)}
    assert {"info"} == {levels[name] for name in ("permission", "config", "rp_filter")}
    assert "ok" == levels["fight"]


def test_a_fight_is_one_command_again_and_again_of_late() -> None:
    def level(*minutes: int) -> str:
        lines = [f"# 2026-01-02T02:{minute:02}:00.000Z 1.0 ms\nip route add x\n" for minute in minutes]
        found = examine(machine(JOURNAL, facts={"journal": "half a line\n" + "".join(lines)}))
        return next(each.level for each in found if each.name == "fight")

    assert "ok" == level(50, 51, 52, 53)
    assert "warning" == level(50, 51, 52, 53, 54)
    assert "ok" == level(10, 20, 30, 40, 50)
    assert "ok" == level(0, 1, 2, 3, 4)  # more than an hour ago
