"""A snapshot gives the same answers as its machine, anywhere and to any user; a redacted one with other names."""

import io
import json
import os
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fz_iproute import cli
from fz_iproute.record.recorded_ip import load_recording
from fz_iproute.record.recording import dump
from fz_iproute.record.redact import Redactor
from fz_iproute.record.vocabulary import words as kept_words
from tests.netns.namespace import LAN, MIRROR, TUNNEL, Machine, Namespace, run, wait_until
from tests.netns.questions import addresses, as_nobody
from tests.netns.test_names import furnish as furnish_a_device
from tests.netns.wiretap import fake_ip
from tests.starter import starter

ASKED = addresses()


def furnish_a_laptop(machine: Machine) -> None:
    """Routes with every verdict: in step, missing, changed, stale, skipped."""
    machine.fz("sync")
    machine.ip("addr", "del", "192.168.188.112/24", "dev", LAN)
    machine.ip("addr", "add", "192.168.188.77/24", "brd", "+", "dev", LAN, "metric", "600")
    machine.batch(
        [
            f"route add 10.50.0.0/16 dev {LAN} scope link",
            f"route add 203.0.113.0/24 dev {LAN} scope link",
            f"route add 100.96.7.0/24 dev {LAN} scope link",
            f"route add 172.16.5.0/24 via 192.168.188.1 dev {LAN}",
            f"route add 10.9.0.0/24 dev {LAN} scope link table {MIRROR}",
            f"-6 route add fd07::/64 dev {LAN}",
            f"-6 route add 2001:db8:7::/64 via fd00:188::1 dev {LAN}",
        ]
    )


def furnish_tiers(machine: Machine) -> None:
    machine.tiers()
    furnish_a_laptop(machine)


def furnish_without_vpn(machine: Machine) -> None:
    """Only the rules and tables of the kernel."""
    for option in ("", "-6 "):
        machine.batch([f"{option}rule del pref 32765", f"{option}route flush table {MIRROR}"])
    machine.batch([f"route add 10.50.0.0/16 dev {LAN} scope link", f"-6 route add fd07::/64 dev {LAN}"])


def furnish_a_terrain(machine: Machine) -> None:
    """Routes of every kind."""
    for number, device in enumerate(("v0", "v1", "v2"), start=1):
        machine.veth(device, f"10.1.0.{number}/24 brd +", f"fd00:1::{number}/64")  # three routes to one network
    machine.batch(["nexthop add id 1 dev v0", "nexthop add id 2 via 10.1.0.77 dev v1", "nexthop add id 3 dev v2"])
    machine.ip("nexthop", "add", "id", "9", "group", "1,3/3")
    machine.batch(
        [
            "route add 10.3.0.0/24 scope link nhid 9",
            "-6 nexthop add id 11 dev v0",
            "-6 nexthop add id 12 via fe80::77 dev v1",
            "route add 10.2.0.0/16 scope link nhid 1",
            "route add 10.2.128.0/17 nhid 2",
            "-6 route add fd07::/64 nhid 11",
            "-6 route add 2001:db8:7::/64 nhid 12",
            "route add 198.51.100.0/24 scope link dev v0 mtu 1400 advmss 1300",
            "route append 198.51.100.0/24 scope link dev v1 mtu lock 1400",
            "route add 172.16.5.0/24 scope link nexthop dev v0 weight 2 nexthop dev v1",
            "route add 10.50.0.0/16 via 10.1.0.77 dev v0",
            "route add 10.50.0.0/24 dev v0 scope link tos 0x10",
            "route add 10.50.1.0/24 dev v0 scope link metric 7",
            "route append 10.50.1.0/24 dev v1 scope link metric 7",
            "route add 10.50.1.0/24 dev v2 scope link metric 700",
            "route add 10.9.0.0/24 dev v0",  # on-link by nobody's word but its path
            "route add 198.51.0.0/16 via inet6 fe80::77 dev v0",
            "route add throw 203.0.113.0/25",
            f"route add blackhole 203.0.113.0/24 table {MIRROR}",
            f"route add throw 203.0.113.0/26 table {MIRROR}",
            "-6 route add unreachable 2001:db8:7::/48",
            "route add prohibit 240.0.0.0/8 table 77",
            "rule add pref 50 to 240.0.0.0/4 lookup 77",
            "rule add pref 60 from 10.1.0.0/16 fwmark 0x7/0xff lookup 78 suppress_prefixlength 0",
            "rule add pref 70 ipproto tcp dport 22-23 lookup 78",
            "rule add pref 80 to 10.9.0.9 goto 32766",
            "rule add pref 90 to 192.0.2.9 prohibit",
            "-6 rule add pref 40 tos 0xb8 ipproto ipv6-icmp lookup 78 realms 7",
            "-6 rule add pref 50 from fd00:1::/64 lookup 79",
        ]
    )


def furnish_with_numbers_only(machine: Machine) -> None:
    """`ip` shows the nexthop objects of routes without their paths."""
    furnish_a_terrain(machine)
    machine.sysctl("net.ipv4.nexthop_compat_mode", 0)


NAMES = ['a"b', "'q", "$x", "ü€", "a@b", ";x", "-x"]


def furnish_odd_names(machine: Machine) -> None:
    machine.ip("addr", "del", "192.168.188.112/24", "dev", LAN)
    for number, name in enumerate(NAMES):
        device = machine.odd_veth(name, f"far{number}", f"10.{number}.0.5/16", f"fd00:{number}::5/64")
        machine.batch([f"route add 10.5{number}.0.0/16 via 10.{number}.0.77 dev {device}"])
    machine.batch(["rule add pref 50 iif ;x lookup 77", "rule add pref 60 oif $x prohibit"])


def furnish_addresses(machine: Machine) -> None:
    """One address of every kind that has its own effect on the table local."""
    machine.sysctl("net.ipv6.conf.all.forwarding", 1)  # with subnet-router anycast addresses
    to_all_of_a_wider_network = "10.2.77.5/24 brd 10.2.255.255"
    machine.veth("v0", "10.1.0.5/24", "10.1.0.77/24", "10.2.0.5/30 brd +", "10.2.0.77/31", to_all_of_a_wider_network)
    machine.veth("v1", "10.1.0.1/24", "10.3.0.5 peer 10.3.0.77/24", "10.50.0.77/32", "10.50.0.1/24 noprefixroute")
    machine.veth("v2")
    machine.veth("v3", "172.16.5.1/24 brd +")
    for device in ("v2", "v3"):
        machine.ip("link", "set", "dev", device, "down")
    machine.address("v2", "10.9.0.7/24")
    machine.address("v0", "fd00:1::5/64")
    for address in ("fd00:1::77/128", "2001:db8:7::1/64 noprefixroute"):
        machine.address("v1", *address.split())
    for address in ("172.16.5.77/32", "198.51.100.77/24", "fd07::1/64"):
        machine.address("lo", address)


def lose_the_tunnel(machine: Machine) -> None:
    machine.vpn.close()
    wait_until(lambda: TUNNEL not in machine.ip("link"), "the tunnel is gone")


def lose_ipv6_of_the_tunnel(machine: Machine) -> None:
    machine.ip("-6", "addr", "flush", "dev", TUNNEL)


MANAGE = """
[tunnel]
mode = "manage"
routes = ["100.64.0.0/11", "100.100.111.0/24", "fd00:2021:1111::/48", "10.50.0.0/24"]
{tunnel}
[tables]
layout = "{layout}"
[lan]
deny = ["10.77.0.0/24"]
"""
POLICY = """
[lan]
trust = "private"
allow = ["172.16.0.0/12", "10.50.0.0/16", "10.2.0.0/16", "2001:db8::/32"]
deny = ["10.1.0.0/30", "fd00:77::/64"]
exclude_interfaces = ["v2", "*x"]
min_prefixlen = { inet = 16, inet6 = 48 }
multicast = true
"""


def nothing(machine: Machine) -> None:
    """All stays as it is."""


class Scenario(NamedTuple):
    """How the machine is made, its configuration, whether `sync` runs, and what happens after that."""

    furnish: Callable[[Machine], None]
    config: str = ""
    synced: bool = False
    then: Callable[[Machine], None] = nothing

    def happen(self, machine: Machine) -> None:
        self.furnish(machine)
        if self.synced:
            machine.fz("sync", config=self.config)
        self.then(machine)


SCENARIOS = {
    "observe": Scenario(furnish_a_laptop),
    "observe with a policy": Scenario(furnish_a_laptop, POLICY),
    "observe, synced": Scenario(furnish_a_laptop, POLICY, synced=True),
    "observe in tiers": Scenario(furnish_tiers),
    "observe without a tunnel": Scenario(furnish_a_laptop, then=lose_the_tunnel),
    "manage, before": Scenario(furnish_without_vpn, MANAGE.format(tunnel="internet = true", layout="single")),
    "manage beside firezone": Scenario(furnish_a_laptop, MANAGE.format(tunnel="internet = true", layout="tiered")),
    "terrain": Scenario(furnish_a_terrain),
    "terrain with a policy": Scenario(furnish_a_terrain, POLICY),
    "terrain, nexthops by number": Scenario(furnish_with_numbers_only, POLICY),
    "terrain, nexthops by number, synced": Scenario(furnish_with_numbers_only, synced=True),
    "addresses": Scenario(furnish_addresses),
    "odd names": Scenario(furnish_odd_names),
    "odd names with a policy": Scenario(furnish_odd_names, POLICY, synced=True),
}
CLOSED = 'internet = true\non_down = "closed"'
for name, layout, tunnel, then in (
    ("internet true", "single", "internet = true", nothing),
    ("internet false", "tiered", "internet = false", nothing),
    ("closed without tunnel", "single", CLOSED, lose_the_tunnel),
    ("IPv4 only", "tiered", CLOSED, lose_ipv6_of_the_tunnel),
):
    config = MANAGE.format(tunnel=tunnel, layout=layout)
    SCENARIOS[f"manage {layout}, {name}"] = Scenario(furnish_without_vpn, config, True, then)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that every user may read."""
    with tempfile.TemporaryDirectory(prefix="fz-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def answered(machine: Machine, *verb: str, **options: Any) -> str:
    """What the program prints of the machine, without what a snapshot does not know."""
    text = without_config(machine.fz(*verb, **options)).replace('"watch": 0', '"watch": null')
    text = re.sub(r'\{\s+"agrees": true,\s+"says": ".*"\s+\}', "null", text)
    return re.sub("  (the kernel agrees|not compared with the kernel.*)\n", "", text)


def without_config(text: str) -> str:
    """Without the name of the configuration, which the advised command has to give."""
    return re.sub(r"fz-iproute -c \S+", "fz-iproute", text)


VERBS = [["plan"], ["plan", "--json"], ["status", "--routes"], ["status", "--json"]]


def known_to_nobody(machine: Machine, namespace: Namespace, file: Path, *asked: str, **options: Any) -> list[str]:
    """The answers are those of the machine, elsewhere and for an ordinary user. Returns them."""
    machine.fz("snapshot", "-o", str(file), **options)
    file.chmod(0o644)
    verbs = [*VERBS, ["explain", *asked]]

    def printed(*verb: str) -> str:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = cli.main(["--netns", machine.name, *verb, "--snapshot", str(file)])
        assert 0 == code, err.getvalue()
        return without_config(out.getvalue())

    live = [answered(machine, *verb, **options) for verb in verbs]
    assert live == as_nobody(namespace, lambda: [printed(*verb) for verb in verbs])
    return live


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_answers_are_those_of_the_machine(
    name: str, machine: Machine, namespace: Namespace, open_path: Path
) -> None:
    scenario = SCENARIOS[name]
    scenario.happen(machine)
    asked = ASKED[list(SCENARIOS).index(name) % 7 :: 7]  # all of them, in seven scenarios
    path, hidden = open_path / "snapshot", open_path / "redacted"
    live = known_to_nobody(machine, namespace, path, *asked, config=scenario.config)

    redactor = Redactor(load_recording(path), os.urandom(16), kept_words())
    renamed = Renaming(redactor, machine)
    hidden.write_text(dump(redactor.redacted()))
    others = map(redactor.address, asked)
    for text, verb in zip(live, [*VERBS, ["explain", *others]], strict=True):
        said = starter().run(["--netns", machine.name, *verb, "--snapshot", str(hidden)], {}, 60).stdout
        other = without_config(said)
        if "--json" in verb:
            assert renamed(json.loads(text)) == words(json.loads(other))
        else:
            assert renamed(text) == words(other)


def words(value: Any) -> Any:
    """Text split into words: the width of columns does not count."""
    if isinstance(value, dict):
        return {key: words(part) for key, part in value.items()}
    if isinstance(value, list):
        return [*map(words, value)]
    return value.split() if isinstance(value, str) else value


class Renaming:
    """Turns an answer about the machine into the answer about its redacted snapshot."""

    def __init__(self, redactor: Redactor, machine: Namespace) -> None:
        self._redactor = redactor
        names = {TUNNEL: TUNNEL, "lo": "lo", **redactor.names}
        # A device whose name no batch line can hold has an ordinary name in the redacted snapshot.
        numbers = {f"if{link['ifindex']}": names[link["ifname"]] for link in machine.ip_json("link")}
        self._names = {**numbers, **{shlex.quote(old): new for old, new in names.items()}, **names}

    def __call__(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._names.get(key, key): self(part) for key, part in value.items()}
        if isinstance(value, list):
            return [*map(self, value)]
        return [*map(self._word, value.split())] if isinstance(value, str) else value

    def _word(self, word: str) -> str:
        # A name may end in a punctuation mark, and an address in a colon. A list of TOML has both in quotes.
        for form in ("^()(.*)()$", r"^([(]?)(.*?)([,;)]*)$", r"^([(]?)(.*?)([,;:)]*)$", r'^(\[")(.*)("\])$'):
            if not re.fullmatch(form, word):
                continue
            ((start, core, end),) = re.findall(form, word)
            new = self._names.get(core) or self._redactor.address(core)
            if new != core:
                break
        return f"{start}{new}{end}"


# Runs ip as on a machine whose administrator has named tables.
WITH_NAMES = """\
exec unshare -m sh -c 'mount --bind "$0" /etc/iproute2/rt_tables && exec "$@"' '{names}' "$ip" "$@"
"""


def test_a_snapshot_holds_numbers_where_the_machine_has_names_of_tables(
    machine: Machine, namespace: Namespace, open_path: Path
) -> None:
    if not Path("/etc/iproute2/rt_tables").exists():
        pytest.skip("NO NAMES OF TABLES: this machine has no /etc/iproute2/rt_tables")
    (open_path / "names").write_text(f"254 main\n255 local\n253 default\n77 secret-office\n{MIRROR} firezone\n78 105\n")
    program = fake_ip(open_path, WITH_NAMES.format(names=open_path / "names"))
    furnish_a_laptop(machine)
    machine.batch(
        [
            "rule add pref 50 to 192.0.2.0/24 lookup 77",
            "rule add pref 60 to 10.9.0.0/16 lookup 78",
            f"route add 192.0.2.0/24 dev {LAN} table 77",
            f"route add 10.9.0.0/24 dev {LAN} table 78",
            f"route add 10.9.0.0/24 dev {TUNNEL} table 105",
        ]
    )
    path = open_path / "snapshot"
    live = known_to_nobody(machine, namespace, path, "192.0.2.9", "10.9.0.7", "8.8.8.8", path=program)
    assert f"10.9.0.7 leaves by {LAN} to the LAN" in live[-1]
    assert "secret-office" not in path.read_text()


@pytest.mark.parametrize("name", ["\udcff\udcfe", "\x01", "\x1b[31m", "#x", "a\u2028b"], ids=ascii)
def test_a_device_name_that_is_no_text_is_answered_and_redacted(name: str, machine: Machine, tmp_path: Path) -> None:
    furnish_a_device(machine, name)
    path, redacted = tmp_path / "snapshot", tmp_path / "redacted"
    machine.fz("snapshot", "-o", str(path))
    machine.fz("snapshot", "--redact", "-o", str(redacted))
    for verb in [*VERBS, ["explain", "10.1.0.7"], ["explain", "10.1.0.7", "--json"]]:
        live = answered(machine, *verb)
        assert live == without_config(machine.fz(*verb, "--snapshot", str(path)))
        assert all(line.isprintable() for line in live.splitlines())
        assert machine.fz(*verb, "--snapshot", str(redacted))
    assert json.dumps(name)[1:-1] in path.read_text()
    assert json.dumps(name)[1:-1] not in redacted.read_text()


def test_a_snapshot_has_what_ip_prints_when_it_is_asked_one_question(machine: Machine) -> None:
    """It is asked many in one process, and an answer must not depend on those before it."""
    machine.batch([f"route add 10.5.0.0/24 dev {LAN} scope link mtu lock 1400", "nexthop add id 7 dev uplink0"])
    recorded = json.loads(machine.fz("snapshot"))["ip"]
    assert len(recorded) > 12
    for words, text in recorded.items():
        done = run("ip", "-n", machine.name, *words.split(), check=False)
        assert text.strip() == ("[]" if "does not exist" in done.stderr else done.stdout.strip()), words


def test_a_rule_for_a_user_is_in_doubt_in_a_snapshot(machine: Machine, tmp_path: Path) -> None:
    machine.batch([f"rule add pref 50 uidrange {os.getuid()}-{os.getuid()} prohibit"])
    path = tmp_path / "snapshot"
    machine.fz("snapshot", "-o", str(path))
    assert "is refused: rule 50" in machine.fz("explain", "8.8.8.8")
    said = machine.fz("explain", "8.8.8.8", "--snapshot", str(path))
    assert "in doubt: rule 50: cannot tell whether the packet is of uid" in said and "goes into the tunnel" in said


# Where it is written


def test_only_the_owner_may_read_a_snapshot(machine: Machine, tmp_path: Path) -> None:
    old, path = tmp_path / "old", tmp_path / "new"
    old.write_text("another")
    old.chmod(0o644)
    for target in (old, path):
        machine.fz("snapshot", "-o", str(target))
        assert 0o600 == target.stat().st_mode & 0o777
        assert 1 == json.loads(target.read_text())["schema"]


def test_a_failed_write_leaves_no_file(machine: Machine, tmp_path: Path) -> None:
    for name, words in {"missing/snapshot": "No such file or directory", "x" * 256: "File name too long"}.items():
        done = machine.fz_done("snapshot", "-o", str(tmp_path / name))
        assert (2, f"error: {tmp_path / name}: {words}\n") == (done.returncode, done.stderr)
    assert [] == list(tmp_path.iterdir())
