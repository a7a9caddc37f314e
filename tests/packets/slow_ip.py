"""An `ip` for the front of PATH that waits after each line that writes, so that packets meet every state in between.

The lines go to the real `ip`.
"""

import os
import shutil
from pathlib import Path

_SCRIPT = """\
#!{bash}
case " $* " in
*" -batch "*)
    # The real one replaces this process, so that signals reach it.
    exec {real} "$@" < <(
        while IFS= read -r line; do
            printf '%s\\n' "$line"
            case "$line" in
            *" add "* | *" append "* | *" replace "* | *" del "*) read -rt {pause} <> <(:) ;;
            esac
        done
    )
    ;;
*) exec {real} "$@" ;;
esac
"""


def slow_ip(folder: Path, pause: float) -> Path:
    """Make the program; returns its folder."""
    made = folder / "slow"
    made.mkdir()
    program = made / "ip"
    real, bash = shutil.which("ip", path=os.environ.get("PATH", os.defpath)), shutil.which("bash")
    assert real and bash
    program.write_text(_SCRIPT.format(bash=bash, real=real, pause=pause))
    program.chmod(0o755)
    return made
