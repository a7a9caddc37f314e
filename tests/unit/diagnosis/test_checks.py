"""What the checks of doctor find in states that tests/netns/test_doctor.py cannot bring a real machine into."""

import dataclasses
import re
import shlex
from collections.abc import Sequence
from typing import Any

import pytest

from fz_iproute.diagnosis.checks import examine
from fz_iproute.diagnosis.checks.finding import Finding
from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.plan import plan
from fz_iproute.mirror.prefix import Prefix
from tests.layouts import LAYOUTS, both
from tests.unit.diagnosis.machines import FIREZONE, HALVES, MIRROR, SERVED, STALE, TIERS, Case, told, vpn, without
from tests.unit.routes import route

STRICT = {"ipv4/conf/eth0/rp_filter": "1"}
# All packets of the VPN's client go into the tunnel but those to one host.
MARKED_TOO_BUT_ONE = [*SERVED, "rule add not to 99.1.1.1 lookup 539098368 pref 32764"]
WITHOUT_MAIN = [*SERVED, "rule del pref 32766 lookup main"]
LOCAL_LATE = [*SERVED, "rule del pref 0 lookup local", "rule add lookup local pref 40000"]
WITHOUT_IPV6 = [*SERVED, "-6 route del default"]
# The router is outside of the network, as providers like it.
ROUTER_OUTSIDE = ["route del default", "route add default via 203.0.113.1 dev eth0", "route add 203.0.113.1 dev eth0"]
NO_DEFAULT6 = without("-6 route add default", SERVED)
JOURNAL = replace(Config(), watch={"journal": "/var/log/j"})
MANAGED = replace(Config(), tunnel={"mode": "manage", "internet": True})
LEAKY = replace(Config(), tunnel={"internet_leak": "allow"})
MULTICAST = replace(Config(), lan={"multicast": True})


def of_facts(**facts: str | None) -> Case:
    """A healthy machine but for these facts."""
    return Case(SERVED, facts=facts)


def only(name: str, lines: Sequence[str], **fields: Any) -> list[Finding]:
    """The findings of one check that are not ok."""
    return [each for each in Case(lines, **fields).findings(name) if each.level != "ok"]


def levels(name: str, case: Case) -> list[str]:
    return [each.level for each in case.findings(name)]


@pytest.mark.parametrize(
    ("name", "level", "case"),
    [
        ("permission", "info", of_facts(capabilities=None)),
        ("permission", "warning", of_facts(capabilities="ffffffffffffefff")),  # all but CAP_NET_ADMIN
        ("permission", "info", of_facts(capabilities="ffffffffffffefff", uid="1000")),
        ("config", "failure", of_facts(**{"config.mode": "0606"})),
        ("config", "warning", of_facts(**{"config.mode": "0660"})),
        ("config", "warning", of_facts(**{"config.uid": "1000"})),
        ("config", "warning", of_facts(**{"config.error": "/c: Permission denied", "uid": "1000"})),
        ("rt_tables", "failure", of_facts(**{"/etc/iproute2/rt_tables": "7 254\n"})),
        ("rt_tables", "warning", of_facts(**{"/etc/iproute2/rt_tables": "7 8\n"})),
        ("leak", "failure", Case(NO_DEFAULT6, config=LEAKY)),
        ("leak", "ok", Case([*WITHOUT_IPV6, "-6 route add 2001:db8:1::/64 dev eth0"])),
        ("leak", "failure", Case([*SERVED, "rule add prohibit pref 10"])),
        ("rules", "failure", Case(WITHOUT_MAIN)),
        ("rules", "warning", Case(LOCAL_LATE)),
        ("mark", "ok", Case(WITHOUT_IPV6)),
        ("rp_filter", "info", Case(SERVED, sysctls={"ipv4/conf/all/rp_filter": None})),
        ("rp_filter", "failure", Case(MARKED_TOO_BUT_ONE, sysctls=STRICT)),
        ("shadows", "failure", Case([*SERVED, "route add 10.9.0.0/24 dev eth0 encap mpls"])),
        ("prefixes", "ok", Case([*SERVED, *ROUTER_OUTSIDE])),
        ("dhcp", "warning", of_facts(**{"dhcp.servers": "192.168.1.1 100.64.0.9"})),
        ("dhcp", "ok", Case(FIREZONE, facts={"dhcp.servers": "192.168.1.1"})),
        ("dhcp", "ok", Case([*without("default", SERVED), *HALVES], facts={"dhcp.servers": "192.168.1.1"})),
        ("dns", "info", of_facts(**{"/etc/resolv.conf": None})),
        ("dns", "warning", of_facts(**{"netns": "x", "/etc/netns/x/resolv.conf": "nameserver 192.168.1.1\n"})),
        ("dns", "warning", of_facts(**{"/etc/resolv.conf": "search x\nnameserver fd00:1::1%eth0\n"})),
        # A server in the LAN matters only where the tunnel takes the rest.
        ("dns", "ok", Case(NO_DEFAULT6, facts={"/etc/resolv.conf": "nameserver fd00:1::1\n"})),
        ("ip", "ok", Case(SERVED, ip="")),
    ],
)
def test_a_cause_leads_to_one_finding(name: str, level: str, case: Case) -> None:
    assert [level] == levels(name, case)


@pytest.mark.parametrize(
    "case",
    [
        Case(SERVED, sysctls={"ipv4/conf/all/rp_filter": "1", "ipv4/conf/eth0/rp_filter": "2"}),
        Case(SERVED, sysctls={"ipv4/conf/wlan0/rp_filter": "1"}),
        of_facts(**{"config.uid": "1000", "uid": "1000"}),
        of_facts(**{"config.mode": "0755", "capabilities": "0000000000001000"}),
        of_facts(**{"/etc/resolv.conf": "nameserver 127.0.0.53\nnameserver nonsense\n"}),
        of_facts(**{"/etc/resolv.conf": "nameserver 127.0.0.53\n"}),  # systemd-resolved has not written its own yet
        of_facts(**{"/run/systemd/resolve/resolv.conf": "nameserver 192.168.1.1\n"}),  # nobody asks systemd-resolved
        of_facts(**{"/usr/share/iproute2/rt_tables": "254 main\n0xfe main\n77 mine # x\n"}),
        of_facts(netns="x", networkd="in use"),
        # A program names the interface for a link-local address, so the VPN's route takes nothing from the LAN.
        Case([*SERVED, *(f"-6 route add fe80::/64 dev {way}" for way in ("eth0", "tun-firezone table 539098368"))]),
    ],
)
def test_a_usual_machine_has_no_troubles(case: Case) -> None:
    assert "" == told(case.findings())


@pytest.mark.parametrize(
    "lines",
    [
        [line.replace("0xfd002021", "7") for line in without("-6 route add default", SERVED)],
        [*SERVED, "rule add lookup main pref 5"],
        without("rule", SERVED),
    ],
)
def test_thousands_of_routes_through_a_router_change_nothing_that_is_said(lines: list[str]) -> None:
    many = [f"route add {11 + number // 256}.{number % 256}.0.0/16 via 192.168.1.1 dev eth0" for number in range(1_500)]
    assert Case(lines).findings() == Case([*lines, *many]).findings()


@pytest.mark.parametrize(
    ("count", "named"),
    [
        (2, "11.0.0.0/16, 11.1.0.0/16 leaves"),
        (5, "11.2.0.0/16 and 2 more leaves"),
        (1_500, "11.0.0.0/16 and others leaves"),
    ],
)
def test_the_number_of_those_that_are_not_named_is_right_or_not_said(count: int, named: str) -> None:
    """Of thousands of routes that differ in nothing but their destination, one stands for all."""
    many = [f"{11 + number // 256}.{number % 256}.0.0/16 via 192.168.1.1 dev eth0" for number in range(count)]
    (found,) = only("leak", [*SERVED, "rule add lookup 77 pref 5", *(f"route add {each} table 77" for each in many)])
    assert named in found.seen


OFF = without("default", SERVED)  # the Internet Resource
NO_COPY = without("default", FIREZONE)


@pytest.mark.parametrize(
    ("level", "lines", "config"),
    [
        ("warning", NO_COPY, Config()),
        ("failure", [*OFF, "route add 192.168.7.0/24 dev eth0 proto kernel scope link table 539098368"], Config()),
        ("failure", [*without("192.168.1.0/24", OFF), STALE], Config()),
        ("failure", [*OFF, *vpn("192.168.0.0/16")], Config()),  # sync would delete the copy
        ("failure", NO_COPY, MANAGED),
        ("failure", SERVED, MULTICAST),
    ],
)
def test_copies_that_nobody_needs_yet_are_a_warning(level: str, lines: list[str], config: Config) -> None:
    assert [level] == levels("mirror", Case(lines, config=config))


def test_a_leak_that_the_configuration_allows_is_no_failure() -> None:
    config = replace(Config(), tunnel={"mode": "manage", "internet": True, "internet_leak": "allow"})
    (found,) = only("leak", NO_DEFAULT6, config=config, numbered={"inet": frozenset(["tun-firezone"])})
    assert "info" == found.level
    assert 'section [tunnel]: internet_leak = "block", then fz-iproute sync' in found.remedy


def test_the_uplink_of_a_vpn_without_a_device_has_lans_like_any_other() -> None:
    """IPsec: the kernel's policies take packets out of the uplink."""
    case = Case([*LAYOUTS["strongSwan"].lines, "route add 198.51.100.0/24 dev eth0"])
    assert ["strongSwan"] == [vpn.product.name for vpn in case.machine.vpns]
    assert ["warning"] == levels("prefixes", case)


def test_a_remedy_keeps_the_members_of_a_list_and_several_public_prefixes_are_one_line() -> None:
    lines = [*SERVED, "route add 198.51.100.0/24 dev eth0", "route add 203.0.113.0/24 dev eth0"]
    (found,) = only("prefixes", lines, config=replace(Config(), lan={"allow": (Prefix.parse("10.1.0.0/16"),)}))
    allow = 'allow = ["10.1.0.0/16", "198.51.100.0/24", "203.0.113.0/24"]; or'
    assert found.remedy.startswith(f"set in /etc/fz-iproute/config.toml, section [lan]: {allow}")


def test_remedies_name_the_namespace_and_the_file() -> None:
    lines = [*FIREZONE, "route del default", "route add default via 192.168.1.1 dev eth0.7"]
    facts = {"netns": "a b", "config.path": "/x y.toml"}
    case = Case(lines, facts=facts, sysctls={"ipv4/conf/eth0.7/rp_filter": "1"})
    found = {each.name: each.remedy for each in case.findings()}
    assert "ip -n 'a b' -6 rule show" == case.machine.ip("inet6", "rule show")
    assert "fz-iproute -c '/x y.toml' --netns 'a b' sync" == found["mirror"]
    assert "ip netns exec 'a b' sysctl -w net/ipv4/conf/eth0.7/rp_filter=2  # until the next boot" == found["rp_filter"]
    (of_another_vpn,) = only("tunnel", ONLY_WG7.lines, facts={**ONLY_WG7.facts, "netns": "a b"})
    assert "fz-iproute --netns 'a b' detect --write /etc/fz-iproute/config.toml" in of_another_vpn.remedy


def needing_sudo(case: Case) -> list[Finding]:
    """What an ordinary user of the machine is told."""
    return examine(dataclasses.replace(case.machine, needs_sudo=True))


def test_an_ordinary_user_is_told_only_what_could_not_be_looked_at() -> None:
    user = {"uid": "1000", "capabilities": "0"}
    (found,) = [each for each in needing_sudo(of_facts(**user)) if each.name == "permission"]
    assert ("info", "", "") == (found.level, found.why, found.remedy)
    hidden = Case(SERVED, config=JOURNAL, facts={**user, "nft": None})
    (found,) = [each for each in needing_sudo(hidden) if each.name == "permission"]
    assert ("info", "firewalls and the journal /var/log/j could not be looked at") == (found.level, found.why)
    assert "sudo fz-iproute doctor" == found.remedy
    (elsewhere,) = hidden.findings("permission")
    assert "" == elsewhere.remedy


# Another VPN than the configured one, and no configuration file.
ONLY_WG7 = Case(LAYOUTS["WireGuard with a table of its own"].lines, facts={"config.mode": None, "config.uid": None})

_WRITES = re.compile(
    r"(sudo )?\b(fz-iproute (?:[^\s`]+ )*?(?:sync|down|--write)\b|ip (?:\S+ )*?(?:add|del|replace|set)\b"
    r"|sysctl -w|chmod|chown|sed -E -i|truncate|sh -c|mkdir)"
)


def test_an_ordinary_user_writes_with_sudo_only() -> None:
    """The remedies of root, each with sudo in front of what writes."""
    states = [
        *map(Case, ASKING_FOR_SYNC.values()),
        of_facts(**{"config.mode": "0666", "/etc/iproute2/rt_tables": "7 254\n8 254\n"}),
        of_facts(**{"config.uid": "77", "networkd": "in use"}),
        Case(SERVED, sysctls=STRICT),
        Case([*SERVED, "rule add lookup main pref 5"]),
        Case([*SERVED, "rule add prohibit pref 10"]),
        Case(WITHOUT_MAIN),
        Case([*without("dev tun-firezone", SERVED), "link set dev tun-firezone down"]),
        Case(SERVED, config=JOURNAL, facts={"journal": "# 2026-01-02T03:00:00Z 1 ms\nip route add x\n" * 5}),
        ONLY_WG7,
    ]
    writing = set()
    for case in states:
        of_root, of_user = ([each.remedy for each in found] for found in (case.findings(), needing_sudo(case)))
        assert not [remedy for remedy in of_root if "sudo" in remedy]
        assert (case is ONLY_WG7) == any("detect --write" in remedy for remedy in of_root)
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
ASKING_FOR_SYNC = {
    "copies are missing": FIREZONE,
    "the VPN routes the LAN": [*FIREZONE, *vpn("192.168.1.0/24")],
    "another mark": [line.replace("0xfd002021", "7") for line in SERVED],
    "a public LAN": [*SERVED, "route add 198.51.100.0/24 dev eth0", "-6 route add 2000::/3 dev eth0"],
    "pushed by DHCP": [*SERVED, "route add 10.99.0.0/16 dev eth0 proto dhcp scope link"],
    "routed": [*SERVED, "route add 10.7.0.0/16 via 192.168.1.1 dev eth0"],
    "no tunnel": without("dev tun-firezone", SERVED),
    "IPv6 leaks": NO_DEFAULT6,
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
@pytest.mark.parametrize("lines", ASKING_FOR_SYNC.values(), ids=ASKING_FOR_SYNC)
def test_without_a_configuration_no_remedy_needs_it(lines: list[str], error: str, said: str, remedy: str) -> None:
    uid = "1000" if "Permission" in error else "0"
    healthy = {each.seen: each.remedy for each in Case(lines).findings()}
    assert any("fz-iproute " in text or "section [" in text for text in healthy.values())
    found = Case(lines, facts={"config.error": error, "uid": uid}).findings()
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
            {
                "/usr/lib/systemd/networkd.conf.d/10.conf": "[Network]\nManageForeignRoutingPolicyRules=yes\n",
                "/etc/systemd/networkd.conf.d/90.conf": "[Network]\nManageForeignRoutingPolicyRules=no\n",
            },
            "ok",
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
    assert [level] == levels("networkd", of_facts(networkd="in use", **facts))


def test_an_edited_record_does_not_end_in_a_traceback() -> None:
    facts = {"capabilities": "many", "config.mode": "rw", "journal": "# 2026-01-02 x\nip a\n"}
    case = Case(SERVED, config=JOURNAL, facts=facts, sysctls={"ipv4/conf/eth0/rp_filter": "strict"})
    found = {each.name: each.level for each in case.findings()}
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
            facts = {"journal": f"half a line\n{lines}"}
            assert [level] == levels("repeats", Case(SERVED, config=JOURNAL, facts=facts))


@pytest.mark.parametrize("kill_switch", ["not fwmark 0xca6c lookup 51820", "lookup 51820", "to 100.64.0.0/10 prohibit"])
def test_no_remedy_opens_what_a_kill_switch_refuses(kill_switch: str) -> None:
    """The VPN has no default route, so what the other one refuses would leave by main's."""
    found = only("leak", [*OFF, f"rule add {kill_switch} pref 100", "route add unreachable default table 51820"])
    assert {"failure", "warning"} & {each.level for each in found}
    assert not [each.remedy for each in found if each.remedy.startswith("ip rule del priority 100")]


def test_the_words_of_a_remedy_are_quoted_for_the_shell() -> None:
    odd = [f"rule add oif $(reboot) lookup 539098368 pref {rest}" for rest in ("10", "11 protocol x;y")]
    (found,) = [each for each in only("rules", [*SERVED, *odd]) if "say the same" in each.seen]
    assert "oif '$(reboot)'" in found.remedy
    assert "protocol 'x;y'" in found.remedy


ONE_LAN = [*without("docker0", SERVED), "route del 172.17.0.0/16"]


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
    assert expected == levels("firewall", Case(ONE_LAN, facts={"nft": f"{lines}\n"}))


IN_LAN, BEHIND = "192.168.1.1", "100.100.111.1"


@pytest.mark.parametrize(
    ("file", "links", "mended_by"),
    [
        (IN_LAN, "", ["resolvectl dns eth0 "]),  # an older record
        (IN_LAN, f"2 {IN_LAN}", ["resolvectl dns eth0 "]),
        (IN_LAN, f"2 {IN_LAN}\n4 {BEHIND}", ["resolvectl dns eth0 "]),
        (IN_LAN, f"2 {IN_LAN}\n4 {BEHIND} ~.", []),  # asked for its own domains only
        (IN_LAN, f"2 {IN_LAN} ~.\n4 {BEHIND} ~.", ["resolvectl dns eth0 "]),
        (IN_LAN, f"4 {BEHIND} ~.", ["resolvectl dns eth0 "]),  # of no link
        (BEHIND, f"99 {IN_LAN}\n4 {BEHIND}", []),  # a link that has gone
        ("8.8.8.8", "2 8.8.8.8", ["resolvectl dns eth0 "]),
        ("8.8.8.8", "", []),
    ],
)
def test_servers_of_resolved_are_asked_by_their_link(file: str, links: str, mended_by: list[str]) -> None:
    facts = {"/etc/resolv.conf": "nameserver 127.0.0.53\nsearch lan\n", "resolved": links}
    facts["/run/systemd/resolve/resolv.conf"] = f"nameserver {file}\n"
    remedies = [each.remedy for each in only("dns", SERVED, facts=facts)]
    assert mended_by == [remedy[: len("resolvectl dns eth0 ")] for remedy in remedies]


def test_no_remedy_puts_a_rule_before_the_kernels_first() -> None:
    found = only("leak", [*SERVED, "rule add prohibit pref 1"])
    assert found and not [each.remedy for each in found if "priority 0" in each.remedy]


ROUTED = "10.9.0.0/24 via 192.168.1.1 dev eth0"


@pytest.mark.parametrize(
    ("main", "table", "is_named"),
    [
        (ROUTED, ROUTED, True),
        (ROUTED, f"{ROUTED} metric 7", True),
        (ROUTED, "10.9.0.0/24 via 192.168.1.2 dev eth0", False),
        (ROUTED, "10.9.0.0/25 via 192.168.1.1 dev eth0", False),
        ("10.9.0.0/24 via 10.8.0.1 dev wg0", "10.9.0.0/24 via 10.8.0.1 dev wg0", False),
        ("default via 192.168.1.1 dev eth0 metric 9", "default via 192.168.1.1 dev eth0 metric 9", False),
    ],
)
def test_a_route_that_may_be_a_copy_from_an_earlier_lan_allow_is_named(main: str, table: str, is_named: bool) -> None:
    """Neither `sync` nor `down` removes it, because another program may have made it."""
    case = Case([*SERVED, f"route add {main}", f"route add {table} table {MIRROR}"])
    found = [each for each in case.findings("mirror") if "lan.allow" in each.seen]
    assert is_named == bool(found)
    assert all(
        each.remedy.startswith(f"ip route del table {MIRROR} {table.split(' metric', maxsplit=1)[0]}") for each in found
    )
    assert not plan(case.machine.goal)


PUBLIC = ["route add 203.0.113.0/24 dev eth0 proto boot scope link"]


@pytest.mark.parametrize("sort", [SERVED, TIERS], ids=["single", "tiered"])
@pytest.mark.parametrize(
    ("lan", "prefixes", "why"),
    [
        (
            {"exclude_interfaces": ("eth0",)},
            "192.168.1.0/24, 203.0.113.0/24, fd00:1::/64",
            "lan.exclude_interfaces has eth0",
        ),
        (
            {"interfaces": ("docker*",)},
            "192.168.1.0/24, 203.0.113.0/24, fd00:1::/64",
            "lan.interfaces does not have eth0",
        ),
        ({"deny": (Prefix.parse("192.168.1.0/24"),)}, "192.168.1.0/24", "lan.deny has 192.168.1.0/24"),
        ({"trust": "private"}, "203.0.113.0/24", 'a public prefix: lan.trust = "private"'),
    ],
    ids=str,
)
def test_a_lan_that_a_setting_leaves_out_now_is_removed_by_a_sync(
    sort: list[str], lan: dict[str, Any], prefixes: str, why: str
) -> None:
    copies = [f"{line} table {MIRROR if sort is SERVED else MIRROR + 1}" for line in PUBLIC]
    case = Case([*sort, *PUBLIC, *copies], config=replace(Config(), lan=lan))
    (found,) = [each for each in case.findings("mirror") if each.level != "ok"]
    copies = "copies" if ", " in prefixes else "copy"
    assert found.remedy.startswith(f"fz-iproute sync  # removes the {copies} of {prefixes}: {why}")
    assert not [each for each in case.findings() if "no safe remedy" in each.remedy]


THIRDS = ["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/2"]
TO_AUTO = 'section [tunnel]: split_default = "auto", then fz-iproute sync'


@pytest.mark.parametrize("parts", [THIRDS, ["0.0.0.0/1", "128.0.0.0/1"], ["128.0.0.0/1"], ["192.168.0.0/16"]], ids=str)
@pytest.mark.parametrize("is_copied", [True, False])
def test_a_remedy_for_a_lan_that_the_vpn_routes_can_work(parts: list[str], *, is_copied: bool) -> None:
    """No LAN can be renumbered out of a default route in parts. But the setting copies LANs inside these parts."""
    lines = [*without(" default dev tun", SERVED if is_copied else FIREZONE), *vpn(*parts)]
    case = Case([*lines, *vpn("default")], config=replace(Config(), tunnel={"split_default": "explicit"}))
    found = [each for each in case.findings("mirror" if is_copied else "shadows") if each.level != "ok"]
    is_split = parts != ["192.168.0.0/16"]
    assert found
    for each in found:
        assert is_split is (TO_AUTO in each.remedy)
        assert is_split is not ("renumber" in each.remedy)


WG = replace(Config(), tunnel={"interface": "wg0"}, tables={"layout": "single", "single": 51820})
ALL_INTO_WG = both(
    "route add default dev wg0 table 51820",
    "rule add lookup main suppress_prefixlength 0 pref 100",
    "rule add lookup 51820 pref 200",
)


@pytest.mark.parametrize(
    ("rules", "has_none"),
    [
        ([], True),
        (["rule add fwmark 7 lookup 99 pref 300"], True),  # it comes too late for the packets
        (["rule add fwmark 7 lookup 99 pref 50"], False),
        (["-6 rule add fwmark 7 lookup 99 pref 50"], False),
    ],
)
def test_a_vpn_has_no_mark_if_no_rule_before_its_own_asks_for_one(rules: list[str], *, has_none: bool) -> None:
    (found, *_) = Case([*ALL_INTO_WG, *rules], config=WG).findings("mark")
    assert has_none is (found.seen == "no rule keeps marked packets out of wg0"), found


def test_the_routes_that_main_lacks_are_told_by_interface() -> None:
    machine = Case(["route del 192.168.1.0/24"]).machine
    lost = route("192.168.1.0/24", prefsrc="192.168.1.5")
    machine = dataclasses.replace(machine, connected=(lost, route("10.1.0.0/24", "eth1"), lost))
    assert ([lost], []) == (machine.unconnected("eth0"), machine.unconnected("docker0"))


@pytest.mark.parametrize(
    ("part", "config", "by"),
    [
        ("dev docker0 scope link", replace(Config(), lan={"interfaces": ("eth0",)}), "docker0"),
        ("dev docker0 scope global", Config(), "docker0"),
        ("dev tun-firezone scope link", Config(), "tun-firezone"),
        ("dev eth0 scope global", Config(), ""),
        ("dev docker0 scope link", Config(), ""),  # a `sync` copies it, too
    ],
)
def test_a_part_of_a_lan_that_main_reaches_by_another_interface_is_named(part: str, config: Config, by: str) -> None:
    (found,) = Case([*SERVED, f"route add 192.168.1.128/25 {part}"], config=config).findings("overrides")
    assert ("warning" if by else "ok") == found.level
    if by:
        why = f"main reaches it by {by}, but the copy of 192.168.1.0/24 looks for it by eth0"
        assert found.seen.endswith("in main is overridden by the copy of 192.168.1.0/24") and why == found.why
