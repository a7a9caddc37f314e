"""A machine of which systemd is the first process, in namespaces of its own."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netns.namespace import DEADLINE, wait_until

# The files that the machine boots from, which stay as they are. scripts/debian names a clean system.
ROOT = Path(os.environ.get("FZ_ROOT", "/"))

_NOISE = ("./var/lib/dpkg", "./var/log/dpkg.log", "./var/log/journal", "./var/lib/systemd", "./var/cache")
# Only a command that hangs takes longer, however busy the machine is.
_PATIENCE = 120.0
_UP = ("running", "degraded")

LAN = """
    ip link set lo up
    ip link add lan0 type veth peer name far0
    ip addr add 192.168.188.112/24 dev lan0
    ip link set far0 addrgenmode none up
    ip link set lan0 addrgenmode none up
"""
VPN_DEFAULT = "default dev tun-firezone table 539098368"
VPN_RULE = "not fwmark 0xfd002021 lookup 539098368 priority 32765"
TUNNEL = f"""
    ip tuntap add tun-firezone mode tun
    ip link set tun-firezone addrgenmode none up
    ip route add {VPN_DEFAULT}
    ip rule add {VPN_RULE}
"""

# Another tunnel, and the configuration of the instance that serves it.
HOME = """
    ip tuntap add tun-home mode tun
    ip link set tun-home addrgenmode none up
    ip route add default dev tun-home table 1000
"""
HOME_CONFIG = """
    cat > /etc/fz-iproute/home.toml <<END
[tunnel]
interface = "tun-home"
[tables]
single = 1000
user = 1000
lan = 1001
internet = 1002
END
"""


class Booted:
    """A machine of which systemd is the first process. Commands run in it, as root."""

    def __init__(self, folder: Path, brought: Path, place: str) -> None:
        boot = Path(__file__).with_name("boot.sh")
        apart = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--net", "--uts", "--ipc", "--cgroup"]
        self.brought = brought
        self.log = folder / "log"
        machine = folder / "machine"
        machine.mkdir()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*apart, "sh", boot, machine, ROOT, brought, place], stdout=log, stderr=log
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
            [*inside, *argv], capture_output=True, text=True, timeout=_PATIENCE, env=env, cwd="/", check=False
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

    def written(self) -> set[str]:
        """All files that are not as at the start, but for what dpkg, systemd and man write for themselves."""
        names = self.sh("cd /run/changed && find . ! -type d").splitlines()
        return {name[1:] for name in names if not name.startswith(_NOISE)}

    def network(self) -> str:
        """All rules and routes."""
        return self.sh("ip rule; ip -6 rule; ip route show table all; ip -6 route show table all")

    def end(self) -> None:
        self._process.kill()
        self._process.wait(DEADLINE)


@contextmanager
def booted_with(folder: Path, brought: Path, place: str = "/opt/brought") -> Iterator[Booted]:
    """A booted laptop under a full tunnel, which sees the files of the folder `brought` in `place`."""
    if os.geteuid() != 0 or not (ROOT / "lib/systemd/systemd").exists():
        pytest.skip("SYSTEMD NOT BOOTED: it takes root and systemd")
    for path in (brought, *brought.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    try:
        made = Booted(folder, brought, place)
    except AssertionError as error:
        if "unshare" in str(error) or "mount" in str(error):
            words = str(error).splitlines()[0].rpartition(": ")[2]
            pytest.skip(f"SYSTEMD NOT BOOTED: no namespaces for it here: {words}")
        raise
    try:
        made.sh(LAN + TUNNEL)
        yield made
    finally:
        made.end()
