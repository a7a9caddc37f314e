"""What `scripts/build` makes is complete. The other tests here run it."""

import hashlib
import os
import runpy
import shutil
import stat
import subprocess
import tarfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

from fz_iproute import __version__
from tests.netns.namespace import PROJECT, run

EVERYWHERE = [
    "etc/logrotate.d/fz-iproute",
    "usr/bin/fz-iproute",
    *(f"usr/lib/systemd/system/fz-iproute{name}" for name in (".service", "@.service", "-sync.timer", "-sync@.timer")),
    "usr/share/bash-completion/completions/fz-iproute",
    "usr/share/doc/fz-iproute/copyright",
    "usr/share/fish/vendor_completions.d/fz-iproute.fish",
    "usr/share/man/man5/fz-iproute.toml.5.gz",
    "usr/share/man/man8/fz-iproute.8.gz",
    "usr/share/zsh/vendor-completions/_fz-iproute",
]


@pytest.fixture(scope="module")
def repository() -> dict[str, bytes]:
    """The files that belong to the project, and what is in them."""
    # As root of a user namespace, the checkout may belong to somebody else.
    argv = ["git", "-c", f"safe.directory={PROJECT}", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("COMPLETENESS NOT CHECKED: there is no git repository here")
    return {name: (PROJECT / name).read_bytes() for name in done.stdout.splitlines() if os.path.lexists(PROJECT / name)}


def test_the_sdist_holds_every_file_of_the_repository(dist: Path, repository: dict[str, bytes]) -> None:
    packed = {}
    with tarfile.open(dist / f"fz_iproute-{__version__}.tar.gz") as archive:
        for member in archive:
            if file := archive.extractfile(member):
                packed[member.name.partition("/")[2]] = file.read()
    assert [] == [name for name, content in repository.items() if packed.get(name) != content and name != "setup.cfg"]
    made = {"PKG-INFO", "setup.cfg"}  # setuptools adds a section to setup.cfg
    assert set() == {name for name in packed if "egg-info" not in name} - set(repository) - made


def test_the_wheel_which_was_built_from_the_sdist_holds_the_whole_program(
    dist: Path, repository: dict[str, bytes]
) -> None:
    with zipfile.ZipFile(dist / f"fz_iproute-{__version__}-py3-none-any.whl") as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if name.startswith("fz_iproute/")}
    assert packed == {name: content for name, content in repository.items() if name.startswith("fz_iproute/")}


def test_the_debian_package_holds_everything_in_its_place(dist: Path) -> None:
    deb = str(dist / f"fz-iproute_{__version__}_all.deb")
    lines = [line.split(maxsplit=5) for line in run("dpkg-deb", "-c", deb).stdout.splitlines()]
    files = {line[5].removeprefix("./"): line[0] for line in lines}
    assert set(EVERYWHERE) <= set(files)
    assert {"usr/share/fz-iproute/loguru/__init__.py", "usr/share/fz-iproute/fz_iproute/cli.py"} <= set(files)
    assert not [name for name in files if "__pycache__" in name or "watchfiles" in name]
    executable = stat.filemode(stat.S_IFREG | 0o755)
    assert ["usr/bin/fz-iproute"] == [name for name, mode in files.items() if mode == executable]
    depends = run("dpkg-deb", "--field", deb, "Architecture", "Depends", "Recommends").stdout
    assert depends.splitlines() == [
        "Architecture: all",
        "Depends: python3 (>= 3.11), iproute2",
        "Recommends: python3-watchfiles",
    ]


def test_the_maintainer_is_whom_the_builder_names(monkeypatch: pytest.MonkeyPatch) -> None:
    build = runpy.run_path(str(PROJECT / "scripts/build.py"))
    monkeypatch.setenv("DEBFULLNAME", "Ada Lovelace")
    monkeypatch.setenv("DEBEMAIL", "ada@example.org")
    assert "Ada Lovelace <ada@example.org>" == build["maintainer"]()
    monkeypatch.delenv("DEBFULLNAME")
    assert "unknown" not in build["maintainer"]()


@pytest.fixture
def placed(dist: Path, tmp_path: Path) -> set[str]:
    """The files that the recipe for Arch puts in place, as makepkg runs it. The recipe for an RPM does the same."""
    if not shutil.which("ar"):
        pytest.skip("RECIPES NOT TRIED: it takes ar")
    run(
        "bash", "-ec", '. "$srcdir/PKGBUILD"; package', env={**os.environ, "srcdir": str(dist), "pkgdir": str(tmp_path)}
    )
    return {f"/{path.relative_to(tmp_path)}" for path in tmp_path.rglob("*") if path.is_file()}


def test_the_recipes_place_what_the_debian_package_holds(dist: Path, placed: set[str]) -> None:
    moved = {"usr/share/zsh/site-functions/_fz-iproute", "usr/share/licenses/fz-iproute/copyright"}
    expected = {f"/{name}" for name in {*EVERYWHERE, *moved}} - {
        "/usr/share/zsh/vendor-completions/_fz-iproute",
        "/usr/share/doc/fz-iproute/copyright",
    }
    assert expected <= placed
    assert not [name for name in placed if "lintian" in name or "changelog.gz" in name]
    files = (dist / "fz-iproute.spec").read_text().partition("%files\n")[2].split()
    patterns = [word for word in files if word.startswith("/")]
    unlisted = {name for name in placed if not any(fnmatch(name, each) or f"{each}/" in name for each in patterns)}
    assert set() == unlisted, "rpmbuild refuses files that are not listed"
    for pattern in patterns:
        assert any(fnmatch(name, pattern) or f"{pattern}/" in name for name in placed), f"there is no {pattern}"


def test_a_recipe_names_the_version_and_the_sum_of_the_debian_package(dist: Path) -> None:
    recipe, deb = (dist / "PKGBUILD").read_text(), dist / f"fz-iproute_{__version__}_all.deb"
    assert f"pkgver={__version__}\n" in recipe and hashlib.sha256(deb.read_bytes()).hexdigest() in recipe
    assert f"Version: {__version__}\n" in (dist / "fz-iproute.spec").read_text()
    run("bash", "-n", str(dist / "fz-iproute.install"))


@pytest.mark.skipif(not shutil.which("rpmbuild"), reason="RPM NOT BUILT: it takes rpmbuild")
def test_the_rpm_is_built(dist: Path, tmp_path: Path) -> None:
    defined = ("--define", f"_sourcedir {dist}", "--define", f"_topdir {tmp_path}")
    run("rpmbuild", "-bb", *defined, str(dist / "fz-iproute.spec"))
    assert list(tmp_path.glob("RPMS/noarch/*.rpm"))
