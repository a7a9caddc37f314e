"""A booted systemd in namespaces of its own, with fz-iproute in /opt/fz-iproute."""

import shutil
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from tests.netns.namespace import PROJECT
from tests.systemd.machine import Booted, booted_with

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
