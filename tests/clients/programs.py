"""Runs DHCP and router advertisement programs beside a test."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pytest

from tests.netns.namespace import Namespace

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
# A program ends within a second of SIGTERM, but a busy machine may need longer.
_GRACE = 10.0


def need(program: str, package: str) -> str:
    """The path of a program. Without it the test is skipped, or fails in CI."""
    if path := shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"):
        return path
    words = f"{program} is missing here; apt-get install {package}"
    return pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)


class Program:
    """Runs in a namespace from the start of a `with` block to its end; its output goes to the file `log`."""

    def __init__(self, namespace: Namespace, argv: Sequence[str], log: Path) -> None:
        self._argv = ["ip", "netns", "exec", namespace.name, *argv]
        self._log = log

    def __enter__(self) -> "Program":
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        if error:
            error.add_note(f"{self._log.name}: {self.words[-4000:]}")

    @property
    def words(self) -> str:
        """Its output so far."""
        return self._log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it before it can withdraw anything."""
        self._process.kill()
        self._process.wait()
