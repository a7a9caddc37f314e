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
pytestmark = pytest.mark.long

KINDS = ["wheel", "sdist", "pyz", "deb"]
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


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("dpkg-deb"):
        pytest.skip("NO DEBIAN PACKAGE: it takes dpkg-deb")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, PROJECT / "scripts" / "build.py", folder)
    return folder


def installed(wheel: Path, folder: Path) -> Path:
    """The program of the wheel in a bare environment, which finds what it needs in that of the tests."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    run(sys.executable, "-m", "pip", "--python", folder, "install", "--quiet", "--no-deps", "--no-index", wheel)
    # Behind the wheel itself. This folder's own .pth files, one of which names the checkout, are not read.
    (site / "needed.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "fz-iproute"


@pytest.fixture(scope="module")
def programs(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str | Path]]:
    """How to start what was built, by kind."""
    folder = tmp_path_factory.mktemp("programs")
    with tarfile.open(dist / f"fz_iproute-{__version__}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    source = folder / f"fz_iproute-{__version__}"
    run(sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", folder, cwd=source)
    name = f"fz_iproute-{__version__}-py3-none-any.whl"
    run("dpkg-deb", "-x", dist / f"fz-iproute_{__version__}_all.deb", folder / "root")
    program = folder / "root/usr/bin/fz-iproute"
    # The package is not in / here.
    program.write_text(program.read_text().replace('"/usr/lib', f'"{folder}/root/usr/lib'))
    return {
        "wheel": [installed(dist / name, folder / "wheel")],
        "sdist": [installed(folder / name, folder / "sdist")],
        "pyz": [sys._base_executable, "-I", dist / "fz-iproute.pyz"],  # type: ignore[attr-defined]
        "deb": [sys._base_executable, "-I", program],  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_runs_from_each_package(programs: dict[str, list[str | Path]], kind: str, tmp_path: Path) -> None:
    program = programs[kind]
    assert run(*program, "--version", cwd=tmp_path).strip() == f"fz-iproute {__version__}"
    assert "192.168.188.0/24" in run(*program, "plan", "--snapshot", SNAPSHOT, cwd=tmp_path)
    assert "127.0.0.1" in run(*program, "explain", "127.0.0.1", cwd=tmp_path)
    for verb in ("status", "doctor", "detect"):
        assert run(*program, verb, "--help", cwd=tmp_path)
    assert "ExecStart=" in run(*program, "unit", "systemd", "--program", "/usr/bin/fz-iproute", cwd=tmp_path)


def test_the_sdist_has_every_file_of_the_repository(dist: Path) -> None:
    if not (PROJECT / ".git").exists():
        pytest.skip("NO REPOSITORY: nothing to compare the sdist with")
    with tarfile.open(dist / f"fz_iproute-{__version__}.tar.gz") as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    # As root of a user namespace, the checkout may belong to somebody else.
    listed = run("git", "-c", f"safe.directory={PROJECT}", "ls-files", "--cached").splitlines()
    assert set() == {name for name in listed if os.path.lexists(PROJECT / name)} - packed


def test_the_debian_package_has_every_file_in_its_place(dist: Path) -> None:
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
