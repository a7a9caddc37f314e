"""A booted systemd in namespaces of its own, with fz-iproute in /opt/fz-iproute."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from tests.netns.namespace import DEADLINE, PROJECT, run, wait_until

_SYSTEMD = "/lib/systemd/systemd"
_PROGRAM = """\
#!{python} -I
import sys
sys.path[:0] = ["/opt/fz-iproute/lib"]
from fz_iproute.__main__ import run
run()
"""


class Booted:
    """A machine of which systemd is the first process. Commands run in it, as root."""

    def __init__(self, folder: Path, program: Path) -> None:
        boot = Path(__file__).with_name("boot.sh")
        apart = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--net", "--uts", "--ipc", "--cgroup"]
        self.program = program
        self.log = folder / "log"
        place = folder / "machine"
        place.mkdir()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*apart, "sh", str(boot), str(place), str(program)], stdout=log, stderr=log
            )
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self.pid = int(wait_until(lambda: self._ended() or children.read_text().split(), "there is a first process")[0])
        wait_until(
            lambda: self._ended() or self.run("systemctl", "is-system-running", check=False) in _UP, "systemd is up"
        )

    def _ended(self) -> list[str]:
        assert self._process.poll() is None, self.log.read_text()
        return []

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a command inside; its output."""
        inside = ("nsenter", "--target", str(self.pid), "--all")
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [*inside, *argv], capture_output=True, text=True, timeout=DEADLINE, env=env, cwd="/", check=False
        )
        assert not check or done.returncode == 0, f"{argv} gave {done.returncode}: {done.stdout}{done.stderr}"
        return (done.stdout + done.stderr).strip()

    def sh(self, script: str) -> str:
        return self.run("sh", "-ec", script)

    def fz(self, *argv: str) -> str:
        return self.run("/opt/fz-iproute/bin/fz-iproute", *argv)

    def show(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", "--property", name, unit)

    def is_active(self, unit: str) -> bool:
        return self.run("systemctl", "is-active", unit, check=False) == "active"

    def copies(self, table: int = 539098368) -> list[str]:
        lines = self.run("ip", "route", "show", "table", str(table), check=False).splitlines()
        return sorted(line.split()[0] for line in lines if "scope link" in line and " tun" not in line)

    def end(self) -> None:
        self._process.kill()
        self._process.wait(DEADLINE)


_UP = ("running", "degraded")
VPN_DEFAULT = "default dev tun-firezone table 539098368"
VPN_RULE = "not fwmark 0xfd002021 lookup 539098368 priority 32765"


@pytest.fixture(scope="session")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    if os.geteuid() != 0 or not Path(_SYSTEMD).exists():
        pytest.skip("SYSTEMD NOT BOOTED: it takes root and systemd")
    folder = tmp_path_factory.mktemp("systemd")
    program = folder / "program"
    python = "/usr/bin/python3"
    (program / "bin").mkdir(parents=True)
    shutil.copytree(
        PROJECT / "fz_iproute", program / "lib" / "fz_iproute", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("sh", "loguru"):
        spec = PathFinder.find_spec(name)  # sh hides its own spec once it is imported
        assert spec and spec.origin
        source = Path(spec.origin)
        if source.name == "__init__.py":
            shutil.copytree(source.parent, program / "lib" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, program / "lib")
    starter = program / "bin" / "fz-iproute"
    starter.write_text(_PROGRAM.format(python=python))
    for path in (program, *program.rglob("*")):
        path.chmod(path.stat().st_mode | 0o555 if path.is_dir() else 0o644)
    starter.chmod(0o755)
    try:
        made = Booted(folder, program)
    except AssertionError as error:
        if "unshare" in str(error) or "mount" in str(error):
            pytest.skip(f"SYSTEMD NOT BOOTED: no namespaces for it here: {error}")
        raise
    try:
        made.sh(f"""
            ip link set lo up
            ip link add lan0 type veth peer name far0
            ip addr add 192.168.188.112/24 dev lan0
            ip link set far0 up
            ip link set lan0 up
            ip tuntap add tun-firezone mode tun
            ip link set tun-firezone up
            ip route add {VPN_DEFAULT}
            ip rule add {VPN_RULE}
        """)
        yield made
    finally:
        made.end()


@pytest.fixture
def network_manager(booted: Booted) -> Iterator[None]:
    """NetworkManager, which has nothing but lan0, until the end of the test. Only the booted machine gets it."""
    if not Path("/usr/sbin/NetworkManager").exists():
        unpack_network_manager(booted)
    booted.sh("""
        mkdir -p /etc/NetworkManager/conf.d
        cat > /etc/NetworkManager/conf.d/fz.conf <<'END'
[main]
plugins=keyfile
auth-polkit=false
no-auto-default=*
[keyfile]
unmanaged-devices=*,except:interface-name:lan0
END
        systemctl daemon-reload
        systemctl reload dbus
        systemctl start NetworkManager
    """)
    yield
    booted.sh("""
        systemctl stop NetworkManager
        ip -4 addr flush dev lan0
        ip addr add 192.168.188.112/24 dev lan0
        ip link set lan0 up
    """)


def unpack_network_manager(booted: Booted) -> None:
    """Fetch what this machine lacks of it, and unpack that in the booted machine."""
    archives = booted.program / "debs"
    (archives / "partial").mkdir(parents=True)
    settings = ("Debug::NoLocking=1", "APT::Sandbox::User=root", f"Dir::Cache::archives={archives}")
    install = ["apt-get", "-qq", "-y", "install", "--download-only", "--no-install-recommends", "network-manager"]
    install += [f"-o{setting}" for setting in settings]
    try:
        if run(*install, check=False).returncode:
            run("apt-get", "-qq", "update")
            run(*install)
    except (OSError, AssertionError) as error:
        reason = f"NETWORKMANAGER NOT RUN: it cannot be fetched: {error}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    booted.sh("""
        for archive in /opt/fz-iproute/debs/*.deb; do
            dpkg-deb --fsys-tarfile "$archive" | tar -x --keep-directory-symlink -C /
        done
        ldconfig
    """)
