"""An `ip` that logs its arguments and batch lines, and passes them to the real `ip`."""

import shutil
from pathlib import Path

_SCRIPT = """\
#!/bin/sh
printf '%s\\n' "$*" >>'{log}'
case " $* " in
*" -batch "*) tee -a '{log}' | '{ip}' "$@" ;;
*) exec '{ip}' "$@" ;;
esac
"""


class Wiretap:
    """`path` belongs at the front of PATH; `lines` are the arguments and batch lines since `clear`."""

    def __init__(self, folder: Path) -> None:
        ip = shutil.which("ip")
        assert ip
        self.path = str(folder)
        self._log = folder / "log"
        script = folder / "ip"
        script.write_text(_SCRIPT.format(log=self._log, ip=ip))
        script.chmod(0o755)
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
