"""Everything that `scripts/build` makes, built once for all processes that share the tests."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.netns.namespace import PROJECT


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the packages."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("NO PACKAGES BUILT: it takes dpkg-deb")
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    made = shared / "dist"
    with (shared / "dist.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            argv = [sys.executable, str(PROJECT / "scripts/build.py"), str(shared / "unfinished")]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            (shared / "unfinished").rename(made)
    return made
