"""Each check of `doctor` finds a real cause, and its remedy, carried out as printed, makes the check pass.

tests/netns/test_doctor_cases.py does the same for rules and routes.
"""

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns import rtnetlink
from tests.netns.namespace import (
    LAN,
    MARK,
    MIRROR,
    PROJECT,
    TUNNEL,
    Machine,
    run,
    wait_until,
)
from tests.netns.remedies import SETTING, with_settings
from tests.user_ids import need_user_ids

Finding = dict[str, str]


class Patient:
    """A machine with files of its own: /etc is a copy, /run is empty."""

    def __init__(self, machine: Machine, folder: Path, etc: Path) -> None:
        self.machine = machine
        self.config = machine.config()
        self.etc = etc
        shutil.rmtree(etc / "systemd", ignore_errors=True)
        shutil.rmtree(etc / "iproute2", ignore_errors=True)
        (etc / "iproute2").mkdir()
        (etc / "iproute2/rt_tables").write_text("255 local\n254 main\n253 default\n")
        (etc / "resolv.conf").unlink(missing_ok=True)
        (etc / "resolv.conf").write_text("nameserver 9.9.9.9\n")
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.program("fz-iproute", f'exec {sys.executable} -m fz_iproute "$@"')
        # This process keeps the mount namespace alive; `nsenter` enters it again.
        mounts = f"mount --bind {self.etc} /etc && mount -t tmpfs tmpfs /run && echo ready && exec sleep 600"
        self._keeper = subprocess.Popen(
            ["ip", "netns", "exec", machine.name, "unshare", "--mount", "sh", "-c", mounts],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._keeper.stdout
        assert self._keeper.stdout.readline() == "ready\n"

    def close(self) -> None:
        self._keeper.kill()
        self._keeper.wait()
        if self._keeper.stdout:
            self._keeper.stdout.close()

    def program(self, name: str, script: str) -> None:
        """Make a program that remedies may call."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def sh(self, line: str, *, check: bool = True, wrap: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a shell line on the machine."""
        options = self.machine.fz_options(str(self.programs))
        where = ("nsenter", "--target", str(self._keeper.pid), "--mount", "--net", f"--wd={PROJECT}")
        return run(*where, *wrap, "sh", "-c", line, check=check, **options)

    def doctor(self, *options: str, wrap: tuple[str, ...] = ()) -> list[Finding]:
        """The findings; the exit code must say whether a check has failed."""
        words = " ".join(["fz-iproute", "-c", str(self.config), "doctor", "--json", *options])
        done = self.sh(words, check=False, wrap=wrap)
        assert "Traceback" not in done.stderr, done.stderr
        document = json.loads(done.stdout)
        assert 1 == document["schema"]
        checks: list[Finding] = document["checks"]
        assert done.returncode == int(any(found["level"] == "failure" for found in checks))
        return checks

    def troubles(self, name: str) -> list[Finding]:
        """The findings of one check that are not ok."""
        found = [finding for finding in self.doctor() if finding["name"] == name]
        assert found, f"{name} says nothing"
        return [finding for finding in found if finding["level"] != "ok"]

    def trouble(self, name: str, level: str) -> Finding:
        """The only finding of a check that is not ok."""
        (found,) = self.troubles(name)
        assert level == found["level"], found
        assert found["why"], found
        return found

    def carry_out(self, remedy: str) -> None:
        """Change the setting that the remedy names, or run it as a shell line."""
        if match := SETTING.fullmatch(remedy):
            path, settings, then = match.groups()
            assert str(self.config) == path
            self.configure(settings)
            self.sh(then)
        else:
            self.sh(remedy)

    def configure(self, settings: str) -> None:
        """Change settings, as remedies spell them."""
        self.config.write_text(with_settings(self.config.read_text(), settings))

    def is_cured_of(self, name: str, *levels: str) -> list[str]:
        """Assert that the check finds these levels, and none after its remedies; return what it saw."""
        found = self.troubles(name)
        assert sorted(levels) == sorted(finding["level"] for finding in found), found
        assert all(finding["why"] for finding in found), found
        for finding in found:
            self.carry_out(finding["remedy"])
        assert [] == self.troubles(name)
        return [finding["seen"] for finding in found]


@pytest.fixture(scope="module")
def etc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of /etc, to be mounted in its place."""
    folder = tmp_path_factory.mktemp("copy") / "etc"
    run("cp", "-a", "/etc", str(folder), check=False)  # files may vanish meanwhile
    return folder


@pytest.fixture
def patient(machine: Machine, tmp_path: Path, etc: Path) -> Iterator[Patient]:
    """A machine in step."""
    machine.fz("sync")
    made = Patient(machine, tmp_path, etc)
    try:
        yield made
    finally:
        made.close()


def tiered(machine: Machine) -> None:
    machine.tiers()
    machine.fz("sync")


@pytest.mark.parametrize("layout", ["single", "tiered"])
def test_a_healthy_machine_gets_no_warning(layout: str, patient: Patient) -> None:
    if layout == "tiered":
        tiered(patient.machine)
    levels = {finding["name"]: finding["level"] for finding in patient.doctor()}
    assert {"multicast": "info"} == {name: level for name, level in levels.items() if level != "ok"}
    assert 20 == len(levels)


def test_unusual_but_harmless_rules_and_routes_get_no_warning(patient: Patient) -> None:
    patient.sh("mkdir -p /run/systemd/netif && touch /run/systemd/netif/state")
    for option in ("", "-6 "):
        lines = [
            # networkd does not delete rules of the kernel
            f"{option}rule del priority 32765",
            f"{option}rule add not fwmark {MARK:#x} lookup {MIRROR} priority 32765 protocol kernel",
            # leads to the same devices as the copies
            f"{option}rule add lookup main suppress_prefixlength 0 priority 9",
        ]
        patient.machine.batch(lines)
    lines = [
        "rule add to 192.168.188.0/24 lookup main priority 10",
        "rule add from 10.99.0.2 lookup main priority 11",
        # networkd adds such a route to a router
        f"route add 192.168.188.1 dev {LAN} scope link proto dhcp metric 1024",
    ]
    patient.machine.batch(lines)
    patient.machine.fz("sync")
    found = [finding for finding in patient.doctor() if finding["level"] in ("warning", "failure")]
    assert ["networkd"] == [finding["name"] for finding in found]  # that route is not of the kernel
    assert "192.168.188.1" in found[0]["seen"]
    assert "rule" not in found[0]["seen"]


# The VPN


WG7 = ["rule add not fwmark 0x33 lookup 300 pref 500", "route add default dev wg7 table 300"]
WG7_6 = [f"-6 {line}" for line in WG7]
WG8_6 = ["-6 rule add not fwmark 0x44 lookup 400 pref 500", "-6 route add default dev wg8 table 400"]
THE_VPNS_OWN_TABLE = [f"{option}route add default dev wg7 table {MIRROR}" for option in ("", "-6 ")]


@pytest.mark.parametrize(
    ("lines", "chosen", "is_proven"),
    [
        ([*WG7, *WG7_6], [""], True),
        (THE_VPNS_OWN_TABLE, [""], True),
        (WG7, [""], True),  # IPv6 is outside before and afterwards
        # Once one is configured, doctor fails because of the LANs that the other one takes.
        ([*WG7, *WG8_6], [" --interface wg7", " --interface wg8"], False),
    ],
    ids=["another table", "the usual table", "IPv4 only", "two VPNs"],
)
@pytest.mark.parametrize("has_file", [False, True])
def test_an_unknown_vpn_is_configured_in_one_step_unless_there_is_a_file(
    has_file: bool, lines: list[str], chosen: list[str], is_proven: bool, patient: Patient
) -> None:
    machine, folder = patient.machine, patient.etc / "fz-iproute"
    shutil.rmtree(folder, ignore_errors=True)
    if has_file:
        folder.mkdir()
        (folder / "config.toml").write_text("[watch]\nresync = 77\n")
    machine.fz("down")
    machine.vpn.close()
    for device in ("wg7", "wg8"):
        machine.tunnel(device)
    machine.batch(lines)
    found = json.loads(patient.sh("fz-iproute doctor --json", check=False).stdout)["checks"]
    remedies = [each["remedy"] for each in found if each["name"] == "tunnel"]
    next_steps = re.findall(r"^  next     (.*)$", patient.sh("fz-iproute detect").stdout, re.MULTILINE)
    if has_file:
        both = "; to serve both VPNs, into another file, for -c and `install --instance`" if len(chosen) > 1 else ""
        assert [f"put these keys into /etc/fz-iproute/config.toml{both}"] * len(chosen) == next_steps
        start = (
            "set in /etc/fz-iproute/config.toml, section [tunnel]: interface = "
            if is_proven
            else "make a configuration for"
        )
        assert [start] * len(chosen) == [remedy[: len(start)] for remedy in remedies]
        return
    write = "fz-iproute detect --write /etc/fz-iproute/config.toml"
    assert [f"{write}{option}" for option in chosen] == next_steps
    told = (
        "{} && fz-iproute sync" if is_proven else "make a configuration for {} with `{}`, then see `fz-iproute doctor`"
    )
    names = [option.rpartition(" ")[2] or "wg7" for option in chosen]
    words = [[step] if is_proven else [name, step] for name, step in zip(names, next_steps, strict=True)]
    assert [told.format(*each) for each in words] == remedies
    assert LAN != machine.way("192.168.188.1")
    patient.sh(f"{next_steps[0]} && fz-iproute sync")
    assert LAN == machine.way("192.168.188.1")


TO_MIRROR = f"rule add not fwmark {MARK:#x} lookup {MIRROR}"
MAIN_FIRST = "rule add lookup main priority 10"
BETWEEN = "rule add to 198.51.100.1 lookup main priority 32000"


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        pytest.param([f"{TO_MIRROR} priority 32765 protocol static"], 32765, id="of another program"),
        pytest.param(
            [*(f"{TO_MIRROR} priority {number}" for number in (200, 300, 400, 500, 600)), "rule del priority 32765"],
            200,
            id="none with the usual priority",
        ),
        pytest.param([f"{TO_MIRROR} priority 32000", "rule add priority 9 goto 32765"], 32765, id="behind a goto"),
        pytest.param([f"{TO_MIRROR} priority 31000", BETWEEN], 31000, id="with another rule between them"),
        pytest.param([], 32765, id="restored"),
    ],
)
def test_of_repeated_rules_one_is_kept_and_packets_go_where_they_went(
    lines: list[str], kept: int, patient: Patient
) -> None:
    machine = patient.machine
    machine.batch(lines)
    if not lines:  # unlike `add`, it makes rules that differ in nothing
        patient.sh("ip rule save >/run/rules; for time in 1 2 3; do ip rule restore </run/rules; done")
    count = len(priorities(machine))
    addresses = ["198.51.100.1", "192.168.188.7", "192.168.188.1"]
    before = [machine.way(address, mark=mark) for address in addresses for mark in (0, MARK)]
    (seen,) = patient.is_cured_of("rules", "warning")
    assert seen.startswith(f"{count} rules (inet) say the same, with priority ")
    assert [kept] == priorities(machine)
    assert before == [machine.way(address, mark=mark) for address in addresses for mark in (0, MARK)]


def priorities(machine: Machine) -> list[int]:
    """Of the rules to the VPN's table."""
    return [rule["priority"] for rule in machine.ip_json("rule") if rule.get("table") == str(MIRROR)]


# Around the tunnel


def answers_the_client(machine: Machine, address: str) -> bool:
    """True if a marked packet to `address` is answered. Nobody listens there, so the answer is a refusal."""
    with rtnetlink.inside(machine.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as client:
        client.settimeout(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("I", MARK))
        try:
            client.connect((address, 9))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def test_strict_rp_filter_that_cuts_the_vpn_client_off_is_a_failure(patient: Patient) -> None:
    patient.machine.neighbour.address("lo", "203.0.113.9/32")
    wait_until(lambda: answers_the_client(patient.machine, "203.0.113.9"), "the server answers")
    patient.machine.sysctl("net.ipv4.conf.uplink0.rp_filter", 1)
    assert not answers_the_client(patient.machine, "203.0.113.9")
    patient.is_cured_of("rp_filter", "failure")
    wait_until(lambda: answers_the_client(patient.machine, "203.0.113.9"), "the server answers")
    # With a firewall that restores the mark it would work; doctor does not see firewalls.
    patient.machine.sysctl("net.ipv4.conf.uplink0.rp_filter", 1)
    patient.machine.sysctl("net.ipv4.conf.all.src_valid_mark", 1)
    patient.trouble("rp_filter", "warning")


def test_strict_rp_filter_on_a_lan_that_is_not_mirrored_is_a_warning(patient: Patient) -> None:
    patient.machine.sysctl(f"net.ipv4.conf.{LAN}.rp_filter", 1)
    assert [] == patient.troubles("rp_filter")
    patient.configure('[lan]: deny = ["192.168.188.0/24"]')
    patient.sh(f"fz-iproute -c {patient.config} sync")
    (seen,) = patient.is_cured_of("rp_filter", "warning")
    assert LAN in seen
    # Answers from the address in the LAN take main: the kernel lets the LAN's packets to it in.
    patient.machine.sysctl(f"net.ipv4.conf.{LAN}.rp_filter", 1)
    received = f"route get 192.168.188.112 from 192.168.188.7 iif {LAN}".split()
    assert "Invalid" in patient.machine.ip(*received, check=False)  # argument, or cross-device link
    patient.machine.ip(*["rule", "add", "from", "192.168.188.112", "lookup", "main", "priority", "5"])
    patient.machine.ip(*received)
    assert [] == patient.troubles("rp_filter")


def test_each_name_server_of_a_link_is_named_with_its_way(patient: Patient) -> None:
    """systemd-resolved asks it by the link, so also a public one may leave around the tunnel."""
    (patient.etc / "resolv.conf").write_text("nameserver 127.0.0.53\n")
    wifi, tunnel = (patient.machine.index(name) for name in (LAN, TUNNEL))
    folder = "/run/systemd/resolve/netif"
    patient.sh(f"mkdir -p {folder} && echo > /run/systemd/resolve/resolv.conf")
    patient.sh(f"echo SERVERS=192.168.188.1 > {folder}/{wifi}; echo SERVERS=100.100.111.1 > {folder}/{tunnel}")
    found = patient.trouble("dns", "warning")
    assert f"{LAN}: 192.168.188.1 is in the copied LAN 192.168.188.0/24" == found["seen"]
    assert f"resolvectl dns {LAN} ADDRESS" in found["remedy"]
    patient.sh(f"echo DOMAINS=~. >> {folder}/{tunnel}")
    (found,) = [each for each in patient.doctor() if each["name"] == "dns"]
    ways = [f"{LAN}: 192.168.188.1 (to the LAN by {LAN})", f"{TUNNEL}: 100.100.111.1 (into {TUNNEL})"]
    assert ("ok", sorted(ways)) == (found["level"], sorted(found["seen"].split("; ")[:2]))
    patient.sh(f"echo SERVERS=9.9.9.9 > {folder}/{patient.machine.index('uplink0')}; rm {folder}/{tunnel}")
    assert {
        f"{LAN}: 192.168.188.1 is in the copied LAN 192.168.188.0/24",
        "uplink0: 9.9.9.9 is asked by uplink0, around the tunnel",
    } == {each["seen"] for each in patient.troubles("dns")}
    assert "dev uplink0" in patient.machine.ip("route", "get", "9.9.9.9", "oif", "uplink0")


# Others


def test_a_networkd_that_deletes_foreign_routes_and_rules_is_a_warning(patient: Patient) -> None:
    patient.machine.batch([f"route add 10.6.0.0/16 dev {LAN} scope link proto static"])
    patient.machine.fz("sync")
    assert [] == patient.troubles("networkd")
    patient.sh("mkdir -p /run/systemd/netif && touch /run/systemd/netif/state")
    patient.program("systemctl", "true")
    (seen,) = patient.is_cured_of("networkd", "warning")
    assert "10.6.0.0/16" in seen
    assert "32765" in seen


def test_an_address_of_the_tunnel_is_no_packet_into_it(patient: Patient) -> None:
    """The local route of the address names the tunnel; main takes what the other VPN has routes for."""
    patient.machine.tunnel("wg0")
    patient.machine.batch(["rule del pref 32765", "-6 rule del pref 32765"])
    patient.machine.batch(["-6 route add fd00:2021:1111::/48 dev wg0 table 52", "-6 rule add lookup 52 priority 32766"])
    assert [] == patient.troubles("other-vpn")


def test_misleading_names_of_tables_are_found(patient: Patient) -> None:
    path = patient.etc / "iproute2/rt_tables"
    before = path.read_text()
    path.write_text(f"{before} 77 {MIRROR} # mine\n78\t105\n0x4d main\n254 a.b\n")
    patient.is_cured_of("rt_tables", "failure", "warning", "warning", "warning")
    assert before == path.read_text()


# The tool


def test_a_configuration_that_others_may_write_to_is_a_failure(patient: Patient) -> None:
    need_user_ids()
    patient.config.chmod(0o666)
    os.chown(patient.config, 12345, 0)
    patient.is_cured_of("config", "failure", "warning", "warning")


def test_without_cap_net_admin_the_other_checks_still_look(patient: Patient) -> None:
    nobody = ("setpriv", "--bounding-set", "-net_admin")
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is missing here")
    found = {finding["name"]: finding["level"] for finding in patient.doctor(wrap=nobody)}
    assert ("warning", "ok", "ok") == (found["permission"], found["mirror"], found["rp_filter"])


def test_a_snapshot_gives_the_same_answers_on_any_machine(patient: Patient, tmp_path: Path) -> None:
    machine = patient.machine
    twice = f"{TO_MIRROR} priority 32765 protocol static"
    machine.batch([twice, MAIN_FIRST, f"-6 route del default dev {TUNNEL} table {MIRROR}"])
    machine.address(LAN, "198.51.100.7/24")
    machine.sysctl("net.ipv4.conf.uplink0.rp_filter", 1)
    (patient.etc / "resolv.conf").write_text("nameserver 192.168.188.1\n")
    (patient.etc / "iproute2/rt_tables").write_text(f"77 {MIRROR}\n")
    patient.sh("mkdir -p /run/systemd/netif && touch /run/systemd/netif/state")
    live = patient.doctor()
    path = tmp_path / "snapshot.json"
    patient.sh(f"fz-iproute -c {patient.config} snapshot -o {path}")
    options: dict[str, Any] = machine.fz_options()
    elsewhere = run(
        sys.executable, "-m", "fz_iproute", "doctor", "--json", "--snapshot", str(path), check=False, **options
    )
    assert live == json.loads(elsewhere.stdout)["checks"]
    assert 1 == elsewhere.returncode


def test_doctor_changes_nothing(patient: Patient) -> None:
    machine = patient.machine
    machine.address(LAN, "10.5.5.1/24")
    patient.config.chmod(0o666)
    before = machine.raw_everything(but=0), machine.raw("inet"), machine.raw("inet6")
    patient.doctor()
    assert before == (machine.raw_everything(but=0), machine.raw("inet"), machine.raw("inet6"))
    assert 0o666 == patient.config.stat().st_mode & 0o777
