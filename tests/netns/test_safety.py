"""Only our routes are changed, whatever goes wrong: missing rights, a SIGKILL, two syncs at a time."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.netns.namespace import LAN, MIRROR, TIER_LAN, Machine, Namespace, comparable, run
from tests.netns.rtnetlink import FAMILIES
from tests.netns.wiretap import Wiretap, fake_ip
from tests.watch import oracle

FOREIGN = [
    f"route add unreachable 10.61.0.0/16 table {MIRROR}",
    f"route add blackhole 10.62.0.0/16 table {MIRROR}",
    f"route add 10.63.0.0/16 via 192.168.188.1 table {MIRROR}",
    f"route add 10.64.0.0/16 dev {LAN} scope global table {MIRROR}",
    f"-6 route add unreachable fd00:61::/48 table {MIRROR}",
    f"-6 route add fd00:63::/48 via fd00:188::1 table {MIRROR}",
]


def everything(machine: Machine, *, but: int) -> dict[str, object]:
    """All that a mirror must not touch: rules, other tables, and the sysctls of the network."""
    sysctls = machine.exec(
        "sh", "-c", "cd /proc/sys/net && grep -rs . ipv4/conf ipv6/conf ipv4/ip_forward", check=False
    ).stdout
    quiet = [line for line in sysctls.splitlines() if "stable_secret" not in line]
    return {**machine.raw_everything(but=but), "sysctls": sorted(quiet)}


@pytest.mark.parametrize("tiered", [False, True])
def test_sync_writes_only_the_mirror_table_and_down_leaves_it_as_it_was(
    tiered: bool, machine: Machine, wiretap: Wiretap
) -> None:
    if tiered:
        machine.tiers()
    machine.batch(FOREIGN)
    table = TIER_LAN if tiered else MIRROR
    others = everything(machine, but=table)
    before = {family: comparable(machine.raw(family, table)) for family in FAMILIES}
    for verb in ("plan", "status", "sync", "sync"):
        machine.fz(verb)
    for family in FAMILIES:
        after = comparable(machine.raw(family, table))
        assert (True, []) == (before[family] != after, [route for route in before[family] if route not in after])
    machine.fz("down")
    assert before == {family: comparable(machine.raw(family, table)) for family in FAMILIES}
    assert others == everything(machine, but=table)
    machine.fz("down", path=wiretap.path)
    assert [] == wiretap.writes


@pytest.mark.parametrize("name", ["office0", "eth7", "tap-office"])
def test_a_wrong_name_of_a_tap_costs_the_vpn_no_route(name: str, machine: Machine) -> None:
    """A tap looks like an Ethernet, so only what is provably a copy is ours."""
    wrong = '[tunnel]\ninterface = "wg-somewhere"\n'
    machine.veth(name, "10.8.0.2/24", "fd00:8::2/64")
    machine.batch(f"{option}route flush table {MIRROR}" for option in ("", "-6 "))
    vpns = [f"route add 10.66.0.0/16 dev {name} proto static scope link table {MIRROR}"]
    vpns += [f"route add 10.67.0.0/16 dev {name} proto static scope link src 10.8.0.2 table {MIRROR}"]
    vpns += [f"-6 route add fd00:66::/48 dev {name} proto static table {MIRROR}"]
    machine.batch(vpns)
    before = {family: machine.raw(family) for family in FAMILIES}
    machine.address(LAN, "192.168.188.9/24")
    words = f"dev {LAN} scope link src 192.168.188.9 table {MIRROR}"
    machine.batch([f"route add 10.3.0.0/24 proto kernel {words}", f"route add 10.4.0.1 proto dhcp {words}"])
    machine.ip("address", "del", "192.168.188.9/24", "dev", LAN)
    machine.fz("sync", config=wrong)
    assert LAN == machine.way("192.168.188.1")
    assert [[], []] == [machine.route(dst) for dst in ("10.3.0.0/24", "10.4.0.1")]
    for family in FAMILIES:
        assert [] == [route for route in before[family] if route not in machine.raw(family)]
    machine.fz("down", config=wrong)
    assert before == {family: machine.raw(family) for family in FAMILIES}


# Rights


def with_rights(rights: str, machine: Machine, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the program in the namespace with changed capabilities."""
    setpriv = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]
    return machine.exec(*setpriv, *machine.fz_argv(*args, netns=False), check=False, **machine.fz_options())


def test_without_rights_only_what_changes_something_fails(machine: Machine) -> None:
    done = with_rights("-net_admin,-sys_admin", machine, "-q", "sync")
    assert (4, 1) == (done.returncode, len(done.stderr.splitlines())), done.stderr
    assert "Operation not permitted" in done.stderr
    assert "CAP_NET_ADMIN" in done.stderr
    for verb in ("plan", "status"):
        done = with_rights("-net_admin,-sys_admin", machine, verb)
        assert 0 == done.returncode, done.stderr
        assert "192.168.188.0/24" in done.stdout
    machine.fz("sync")
    done = with_rights("-net_admin,-sys_admin", machine, "watch")
    assert 4 == done.returncode and "use sudo" in done.stderr, "it would fail at the first change only"
    machine.fz("sync")
    assert 0 == with_rights("-net_admin,-sys_admin", machine, "sync").returncode


def test_in_a_user_namespace_sync_works_without_rights_outside(namespace: Namespace) -> None:
    fz = " ".join(f"'{word}'" for word in namespace.fz_argv("sync", netns=False))
    script = f"""
        ip link add lan0 type veth peer name far0 && ip link set lan0 up && ip link set far0 up &&
        ip addr add 10.1.0.5/24 dev lan0 && {fz} && ip route show table {MIRROR}
    """
    done = run("setpriv", "--bounding-set=-net_admin", "unshare", "--user", "--map-root-user", "--net",
               "sh", "-c", script, check=False, **namespace.fz_options())  # fmt: skip
    if "unshare" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert 0 == done.returncode, done.stderr
    assert "10.1.0.0/24 dev lan0 proto kernel scope link src 10.1.0.5" in done.stdout


def test_a_namespace_that_does_not_exist_is_told_from_an_empty_one(namespace: Namespace) -> None:
    argv = namespace.fz_argv("sync", "--netns", f"{namespace.name}-not", netns=False)
    done = run(*argv, check=False, **namespace.fz_options())
    assert 2 == done.returncode
    assert "Traceback" not in done.stderr


def test_without_a_namespace_the_lines_of_plan_are_for_the_one_they_run_in(machine: Machine) -> None:
    lines = machine.exec(*machine.fz_argv("plan", netns=False), **machine.fz_options()).stdout
    assert "-n" not in lines.split()
    machine.exec("sh", stdin=lines)
    assert oracle.in_step(machine)


# Crashes, and several at once


def many(namespace: Namespace, count: int) -> None:
    namespace.veth("lan0")
    lines = [f"10.{i >> 8}.{i & 255}.0/24" for i in range(count // 2)]
    namespace.batch(f"route add {dst} dev lan0 scope link proto static" for dst in lines)
    namespace.batch(f"-6 route add fd00:{i:x}::/64 dev lan0" for i in range(count // 2))


def test_after_a_kill_in_the_middle_the_next_sync_completes_the_work(namespace: Namespace) -> None:
    many(namespace, 6_000)
    started = time.monotonic()
    namespace.fz("-q", "sync")
    whole = time.monotonic() - started
    namespace.fz("-q", "down")

    process = subprocess.Popen(
        namespace.fz_argv("-q", "sync"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, **namespace.fz_options(),
    )  # fmt: skip
    time.sleep(whole / 2)  # any moment will do: the next sync must complete whatever is there
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    namespace.fz("-q", "sync")
    assert oracle.in_step(namespace)


# Runs other words just before a batch writes its first route.
MEDDLER = """\
case " $* " in *" -batch "*) ;; *) exec $ip "$@" ;; esac
while IFS= read -r line; do
    case $line in "route show"*) ;; "route "*) [ "$done" ] || $ip -n {name} {words} 2>&-; done=1 ;; esac
    printf '%s\\n' "$line"
done | $ip "$@"
"""
STALE = f"10.3.0.0/24 dev lan0 scope link table {MIRROR}"


@pytest.mark.parametrize(
    "words",
    [
        f"route add 10.1.0.0/24 dev lan0 proto kernel scope link src 10.1.0.5 table {MIRROR}",
        f"route del {STALE}",
        "link set lan1 down",
    ],
    ids=["a copy is added", "a stale copy is deleted", "a device goes down"],
)
def test_what_somebody_else_does_in_the_middle_is_no_failure(words: str, namespace: Namespace, tmp_path: Path) -> None:
    namespace.veth("lan0", "10.1.0.5/24")
    namespace.veth("lan1", "10.2.0.5/24")
    namespace.batch([f"route add {STALE}"])
    namespace.fz("sync", path=fake_ip(tmp_path, MEDDLER.format(name=namespace.name, words=words)))
    assert oracle.in_step(namespace)
