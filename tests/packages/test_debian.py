"""The Debian package on a booted machine, from its installation to its purge."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fz_iproute import __version__
from tests.packages.readme import as_script, printed, tour
from tests.systemd.machine import HOME, HOME_CONFIG, Booted, booted_with

DEB = f"fz-iproute_{__version__}_all.deb"
NEWER = "9.9.9"
LAN = ["192.168.188.0/24"]
# That each shell finds its completion where the package puts it. A clean system has only bash.
COMPLETED = [
    ("bash", "bash -c '. /usr/share/bash-completion/completions/fz-iproute; complete -p fz-iproute'", "_fz_iproute"),
    ("zsh", "zsh -fc 'autoload -Uz compinit; compinit -u -D; echo $_comps[fz-iproute]'", "_fz-iproute"),
    ("fish", "fish -c 'complete -C \"fz-iproute --netns b\"'", "blue"),
]


def newer(deb: Path, folder: Path) -> Path:
    """The same package with another version."""
    subprocess.run(["dpkg-deb", "-R", deb, folder / "newer"], check=True)
    for name in ("DEBIAN/control", "usr/share/fz-iproute/fz_iproute/__init__.py"):
        path = folder / "newer" / name
        path.write_text(path.read_text().replace(__version__, NEWER))
    made = folder / f"fz-iproute_{NEWER}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", folder / "newer", made], check=True, capture_output=True)
    return made


@pytest.fixture
def machine(dist: Path, tmp_path: Path) -> Iterator[Booted]:
    brought = tmp_path / "brought"
    brought.mkdir()
    shutil.copy(dist / DEB, brought)
    shutil.move(newer(dist / DEB, tmp_path), brought)
    with booted_with(tmp_path, brought) as made:
        if "ok installed" not in made.run("dpkg-query", "-W", "-f", "${Status}", "python3", check=False):
            pytest.skip("DEBIAN PACKAGE NOT INSTALLED: this machine has no Debian package of python3")
        made.sh("rmdir /etc/fz-iproute")
        yield made


@pytest.mark.long
def test_installed_upgraded_removed_and_purged(machine: Booted) -> None:
    files, network = machine.written(), machine.network()

    # As in a container, where systemd does not run.
    deb = f"/opt/brought/{DEB}"
    machine.run("unshare", "-m", "sh", "-ec", f"mount -t tmpfs tmpfs /run; dpkg -i {deb}; dpkg -P fz-iproute")
    assert (files, network) == (machine.written(), machine.network())

    machine.run("dpkg", "-i", deb)
    assert "" == machine.run("dpkg", "--verify", "fz-iproute")
    assert f"fz-iproute {__version__}" == machine.run("fz-iproute", "--version")
    assert not machine.is_active("fz-iproute"), "that is left to the owner"
    assert "+ 192.168.188.0/24" in machine.run("fz-iproute", "status")
    assert '"tun-firezone"' in machine.run("fz-iproute", "detect", "--write", "/etc/fz-iproute/config.toml")
    assert "Traceback" not in machine.run("fz-iproute", "doctor", check=False)
    told = printed(machine.run("fz-iproute", "lab", "--", "sh", "-c", as_script()))
    assert [lines for _, lines in tour()] == told

    machine.sh("ip netns add blue")
    for shell, question, answer in COMPLETED:
        found = machine.run("sh", "-c", f"! command -v {shell} || {question}")
        assert not found or answer in found.split()

    said = machine.run("/bin/fz-iproute", "install", "--now")  # as with a PATH that begins with /bin
    assert "write" not in said.replace("write /etc/iproute2", ""), "the package has the rest"
    assert machine.is_active("fz-iproute"), machine.run("journalctl", "-u", "fz-iproute")
    own = "/etc/systemd/system/fz-iproute.service"
    assert f"write {own}" in machine.sh("fz-iproute -c /etc/fz-iproute/config.toml install"), "an upgrade keeps this"
    assert f"remove {own}" in machine.run("fz-iproute", "install")
    assert "enabled" == machine.run("systemctl", "is-enabled", "fz-iproute")
    machine.sh(f"""
        {HOME}
        {HOME_CONFIG}
        fz-iproute install --instance home --now
        fz-iproute install --timer --now
        fz-iproute install --cron
    """)
    assert LAN == machine.copies() == machine.copies(1000)
    assert "dev lan0" in machine.run("ip", "route", "get", "192.168.188.9")
    units = ("fz-iproute.service", "fz-iproute@home.service")
    runs = [machine.show(unit, "InvocationID") for unit in units]
    settings = machine.sh("cat /etc/fz-iproute/*")

    machine.run("dpkg", "-i", f"/opt/brought/fz-iproute_{NEWER}_all.deb")
    for unit, run in zip(units, runs, strict=True):
        assert machine.is_active(unit) and run != machine.show(unit, "InvocationID")
        journal = machine.run("journalctl", "-o", "cat", "-u", unit)
        assert 2 == journal.count("Started "), "it was restarted once"
        assert f"fz-iproute {NEWER}" in journal
    assert machine.is_active("fz-iproute-sync.timer")
    assert settings == machine.sh("cat /etc/fz-iproute/*")
    assert LAN == machine.copies() == machine.copies(1000)

    machine.run("dpkg", "-r", "fz-iproute")
    assert "" == machine.run("systemctl", "list-units", "--no-legend", "--plain", "fz-iproute*")
    assert [] == machine.copies() == machine.copies(1000)
    machine.run("ip", "link", "del", "tun-home")
    assert network == machine.network()
    left = {name for name in machine.written() - files if not name.startswith("/etc/fz-iproute/")}
    assert {"/etc/logrotate.d/fz-iproute"} == left

    machine.run("dpkg", "-P", "fz-iproute")
    assert files == machine.written()
    assert "" == machine.run("find", "/run", "-maxdepth", "1", "-name", "*fz-iproute*")
