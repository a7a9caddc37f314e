"""An `ip` for the front of PATH that takes its time between two lines that write, so that others see what lies between.

It is the real one: only the lines reach it slowly.
"""

import os
import shutil
from pathlib import Path

_SCRIPT = """\
#!{bash}
case " $* " in
*" -batch "*)
    # The real one takes the place of this process, as whoever ends it expects.
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
    """The folder to go in front of PATH."""
    made = folder / "slow"
    made.mkdir()
    program = made / "ip"
    real, bash = shutil.which("ip", path=os.environ.get("PATH", os.defpath)), shutil.which("bash")
    assert real and bash
    program.write_text(_SCRIPT.format(bash=bash, real=real, pause=pause))
    program.chmod(0o755)
    return made
