"""Makes a wheel, an sdist, a single file and a Debian package, all of the same version, into a folder (dist).

The last two carry `sh` and `loguru` as they are installed beside this interpreter. They leave out watchfiles, which is
compiled for one machine; `watch` runs without it.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipapp
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))
from fz_iproute import __version__  # noqa: E402

CARRIED = ("sh", "sh.py", "sh-*.dist-info", "loguru", "loguru-*.dist-info")

ZIP_MAIN = "from fz_iproute.__main__ import run\n\nrun()\n"

LIBRARY = "usr/lib/fz-iproute"
PROGRAM = f"""\
#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/{LIBRARY}")
from fz_iproute.__main__ import run

run()
"""

CONTROL = """\
Package: fz-iproute
Version: {version}
Architecture: all
Maintainer: The fz-iproute maintainers <maintainers@localhost>
Installed-Size: {kilobytes}
Depends: python3 (>= 3.11), iproute2
Recommends: python3-watchfiles
Section: net
Priority: optional
Description: {description}
 A full-tunnel VPN takes all traffic, the local network's too. fz-iproute copies
 the link-scoped routes of table main into the VPN's table and keeps them right.
"""
# `configure` and `remove` come from dpkg. Whether the service is enabled is left to the owner of the machine.
POSTINST = f"""\
#!/bin/sh
set -e
python3 -m compileall -q /{LIBRARY}
[ ! -d /run/systemd/system ] || systemctl daemon-reload
[ ! -d /run/systemd/system ] || systemctl try-restart fz-iproute.service
"""
PRERM = f"""\
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl disable --now --quiet fz-iproute.service; fi
find /{LIBRARY} -name __pycache__ -prune -exec rm -r {{}} +
"""
POSTRM = """\
#!/bin/sh
set -e
[ ! -d /run/systemd/system ] || systemctl daemon-reload
"""


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
        build_deb(library, folder / "root", dist / f"fz-iproute_{__version__}_all.deb")
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
            shutil.copytree(path, library / path.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyi"))
        else:
            shutil.copy(path, library)


def build_single_file(library: Path, target: Path) -> None:
    """A zip file that Python runs."""
    main = library / "__main__.py"
    main.write_text(ZIP_MAIN)
    zipapp.create_archive(library, target, "/usr/bin/env python3", compressed=True)
    target.chmod(0o755)
    main.unlink()


def build_deb(library: Path, root: Path, target: Path) -> None:
    """The program places its own units, pages and completions, as `install --root` does for every packager."""
    shutil.copytree(library, root / LIBRARY)
    program = root / "usr/bin/fz-iproute"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    words = ["install", "--root", root, "--prefix", "/usr", "--program", "/usr/bin/fz-iproute"]
    subprocess.run([sys.executable, "-m", "fz_iproute", *words], cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path == program else 0o644)
    root.chmod(0o755)

    documents = root / "usr/share/doc/fz-iproute"
    documents.mkdir(parents=True)
    shutil.copy(PROJECT / "LICENSE", documents / "copyright")
    shutil.copy(PROJECT / "CHANGELOG.md", documents)
    description = "keeps the LAN reachable under a full-tunnel VPN"
    kilobytes = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) // 1024 + 1
    settings = "".join(f"/{path.relative_to(root)}\n" for path in sorted((root / "etc").rglob("*")) if path.is_file())
    control = root / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(CONTROL.format(version=__version__, kilobytes=kilobytes, description=description))
    (control / "conffiles").write_text(settings)
    for name, text in (("postinst", POSTINST), ("prerm", PRERM), ("postrm", POSTRM)):
        (control / name).write_text(text)
        (control / name).chmod(0o755)
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, target], stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
