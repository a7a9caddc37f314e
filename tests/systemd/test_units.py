"""What `install` sets up, under a systemd that has booted it."""

import pytest

from tests.netns.namespace import wait_until
from tests.systemd.machine import HOME, HOME_CONFIG, Booted

SERVICE = "fz-iproute.service"


def main_pid(booted: Booted, unit: str = SERVICE) -> int:
    return int(booted.show(unit, "MainPID"))


def journal(booted: Booted, unit: str = SERVICE) -> str:
    return booted.run("journalctl", "--no-pager", "-q", "-o", "cat", "-u", unit)


@pytest.fixture(scope="module")
def service(booted: Booted) -> Booted:
    try:
        said = booted.fz("install", "--now")
    except AssertionError as error:
        error.add_note(journal(booted))
        error.add_note(booted.run("journalctl", "-q", "--no-pager", "-n", "30"))
        raise
    assert "systemctl restart fz-iproute.service" in said
    return booted


def processes(booted: Booted, unit: str = SERVICE) -> list[str]:
    """The processes of a unit, by systemd."""
    group = booted.show(unit, "ControlGroup")
    return (
        booted.run(
            "sh",
            "-c",
            f"cat /sys/fs/cgroup/systemd{group}/cgroup.procs /sys/fs/cgroup{group}/cgroup.procs 2>/dev/null",
            check=False,
        ).split()
        if group
        else []
    )


def test_the_service_is_ready_and_the_lan_is_copied(service: Booted) -> None:
    """The command `systemctl restart` has waited until the unit was ready."""
    assert service.is_active(SERVICE), journal(service)
    assert ["192.168.188.0/24"] == service.copies()
    assert "copies" in service.show(SERVICE, "StatusText")
    assert "warning" not in journal(service).replace("watchfiles is not installed", "")


def test_the_sandbox_is_in_force(service: Booted) -> None:
    text = service.run("cat", f"/proc/{main_pid(service)}/status")
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert "0" not in status["Uid"].split(), "a user of its own"
    assert (f"{1 << 12:016x}", "1", "2") == (status["CapBnd"], status["NoNewPrivs"], status["Seccomp"])
    owners = service.sh("stat -c %u /run/fz-iproute /var/log/private/fz-iproute").split()
    assert [status["Uid"].split()[0]] * 2 == owners


def test_it_reloads_its_configuration(service: Booted) -> None:
    service.sh(
        "echo '[lan]\nexclude_interfaces = [\"lan0\"]' > /etc/fz-iproute/config.toml; systemctl reload fz-iproute"
    )
    wait_until(lambda: [] == service.copies(), "the copy goes")
    service.sh("echo '[lan]' > /etc/fz-iproute/config.toml; systemctl reload fz-iproute")
    wait_until(lambda: ["192.168.188.0/24"] == service.copies(), "the copy comes back")


def test_after_sigkill_it_is_started_again(service: Booted) -> None:
    before = main_pid(service)
    service.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", SERVICE)
    wait_until(lambda: main_pid(service) not in (0, before) and service.is_active(SERVICE), "there is a new one")
    assert ["192.168.188.0/24"] == service.copies()


def test_the_watchdog_is_fed_and_ends_a_process_that_hangs(service: Booted) -> None:
    service.sh("""
        mkdir -p /etc/systemd/system/fz-iproute.service.d
        printf '[Service]\\nWatchdogSec=1\\n' > /etc/systemd/system/fz-iproute.service.d/patience.conf
        systemctl daemon-reload
        systemctl restart fz-iproute
    """)
    pid = main_pid(service)
    seen: set[str] = set()
    wait_until(lambda: seen.add(service.show(SERVICE, "WatchdogTimestampMonotonic")) or len(seen) > 4, "it is fed")
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


def networkd(booted: Booted, manages: str) -> None:
    """Let systemd-networkd configure the LAN."""
    booted.sh(f"""
        mkdir -p /etc/systemd/networkd.conf.d
        cat > /etc/systemd/network/lan.network <<'END'
[Match]
Name=lan0
[Network]
Address=192.168.188.112/24
LinkLocalAddressing=no
END
        cat > /etc/systemd/networkd.conf.d/fz.conf <<'END'
[Network]
ManageForeignRoutes={manages}
ManageForeignRoutingPolicyRules={manages}
END
        systemctl stop systemd-networkd
        ip -4 addr flush dev lan0
        systemctl start systemd-networkd
    """)
    try:
        wait_until(
            lambda: " configured" in booted.run("networkctl", "--no-pager", "list", "lan0"), "lan0 is configured", 10
        )
    except AssertionError as error:
        error.add_note(booted.run("networkctl", "--no-pager", "status", "lan0"))
        error.add_note(journal(booted, "systemd-networkd"))
        raise


@pytest.mark.parametrize("manages", ["no", "yes"])
def test_the_copies_are_there_after_systemd_networkd_has_configured_the_lan(service: Booted, manages: str) -> None:
    networkd(service, manages)
    wait_until(lambda: ["192.168.188.0/24"] == service.copies(), "in step")
    assert manages == "yes" or "not from all fwmark 0xfd002021" in service.run("ip", "rule")
    service.run("systemctl", "stop", "systemd-networkd.service", "systemd-networkd.socket")


def test_stop_leaves_no_child_and_the_copies(service: Booted) -> None:
    service.run("systemctl", "stop", SERVICE)
    assert [] == processes(service)
    assert "ip" not in service.sh("cat /proc/[0-9]*/comm 2>/dev/null || true").split()
    assert ["192.168.188.0/24"] == service.copies()


def test_the_timer_brings_the_tables_in_step(service: Booted) -> None:
    service.sh("ip route del 192.168.188.0/24 dev lan0 table 539098368")
    service.fz("install", "--timer", "--now")
    wait_until(lambda: ["192.168.188.0/24"] == service.copies(), "the timer has run sync")
    assert "success" == service.show("fz-iproute-sync.service", "Result"), journal(service, "fz-iproute-sync.service")


def test_uninstall_leaves_nothing(service: Booted) -> None:
    said = service.fz("uninstall")
    found = service.run(
        "find",
        "/etc",
        "/usr/local",
        "/run",
        "/var/log",
        "-xdev",
        "-name",
        "*fz-iproute*",
        "-not",
        "-path",
        "/etc/fz-iproute",
    )
    assert "" == found, said
    assert "" == service.run("systemctl", "list-unit-files", "--no-legend", "--no-pager", "fz-iproute*", check=False)
