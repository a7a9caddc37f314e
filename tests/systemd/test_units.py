"""What `install` sets up, under a systemd that has booted it."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.netns.namespace import wait_until
from tests.systemd.machine import HOME, HOME_CONFIG, VPN_DEFAULT, VPN_RULE, Booted

SERVICE = "fz-iproute.service"


def main_pid(booted: Booted, unit: str = SERVICE) -> int:
    return int(booted.show(unit, "MainPID"))


def journal(booted: Booted, unit: str = SERVICE) -> str:
    return booted.run("journalctl", "--no-pager", "-q", "-o", "cat", "-u", unit)


@pytest.fixture(scope="module")
def service(booted: Booted) -> Booted:
    booted.fz("down")  # so root has made the folder of the locks before the unit starts
    try:
        said = booted.fz("install", "--now")
    except AssertionError as error:
        error.add_note(journal(booted))
        error.add_note(booted.run("journalctl", "-q", "--no-pager", "-n", "30"))
        raise
    assert "systemctl restart fz-iproute.service" in said
    return booted


def test_the_service_is_ready_and_the_lan_is_copied(service: Booted) -> None:
    """The command `systemctl restart` has waited until the unit was ready."""
    assert service.is_active(SERVICE), journal(service)
    assert ["192.168.188.0/24"] == service.copies()
    assert "copies" in service.show(SERVICE, "StatusText")
    assert "warning" not in journal(service).replace("watchfiles is not installed", "")


def test_the_sandbox_is_in_force(service: Booted) -> None:
    pid = main_pid(service)
    text = service.run("cat", f"/proc/{pid}/status")
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert "0" not in status["Uid"].split(), "a user of its own"
    assert (f"{1 << 12:016x}", "1", "2") == (status["CapBnd"], status["NoNewPrivs"], status["Seccomp"])
    # From inside, because a newer systemd maps the ids: from outside, the folders belong to nobody.
    inside = f"nsenter --mount --target {pid} stat -L -c %u"
    owners = service.sh(f"{inside} /run/fz-iproute /var/log/private/fz-iproute").split()
    assert [status["Uid"].split()[0]] * 2 == owners


def test_it_is_ready_after_less_than_a_second_of_work(service: Booted) -> None:
    """The time of a processor, its children's too. On a busy machine, it may take longer until it gets that."""
    service.sh("systemctl reset-failed; systemctl restart fz-iproute")
    stat = service.run("cat", f"/proc/{main_pid(service)}/stat").rpartition(")")[2].split()
    worked = sum(map(int, stat[11:15])) / os.sysconf("SC_CLK_TCK")
    began, ready = (
        int(service.show(SERVICE, f"{name}TimestampMonotonic")) for name in ("ExecMainStart", "ActiveEnter")
    )
    print(f"ready after {(ready - began) / 1e6:.2f} s, of which it worked {worked:.2f} s")
    assert ("notify", True) == (service.show(SERVICE, "Type"), worked < 1)


FORBIDDEN = """\
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
TRACEME, CLONE_NEWUTS = 0, 0x04000000
for name, act in {
    "a system call that is not in the list": lambda: call(libc.ptrace, TRACEME, 0, 0, 0),
    "a namespace": lambda: call(libc.unshare, CLONE_NEWUTS),
    "a socket to the network": lambda: socket.socket(socket.AF_INET),
    "a file in /etc": lambda: open("/etc/fz-try", "w"),
    "a look into /root": lambda: os.listdir("/root"),
    "a program with the rights of its owner": lambda: os.fchmod(os.memfd_create("x"), 0o4755),
}.items():
    try:
        act()
        print(name, "is allowed")
    except OSError as error:
        print(name, "is refused")
"""


def test_the_sandbox_refuses_what_it_forbids(service: Booted) -> None:
    """A program in the unit's place tries; outside of the sandbox, all of that is allowed."""
    service.sh(f"""
        cat > /opt/fz-try.py <<'END'
{FORBIDDEN}END
        sed -e 's|^ExecStart=.*|ExecStart=/usr/bin/python3 -I /opt/fz-try.py|' -e 's/^Type=.*/Type=oneshot/' \
            -e '/^WatchdogSec=/d; /^Restart/d; /^ExecReload=/d' -e 's/^\\(.*Directory=\\).*/\\1fz-try/' \
            /etc/systemd/system/fz-iproute.service > /etc/systemd/system/fz-try.service
        systemctl daemon-reload
        systemctl start fz-try
    """)
    tried = [line for line in journal(service, "fz-try.service").splitlines() if " is " in line]
    assert 6 == len(tried)
    assert [] == [line for line in tried if not line.endswith(" is refused")]
    outside = service.run("/usr/bin/python3", "-I", "/opt/fz-try.py").splitlines()
    assert [] == [line for line in outside if not line.endswith(" is allowed")]


def test_it_reloads_its_configuration(service: Booted) -> None:
    service.sh(
        "echo '[lan]\nexclude_interfaces = [\"lan0\"]' > /etc/fz-iproute/config.toml; systemctl reload fz-iproute"
    )
    wait_until(lambda: [] == service.copies(), "the copy goes")
    service.sh("echo '[lan]' > /etc/fz-iproute/config.toml")
    wait_until(lambda: ["192.168.188.0/24"] == service.copies(), "it has noticed by itself")


def test_after_sigkill_it_is_started_again(service: Booted) -> None:
    before = main_pid(service)
    service.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", SERVICE)
    wait_until(lambda: main_pid(service) not in (0, before) and service.is_active(SERVICE), "there is a new one")
    assert ["192.168.188.0/24"] == service.copies()
    said = service.run("/opt/fz-iproute/bin/fz-iproute", "--wait", "0", "watch", check=False)
    assert "one `watch` for a table is enough" in said, "root and the user of the service share the locks"


def test_a_killed_monitor_is_replaced(service: Booted) -> None:
    def monitors() -> list[str]:
        # A thread may end between the shell's look and that of `cat`.
        children = service.run("sh", "-c", f"cat /proc/{main_pid(service)}/task/*/children", check=False).split()
        return [pid for pid in children if "monitor" in service.run("cat", f"/proc/{pid}/cmdline", check=False)]

    (first,) = wait_until(monitors, "there is a monitor")
    service.run("sh", "-c", f"kill -9 {first}")  # a small system has no program for it
    wait_until(lambda: monitors() not in ([], [first]), "there is another one")


def test_the_watchdog_is_fed_and_ends_a_process_that_hangs(service: Booted) -> None:
    service.sh("""
        mkdir -p /etc/systemd/system/fz-iproute.service.d
        printf '[Unit]\\nStartLimitIntervalSec=0\\n[Service]\\nWatchdogSec=3\\n' \\
            > /etc/systemd/system/fz-iproute.service.d/patience.conf
        systemctl daemon-reload
        systemctl restart fz-iproute
    """)
    pid = main_pid(service)
    seen: set[str] = set()
    wait_until(
        lambda: seen.add(service.show(SERVICE, "WatchdogTimestampMonotonic")) or len(seen) > 2, "it is fed twice"
    )
    assert pid == main_pid(service)
    service.sh(f"kill -STOP {pid}")
    wait_until(lambda: main_pid(service) not in (0, pid) and service.is_active(SERVICE), "systemd replaces it")
    assert "Watchdog timeout" in journal(service)
    service.sh("rm -r /etc/systemd/system/fz-iproute.service.d; systemctl daemon-reload; systemctl restart fz-iproute")


def test_an_instance_serves_another_tunnel_and_its_end_disturbs_no_other(service: Booted) -> None:
    service.sh(HOME + HOME_CONFIG)
    service.fz("install", "--instance", "home", "--now")
    assert service.is_active("fz-iproute@home.service"), journal(service, "fz-iproute@home.service")
    assert ["192.168.188.0/24"] == service.copies(1000)
    assert "fz_iproute_watch_running 1" in service.fz("-c", "/etc/fz-iproute/home.toml", "metrics")
    service.run("systemctl", "stop", "fz-iproute@home.service")
    service.sh("ip route add 10.5.0.0/24 dev lan0")
    wait_until(lambda: "10.5.0.0/24" in service.copies(), "the other one still works")
    service.sh("ip route del 10.5.0.0/24 dev lan0")
    service.fz("uninstall", "--instance", "home")
    assert "disabled" == service.run("systemctl", "is-enabled", "fz-iproute@home.service", check=False)


@pytest.fixture
def networkd(service: Booted) -> Iterator[Callable[..., None]]:
    """Lets systemd-networkd configure the LAN, with other programs' routes and rules or without."""

    def start(foreign: str) -> None:
        service.sh(f"""
            mkdir -p /etc/systemd/networkd.conf.d
            cat > /etc/systemd/network/lan.network <<'END'
[Match]
Name=lan0
[Network]
Address=192.168.188.112/24
LinkLocalAddressing=no
[Route]
Destination=10.5.0.0/24
Scope=link
END
            cat > /etc/systemd/networkd.conf.d/fz.conf <<'END'
[Network]
ManageForeignRoutes={foreign}
ManageForeignRoutingPolicyRules={foreign}
END
            ip -4 addr flush dev lan0
            systemctl start systemd-networkd
        """)
        wait_until(lambda: " configured" in service.run("networkctl", "--no-pager", "list", "lan0"), "it is configured")

    yield start
    service.sh(f"""
        systemctl stop systemd-networkd.service systemd-networkd.socket fz-iproute
        /opt/fz-iproute/bin/fz-iproute down
        rm /etc/systemd/network/lan.network /etc/fz-iproute/config.toml
        ip route del 10.5.0.0/24 dev lan0
        ip route replace {VPN_DEFAULT}
        ip rule | grep -q 0xfd002021 || ip rule add {VPN_RULE}
        systemctl reset-failed
        systemctl start fz-iproute
    """)


@pytest.mark.parametrize(("foreign", "mode"), [("yes", "observe"), ("yes", "manage"), ("no", "observe")])
def test_what_systemd_networkd_wipes_comes_back(
    foreign: str, mode: str, service: Booted, networkd: Callable[..., None]
) -> None:
    """Each time it configures a link, networkd removes routes and rules of others, if it manages foreign ones."""
    service.sh(f"""
        printf '[tunnel]\nmode = "{mode}"\ninternet = true\n' > /etc/fz-iproute/config.toml
        systemctl reload fz-iproute
    """)
    networkd(foreign)
    both = ["10.5.0.0/24", "192.168.188.0/24"]
    wait_until(lambda: both == service.copies(), "in step")
    before = journal(service).count("table 539098368 10.5.0.0/24")
    service.run("networkctl", "reconfigure", "lan0")
    # A newer systemd leaves on the link what stays, unless it manages foreign routes.
    if foreign == "yes" or int(service.run("systemctl", "--version").split()[1]) < 257:
        wait_until(lambda: journal(service).count("table 539098368 10.5.0.0/24") > before, "the copy was gone")
    wait_until(lambda: both == service.copies(), "both are back")
    # Beside a VPN, the rule is the VPN's.
    kept = foreign == "no" or mode == "manage"
    wait_until(lambda: kept == ("not from all fwmark 0xfd002021" in service.run("ip", "rule")), f"rule: {kept}")


def test_the_copy_follows_network_manager(service: Booted, network_manager: None) -> None:
    def metrics() -> list[str]:
        lines = service.run("ip", "route", "show", "table", "539098368", "dev", "lan0").splitlines()
        return [line.partition("metric ")[2].strip() for line in lines if line.startswith("192.168.188.0/24 ")]

    service.sh("""
        ip -4 addr flush dev lan0
        nmcli connection add type ethernet ifname lan0 con-name home ipv6.method disabled ipv4.method manual \
            ipv4.addresses 192.168.188.112/24 ipv4.route-metric 600
        nmcli connection up home
    """)
    wait_until(lambda: ["600"] == metrics(), "the route is copied")
    service.run("nmcli", "device", "modify", "lan0", "ipv4.route-metric", "50")
    wait_until(lambda: ["50"] == metrics(), "the copy has the new metric")
    service.sh("nmcli connection modify home ipv4.addresses 192.168.188.77/24 && nmcli connection up home")
    wait_until(lambda: "src 192.168.188.77 metric 600" in service.run("ip", "route", "show", "table", "539098368"), "")
    service.run("nmcli", "connection", "down", "home")
    wait_until(lambda: [] == service.copies(), "the copy goes with the route")


def test_stop_leaves_no_child_and_the_copies(service: Booted) -> None:
    service.run("systemctl", "stop", SERVICE)
    # systemd may keep the group without a process in it. Its path depends on the version of control groups.
    if group := service.show(SERVICE, "ControlGroup"):
        files = " ".join(f"{root}{group}/cgroup.procs" for root in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup"))
        assert "" == service.sh(f"cat {files} 2>/dev/null || true")
    assert "ip" not in service.sh("cat /proc/[0-9]*/comm 2>/dev/null || true").split()
    assert ["192.168.188.0/24"] == service.copies()


def test_the_timer_brings_the_tables_in_step(service: Booted) -> None:
    service.sh("ip route del 192.168.188.0/24 dev lan0 table 539098368")
    service.fz("install", "--timer", "--now")
    wait_until(lambda: ["192.168.188.0/24"] == service.copies(), "the timer has run sync")
    assert "success" == service.show("fz-iproute-sync.service", "Result"), journal(service, "fz-iproute-sync.service")


def test_uninstall_leaves_nothing(service: Booted) -> None:
    said = service.fz("uninstall")
    found = service.sh("find /etc /usr/local /var/log -xdev -name '*fz-iproute*' -not -path /etc/fz-iproute")
    assert "" == found, said
    assert "" == service.run("systemctl", "list-unit-files", "--no-legend", "--no-pager", "fz-iproute*", check=False)
