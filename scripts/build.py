"""Makes a wheel, an sdist, a single file, a Debian package, and recipes for an RPM and for Arch, into a folder (dist).

The single file and the packages carry `sh` and `loguru` as they are installed beside this interpreter. They leave out
watchfiles, which is compiled for one machine; `watch` runs without it.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipapp
from collections.abc import Mapping
from configparser import ConfigParser
from email.utils import formatdate
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PACKAGING = PROJECT / "scripts/packaging"
DEBIAN = PACKAGING / "debian"
sys.path.insert(0, str(PROJECT))
from fz_iproute import __version__  # noqa: E402

CARRIED = ("sh", "sh.py", "sh-*.dist-info", "loguru", "loguru-*.dist-info")

# Any Python can read this.
ZIP_MAIN = """\
import sys

if sys.version_info < (3, 11):
    sys.exit("error: Python %d.%d is too old for fz-iproute; start it with 3.11 or newer" % sys.version_info[:2])
from fz_iproute.__main__ import run

run()
"""

LIBRARY = "usr/share/fz-iproute"
PROGRAM = f"""\
#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/{LIBRARY}")
from fz_iproute.__main__ import run

run()
"""

# The units of all ways are there, so that `fz-iproute install` need not write into the package's folders.
WAYS: tuple[list[str], ...] = ([], ["--instance", "x"], ["--timer"], ["--timer", "--instance", "x"])


def main() -> None:
    """Build all, and name what is there."""
    os.umask(0o022)
    dist = Path(sys.argv[1] if len(sys.argv) > 1 else PROJECT / "dist").resolve()
    dist.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wheel = build_wheel(folder, dist)
        library = folder / "library"
        shutil.unpack_archive(wheel, library, "zip")
        for leftover in library.glob("fz_iproute-*"):
            shutil.rmtree(leftover)
        carry(library)
        build_single_file(library, dist / "fz-iproute.pyz")
        if shutil.which("dpkg-deb"):
            deb = dist / f"fz-iproute_{__version__}_all.deb"
            build_deb(library, folder / "root", deb)
            write_recipes(deb)
        else:
            print("scripts/build: no Debian package, nor what is made from it: dpkg-deb is missing", file=sys.stderr)
    for path in sorted(dist.iterdir()):
        print(path)


def build_wheel(folder: Path, dist: Path) -> Path:
    """The sdist, and the wheel that is built from the sdist alone, so that it proves to be complete."""
    setup(PROJECT, "egg_info", "--egg-base", folder, "sdist", "--dist-dir", dist)
    shutil.unpack_archive(dist / f"fz_iproute-{__version__}.tar.gz", folder, "gztar")
    setup(folder / f"fz_iproute-{__version__}", "bdist_wheel", "--dist-dir", dist)
    return dist / f"fz_iproute-{__version__}-py3-none-any.whl"


def setup(folder: Path, *words: str | Path) -> None:
    """Run setup.py there. The end of its output is shown if it fails."""
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"scripts/build: setup.py {' '.join(map(str, words))}: {(done.stdout + done.stderr)[-2000:]}")


def carry(library: Path) -> None:
    """Copy the pure packages that the program needs."""
    installed = Path(sysconfig.get_path("purelib"))
    for path in (path for pattern in CARRIED for path in installed.glob(pattern)):
        if path.is_dir():
            shutil.copytree(
                path, library / path.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyi", "licenses")
            )
        else:
            shutil.copy(path, library)


def build_single_file(library: Path, target: Path) -> None:
    """A zip file that Python runs."""
    extra = {"__main__.py": ZIP_MAIN, "copyright": (DEBIAN / "copyright").read_text()}
    for name, text in extra.items():
        (library / name).write_text(text)
    zipapp.create_archive(library, target, "/usr/bin/env python3", compressed=True)
    target.chmod(0o755)
    for name in extra:
        (library / name).unlink()


def build_deb(library: Path, root: Path, target: Path) -> None:
    """The program places its own units, pages and completions, as `install --root` does for every packager."""
    shutil.copytree(library, root / LIBRARY)
    program = root / "usr/bin/fz-iproute"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    words = ["install", "--root", str(root), "--prefix", "/usr", "--program", "/usr/bin/fz-iproute"]
    for way in WAYS:
        argv = [sys.executable, "-m", "fz_iproute", *words, *way]
        subprocess.run(argv, cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
    # Debian's zsh looks elsewhere.
    (root / "usr/share/zsh/site-functions").rename(root / "usr/share/zsh/vendor-completions")
    values = {
        "version": __version__,
        "maintainer": maintainer(),
        "date": formatdate((PROJECT / "CHANGELOG.md").stat().st_mtime),
        "kilobytes": sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) // 1024 + 1,
    }
    add_documents(root, values)
    shutil.copy(PACKAGING / "before-removal", root / LIBRARY)
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path == program else 0o644)
    add_control(root, values)
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", root, target], stdout=subprocess.DEVNULL, check=True
    )


def add_documents(root: Path, values: Mapping[str, object]) -> None:
    """What Debian wants in /usr/share/doc, and compressed pages."""
    documents = root / "usr/share/doc/fz-iproute"
    documents.mkdir(parents=True)
    shutil.copy(PROJECT / "README.md", documents)
    shutil.copy(PROJECT / "CHANGELOG.md", documents)
    (documents / "changelog").write_text((DEBIAN / "changelog").read_text().format_map(values))
    for path in [*root.glob("usr/share/man/man?/*"), *documents.glob("[cC]*")]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
    shutil.copy(DEBIAN / "copyright", documents)
    overrides = root / "usr/share/lintian/overrides"
    overrides.mkdir(parents=True)
    shutil.copy(DEBIAN / "lintian-overrides", overrides / "fz-iproute")


def add_control(root: Path, values: Mapping[str, object]) -> None:
    """The folder that dpkg reads."""
    files = {str(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}
    sums = {name: hashlib.md5(path.read_bytes(), usedforsecurity=False) for name, path in files.items()}
    control = root / "DEBIAN"
    control.mkdir()
    (control / "control").write_text((DEBIAN / "control").read_text().format_map(values))
    (control / "conffiles").write_text("".join(f"/{name}\n" for name in files if name.startswith("etc/")))
    (control / "md5sums").write_text("".join(f"{found.hexdigest()}  {name}\n" for name, found in sums.items()))
    for name in ("postinst", "prerm", "postrm"):
        shutil.copy(DEBIAN / name, control)
        (control / name).chmod(0o755)


def write_recipes(deb: Path) -> None:
    """What rpmbuild and makepkg need beside the Debian package."""
    values = {"@version@": __version__, "@sha256@": hashlib.sha256(deb.read_bytes()).hexdigest()}
    for name in ("fz-iproute.spec", "PKGBUILD", "fz-iproute.install"):
        text = (PACKAGING / name).read_text()
        for key, value in values.items():
            text = text.replace(key, value)
        (deb.parent / name).write_text(text)


def maintainer() -> str:
    """Who answers for a package: whom Debian's variables name, or the author in setup.cfg."""
    found = ConfigParser()
    found.read(PROJECT / "setup.cfg")
    name = os.environ.get("DEBFULLNAME") or found.get("metadata", "author", fallback="the authors of fz-iproute")
    address = os.environ.get("DEBEMAIL") or found.get("metadata", "author_email", fallback="")
    if not address:
        words = "names root@localhost as its maintainer; DEBFULLNAME and DEBEMAIL name another one"
        print(f"note: the Debian package {words}", file=sys.stderr)
    return f"{name} <{address or 'root@localhost'}>"


if __name__ == "__main__":
    main()
