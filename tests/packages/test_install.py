"""The single file, and then the README's installation word for word, on a booted machine."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fz_iproute import __version__
from tests.netns.namespace import run, wait_until
from tests.packages.readme import blocks
from tests.packages.required import required, write_wheel
from tests.systemd.machine import HOME, HOME_CONFIG, TUNNEL, Booted, booted_with

LAN = ["192.168.188.0/24"]
UNITS = ("fz-iproute.service", "fz-iproute@home.service", "fz-iproute-sync.timer")


@pytest.fixture
def machine(dist: Path, tmp_path: Path) -> Iterator[Booted]:
    version = run("/usr/bin/python3", "-c", "import ensurepip, sys; print(*sys.version_info[:2])", check=False).stdout
    if version.split() != [str(number) for number in sys.version_info[:2]]:
        pytest.skip("WHEEL NOT INSTALLED ON A MACHINE: /usr/bin/python3 is of another version, or has no ensurepip")
    brought = tmp_path / "brought"
    brought.mkdir()
    for name in (f"fz_iproute-{__version__}-py3-none-any.whl", "fz-iproute.pyz"):
        shutil.copy(dist / name, brought)
    for each in required("fz-iproute"):
        write_wheel(each, brought)
    with booted_with(tmp_path, brought) as made:
        yield made


@pytest.mark.long
def test_installed_started_again_and_uninstalled(machine: Booted) -> None:
    install, uninstall = blocks("Install")
    files, network = machine.written(), machine.network()

    machine.sh("cp /opt/brought/fz-iproute.pyz /usr/local/bin/fz-iproute; fz-iproute install --now")
    assert "path=/usr/local/bin/fz-iproute " in machine.show("fz-iproute", "ExecStart")
    assert machine.is_active("fz-iproute") and LAN == machine.copies()
    machine.sh(uninstall.replace("/opt/fz-iproute ", ""))
    assert (files, network) == (machine.written(), machine.network())

    offline = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/opt/brought PIP_DISABLE_PIP_VERSION_CHECK=1"
    said = machine.sh(f"{offline}\n{install.replace('pip install .', 'pip install /opt/brought/fz_iproute*.whl')}")
    assert "systemctl restart fz-iproute.service" in said
    assert LAN == machine.copies()
    assert "watch  runs" in machine.sh("fz-iproute status --check")
    assert "warning" not in machine.run("journalctl", "-o", "cat", "-u", "fz-iproute")
    machine.sh(f"""
        {HOME}
        {HOME_CONFIG}
        fz-iproute install --instance home --now
        fz-iproute install --timer
        fz-iproute install --cron
    """)
    assert LAN == machine.copies(1000)

    # As after a reboot: what is enabled is started, and the tunnels come later.
    machine.sh("""
        systemctl stop 'fz-iproute*'
        rm -rf /run/fz-iproute*
        ip rule del priority 32765
        ip link del tun-firezone
        ip link del tun-home
        ip route flush table 539098368
        ip route flush table 1000
        systemctl start default.target timers.target
    """)
    for unit in UNITS:
        wait_until(lambda unit=unit: machine.is_active(unit), f"{unit} is active")  # type: ignore[misc]
    machine.sh(TUNNEL + HOME)
    wait_until(lambda: LAN == machine.copies() == machine.copies(1000), "the copies are there")

    machine.run("systemctl", "start", "fz-iproute@broken", check=False)
    assert "failed" == machine.run("systemctl", "is-failed", "fz-iproute@broken")
    edited = "/etc/systemd/system/fz-iproute-sync.timer"
    machine.sh(f"echo '# mine' >>{edited}")
    machine.sh("fz-iproute uninstall --instance home; fz-iproute -c /etc/fz-iproute/home.toml down")
    assert machine.is_active("fz-iproute") and LAN == machine.copies()
    said = machine.sh(uninstall)
    assert f"{edited}: left alone, because somebody has edited it" in said
    machine.run("ip", "link", "del", "tun-home")
    assert network == machine.network()
    assert {edited} == machine.written() - files
    assert "" == machine.run("systemctl", "list-units", "--no-legend", "--plain", "fz-iproute*")
