"""An `ip` for the front of PATH: the real one, but while it is told to fail."""

import os
import shutil
from pathlib import Path

PAUSE = 0.003  # seconds that a slow one waits

# Three kinds: the monitor; a coprocess, whose stdin is a pipe; or a process that answers and ends.
_SCRIPT = """\
#!{bash}
case " $* " in
*" monitor "*) kind=monitor ;;
*) if [ -p /dev/stdin ]; then kind=coprocess; else kind=oneshot; fi ;;
esac
fault=
[ -r {folder}/$kind ] && read -r fault <{folder}/$kind
[ -n "$fault" ] && echo "$kind" >>{folder}/seen
case "$fault" in
hang) exec sleep 1000 ;;
late) sleep 1; exec {real} "$@" ;;
garbage) echo '}}{{ no JSON'; exit 0 ;;
half) said=$({real} "$@" </dev/stdin); printf '%.*s' $((${{#said}} / 2)) "$said"; exit 0 ;;
half-line) read -r line; printf '[{{"dst":'; exit 0 ;;
nothing) printf '['; exit 2 ;;
exit) echo 'something is wrong' >&2; exit 1 ;;
old) echo 'Option "-json" is unknown, try "ip -help".' >&2; exit 255 ;;
refuse) exec setpriv --bounding-set -net_admin --inh-caps -net_admin {real} "$@" ;;
killed)
    # After the second line that writes, somebody kills it.
    writes=0
    while IFS= read -r line; do
        printf '%s\\n' "$line"
        case "$line" in "route add "* | "route append "* | "route replace "*) writes=$((writes + 1)) ;; esac
        if [ $writes = 2 ]; then kill -9 $$; exit; fi
    done | {real} "$@"
    exit
    ;;
killed-early)
    # Before it writes anything.
    said=$(cat)
    case "$said" in *"route add "*) kill -9 $$ ;; esac
    printf '%s\\n' "$said" | {real} "$@"
    exit
    ;;
slow)
    # After each line that writes, it waits. Signals reach the real one, because it replaces this process.
    exec {real} "$@" < <(
        while IFS= read -r line; do
            printf '%s\\n' "$line"
            case "$line" in
            *" add "* | *" append "* | *" replace "* | *" del "*) read -rt {pause} <> <(:) ;;
            esac
        done
    )
    ;;
babble) printf 'no\\377sense\\n[ROUTE\\n[\\n\\n[ROUTE]table\\n[ROUTE]table table\\n[LINK]\\n'; exec {real} "$@" ;;
lossy) echo 'netlink receive error No buffer space available (105)' >&2; exec {real} "$@" ;;
*) exec {real} "$@" ;;
esac
"""


class BrokenIp:
    """Put `folder` in front of PATH. A fault does not change processes that have already started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        self.program = self.folder / "ip"
        self._away = self.folder / "away"
        real, bash = (shutil.which(name, path=os.environ.get("PATH", os.defpath)) for name in ("ip", "bash"))
        self.program.write_text(_SCRIPT.format(bash=bash, folder=self.folder, pause=PAUSE, real=real))
        self.program.chmod(0o755)

    def breaks(self, fault: str, *kinds: str) -> None:
        """From now on, new processes of these kinds fail; without `kinds`, all but monitors. `missing` is for all."""
        if fault == "missing":
            self.program.rename(self._away)
            return
        for kind in kinds or ("coprocess", "oneshot"):
            # Written aside and renamed, so that no process reads an empty file.
            (self.folder / "new").write_text(f"{fault}\n")
            (self.folder / "new").rename(self.folder / kind)

    def mends(self) -> None:
        if self._away.exists():
            self._away.rename(self.program)
        for kind in ("monitor", "coprocess", "oneshot"):
            (self.folder / kind).unlink(missing_ok=True)

    def failed(self, kind: str) -> int:
        """How many processes of a kind have failed."""
        try:
            return (self.folder / "seen").read_text().split().count(kind)
        except FileNotFoundError:
            return 0
