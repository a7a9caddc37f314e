"""Programs for the front of PATH that stand in for `ip`; most pass their arguments to the real one."""

import shlex
import shutil
from pathlib import Path

_LOGGING = """\
printf '%s\\n' "$*" >>{log}
case " $* " in
*" -batch "*) tee -a {log} | "$ip" "$@" ;;
*) exec "$ip" "$@" ;;
esac
"""


def fake_ip(folder: Path, script: str) -> str:
    """Make an `ip` of a shell script in which $ip is the real `ip`. Returns the folder for PATH."""
    real = shutil.which("ip")
    assert real
    program = folder / "ip"
    program.write_text(f"#!/bin/sh\nip={shlex.quote(real)}\n{script}\n")
    program.chmod(0o755)
    return str(folder)


class Wiretap:
    """An `ip` that logs. `lines` are its arguments and batch lines since `clear`; `path` is the folder for PATH."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "log"
        self.path = fake_ip(folder, _LOGGING.format(log=shlex.quote(str(self._log))))
        self.clear()

    def clear(self) -> None:
        self._log.write_bytes(b"")

    @property
    def lines(self) -> list[str]:
        return self._log.read_bytes().decode("utf-8", "surrogateescape").splitlines()

    @property
    def writes(self) -> list[str]:
        """The lines that change something."""
        verbs = {"add", "append", "prepend", "replace", "change", "del", "delete", "flush", "set"}
        return [line for line in self.lines if verbs & set(line.split())]
