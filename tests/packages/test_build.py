"""What `scripts/build` makes is complete and runs: wheel, sdist, single file and Debian package."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

from fz_iproute import __version__

PROJECT = Path(__file__).parents[2]
SNAPSHOT = PROJECT / "fz_iproute" / "data" / "demo.json"
EVERYWHERE = [
    "etc/logrotate.d/fz-iproute",
    "usr/bin/fz-iproute",
    "usr/lib/systemd/system/fz-iproute.service",
    "usr/share/bash-completion/completions/fz-iproute",
    "usr/share/fish/vendor_completions.d/fz-iproute.fish",
    "usr/share/man/man5/fz-iproute.toml.5",
    "usr/share/man/man8/fz-iproute.8",
    "usr/share/zsh/site-functions/_fz-iproute",
]


def run(*argv: str | Path, cwd: Path = PROJECT) -> str:
    """The output, without anything of this process's Python on the way."""
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=env, cwd=cwd, check=False)
    assert done.returncode == 0, f"{argv} gave {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.long
def test_what_is_built_is_complete_and_runs(tmp_path: Path) -> None:
    """One test, so that the processes that share the tests do not build everything again each."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("NO PACKAGES BUILT: it takes dpkg-deb")
    dist = tmp_path / "dist"
    run(sys.executable, PROJECT / "scripts" / "build.py", dist)
    check_sdist(dist)
    check_debian_package(dist)
    for program in programs(dist, tmp_path / "programs"):
        check_program(program, tmp_path)


def installed(wheel: Path, folder: Path) -> Path:
    """The program of the wheel in a bare environment, which finds what it needs in that of the tests."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    run(sys.executable, "-m", "pip", "--python", folder, "install", "--quiet", "--no-deps", "--no-index", wheel)
    # Behind the wheel itself. This folder's own .pth files, one of which names the checkout, are not read.
    (site / "needed.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "fz-iproute"


def programs(dist: Path, folder: Path) -> list[list[str | Path]]:
    """How to start what was built."""
    folder.mkdir()
    name = f"fz_iproute-{__version__}-py3-none-any.whl"
    run("dpkg-deb", "-x", dist / f"fz-iproute_{__version__}_all.deb", folder / "root")
    program = folder / "root/usr/bin/fz-iproute"
    # The package is not in / here.
    program.write_text(program.read_text().replace('"/usr/lib', f'"{folder}/root/usr/lib'))
    return [
        # scripts/build makes the wheel from the sdist alone.
        [installed(dist / name, folder / "wheel")],
        [sys._base_executable, "-I", dist / "fz-iproute.pyz"],  # type: ignore[attr-defined]
        [sys._base_executable, "-I", program],  # type: ignore[attr-defined]
    ]


def check_program(program: list[str | Path], tmp_path: Path) -> None:
    assert run(*program, "--version", cwd=tmp_path).strip() == f"fz-iproute {__version__}"
    assert "192.168.188.0/24" in run(*program, "plan", "--snapshot", SNAPSHOT, cwd=tmp_path)
    assert "127.0.0.1" in run(*program, "explain", "127.0.0.1", cwd=tmp_path)
    for verb in ("status", "doctor", "detect"):
        assert run(*program, verb, "--help", cwd=tmp_path)
    assert "ExecStart=" in run(*program, "unit", "systemd", "--program", "/usr/bin/fz-iproute", cwd=tmp_path)


def check_sdist(dist: Path) -> None:
    """It has every file of the repository, where there is one."""
    if not (PROJECT / ".git").exists():
        return
    with tarfile.open(dist / f"fz_iproute-{__version__}.tar.gz") as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    # As root of a user namespace, the checkout may belong to somebody else.
    listed = run("git", "-c", f"safe.directory={PROJECT}", "ls-files", "--cached").splitlines()
    assert set() == {name for name in listed if os.path.lexists(PROJECT / name)} - packed


def check_debian_package(dist: Path) -> None:
    deb = dist / f"fz-iproute_{__version__}_all.deb"
    files = {line.split(maxsplit=5)[5].removeprefix("./") for line in run("dpkg-deb", "-c", deb).splitlines()}
    assert set(EVERYWHERE) <= files
    assert {"usr/lib/fz-iproute/loguru/__init__.py", "usr/lib/fz-iproute/fz_iproute/cli.py"} <= files
    assert not [name for name in files if "__pycache__" in name or "watchfiles" in name]
    depends = run("dpkg-deb", "--field", deb, "Architecture", "Depends", "Recommends")
    assert depends.splitlines() == [
        "Architecture: all",
        "Depends: python3 (>= 3.11), iproute2",
        "Recommends: python3-watchfiles",
    ]
