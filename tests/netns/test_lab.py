"""A lab answers like the machine of its snapshot, and leaves nothing behind."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fz_iproute.mirror.ip_json import documents_of
from tests.netns.namespace import LAN, MAIN, MARK, MIRROR, PROGRAM, PROJECT, TUNNEL, Machine, Namespace, run, wait_until
from tests.netns.test_names import NAMES
from tests.netns.test_roundtrip import add_every_kind
from tests.netns.test_snapshot import SCENARIOS, Scenario, furnish_a_terrain
from tests.user_ids import DROP_RIGHTS, need_user_ids

ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}

# One start of Python for many answers, because the start takes most of the time.
ASK = """
import sys
from fz_iproute.cli import main
for question in "plan", "plan --json", "status --routes", "status --json":
    print("----", question, main([*sys.argv[1:], *question.split()]))
"""


def lab(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """`fz-iproute lab` with these words."""
    return run(*PROGRAM, "lab", *words, check=False, **{"env": ENVIRONMENT, "cwd": PROJECT, **options})


def answers(*words: str) -> str:
    """What plan and status print with these options."""
    return run(sys.executable, "-c", ASK, *words, env=ENVIRONMENT, cwd=PROJECT).stdout


def not_rebuilt(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines in which the lab says what it could not rebuild."""
    return [line for line in done.stderr.splitlines() if line.startswith("warning: not rebuilt: ")]


def assert_alike(namespace: Namespace, folder: Path, config: str = "") -> None:
    """The machine and the lab give the same answers, and their snapshots hold the same."""
    file, again = folder / "snapshot.json", folder / "again.json"
    file.write_text(namespace.fz("snapshot", config=config))
    expected = answers("--netns", namespace.name, "-c", str(namespace.config(config)))
    expected = expected.replace(f"ip -n {namespace.name} ", "ip ")
    ask = f"{ASK}\nmain(['snapshot', '-o', '{again}'])"
    done = lab("--snapshot", str(file), "--", sys.executable, "-c", ask)
    assert (0, []) == (done.returncode, not_rebuilt(done))
    assert expected == done.stdout
    assert_same_recorded(json.loads(file.read_text()), json.loads(again.read_text()))


# Lifetimes, who made an address (since iproute2 6.15), and what depends on the other end of a cable.
PASSING = {"link", "link_index", "link_netnsid", "operstate", "qdisc", "txqlen", "expires", "linkmode", "group"}
OF_LINKS = {"broadcast", "address", "ifindex"}
OF_ADDRESSES = {"valid_life_time", "preferred_life_time", "nodad", "tentative", "dynamic", "stable-privacy", "protocol"}
FLAGS = {"linkdown", "dead", "M-DOWN", "NO-CARRIER", "LOWER_UP"}


def assert_same_recorded(machine: dict[str, Any], rebuilt: dict[str, Any]) -> None:
    assert machine["ip"].keys() == rebuilt["ip"].keys()
    assert machine["config"] == rebuilt["config"]
    for key in machine["ip"]:
        if key.startswith("-json"):
            outputs = [found["ip"][key].encode("utf-8", "surrogateescape") for found in (machine, rebuilt)]
            before, after = ([_without_state(key, each) for each in documents_of(output)] for output in outputs)
            # In a lab, links have other indexes. The kernel has filled table local in the order in which they came up.
            if key.endswith(("link show", "address show", "table local")):
                before, after = sorted(map(repr, before)), sorted(map(repr, after))
            assert before == after, key


def _without_state(key: str, document: dict[str, Any]) -> dict[str, Any]:
    passing = PASSING | OF_LINKS if "link show" in key or "address show" in key else PASSING
    kept = {name: value for name, value in document.items() if name not in passing}
    if "flags" in kept:
        kept["flags"] = [flag for flag in kept["flags"] if flag not in FLAGS]
    if "addr_info" in kept:
        kept["addr_info"] = [
            {name: value for name, value in address.items() if name not in OF_ADDRESSES}
            for address in kept["addr_info"]
        ]
    return kept


def odd_links(machine: Machine) -> None:
    """A bridge with a member, a cable with both ends here, links that are down, without carrier or without IPv6."""
    machine.bridge("br0", "10.5.0.1/24")
    machine.veth("member0")
    machine.ip("link", "set", "dev", "member0", "master", "br0")
    machine.veth("near0", "10.6.0.1/24", peer="near1")
    machine.address("near1", "10.6.0.2/24")
    machine.ip("link", "add", "name", "lonely0", "type", "veth", "peer", "name", "nobody0")
    machine.ip("link", "set", "dev", "lonely0", "mtu", "1400", "multicast", "off", "up")
    machine.address("lonely0", "10.7.0.1", "peer", "10.7.0.9/32", "label", "lonely0:1")
    machine.address("lonely0", "10.8.0.1/24", "noprefixroute", "broadcast", "10.8.0.255")
    machine.address("nobody0", "10.9.0.1/24")
    machine.sysctl("net.ipv6.conf.uplink0.disable_ipv6", 1)
    machine.fz("sync")


def many_rules(machine: Machine) -> None:
    need_user_ids()
    machine.batch(
        [
            f"rule add not from 10.0.0.0/8 to 1.2.3.4 fwmark 1/0xff iif {LAN} oif nobody tos 0x10 lookup 77 pref 5",
            "rule add uidrange 1-5 ipproto tcp sport 22 dport 5-9 lookup main suppress_prefixlength 0 pref 6",
            "rule add pref 7 goto 10",
            "rule add pref 8 nop",
            "rule add pref 9 from 10.66.0.1 unreachable protocol 55",
            "rule add pref 10 lookup main realms 4/5 suppress_ifgroup 7",
            "rule add pref 11 l3mdev protocol static",
            "rule add pref 32766 from 10.0.0.0/8 lookup 5",
            "-6 rule add pref 12 fwmark 0/0xff blackhole",
            "-6 rule del pref 32766",
            "-6 rule add pref 40000 lookup main protocol bird",
            "-6 rule add pref 12 from fd00::/8 lookup 539098369",
        ]
    )


def terrain_without_locks(machine: Machine) -> None:
    furnish_a_terrain(machine)
    machine.ip("route", "del", "198.51.100.0/24", "dev", "v1")


SHOWN = {
    "terrain": Scenario(terrain_without_locks),
    "odd links": Scenario(odd_links),
    "many rules": Scenario(many_rules),
    **{
        name: SCENARIOS[name]
        for name in (
            "observe",
            "observe in tiers",
            "manage tiered, IPv4 only",
            "manage single, internet true",
        )
    },
}


@pytest.mark.parametrize("scenario", SHOWN.values(), ids=list(SHOWN))
def test_a_lab_answers_as_its_machine(scenario: Scenario, machine: Machine, tmp_path: Path) -> None:
    scenario.happen(machine)
    assert_alike(machine, tmp_path, scenario.config)


NOT_REBUILT = {
    "a gateway that cannot be reached any more": (
        [
            "route add 10.1.0.9 dev uplink0 scope link",
            "route add 10.2.0.0/24 via 10.1.0.9 dev uplink0 metric 7 table 77",
            "route del 10.1.0.9 dev uplink0",
            "rule add pref 5 from 10.0.0.0/8 lookup 77",
        ],
        ["route append table 77 10.2.0.0/24 via 10.1.0.9 dev uplink0", "Nexthop has invalid gateway"],
    ),
    # The recorded JSON has the metric, but not the lock.
    "a locked metric": (["route add 10.5.0.0/24 dev uplink0 scope link mtu lock 1400"], ["10.5.0.0/24", "locked"]),
}


@pytest.mark.parametrize(("lines", "words"), NOT_REBUILT.values(), ids=NOT_REBUILT)
def test_what_cannot_be_rebuilt_is_listed(lines: list[str], words: list[str], machine: Machine, tmp_path: Path) -> None:
    machine.batch(lines)
    file = tmp_path / "snapshot.json"
    file.write_text(machine.fz("snapshot"))
    (line,) = not_rebuilt(lab("--snapshot", str(file), "--", "true"))
    assert [] == [word for word in words if word not in line]


def test_a_redacted_snapshot_is_rebuilt_too(machine: Machine, tmp_path: Path) -> None:
    machine.ip("link", "set", LAN, "mtu", "1400")
    machine.ip("addr", "add", "10.5.0.5/24", "dev", LAN, "label", f"{LAN}:x")
    machine.fz("sync")
    machine.ip("addr", "del", "192.168.188.112/24", "dev", LAN)
    file = tmp_path / "snapshot.json"
    file.write_text(machine.fz("snapshot", "--redact"))
    script = f"ip -o link | grep -c 'mtu 1400'; {' '.join(PROGRAM)} plan"
    done = lab("--snapshot", str(file), "--", "sh", "-c", script)
    assert (0, []) == (done.returncode, not_rebuilt(done))
    mtu, *plan = done.stdout.splitlines()
    assert "1" == mtu
    assert len(machine.fz("plan").splitlines()) == len(plan) > 0
    assert any("route del" in line and " src 192.168." in line for line in plan)


def test_routes_of_every_kind_are_rebuilt(namespace: Namespace, tmp_path: Path) -> None:
    add_every_kind(namespace, MAIN, MIRROR)
    namespace.batch(
        [
            *(f"route append 10.2.3.0/24 dev {device} scope link" for device in ("v1", "v0", "v2")),
            "route append 10.2.3.0/24 via 10.255.0.9 dev v0 onlink",
            *(f"-6 route append fe80::/64 dev {device} metric 77" for device in ("v2", "v0", "v1")),
            "-6 route add fd00:7::/64 nexthop via fe80::1 dev v0 weight 3 nexthop via fe80::2 dev v1",
            "route add 10.4.0.0/24 via inet6 fe80::9 dev v1",
            "route add unreachable 10.6.1.0/24 metric 7",
            "route add throw 10.6.2.0/24 table 77",
            "-6 route add prohibit fd00:6::/64",
            "route add blackhole default metric 4294967295",
            "nexthop add id 20 blackhole",
            "nexthop add id 21 via 10.255.0.9 dev v0 onlink proto 99",
            "-6 nexthop add id 22 via fe80::7 dev v2",
            "route add 10.7.0.0/24 nhid 20",
            "route add 10.8.0.0/24 nhid 21",
            "-6 route add fd00:9::/64 nhid 22",
        ]
    )
    assert_alike(namespace, tmp_path)


def test_links_of_any_name_are_rebuilt(namespace: Namespace, tmp_path: Path) -> None:
    namespace.bridge("plain")
    for number, name in enumerate(NAMES, 1):
        device = namespace.odd_veth(name, f"p{number}", f"10.{number}.0.5/24")
        namespace.batch([f"route add 10.{number}.8.0/21 scope link nexthop dev {device} weight 2 nexthop dev lo"])
        namespace.ip("rule", "add", "pref", str(number), "iif", name, "lookup", "77")
    assert_alike(namespace, tmp_path)


def test_without_a_snapshot_the_lab_is_a_laptop_under_a_full_tunnel() -> None:
    """The LAN answers only after a sync."""
    program = " ".join(PROGRAM)
    ping = "ping -c1 -W1 192.168.188.1 >/dev/null; echo $?"
    script = f"{ping}; {program} status; {program} -q sync; {ping}; {program} plan; "
    script += f"ip route get 1.1.1.1; ping -c1 -W1 -m {MARK} fd00:77::1"
    done = lab("sh", "-c", script)
    assert (0, "") == (done.returncode, done.stderr)
    first, *status, last = done.stdout.partition("\n0\n")[0].splitlines()
    assert "1" == first
    assert status[1].endswith("   → fz-iproute sync") and last.endswith("   → fz-iproute watch")
    assert f"1.1.1.1 dev {TUNNEL} table {MIRROR}" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "printed"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["echo", "--version", "-c", "--", "x"], 0, "--version -c -- x\n"),
        (["--", "echo", "--", "-c", "x"], 0, "-- -c x\n"),
        (["sh", "-c", "kill -9 $$"], 137, ""),
        (["/nowhere/at all"], 127, ""),
        (["/etc/passwd"], 126, ""),
    ],
    ids=str,
)
def test_the_exit_code_and_options_are_those_of_the_command(words: list[str], code: int, printed: str) -> None:
    done = lab(*words)
    assert (code, printed) == (done.returncode, done.stdout)


def test_a_line_for_a_shell_is_told_how_to_be_run() -> None:
    done = lab("echo a | cat")
    assert 127 == done.returncode
    assert done.stderr.endswith("; for a line of a shell, use `fz-iproute lab sh -c 'echo a | cat'`\n")
    assert "a\n" == lab("sh", "-c", "echo a | cat").stdout


def test_a_shell_runs_where_no_command_is_named() -> None:
    usual = lab(stdin="ip -o link | cut -d: -f2 | head -n1 | tr -d ' '; exit 3\n")
    chosen = lab(stdin="hello\n", env={**ENVIRONMENT, "SHELL": "/bin/cat"})
    assert [(3, "lo\n"), (0, "hello\n")] == [(done.returncode, done.stdout) for done in (usual, chosen)]
    assert usual.stderr == chosen.stderr
    what, how = usual.stderr.splitlines()
    assert what.startswith("# you are in a lab: ") and "`exit` ends the lab" in how and max(map(len, (what, how))) < 100


def test_what_a_lab_shares_with_this_machine_stays_as_it_is(tmp_path: Path) -> None:
    """The program is a single file, and the lab puts it on PATH."""
    program, here, missing = tmp_path / "fz-iproute.pyz", tmp_path / "new.toml", tmp_path / "missing/new.toml"
    program.write_text(f"#!{sys.executable}\nimport sys; from fz_iproute import cli; sys.exit(cli.main())\n")
    program.chmod(0o755)
    refused = [f"detect --write {missing}", "install --program /nowhere/x", "uninstall --instance nobody"]
    allowed = ["--version", "uninstall -n", "detect --write /run/new.toml", f"detect --write {here}"]
    script = ";".join(f"fz-iproute {words} >&2; echo $?" for words in (*refused, *allowed))
    env = {**ENVIRONMENT, "PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    done = run(str(program), "lab", "sh", "-c", script, check=False, env=env)
    assert done.stdout.split() == ["2"] * 3 + ["0"] * 4, done
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert 3 == len(errors) and all("machine" in line for line in errors), done
    assert not missing.parent.exists() and here.exists()
    assert "# /run/new.toml is written; next: " in done.stderr
    assert f"# {here} is written on this machine's disk; next: " in done.stderr
    assert "install --now" not in done.stderr


def inhabitants(namespace: str) -> list[str]:
    """The processes in this network namespace, such as net:[4026531840]."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str((folder / "ns/net").readlink()) == namespace:
                found.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_no_process_outlives_the_lab(number: signal.Signals) -> None:
    script = "setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1; done' & readlink /proc/self/ns/net; wait"
    with subprocess.Popen(
        [*PROGRAM, "lab", "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=PROJECT
    ) as running:
        assert running.stdout
        namespace = running.stdout.readline().strip()
        wait_until(lambda: len(inhabitants(namespace)) >= 3, "all processes are there")
        running.send_signal(number)
        assert running.wait() in (-number, 128 + number)
        wait_until(lambda: inhabitants(namespace) == [], "they are gone")


def test_the_command_decides_what_an_interrupt_does() -> None:
    script = "trap 'exit 5' INT; echo ready; while :; do sleep 0.1; done"
    with subprocess.Popen(
        [*PROGRAM, "lab", "--", "sh", "-c", script],
        stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=PROJECT, start_new_session=True,
    ) as running:  # fmt: skip
        assert running.stdout
        assert "ready\n" == running.stdout.readline()
        os.killpg(running.pid, signal.SIGINT)
        assert 5 == running.wait()


def test_a_lab_does_not_change_its_machine(machine: Machine) -> None:
    def there() -> list[str]:
        said = [machine.ip("-o", *what.split()) for what in ("link", "address", "rule", "route", "-6 route")]
        return [*said, machine.exec("cat", "/proc/sys/net/ipv4/conf/all/promote_secondaries").stdout]

    before = there()
    machine.exec(*PROGRAM, "lab", "--", "sh", "-c", "touch /run/x /run/fz-iproute/x", env=ENVIRONMENT, cwd=PROJECT)
    assert before == there()
    assert not Path("/run/x").exists()


def test_a_lab_has_the_recorded_name_servers_in_a_file_of_its_own(machine: Machine, tmp_path: Path) -> None:
    """It only looks: if this failed, a lab that writes would change the file of this machine."""
    if not Path("/etc/resolv.conf").exists():
        pytest.skip("NAME SERVERS NOT TRIED: this machine has no /etc/resolv.conf")
    document = json.loads(machine.fz("snapshot"))
    document["facts"]["/etc/resolv.conf"] = "nameserver 192.0.2.53\n"
    (tmp_path / "snapshot").write_text(json.dumps(document))
    done = lab(
        "--snapshot",
        str(tmp_path / "snapshot"),
        "--",
        "sh",
        "-c",
        "cat /etc/resolv.conf; stat -Lc %d /etc/resolv.conf /run",
    )
    first, *devices = done.stdout.splitlines()
    assert "nameserver 192.0.2.53" == first, done
    assert 1 == len(set(devices)), "it is on the lab's own /run"


def test_other_users_may_look_at_the_lab_of_root() -> None:
    need_user_ids()
    done = lab("--", sys.executable, "-c", DROP_RIGHTS, "config", "check")
    assert (0, "/run/fz-iproute/config.toml: good\n") == (done.returncode, done.stdout), done.stderr


def test_in_a_lab_remedies_name_no_file_unless_another_one_is_in_force(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[lan]\n")
    script = "import sys; from fz_iproute.cli import main; main([*sys.argv[1:], 'doctor', '--json'])"
    for options in ([], ["-c", str(other)]):
        done = lab("--", sys.executable, "-c", script, *options)
        found = {each["name"]: each["remedy"] for each in json.loads(done.stdout)["checks"]}
        assert shlex.join(["fz-iproute", *options, "sync"]) == found["mirror"], done


@pytest.mark.parametrize("option", ["", "--redact"])
def test_a_snapshot_of_a_lab_does_not_name_the_file_that_disappears_with_it(option: str, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    done = lab(*PROGRAM, "snapshot", *option.split(), "-o", str(path))
    assert 0 == done.returncode, done.stderr
    for verb in ("status", "detect", "doctor"):
        said = run(*PROGRAM, verb, "--snapshot", str(path), check=False).stdout
        assert "fz-iproute sync" in said and "/run" not in said, said


def test_an_ordinary_user_has_a_lab_too() -> None:
    need_user_ids()
    ordinary = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    if run(*ordinary, "unshare", "--user", "--map-root-user", "--net", "true", check=False).returncode:
        pytest.skip("no user namespaces here")
    if run(*ordinary, *PROGRAM, "--version", check=False, env=ENVIRONMENT, cwd=PROJECT).returncode:
        pytest.skip("an ordinary user cannot run this Python")
    argv = [*ordinary, *PROGRAM, "lab", "--", "sh", "-c", "ip route show table 539098368; ip -br link; exit 9"]
    done = run(*argv, check=False, env=ENVIRONMENT, cwd=PROJECT)
    assert 9 == done.returncode, done.stderr
    assert "default dev tun-firezone" in done.stdout
    # Only root may be allowed to open /dev/net/tun.
    assert not_rebuilt(done) in ([], [line for line in not_rebuilt(done) if "a cable replaces it" in line][:1])


def test_without_namespaces_the_lab_ends_with_one_line() -> None:
    inside = 'echo 0 >/proc/sys/user/max_net_namespaces && exec "$@"'
    argv = ["unshare", "--user", "--map-root-user", "sh", "-c", inside, "sh", *PROGRAM, "lab", "--", "true"]
    done = run(*argv, check=False, env=ENVIRONMENT, cwd=PROJECT)
    assert (4, 1) == (done.returncode, len(done.stderr.splitlines())), done.stderr
    assert "user namespaces" in done.stderr


# Hostile snapshots


def edited(machine: Machine, folder: Path, changes: dict[str, Any], **parts: Any) -> str:
    """A snapshot with changed answers."""
    document = json.loads(machine.fz("snapshot"))
    outputs = {**document["ip"], **{key: json.dumps(value) for key, value in changes.items()}}
    file = folder / "edited.json"
    file.write_text(json.dumps({**document, **parts, "ip": outputs}))
    return str(file)


def test_a_hostile_snapshot_runs_no_command_of_its_own(machine: Machine, tmp_path: Path) -> None:
    cable = {"link_type": "ether", "flags": ["UP"], "mtu": 1500}
    names = ["a b", "../x", "x\nlink del lo", "all", "", "16-bytes-are-too", "x%d", "nul\0", "a\u00a0"]
    links = [{"ifname": "lo", "ifindex": 1, "link_type": "loopback", "flags": ["UP", "LOOPBACK"]}]
    links += [{"ifname": name, "ifindex": 10 + number, **cable} for number, name in enumerate(names)]
    links += [{"ifname": "good0", "ifindex": index, **cable} for index in (40, 41)]
    route = {"dst": "10.0.0.0/24", "dev": "good0", "scope": "link", "flags": []}
    more = "\nlink set lo down"
    tricks: list[dict[str, Any]] = [
        *({"type": f"x{more}\nroute add"}, {"protocol": f"static{more}"}, {"metric": f"7{more}"}, {"metric": "word"}),
        *({"metrics": [{"mtu": f"1400{more}"}]}, {"prefsrc": "1.2.3.4 dev lo"}),
        *({"dev": "#x"}, {"dev": "a b"}, {"protocol": "nobody-knows"}),
    ]
    routes = [{**route, **trick} for trick in tricks] + [{**route, "dst": f"10.{n}.0.0/24"} for n in range(20)]
    rule = {"src": "all", "table": "7"}
    rules = [{**rule, "priority": 5, "iif": f"x{more}"}, {**rule, "priority": f"6{more}"}]
    rules += [{**rule, "priority": 8, "tos": "0x10 table 9"}, {**rule, "priority": 9, "surprise": 1}]
    rules += [{"priority": 10, "src": "all", "table": "254", "protocol": "2"}]
    address = {"family": "inet", "local": "10.9.0.1", "prefixlen": 8, "scope": f"link{more}"}
    changes = {
        "-json link show": links,
        "-json address show": [{"ifname": "good0", "addr_info": [address]}],
        "-json nexthop show": [{"id": f"1{more}", "dev": "good0"}, {"id": 2, "group": [{"id": "3 proto 4"}]}],
        "-json -4 route show table main": routes,
        "-json -4 -details -Numeric rule show": rules,
    }
    sysctls = {"../../kernel/hostname": "7", "ipv4/conf/../all/rp_filter": "1", "ipv4/conf/good0/rp_filter": "2\n"}
    script = "ip -br link; ip route show root 10.0.0.0/8; ip rule; cat /proc/sys/net/ipv4/conf/good0/rp_filter"
    done = lab("--snapshot", edited(machine, tmp_path, changes, sysctls=sysctls), "--", "sh", "-c", script)
    assert 0 == done.returncode, done.stderr
    printed = done.stdout.splitlines()
    assert ["lo", "good0@if2"] == [line.split()[0] for line in printed if "BROADCAST" in line or "LOOPBACK" in line]
    assert "UP" in printed[0].split()[-1]
    assert 20 == sum(line.startswith("10.") for line in printed), done.stdout + done.stderr
    assert ["10:\tfrom all lookup main"] == [line for line in printed if "lookup" in line]
    expected = len(names) + 1 + len(tricks) + 4 + 2 + 1
    assert expected <= len(not_rebuilt(done)) == len(done.stderr.splitlines()), done.stderr


@pytest.mark.parametrize("links", ["[1]", '[{"ifname": "x", "ifindex": []}]'])
def test_a_file_that_is_no_snapshot_is_refused_in_one_line(links: str, tmp_path: Path) -> None:
    document = {"schema": 1, "taken": "", "versions": {}, "config": "", "sysctls": {}, "ip": {"-json link show": links}}
    file = tmp_path / "snapshot.json"
    file.write_text(json.dumps(document))
    done = lab("--snapshot", str(file), "--", "echo", "never")
    assert (2, "", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines())), done.stderr


def test_twenty_thousand_routes_are_rebuilt(machine: Machine, tmp_path: Path) -> None:
    route = {"dev": LAN, "protocol": "static", "scope": "link", "flags": []}
    many = [{"dst": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", **route} for n in range(20_000)]
    file = edited(machine, tmp_path, {f"-json -4 route show table {MIRROR}": many})
    done = lab("--snapshot", file, "--", "sh", "-c", f"ip route show table {MIRROR} | wc -l")
    assert (0, "20000\n", []) == (done.returncode, done.stdout, not_rebuilt(done))
