"""A booted systemd in namespaces of its own, with fz-iproute in /opt/fz-iproute."""

import os
import shutil
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from tests.netns.namespace import PROJECT, run, wait_until
from tests.network import outside
from tests.systemd.machine import ROOT, Booted, booted_with

_PROGRAM = """\
#!{python} -I
import sys
sys.path[:0] = ["/opt/fz-iproute/lib"]
from fz_iproute.__main__ import run
run()
"""


@pytest.fixture(scope="session")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
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
    starter.chmod(0o755)
    with booted_with(folder, program, "/opt/fz-iproute") as made:
        yield made


@pytest.fixture
def network_manager(booted: Booted) -> Iterator[None]:
    """NetworkManager, which has nothing but lan0, until the end of the test. Only the booted machine gets it."""
    if not (ROOT / "usr/sbin/NetworkManager").exists():
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
    wait_until(booted.copies, "the LAN is copied again")


def unpack_network_manager(booted: Booted) -> None:
    """Fetch what this machine lacks of it, and unpack that in the booted machine."""
    if ROOT != Path("/"):
        pytest.skip("NETWORKMANAGER NOT RUN: the system in FZ_ROOT has none")
    archives = booted.brought / "debs"
    (archives / "partial").mkdir(parents=True)
    settings = ("Debug::NoLocking=1", "APT::Sandbox::User=root", f"Dir::Cache::archives={archives}")
    install = ["apt-get", "-qq", "-y", "install", "--download-only", "--no-install-recommends", "network-manager"]
    install += [f"-o{setting}" for setting in settings]
    try:
        if run(*outside(), *install, check=False).returncode:
            run(*outside(), "apt-get", "-qq", "update")
            run(*outside(), *install)
    except (OSError, AssertionError) as error:
        reason = f"NETWORKMANAGER NOT RUN: it cannot be fetched: {error}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    booted.sh("""
        for archive in /opt/fz-iproute/debs/*.deb; do
            dpkg-deb --fsys-tarfile "$archive" | tar -x --keep-directory-symlink -C /
        done
        ldconfig
    """)
