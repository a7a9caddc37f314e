"""Makes namespaces that disappear with the process that made them, and runs commands in them."""

import ctypes
import fcntl
import os
import signal
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from fz_iproute.errors import NotPermitted
from fz_iproute.ip.apply import Refusal, Work
from fz_iproute.ip.ip import Ip
from fz_iproute.ip.monitor import die_with_parent
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.words import FAMILY_OPTION

_LIBC = ctypes.CDLL(None, use_errno=True)  # Python has os.unshare only since 3.12, and no mount
_NEWNS, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x10000000, 0x20000000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def apart(inside: Callable[[], int]) -> int:
    """Run `inside` in new network, mount and process namespaces, with an empty /run. Returns its exit code.

    `inside` runs in a child process, which is the first one of its process namespace. The child ends when this process
    ends, however that happens. Then the kernel kills all other processes in there, and the namespaces disappear.
    """
    try:
        _unshare()
        child = os.fork()
    except OSError as error:
        raise NotPermitted(
            f"cannot make namespaces: {error.strerror}; run lab as root, or where user namespaces are allowed"
        ) from None
    if child == 0:
        die_with_parent()
        _furnish()
        return inside()
    # Ctrl-C is for the command in the lab, which also receives it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    return _shell_code(os.waitpid(child, 0)[1])


def _unshare() -> None:
    flags = _NEWNET | _NEWNS | _NEWPID
    if os.geteuid() == 0 and _LIBC.unshare(flags) == 0:
        return
    uid, gid = os.geteuid(), os.getegid()
    if _LIBC.unshare(flags | _NEWUSER):
        raise _error()
    # For an ordinary user, the kernel allows gid_map only after `setgroups` is denied.
    for name, text in {"setgroups": "deny", "uid_map": f"0 {uid} 1", "gid_map": f"0 {gid} 1"}.items():
        Path("/proc/self", name).write_text(text)


def _furnish() -> None:
    try:
        _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
        _mount("tmpfs", "/run", "tmpfs")  # `ip netns` and the locks of fz-iproute need a writable /run
    except OSError as error:
        raise NotPermitted(f"cannot mount in a namespace: {error.strerror}; run lab as root") from None
    # Some containers forbid this mount. The only difference is that `ps` then shows the processes outside.
    with suppress(OSError):
        _mount("proc", "/proc", "proc")


def cover(place: Path, file: Path) -> None:
    """Put `file` in the place of a file of the machine, so that nothing in here changes that one.

    A machine without such a file stays as it is.
    """
    target = place.resolve()  # often it is a link into /run, which is empty here
    with suppress(OSError):
        if target.is_relative_to("/run"):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        _mount(str(file), str(target), None, _MS_BIND)


def _mount(source: str, target: str, kind: str | None, flags: int = 0) -> None:
    if _LIBC.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, None):
        raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def open_tun(name: str) -> None:
    """Make a TUN device. It has a carrier as long as this process runs. OSError if it cannot be made.

    Nobody reads from it, so packets into the tunnel are lost.
    """
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", os.fsencode(name), _IFF_TUN | _IFF_NO_PI))


# A command in a batch that ended early may have worked. When it is tried again, `ip` says this.
_EXISTS = "RTNETLINK answers: File exists"


def carry_out(ip: Ip, commands: Sequence[Command]) -> list[Refusal]:
    """Run the commands in a batch. Within a family, they keep their order. Returns the refusals.

    A line that `ip` cannot parse ends its batch, and it is unknown which line that was. So the two halves of the
    commands in doubt are tried separately, and again, until the bad line is alone.
    """
    found = Work(ip, commands).finish() if len(commands) > 1 else one_by_one(ip, commands)
    refusals = [refusal for refusal in found if not refusal.lost and refusal.words != _EXISTS]
    unknown = [refusal.command for refusal in found if refusal.lost]
    half = (len(unknown) + 1) // 2
    for part in filter(None, (unknown[:half], unknown[half:])):
        refusals += carry_out(ip, part)
    return refusals


def one_by_one(ip: Ip, commands: Iterable[Command]) -> list[Refusal]:
    """Run each command in its own process, so that its words may have any characters. Returns the refusals."""
    return [refusal for command in commands for refusal in _run_alone(ip, command)]


def _run_alone(ip: Ip, command: Command) -> list[Refusal]:
    # Without an option, `ip` assumes IPv4 where it needs a family. A group of nexthop objects must have no option.
    family = () if command.family == "inet" else (FAMILY_OPTION[command.family],)
    answer = ip.start(*family, *command.words).answer()
    return [Refusal(command, answer.words)] if answer.code != 0 else []


def run(argv: list[str]) -> int:
    """Run the command, reap all orphans until it ends, and return its exit code.

    FileNotFoundError and PermissionError if there is no such program.
    """
    defaults = (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ)
    for number in defaults[:2]:
        signal.signal(number, signal.SIG_IGN)
    child = os.posix_spawnp(argv[0], argv, os.environ, setsigdef=defaults)
    while True:
        pid, status = os.wait()
        if pid == child:
            return _shell_code(status)


def _shell_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
