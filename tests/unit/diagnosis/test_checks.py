"""What the checks of doctor find in states that tests/netns/test_doctor.py cannot bring a real machine into."""

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fz_iproute.diagnosis.checks import examine
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
    "nft": "",
}


def rules(*more: Rule, mark: Mark = FIREZONE_MARK) -> tuple[Rule, ...]:
    """The kernel's rules, the VPN's, and `more`."""
    found = []
    for family in ("inet", "inet6"):
        ours = lookup(SINGLE, 32765, family, inverted=True, mark=mark)
        kernel = [lookup(255, 0, family), lookup(254, 32766, family), lookup(253, 32767, family)]
        mine = [rule for rule in more if rule.family == family]
        found += sorted([*kernel, ours, *mine], key=lambda rule: rule.priority)
    return tuple(found)


def split(routes: Sequence[Route]) -> dict[Family, list[Route]]:
    return {
        "inet": [each for each in routes if each.attributes.family == "inet"],
        "inet6": [each for each in routes if each.attributes.family == "inet6"],
    }


def v6_default(**keys: Any) -> Route:
    """The default route of IPv6. `route` would take it for one of IPv4, because the word is the same."""
    return route("::/0", **{"metric": 1024, **keys})._replace(dst="default")


V6_DEFAULT = v6_default(dev="tun-firezone", protocol="static")
MAIN = (*LANS, gatewayed("default", "192.168.1.1"), v6_default(gateway="fe80::1"))


def machine(
    config: Config | None = None,
    *,
    main: Sequence[Route] = MAIN,
    mirror: Sequence[Route] = (*VPN, V6_DEFAULT, *LANS),
    tables: Mapping[int, list[Route]] | None = None,
    facts: Mapping[str, str | None] | None = None,
    sysctls: Mapping[str, str] | None = None,
    version: str = "ip utility, iproute2-6.1.0",
    **fields: Any,
) -> Machine:
    """A healthy laptop with the Internet Resource active, except for what is given. A fact that is None is left out."""
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
    local = [route("::1", "lo", type="local")]
    looked_up = {255: local, 254: main, SINGLE: mirror, **(tables or {})}
    return Machine(recording, config or Config(), seen, {table: split(routes) for table, routes in looked_up.items()})


def troubles(found: list[Finding]) -> dict[str, str]:
    """The levels other than ok, by check, without those that the defaults cause."""
    usual = {("multicast", "info")}
    return {each.name: each.level for each in found if each.level != "ok" and (each.name, each.level) not in usual}


def only(name: str, subject: Machine) -> list[Finding]:
    """The findings of one check that are not ok."""
    return [each for each in examine(subject) if each.name == name and each.level != "ok"]


def levels(name: str, subject: Machine) -> list[str]:
    return [each.level for each in examine(subject) if each.name == name]


STRICT = {"ipv4/conf/eth0/rp_filter": "1"}
# All packets of the VPN's client go into the tunnel but those to one host.
MARKED_TOO_BUT_ONE = lookup(SINGLE, 32764, dst=Prefix.parse("99.1.1.1/32"), inverted=True)
WITHOUT_MAIN = tuple(rule for rule in rules() if (rule.family, rule.table) != ("inet", 254))
LOCAL_LATE = (*(rule for rule in rules() if (rule.family, rule.table) != ("inet", 255)), lookup(255, 40000))
FROM_DHCP = {"protocol": "dhcp"}
HALVES = [tunnel("0.0.0.0/1"), tunnel("128.0.0.0/1")]
JOURNAL = replace(Config(), watch={"journal": "/var/log/j"})


@pytest.mark.parametrize(
    ("name", "level", "changed"),
    [
        ("permission", "info", {"facts": {"capabilities": None}}),
        ("permission", "warning", {"facts": {"capabilities": "ffffffffffffefff"}}),  # all but CAP_NET_ADMIN
        ("permission", "info", {"facts": {"capabilities": "ffffffffffffefff", "uid": "1000"}}),
        ("config", "failure", {"facts": {"config.mode": "0606"}}),
        ("config", "warning", {"facts": {"config.mode": "0660"}}),
        ("config", "warning", {"facts": {"config.uid": "1000"}}),
        ("rt_tables", "failure", {"facts": {"/etc/iproute2/rt_tables": "7 254\n"}}),
        ("rt_tables", "warning", {"facts": {"/etc/iproute2/rt_tables": "7 8\n"}}),
        (
            "ipv6-leak",
            "failure",
            {"config": replace(Config(), tunnel={"internet_leak": "allow"}), "mirror": [*VPN, *LANS]},
        ),
        ("config", "warning", {"facts": {"config.error": "/c: Permission denied", "uid": "1000"}}),
        ("rules", "failure", {"rules": rules(Rule("inet", 10, "prohibit", 0))}),
        ("rules", "failure", {"rules": rules(Rule("inet6", 10, "goto", 0, options=(("goto", "32766"),)))}),
        ("rules", "failure", {"rules": WITHOUT_MAIN}),
        ("rules", "warning", {"rules": LOCAL_LATE}),
        ("mark", "ok", {"main": [*LANS, gatewayed("default", "192.168.1.1")]}),  # a network without IPv6
        ("rp_filter", "info", {"sysctls": {}}),
        ("rp_filter", "failure", {"sysctls": STRICT, "rules": rules(MARKED_TOO_BUT_ONE)}),
        ("shadows", "failure", {"main": [*LANS, route("10.9.0.0/24", unknown=7)]}),
        ("ipv6-leak", "ok", {"main": [*LANS, route("2001:db8:1::/64"), gatewayed("default", "192.168.1.1")]}),
        # The router is outside of the network, as providers like it.
        ("prefixes", "ok", {"main": [*LANS, route("203.0.113.1", **FROM_DHCP), gatewayed("default", "203.0.113.1")]}),
        ("dhcp", "warning", {"facts": {"dhcp.servers": "192.168.1.1 100.64.0.9"}}),
        ("dhcp", "ok", {"facts": {"dhcp.servers": "192.168.1.1"}, "mirror": [*VPN, V6_DEFAULT]}),
        ("dhcp", "ok", {"facts": {"dhcp.servers": "192.168.1.1"}, "mirror": [*HALVES, V6_DEFAULT]}),
        ("dns", "info", {"facts": {"/etc/resolv.conf": None}}),
        ("dns", "warning", {"facts": {"netns": "x", "/etc/netns/x/resolv.conf": "nameserver 192.168.1.1\n"}}),
        ("dns", "warning", {"facts": {"/etc/resolv.conf": "search x\nnameserver fd00:1::1%eth0\n"}}),
        ("ip", "ok", {"version": ""}),
    ],
)
def test_a_cause_leads_to_one_finding(name: str, level: str, changed: dict[str, Any]) -> None:
    assert [level] == levels(name, machine(**changed))


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"sysctls": {"ipv4/conf/all/rp_filter": "1", "ipv4/conf/eth0/rp_filter": "2"}},
        {"sysctls": {"ipv4/conf/wlan0/rp_filter": "1"}},
        {"facts": {"config.uid": "1000", "uid": "1000"}},
        {"facts": {"config.mode": "0755", "capabilities": "0000000000001000"}},
        {"facts": {"/etc/resolv.conf": "nameserver 127.0.0.53\nnameserver nonsense\n"}},
        {"facts": {"/etc/resolv.conf": "nameserver 127.0.0.53\n"}},  # systemd-resolved has not written its own yet
        {"facts": {"/run/systemd/resolve/resolv.conf": "nameserver 192.168.1.1\n"}},  # nobody asks systemd-resolved
        {"facts": {"/usr/share/iproute2/rt_tables": "254 main\n0xfe main\n77 mine # x\n"}},
        {"facts": {"netns": "x", "networkd": "in use"}},
        {"rules": rules(lookup(254, 10, mark=Mark(0x80000, 0xFF0000)))},  # Tailscale's
        # A program names the interface for a link-local address, so the VPN's route takes nothing from the LAN.
        {"main": [*MAIN, route("fe80::/64")], "mirror": [*VPN, V6_DEFAULT, tunnel("fe80::/64", metric=1024), *LANS]},
    ],
)
def test_a_usual_machine_has_no_troubles(changed: dict[str, Any]) -> None:
    assert {} == troubles(examine(machine(**changed)))


@pytest.mark.parametrize(
    "changed",
    [
        {"rules": rules(mark=Mark(7)), "mirror": VPN},
        {"rules": rules(lookup(254, 5))},
        {"rules": tuple(rule for rule in rules() if rule.table != SINGLE)},
    ],
)
def test_thousands_of_routes_through_a_router_change_nothing_that_is_said(changed: dict[str, Any]) -> None:
    default = gatewayed("default", "192.168.1.1")
    main = [*LANS, default, v6_default(gateway="fe80::1")]
    many = [Route(f"{11 + number // 256}.{number % 256}.0.0/16", default.attributes) for number in range(1_500)]
    assert examine(machine(main=main, **changed)) == examine(machine(main=[*main, *many], **changed))


@pytest.mark.parametrize(
    ("count", "named"),
    [
        (2, "11.0.0.0/16, 11.1.0.0/16, which"),
        (5, "11.2.0.0/16 and 2 more, which"),
        (1_500, "11.0.0.0/16 and others, which"),
    ],
)
def test_the_number_of_those_that_are_not_named_is_right_or_not_said(count: int, named: str) -> None:
    """Of thousands of routes that differ in nothing but their destination, one stands for all."""
    shape = gatewayed("10.0.0.0/8", "192.168.1.1").attributes
    table = [Route(f"{11 + number // 256}.{number % 256}.0.0/16", shape) for number in range(count)]
    (found,) = only("rules", machine(rules=rules(lookup(77, 5)), tables={77: table}))
    assert named in found.seen


GONE = route("192.168.1.0/24", prefsrc="192.168.1.99")


@pytest.mark.parametrize(
    ("level", "changed"),
    [
        ("failure", {"mirror": [*VPN, V6_DEFAULT]}),
        ("warning", {"mirror": VPN[1:]}),  # the Internet Resource is off
        ("failure", {"mirror": [*VPN[1:], route("192.168.7.0/24")]}),  # a stale copy
        ("failure", {"mirror": [*VPN[1:], GONE]}),
        ("failure", {"mirror": [*VPN[1:], tunnel("192.168.0.0/16"), *LANS]}),  # sync would delete the copy
        ("failure", {"mirror": VPN[1:], "config": replace(Config(), tunnel={"mode": "manage", "internet": True})}),
        ("failure", {"mirror": [*VPN, V6_DEFAULT, *LANS], "config": replace(Config(), lan={"multicast": True})}),
    ],
)
def test_copies_that_nobody_needs_yet_are_a_warning(level: str, changed: dict[str, Any]) -> None:
    (found,) = only("mirror", machine(**changed))
    assert level == found.level, found


def test_a_leak_that_the_configuration_allows_is_no_failure() -> None:
    config = replace(Config(), tunnel={"mode": "manage", "internet": True, "internet_leak": "allow"})
    numbered: dict[Family, frozenset[str]] = {"inet": frozenset(["tun-firezone"])}
    (found,) = only("ipv6-leak", machine(config, mirror=[*VPN, *LANS], numbered=numbered))
    assert "info" == found.level
    assert 'section [tunnel]: internet_leak = "block", then fz-iproute sync' in found.remedy


def test_the_uplink_of_a_vpn_without_a_device_has_lans_like_any_other() -> None:
    """IPsec: the kernel's policies take packets out of the uplink."""
    ipsec = gatewayed("default", "192.168.1.1", prefsrc="10.64.0.9")
    no_vpn = tuple(rule for rule in rules(lookup(220, 220)) if rule.table != SINGLE)
    main = [*LANS, route("198.51.100.0/24"), gatewayed("default", "192.168.1.1")]
    subject = machine(main=main, mirror=[], rules=no_vpn, tables={220: [ipsec]})
    assert ["strongSwan"] == [vpn.product.name for vpn in subject.vpns]
    assert ["warning"] == levels("prefixes", subject)


def test_several_public_prefixes_are_one_warning_and_one_line() -> None:
    (found,) = only("prefixes", machine(main=[*LANS, route("198.51.100.0/24"), route("203.0.113.0/24")]))
    assert 'section [lan]: allow = ["198.51.100.0/24", "203.0.113.0/24"]; or' in found.remedy


def test_a_remedy_keeps_the_members_of_a_list() -> None:
    config = replace(Config(), lan={"deny": (Prefix.parse("10.1.0.0/16"),)})
    (found,) = only("prefixes", machine(config, main=[*LANS, route("10.99.0.0/16", protocol="dhcp")]))
    file, deny = "/etc/fz-iproute/config.toml", 'deny = ["10.1.0.0/16", "10.99.0.0/16"]'
    assert found.remedy.startswith(f"in {file}, section [lan]: {deny}; or")


def test_remedies_name_the_namespace_and_the_file() -> None:
    facts = {"netns": "a b", "config.path": "/x y.toml"}
    dotted = LINKS | {"eth0.7": LINKS["eth0"]._replace(name="eth0.7")}
    main = [*LANS, gatewayed("default", "192.168.1.1", "eth0.7")]
    subject = machine(facts=facts, mirror=[*VPN], main=main, links=dotted, sysctls={"ipv4/conf/eth0.7/rp_filter": "1"})
    found = {each.name: each.remedy for each in examine(subject)}
    assert "ip -n 'a b' -6 rule show" == subject.ip("inet6", "rule show")
    assert "fz-iproute -c '/x y.toml' --netns 'a b' sync" == found["mirror"]
    assert "ip netns exec 'a b' sysctl -w net/ipv4/conf/eth0.7/rp_filter=2" == found["rp_filter"]
    (of_another_vpn,) = only("tunnel", machine(**{**ONLY_WG7, "facts": {**ONLY_WG7["facts"], "netns": "a b"}}))
    assert "fz-iproute --netns 'a b' detect --write /etc/fz-iproute/config.toml" in of_another_vpn.remedy


def test_an_ordinary_user_is_told_only_what_could_not_be_looked_at() -> None:
    user = {"uid": "1000", "capabilities": "0"}
    (found,) = only("permission", dataclasses.replace(machine(facts=user), needs_sudo=True))
    assert ("info", "", "") == (found.level, found.why, found.remedy)
    hidden = machine(JOURNAL, facts={**user, "nft": None})
    (found,) = only("permission", dataclasses.replace(hidden, needs_sudo=True))
    assert ("info", "firewalls and the journal /var/log/j could not be looked at") == (found.level, found.why)
    assert "sudo fz-iproute doctor" == found.remedy
    (elsewhere,) = only("permission", hidden)
    assert "" == elsewhere.remedy


# Another VPN than the configured one, and no configuration file.
ONLY_WG7: dict[str, Any] = {
    "facts": {"config.mode": None, "config.uid": None},
    "links": {name: link for name, link in LINKS.items() if name != "tun-firezone"}
    | {"wg7": LINKS["eth0"]._replace(name="wg7", may_be_tunnel=True)},
    "rules": rules(lookup(300, 500, inverted=True, mark=Mark(0x33))),
    "mirror": [],
    "tables": {300: [route("default", "wg7", protocol="static")]},
}

_WRITES = re.compile(
    r"(sudo )?\b(fz-iproute (?:[^\s`]+ )*?(?:sync|down|--write)\b|ip (?:\S+ )*?(?:add|del|replace|set)\b"
    r"|sysctl -w|chmod|chown|sed -E -i|truncate|sh -c|mkdir)"
)


def test_an_ordinary_user_writes_with_sudo_only() -> None:
    """The remedies of root, each with sudo in front of what writes."""
    states: list[dict[str, Any]] = [
        *ASKING_FOR_SYNC.values(),
        {"facts": {"config.mode": "0666", "/etc/iproute2/rt_tables": "7 254\n8 254\n"}},
        {"facts": {"config.uid": "77", "networkd": "in use"}},
        {"sysctls": STRICT},
        {"rules": rules(lookup(254, 5))},
        {"rules": rules(Rule("inet", 10, "prohibit", 0))},
        {"rules": WITHOUT_MAIN},
        {"links": LINKS | {"tun-firezone": LINKS["tun-firezone"]._replace(up=False)}},
        {"config": JOURNAL, "facts": {"journal": "# 2026-01-02T03:00:00Z 1 ms\nip route add x\n" * 5}},
        ONLY_WG7,
    ]
    writing = set()
    for changed in states:
        subject = machine(**changed)
        of_root = [each.remedy for each in examine(subject)]
        of_user = [each.remedy for each in examine(dataclasses.replace(subject, needs_sudo=True))]
        assert not [remedy for remedy in of_root if "sudo" in remedy]
        assert (changed is ONLY_WG7) == any("detect --write" in remedy for remedy in of_root)
        for root, user in zip(of_root, of_user, strict=True):
            if "sh -c" in user:  # one sudo for the whole script
                assert f"sudo sh -c {shlex.quote(root)}" == user
            else:
                assert root == user.replace("sudo ", "")
                found = list(_WRITES.finditer(user))
                assert all(match[1] for match in found), user
                writing |= {match[2].split()[0] for match in found}
    assert {"fz-iproute", "ip", "sysctl", "chmod", "chown", "sed", "truncate"} <= writing


# States in which remedies run fz-iproute, or change a setting.
ASKING_FOR_SYNC: dict[str, dict[str, Any]] = {
    "copies are missing": {"mirror": [*VPN, V6_DEFAULT]},
    "the VPN routes the LAN": {"mirror": [*VPN, V6_DEFAULT, tunnel("192.168.1.0/24")]},
    "another mark": {"rules": rules(mark=Mark(7))},
    "a public LAN": {"main": [*LANS, route("198.51.100.0/24"), route("2000::/3")]},
    "pushed by DHCP": {"main": [*LANS, route("10.99.0.0/16", protocol="dhcp")]},
    "routed": {"main": [*LANS, gatewayed("10.7.0.0/16", "192.168.1.1")]},
    "no tunnel": {"links": {name: link for name, link in LINKS.items() if name != "tun-firezone"}},
    "IPv6 leaks": {"mirror": [*VPN, *LANS]},
}


@pytest.mark.parametrize(
    ("error", "said", "remedy"),
    [
        ("/c: line 3: a text needs quotes", "mend the configuration first", "fz-iproute config check"),
        ("/c: no such file", "mend the configuration first", "write "),
        (
            "/c: Permission denied; run as root",
            "`sudo fz-iproute doctor` first, which can read the configuration",
            "sudo fz-iproute doctor",
        ),
    ],
)
@pytest.mark.parametrize("changed", ASKING_FOR_SYNC.values(), ids=ASKING_FOR_SYNC)
def test_without_a_configuration_no_remedy_needs_it(
    changed: dict[str, Any], error: str, said: str, remedy: str
) -> None:
    uid = "1000" if "Permission" in error else "0"
    healthy = {each.seen: each.remedy for each in examine(machine(**changed))}
    assert any("fz-iproute " in text or "section [" in text for text in healthy.values())
    found = examine(machine(facts={"config.error": error, "uid": uid}, **changed))
    (first,) = [each.remedy for each in found if each.name == "config"]
    assert first.startswith(remedy)
    others = {each.seen: each.remedy for each in found if each.name not in ("config", "permission")}
    left = [text for text in others.values() if text != said]
    assert len(left) < len(others) and not [text for text in left if "fz-iproute" in text or "section [" in text]
    assert {seen for seen, text in others.items() if text} == {seen for seen, text in healthy.items() if text}


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        ({}, "warning"),
        ({"/etc/systemd/networkd.conf": "[Network]\nManageForeignRoutingPolicyRules = no\n"}, "ok"),
        ({"/etc/systemd/networkd.conf": "[Other]\nManageForeignRoutingPolicyRules=no\n"}, "warning"),
        ({"/etc/systemd/networkd.conf": "[Network]\n#ManageForeignRoutingPolicyRules=no\n"}, "warning"),
        ({"/usr/lib/systemd/networkd.conf.d/10.conf": "[Network]\nManageForeignRoutingPolicyRules=OFF\n"}, "ok"),
        (
            {  # the last name counts, whatever its folder
                "/usr/lib/systemd/networkd.conf.d/90.conf": "[Network]\nManageForeignRoutingPolicyRules=yes\n",
                "/etc/systemd/networkd.conf.d/10.conf": "[Network]\nManageForeignRoutingPolicyRules=no\n",
            },
            "warning",
        ),
        (
            {  # of two files with one name, only the one in /etc counts
                "/usr/lib/systemd/networkd.conf.d/90.conf": "[Network]\nManageForeignRoutingPolicyRules=yes\n",
                "/etc/systemd/networkd.conf.d/90.conf": "[Network]\nManageForeignRoutingPolicyRules=no\n",
            },
            "ok",
        ),
    ],
)
def test_networkd_is_configured_as_its_manual_says(facts: dict[str, str], level: str) -> None:
    assert [level] == levels("networkd", machine(facts={"networkd": "in use", **facts}))


def test_an_edited_record_does_not_end_in_a_traceback() -> None:
    facts = {"capabilities": "many", "config.mode": "rw", "journal": "# 2026-01-02 x\nip a\n"}
    subject = machine(JOURNAL, facts=facts, sysctls={"ipv4/conf/eth0/rp_filter": "strict"})
    found = {each.name: each.level for each in examine(subject)}
    assert ["info"] * 3 + ["ok"] == [found[name] for name in ("permission", "config", "rp_filter", "repeats")]


def test_a_fight_is_one_command_repeated_often_within_the_hour() -> None:
    for minutes, level in (
        ([50, 51, 52, 53], "ok"),
        ([50, 51, 52, 53, 54], "warning"),
        ([10, 20, 30, 40, 50], "ok"),
        ([0, 1, 2, 3, 4], "ok"),  # more than an hour ago
    ):
        for other in ("", "ip route add y{0}\n#   refused: File exists\n"):
            pattern = f"# 2026-01-02T02:{{0:02}}:00.000Z 1.0 ms\n{other}ip route add x\n"
            lines = "".join(map(pattern.format, minutes))
            assert [level] == levels("repeats", machine(JOURNAL, facts={"journal": f"half a line\n{lines}"}))


REFUSED = route("0.0.0.0/0", None, type="unreachable", scope=None)._replace(dst="default")


@pytest.mark.parametrize(
    "kill_switch",
    [
        Rule("inet", 100, "lookup", 51820, inverted=True, mark=Mark(0xCA6C)),
        Rule("inet", 100, "lookup", 51820),
        Rule("inet", 100, "prohibit", 0, dst=Prefix.parse("100.64.0.0/10")),
        Rule("inet", 100, "blackhole", 0, dst=Prefix.parse("100.64.0.0/10")),
    ],
    ids=str,
)
def test_no_remedy_opens_what_a_kill_switch_refuses(kill_switch: Rule) -> None:
    """The VPN has no default route, so what the other one refuses would leave by main's."""
    vpn = [each for each in VPN if each.dst != "default"]
    subject = machine(rules=rules(kill_switch), mirror=[*vpn, *LANS], tables={51820: [REFUSED]})
    found = examine(subject)
    assert {"failure", "warning"} & {each.level for each in found if each.name == "rules"}
    assert not [each.remedy for each in found if each.remedy.startswith("ip rule del priority 100")]


def test_the_words_of_a_remedy_are_quoted_for_the_shell() -> None:
    odd = lookup(SINGLE, 10, oif="$(reboot)"), lookup(SINGLE, 11, oif="$(reboot)", protocol="x;y")
    (found,) = [each for each in only("rules", machine(rules=rules(*odd))) if "say the same" in each.seen]
    assert "oif '$(reboot)'" in found.remedy
    assert "protocol 'x;y'" in found.remedy


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("chain ip mullvad output drop", ["failure"]),
        ("chain ip6 mullvad output drop", ["failure"]),
        ("chain ip mullvad output drop\naccept", ["ok"]),
        ("chain ip mullvad output drop\naccept to 192.168.0.0/16", ["ok"]),
        ("chain ip mullvad output drop\naccept to 192.168.1.0/25", ["info"]),  # a part of the LAN
        ("chain ip mullvad output drop\naccept to 10.0.0.0/8", ["failure"]),
        ("chain ip mullvad output drop\naccept maybe", ["info"]),
        ("chain ip mullvad output accept\naccept maybe\ndrop", ["info"]),
        ("chain ip mullvad output accept\ndrop maybe\naccept", ["ok"]),
        ("chain ip mullvad output accept\naccept to 192.168.1.0/25\ndrop", ["info"]),
        ("chain ip mullvad output accept\ndrop dev eth*", ["failure"]),
        ("chain ip mullvad output accept\ndrop dev eth9", ["ok"]),
        ("chain ip mullvad output accept\ndrop dev eth9 dev eth0", ["failure"]),
        ("chain ip mullvad output accept\ndrop nodev eth0", ["ok"]),
        ("chain ip mullvad output accept\ndrop nodev eth9", ["failure"]),
        ("chain ip mullvad output accept\ndrop noto 192.168.0.0/16", ["ok"]),
        ("chain ip mullvad output accept\ndrop noto 10.0.0.0/8", ["failure"]),
        ("chain inet mullvad output accept\ndrop noto 192.168.1.0/24 noto fd00::/8", ["ok"]),
        ("chain ip mullvad a accept\nchain ip mullvad b drop\naccept dev eth0", ["ok"]),
        ("chain ip mullvad a drop\nchain ip mullvad b drop", ["failure", "failure"]),
    ],
)
def test_the_first_rule_of_a_firewall_that_is_about_the_whole_lan_counts(lines: str, expected: list[str]) -> None:
    assert expected == levels("firewall", machine(facts={"nft": f"{lines}\n"}))


IN_LAN, BEHIND = "192.168.1.1", "100.100.111.1"


@pytest.mark.parametrize(
    ("file", "links", "mended_by"),
    [
        (IN_LAN, "", ["resolvectl dns eth0 "]),  # an older record
        (IN_LAN, f"2 {IN_LAN}", ["resolvectl dns eth0 "]),
        (IN_LAN, f"2 {IN_LAN}\n5 {BEHIND}", ["resolvectl dns eth0 "]),
        (IN_LAN, f"2 {IN_LAN}\n5 {BEHIND} ~.", []),  # asked for its own domains only
        (IN_LAN, f"2 {IN_LAN} ~.\n5 {BEHIND} ~.", ["resolvectl dns eth0 "]),
        (IN_LAN, f"5 {BEHIND} ~.", ["resolvectl dns eth0 "]),  # of no link
        (BEHIND, f"99 {IN_LAN}\n5 {BEHIND}", []),  # a link that has gone
        ("8.8.8.8", "2 8.8.8.8", ["resolvectl dns eth0 "]),
        ("8.8.8.8", "", []),
    ],
)
def test_servers_of_resolved_are_asked_by_their_link(file: str, links: str, mended_by: list[str]) -> None:
    facts = {"/etc/resolv.conf": "nameserver 127.0.0.53\nsearch lan\n", "resolved": links}
    facts["/run/systemd/resolve/resolv.conf"] = f"nameserver {file}\n"
    remedies = [each.remedy for each in only("dns", machine(facts=facts))]
    assert mended_by == [remedy[: len("resolvectl dns eth0 ")] for remedy in remedies]


def test_a_server_in_the_lan_matters_only_where_the_tunnel_takes_the_rest() -> None:
    mirror = [*VPN, *LANS]  # no default route of IPv6
    assert ["ok"] == levels("dns", machine(mirror=mirror, facts={"/etc/resolv.conf": "nameserver fd00:1::1\n"}))


def test_no_remedy_puts_a_rule_before_the_kernels_first() -> None:
    found = only("rules", machine(rules=rules(Rule("inet", 1, "prohibit", 0))))
    assert found and not [each.remedy for each in found if "priority 0" in each.remedy]
