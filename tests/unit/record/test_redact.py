"""A redacted snapshot has new names and addresses with the same relations, and none of the old ones."""

import json
import re
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fz_iproute.mirror import config as core_config
from fz_iproute.mirror import config_text
from fz_iproute.mirror.prefix import FAMILIES, PRIVATE, Family, Prefix
from fz_iproute.record import recording as core_recording
from fz_iproute.record.redact import Redactor as ActualRedactor
from fz_iproute.record.renaming import Names
from fz_iproute.record.vocabulary import words
from fz_iproute.verbs import doctor
from tests.unit.recordings import machine, parent, places, printed, recording

RECORDED = recording()
Redactor = partial(ActualRedactor, known=words())
BITS: dict[Family, int] = {"inet": 32, "inet6": 128}
KNOWN: dict[Family, str] = {
    "inet": "10.0.0.0/8 192.168.188.0/24 8.8.8.0/24 172.16.0.0/12 100.64.0.0/10 169.254.0.0/16",
    "inet6": "fd00::/8 2001:db8::/32 fe80::/10 fe80::/64 fc00::/7 2000::/3",
}
secrets = st.binary(min_size=1, max_size=16)


@st.composite
def prefixes(draw: st.DrawFn, family: Family) -> Prefix:
    """Prefixes, often near those with a meaning."""
    bits = BITS[family]
    near = Prefix.parse(draw(st.sampled_from(KNOWN[family].split())))
    host = near.address | draw(st.integers(0, (1 << bits - near.length) - 1))
    host = draw(st.sampled_from([host, host, draw(st.integers(0, (1 << bits) - 1))]))
    length = draw(st.integers(0, bits) | st.just(bits) | st.just(near.length))
    return Prefix(family, host >> bits - length << bits - length, length)


pairs = st.sampled_from(FAMILIES).flatmap(lambda family: st.tuples(prefixes(family), prefixes(family)))


@given(pairs, secrets)
def test_a_prefix_keeps_its_members(both: tuple[Prefix, Prefix], secret: bytes) -> None:
    redactor = Redactor(RECORDED, secret)
    one, other = both
    new, new_other = redactor.prefix(one), redactor.prefix(other)
    assert (one.length, one.family) == (new.length, new.family)
    assert one.covers(other) == new.covers(new_other)
    assert other.covers(one) == new_other.covers(new)
    assert PRIVATE.covering(one) == PRIVATE.covering(new)


@given(pairs, secrets)
def test_an_address_stays_in_its_prefix(both: tuple[Prefix, Prefix], secret: bytes) -> None:
    redactor = Redactor(RECORDED, secret)
    network, other = both
    host = other._replace(length=BITS[other.family])
    text = str(host).partition("/")[0]
    new = redactor.address(text)
    assert network.covers(host) == redactor.prefix(network).covers(Prefix.parse(new))
    assert ip_address(text).is_private == ip_address(new).is_private or not PRIVATE.covers(host)
    assert str(redactor.prefix(network)) == redactor.address(str(network))
    assert redactor.address(f"{text}/{network.length}").endswith(f"/{network.length}")


FROZEN = "0.0.0.0/8 127.0.0.0/8 224.0.0.0/4 255.255.255.255/32 ::/127 ff00::/8"


@given(st.sampled_from(FROZEN.split()), st.integers(0), secrets)
def test_an_address_with_the_same_meaning_everywhere_stays(prefix: str, number: int, secret: bytes) -> None:
    redactor = Redactor(RECORDED, secret)
    network = ip_network(prefix)
    host = str(network[number % network.num_addresses])
    assert host == redactor.address(host)
    for kept in (prefix, "default", "fe80::/64", "fe80::/10", "0.0.0.0/0", "::/0", "10.0.0.0/8", "all", ""):
        assert kept == redactor.address(kept)


@given(secrets)
def test_the_first_and_last_address_of_a_network_stay_first_and_last(secret: bytes) -> None:
    redactor = Redactor(RECORDED, secret)
    for text in ("192.168.188.112/24", "203.0.113.9/28", "2001:db8:7::112/64"):
        network = ip_network(text, strict=False)
        new = ip_network(redactor.address(str(network)))
        assert str(new[0]) == redactor.address(str(network[0]))
        assert str(new[-1]) == redactor.address(str(network[-1]))


TEXT = core_recording.dump(RECORDED)
OLD = ["office0", "corp1", "corp9", "tun-corp", "alice", "Alice", "enp-", "02:5e:11:22:33:44"]
PUBLIC = [
    *("203.0.113.", "192.0.2.0", "198.51.100.", "198.18.0.0"),
    *("192.168.188.", "10.99.", "10.66.", "172.16.5.", "100.64.0.5", "2001:db8:", "fd00:2021::5", "fe80::5e:11"),
]


@pytest.mark.parametrize("mode", ["observe", "manage"])
def test_no_old_name_or_address_is_left(mode: str) -> None:
    assert all(old in TEXT for old in [*OLD, *PUBLIC])
    left: dict[str, int] = {}
    for number in range(24):
        text = core_recording.dump(Redactor(recording(mode), bytes([number])).redacted())
        assert [] == [name for name in OLD if name in text]
        for address in PUBLIC:
            left[address] = left.get(address, 0) + (address in text)
    # By chance, a few bits may stay as they were.
    assert [] == [address for address, times in left.items() if times > 4], left


def test_a_name_has_the_same_replacement_everywhere() -> None:
    hidden = Redactor(RECORDED, b"secret").redacted()
    assert "ipv4/conf/net2/rp_filter" in hidden.sysctls
    line, _ = hidden.outputs["-oneline -4 route show table main"].splitlines()
    lan = r"192\.168\.\d+"
    assert re.fullmatch(rf"{lan}\.0/24 dev net2 proto kernel scope link src {lan}\.\d+ metric 600", line)
    assert 'interface = "tun1"\n' in hidden.config
    assert 'interfaces = ["net2", "net3"]\n' in hidden.config


@pytest.mark.parametrize(
    ("name", "start"), [("office0", "net"), ("tap7", "tap"), ("docker0", "docker"), ("wwan0", "ww")]
)
def test_a_new_name_starts_as_the_old_one_if_that_tells_something(name: str, start: str) -> None:
    assert re.fullmatch(rf"{start}\d", Names([name]).new(name))


@pytest.mark.parametrize("name", ["$x", "a@b", "-x", "ü€", "fd", "1.2.3.4", "fe80", ";x", "'q", 'a"b', "a/b:c"])
def test_odd_names_are_replaced_too(name: str) -> None:
    document = printed(json.loads(json.dumps(machine()).replace("office0", json.dumps(name)[1:-1])))
    found = replace(RECORDED, config="", sysctls=document["sysctls"], outputs=document["ip"])
    redactor = Redactor(found, b"x")
    hidden = redactor.redacted()
    new = redactor.names[name]
    assert name not in [link["ifname"] for link in json.loads(hidden.outputs["-json link show"])]
    routes = json.loads(hidden.outputs["-json -4 route show table main"])
    assert new in [route.get("dev") for route in routes]
    assert f"dev {new} " in hidden.outputs["-oneline -4 route show table main"]
    assert not re.search(rf'[ "]{re.escape(name)}[ "]', "".join(hidden.outputs.values()))


@pytest.mark.parametrize("name", ["via", "unicast", "7", "default"])
def test_a_name_that_is_also_a_word_of_ip_or_a_number_stays(name: str) -> None:
    document = json.loads(json.dumps(machine()).replace('"office0"', json.dumps(name)))
    found = replace(RECORDED, config="", outputs=printed(document)["ip"])
    hidden = Redactor(found, b"x").redacted()
    for shown in ("-json link show", "-json -4 route show table main"):
        old, new = document["ip"][shown], json.loads(hidden.outputs[shown])
        assert [(*each, each.get("type")) for each in new] == [
            (*(key for key in each if key not in ("ifalias", "altnames")), each.get("type")) for each in old
        ]


def test_the_words_of_a_configuration_are_kept() -> None:
    tunnel = {"mode": "manage", "split_default": "explicit", "internet_leak": "allow", "on_down": "closed"}
    chosen = core_config.replace(
        core_config.Config(), tunnel=tunnel, tables={"layout": "tiered"}, lan={"trust": "private"}
    )
    text = config_text.dump(chosen)
    assert text == Redactor(replace(RECORDED, config=text, outputs={}), b"x").redacted().config


FACTS = {
    "uid": "0",
    "capabilities": "000001ffffffffff",
    "config.path": "/etc/SECRET/config.toml",
    "networkd": "in use",
    "netns": "SECRET-netns",
    "journal": """\
# 2025-01-01T00:00:00.000Z 1.0 ms, 1 command, woken by: SECRET0
ip -n SECRET-netns route add table 539098368 192.168.188.0/24 dev office0 proto static
#   refused: Cannot find device "office0"
ip -6 route del table 539098368 fe80::/64 dev 'SECRET#' proto SECRET
#   in doubt: SECRET (SECRET): "SECRET", fe80::5e:11ff:fe22:3344%SECRET 02:5e:11:22:33:44
# SECRET, 5550-1234 and 31.12/2031.9, exit code 2
SECRET 'SECRET
""",
    "/etc/resolv.conf": """\
# SECRET
search SECRET.example
nameserver fe80::5e:11ff:fe22:3344%office0
nameserver 127.0.0.53
nameserver SECRET
options SECRET
""",
    "/etc/netns/SECRET-netns/resolv.conf": "nameserver 192.168.188.1 # SECRET\n",
    "/etc/iproute2/rt_tables": "254 main\n0x7 SECRET # SECRET\n78 105\nSECRET\n",
    "/etc/iproute2/rt_tables.d/b-SECRET.conf": "8 SECRET\n",
    "/etc/systemd/networkd.conf.d/a-SECRET.conf": "[SECRET]\nx=SECRET\n[Network]\nManageForeignRoutes=no\n",
    "/usr/lib/systemd/networkd.conf.d/a-SECRET.conf": "[Network] # SECRET\nManageForeignRoutes=SECRET\n",
    "SECRET": "SECRET",
    "resolved": "2 ~. 203.0.113.9\n3 192.168.188.1\n",
    "dhcp.servers": "192.168.188.1",
    "nft": "chain inet wg-quick-office0 SECRET drop\naccept to 203.0.113.9/32 dev office0 nodev SECRET maybe\n",
}


def test_secrets_in_the_files_of_a_machine_are_replaced() -> None:
    hidden = Redactor(replace(RECORDED, facts=FACTS), b"secret").redacted()
    text = core_recording.dump(hidden)
    assert not re.search("secret|5550|2031|office0|3344|5e:11|22:33:44", text, re.IGNORECASE)
    facts = hidden.facts
    netns = facts["netns"]
    heading, command, refusal, *_ = facts["journal"].splitlines()
    assert re.fullmatch(r"# 2025-01-01T00:00:00.000Z 1.0 ms, 1 command, woken by: name\d+", heading)
    assert re.fullmatch(rf"ip -n {netns} route add table 539098368 192\.168\.\d+\.0/24 dev net2 proto static", command)
    assert "#" == facts["journal"].splitlines()[5]  # a person may have written it
    assert '#   refused: Cannot find device "net2"' == refusal
    assert re.search(r"(?m)^nameserver fe80:[0-9a-f:]+%net2\nnameserver 127.0.0.53$", facts["/etc/resolv.conf"])
    assert f"/etc/netns/{netns}/resolv.conf" in facts
    assert re.fullmatch(r"254 main\n0x7 (name\d+) #\n78 105\n\1\n", facts["/etc/iproute2/rt_tables"])
    assert facts["/etc/iproute2/rt_tables.d/0002.conf"].split()[1] == facts["/etc/iproute2/rt_tables"].split()[3]
    drop_in = facts["/etc/systemd/networkd.conf.d/0001.conf"]
    assert re.fullmatch(r"\[(name\d+)\]\nname\d+=\1\n\[Network\]\nManageForeignRoutes=no\n", drop_in)
    assert "/usr/lib/systemd/networkd.conf.d/0001.conf" in facts
    all_names, router = re.findall(r"(?m)(\S+)$", facts["resolved"])
    assert (f"2 ~. {all_names}\n3 {router}\n", router) == (facts["resolved"], facts["dhcp.servers"])
    assert "203.0.113.9" not in text
    wanted = rf"chain inet wg-quick-net2 name\d+ drop\naccept to {all_names}/32 dev net2 nodev name\d+ maybe\n"
    assert re.fullmatch(wanted, facts["nft"])


def test_doctor_says_the_same_of_a_redacted_snapshot(tmp_path: Path) -> None:
    """But for names and addresses: each check has the same findings."""
    journal = FACTS["journal"].split("SECRET '")[0] * 6
    recorded = replace(
        RECORDED,
        config=RECORDED.config.replace("172.16.0.0/12", "192.168.0.0/16"),
        facts={**FACTS, "journal": journal, "/etc/iproute2/rt_tables": "254 main\n7 SECRET\n78 105\n7 twice\n"},
    )
    found = []
    for each in (recorded, Redactor(recorded, b"x").redacted()):
        path = tmp_path / "snapshot.json"
        path.write_text(core_recording.dump(each))
        found.append(doctor.of_snapshot(path, None))
    assert [(each.name, each.level) for each in found[0]] == [(each.name, each.level) for each in found[1]]
    assert {"failure", "warning"} <= {finding.level for finding in found[0]}
    told = {finding.name: f"{finding.seen} {finding.remedy}" for finding in found[0]}
    assert "6 times within the hour" in told["repeats"]


def test_a_secret_in_any_text_that_ip_prints_is_replaced() -> None:
    document = machine()
    planted = 0
    for path in list(places(document["ip"])):
        holder = parent(document["ip"], path)
        # The kernel prints nothing but an address as the local one.
        if isinstance(holder[path[-1]], str) and not (path[-1] == "local" and "addr_info" in path):
            holder[path[-1]] = "dev secret0 secret1 'secret2' secret3/8 mtu" if len(path) == 1 else "se cret\x01/24%é#"
            planted += 1
    for link in document["ip"]["-json link show"]:
        link["an attribute of next year"] = ["secret"]
        link.update(ifalias="secret 5550 1234", altnames=["5550"], phys_switch_id="b8599f0312345550")
    sysctls = {"ipv4/conf/secret/rp_filter": "secret"}
    versions = {"kernel": "6.1.0-secret+", "ip": "ip utility, iproute2-6.1.0-secret, libbpf 1.1.0"}
    recorded = replace(RECORDED, outputs=printed(document)["ip"], sysctls=sysctls, versions=versions)
    hidden = Redactor(recorded, b"x").redacted()
    assert planted > 200
    assert not re.search("se ?cret|5550", core_recording.dump(hidden))
    assert {"kernel": "6.1.0", "ip": "ip utility, iproute2-6.1.0"} == hidden.versions


@pytest.mark.parametrize(
    ("prefix", "network"),
    [("", "0.0.0.0/0"), ("64:ff9b::", "64:ff9b::/96"), ("::ffff:", "::ffff:0:0/96"), ("::", "::/8")],
)
def test_an_ipv4_address_is_renamed_inside_an_ipv6_address_too(prefix: str, network: str) -> None:
    found = {Redactor(RECORDED, bytes([number])).address(f"{prefix}203.0.113.9") for number in range(32)}
    assert len(found) > 24
    assert all(ip_address(each) in ip_network(network) for each in found)


def test_another_secret_gives_other_addresses_and_the_same_one_the_same() -> None:
    first, again, other = (core_recording.dump(Redactor(RECORDED, secret).redacted()) for secret in (b"1", b"1", b"2"))
    assert first == again
    assert first != other
