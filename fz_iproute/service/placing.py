"""Writes and removes the files of an installation, and runs `systemctl`. It reports each step."""

import shutil
import subprocess
from argparse import Namespace
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

from fz_iproute.errors import ApplyFailed, UsageError
from fz_iproute.files.config_file import VARIABLE, is_lab
from fz_iproute.files.trusted_file import file_failure
from fz_iproute.files.whole_file import replace
from fz_iproute.service.units import File, is_sealed


def place_for(arguments: Namespace, say: Callable[[str], object]) -> "Placing":
    """The Placing for this verb. UsageError in a lab if the verb would change files or services of the machine."""
    place = Placing(arguments.root, arguments.dry_run, say)
    if place.is_running_machine and is_lab() and not arguments.dry_run:
        raise UsageError(
            f"{VARIABLE} is set, as in a lab, whose files and services are those of this machine; leave the lab, "
            f"or use {arguments.verb} --dry-run"
        )
    return place


class Placing:
    """Works below `root`, which is / unless a package is built. With `dry_run`, it only reports the steps."""

    def __init__(self, root: Path, dry_run: bool, say: Callable[[str], object]) -> None:
        self._root = root
        self._dry_run = dry_run
        self._say = say
        self.is_running_machine = root == Path("/")

    def _say_step(self, step: str) -> None:
        self._say(f"would {step}" if self._dry_run else step)

    def is_packaged(self, prefix: str) -> bool:
        """True if the shared files belong to a package of the distribution, which must be left alone."""
        return self.is_running_machine and prefix == "/usr"

    def write(self, file: File) -> None:
        """Write the file, unless there is one that somebody has edited."""
        path = self._root / file.path.lstrip("/")
        there = _content(path)
        if there == file.text:
            self._say(f"{path}: is as it should be")
        elif there is not None and not is_sealed(there):
            self._say(f"{path}: left alone, because somebody has edited it; delete it to get a new one")
        else:
            self._say_step(f"{'write' if there is None else 'replace'} {path}")
            if not self._dry_run:
                _make_folder(path.parent)
                replace(path, file.text, file.mode)

    def remove(self, patterns: Iterable[str]) -> bool:
        """Remove the files that match the patterns, except edited ones. False if none matches."""
        found = [path for pattern in patterns for path in sorted(self._root.glob(pattern.lstrip("/")))]
        for path in found:
            if not is_sealed(_content(path) or ""):
                self._say(f"{path}: left alone, because somebody has edited it")
                continue
            self._say_step(f"remove {path}")
            if not self._dry_run:
                try:
                    path.unlink()
                except OSError as error:
                    raise file_failure(path, error) from None
        return bool(found)

    def find(self, pattern: str) -> list[str]:
        """The names of the files that match the pattern."""
        return sorted(path.name for path in self._root.glob(pattern.lstrip("/")))

    @cached_property
    def has_systemd(self) -> bool:
        """True if systemd runs here."""
        return Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None

    def systemctl(self, *words: str) -> None:
        """Run `systemctl`, unless a package is built. ApplyFailed with its message if it fails."""
        line = " ".join(("systemctl", *words))
        if not self.is_running_machine:
            return
        if not self.has_systemd:
            self._say(f"skip `{line}`: systemd does not run here")
            return
        self._say_step(f"run `{line}`" if self._dry_run else line)
        if not self._dry_run:
            done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
            if done.returncode:
                raise ApplyFailed(f"{line}: {done.stderr.strip() or f'exit code {done.returncode}'}")

    def clean_logs(self) -> None:
        """Let systemd remove the log folders of the units if they are empty. Each has the name of its unit."""
        for name in self.find("var/log/fz-iproute*"):
            if any((self._root / "var/log" / name).iterdir()):
                self._say(f"/var/log/{name}: left alone, because there are journals in it")
            else:
                self.systemctl("clean", "--what=logs", f"{name}.service")


def _content(path: Path) -> str | None:
    """The content of the file; None if there is no file. "" for a symbolic link or a folder, which counts as edited."""
    try:
        return "" if path.is_symlink() or path.is_dir() else path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise file_failure(path, error) from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise file_failure(folder, error) from None
