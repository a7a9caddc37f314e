"""The wheel and the single file, without the checkout, tell the README's story and write the same files."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from fz_iproute import __version__
from tests.netns.namespace import DEADLINE, PROJECT, run
from tests.packages.readme import as_script, printed, tour
from tests.packages.required import contents, required
from tests.starter import starter

PYTHON = Path(sys._base_executable)  # type: ignore[attr-defined]  # not that of the tests' environment
PLACE = ["--program", "/usr/local/sbin/fz-iproute", "--root"]

# After the README's tour: `watch` follows the kernel, and its configuration with and without a signal.
WATCH = f"""
within() {{ timeout {DEADLINE} sh -c "$1" || {{ echo "not in time: $1"; exit 1; }}; }}
fz-iproute snapshot -o machine.json; touch watch.log
copied='ip route show table 539098368 | grep -q wlp192s0'
echo '[lan]' >c.toml
fz-iproute -c c.toml watch 2>watch.log &
within "until grep -q 'copies' watch.log; do sleep 0.1; done; fz-iproute -c c.toml wait"
ip address add 192.168.188.78/24 metric 600 dev wlp192s0
ip address del 192.168.188.77/24 dev wlp192s0
within "until ip route show table 539098368 | grep -q 'src 192.168.188.78'; do sleep 0.1; done"
printf '[lan]\\nexclude_interfaces = ["wlp192s0"]\\n' >c.toml
within "while $copied; do sleep 0.1; done"
echo '[lan]' >c.toml
kill -HUP $!
within "until $copied; do sleep 0.1; done"
kill $!
wait $!
"""


def installed_wheel(dist: Path, folder: Path) -> Path:
    """The folder with the program, in an environment that holds the wheel and what it requires, and nothing else."""
    venv.create(folder, symlinks=True)
    for each in required("fz-iproute"):
        for file, content in contents(each).items():
            path = next(folder.glob("lib/python*/site-packages")) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    pip = (sys.executable, "-m", "pip", "--python", str(folder))
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", str(dist / f"fz_iproute-{__version__}-py3-none-any.whl"))
    run(*pip, "check")
    return folder / "bin"


def copied_file(dist: Path, folder: Path) -> Path:
    """The folder with the single file under the name of the program."""
    folder.mkdir()
    shutil.copy(dist / "fz-iproute.pyz", folder / "fz-iproute")
    return folder


def tree(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


@pytest.mark.long
@pytest.mark.parametrize("obtain", [installed_wheel, copied_file])
def test_the_package_tells_the_story_of_the_readme(dist: Path, tmp_path: Path, obtain: object) -> None:
    if os.geteuid() != 0:
        pytest.skip("PACKAGES NOT TRIED: it takes root, or root of a user namespace, to hide the checkout")
    assert callable(obtain)
    program = obtain(dist, tmp_path / "program")
    env = {"PATH": f"{program}:{PYTHON.parent}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    hidden = ("unshare", "--mount", "sh", "-ec", 'mount -t tmpfs tmpfs "$0"; exec fz-iproute "$@"', str(PROJECT))

    def hiding(*words: str) -> subprocess.CompletedProcess[str]:
        done = run(*hidden, *words, env=env, cwd=tmp_path, check=False)
        assert "Traceback" not in done.stderr and done.returncode in (0, 1), done.stdout + done.stderr
        return done

    assert f"fz-iproute {__version__}\n" == hiding("--version").stdout
    done = hiding("lab", "--", "sh", "-c", f"{as_script()}\necho '---- '{WATCH}")
    *told, rest = printed(done.stdout)
    assert [lines for _, lines in tour()] == told
    log = (tmp_path / "watch.log").read_text()
    assert (0, []) == (done.returncode, rest), log
    assert ("watchfiles is not installed" in log) == (obtain is copied_file)

    snapshot = str(tmp_path / "machine.json")
    for words in (["doctor", "--snapshot", snapshot], ["explain", "--snapshot", snapshot, "192.168.188.1"]):
        assert starter().run(words, env, 60).stdout == hiding(*words).stdout
    assert f"root {program}/fz-iproute sync" in hiding("unit", "cron").stdout
    starter().run(["install", *PLACE, str(tmp_path / "expected")], env, 60)
    hiding("install", *PLACE, str(tmp_path / "written"))
    assert tree(tmp_path / "expected") == tree(tmp_path / "written")


def test_a_unit_starts_a_single_file_that_is_not_executable_by_python(dist: Path, tmp_path: Path) -> None:
    file = tmp_path / "fz-iproute.pyz"
    file.write_bytes((dist / file.name).read_bytes())
    said = run(str(PYTHON), "-I", str(file), "unit", "cron").stdout
    assert f"root {PYTHON} {file} sync" in said


def test_an_old_python_is_told_that_it_is_too_old(dist: Path) -> None:
    pretend = "import runpy, sys; sys.version_info = (3, 9, 2); runpy.run_path(sys.argv[1], run_name='__main__')"
    done = run(str(PYTHON), "-I", "-c", pretend, str(dist / "fz-iproute.pyz"), check=False)
    assert (1, "error: Python 3.9 is too old for fz-iproute; start it with 3.11 or newer\n") == (
        done.returncode,
        done.stderr,
    )


def test_the_demo_runs_to_its_end() -> None:
    """It checks each step itself."""
    run(str(PROJECT / "scripts/demo"))
