"""Namespaces that end with the process that made them, and what happens in them."""

import ctypes
import fcntl
import os
import select
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from fz_iproute.errors import NotPermitted
from fz_iproute.ip.apply import Refusal, Work
from fz_iproute.ip.ip import Ip
from fz_iproute.ip.monitor import die_with_parent
from fz_iproute.lab.rebuild import is_batchable, is_group
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.words import FAMILY_OPTION

_LIBC = ctypes.CDLL(None, use_errno=True)  # os.unshare came with Python 3.12, and mount never
_NEWNS, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x10000000, 0x20000000, 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000

_TUNSETIFF, _TUNSETIFINDEX, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x400454DA, 0x0001, 0x1000

# How often a batch may end early before the rest is given up: each time, half of its lines are tried again.
_MOST_ENDS = 500

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as a shell says it


def apart(inside: Callable[[], int]) -> int:
    """Run `inside` in network, mount and process namespaces of its own, with an empty /run; its exit code.

    It runs in a child, which is the first process of the namespace: when it ends, and it does whenever we do, the
    kernel ends all that it has started, and there is nothing left to hold the namespaces.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    alive, ours = os.pipe()
    try:
        _unshare()
        child = os.fork()
    except OSError as error:
        raise NotPermitted(
            f"no namespaces here: {error.strerror}; run it as root, or where user namespaces are allowed"
        ) from None
    if child == 0:
        os.close(ours)
        die_with_parent()
        if select.select([alive], [], [], 0)[0]:
            os._exit(1)  # it has died before we said that we want to follow it
        _furnish()
        return inside()
    # Ctrl-C is for the command: whether it ends is its affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    try:
        return _shell_code(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)  # it is gone when all the others are
        raise


def _unshare() -> None:
    flags = _NEWNET | _NEWNS | _NEWPID
    if os.geteuid() == 0 and _LIBC.unshare(flags) == 0:
        return
    uid, gid = os.geteuid(), os.getegid()
    if _LIBC.unshare(flags | _NEWUSER):
        raise _error()
    # Who may not change groups is trusted with a map of its own.
    for name, text in {"setgroups": "deny", "uid_map": f"0 {uid} 1", "gid_map": f"0 {gid} 1"}.items():
        Path("/proc/self", name).write_text(text)


def _furnish() -> None:
    try:
        _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
        _mount("tmpfs", "/run", "tmpfs")  # for `ip netns` and our lock
    except OSError as error:
        raise NotPermitted(f"nothing can be mounted in a namespace here: {error.strerror}; run it as root") from None
    # Refused in some containers: then `ps` sees the processes outside, and nothing else is different.
    with suppress(OSError):
        _mount("proc", "/proc", "proc")


def _mount(source: str, target: str, kind: str | None, flags: int = 0) -> None:
    if _LIBC.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, None):
        raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def open_tun(name: str, index: int) -> int:
    """A TUN device, with this index if it is free; it has a carrier as long as the descriptor is open.

    OSError if it cannot be. Nobody reads: what enters the tunnel is lost.
    """
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    request = struct.pack("16sH22x", os.fsencode(name), _IFF_TUN | _IFF_NO_PI)
    try:
        fcntl.ioctl(fd, _TUNSETIFINDEX, struct.pack("I", index))
        try:
            fcntl.ioctl(fd, _TUNSETIFF, request)
        except OSError:
            fcntl.ioctl(fd, _TUNSETIFINDEX, struct.pack("I", 0))
            fcntl.ioctl(fd, _TUNSETIFF, request)
    except BaseException:
        os.close(fd)
        raise
    return fd


def carry_out(ip: Ip, commands: Sequence[Command]) -> list[Refusal]:
    """All of the commands, in their order within a family, and those that were refused.

    A line that `ip` cannot parse ends its batch, nobody knows where: then its halves are tried, down to the line.
    What is there already was done by an earlier try.
    """
    refusals: list[Refusal] = []
    ends = _MOST_ENDS
    for batchable, group in groupby(commands, key=_is_for_a_batch):
        due = [list(group)]
        if not batchable:
            refusals += [refusal for command in due.pop() for refusal in _alone(ip, command)]
        while due:
            part = due.pop()
            found = Work(ip, part).finish()
            lost = [refusal.command for refusal in found if refusal.lost]
            refusals += [refusal for refusal in found if not refusal.lost and refusal.words != _SAID_ALREADY]
            if len(lost) == 1:
                refusals += _alone(ip, lost[0])
            elif ends:
                ends -= 1
                due += [part for part in (lost[len(lost) // 2 :], lost[: len(lost) // 2]) if part]
            else:
                refusals += [refusal for refusal in found if refusal.lost]
    return refusals


def _is_for_a_batch(command: Command) -> bool:
    return is_batchable(command.words) and not is_group(command)


_SAID_ALREADY = "RTNETLINK answers: File exists"


def _alone(ip: Ip, command: Command) -> list[Refusal]:
    """With a process of its own, whose arguments may hold anything."""
    family = () if is_group(command) else (FAMILY_OPTION[command.family],)
    answer = ip.start(*family, *command.words).answer()
    return [] if answer.code == 0 or answer.words == _SAID_ALREADY else [Refusal(command, answer.words)]


def run(argv: list[str]) -> int:
    """Run the command to its end, and bury whoever dies meanwhile; its exit code.

    FileNotFoundError and PermissionError if there is no such program.
    """
    given_back = (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ)
    for number in given_back[:2]:
        signal.signal(number, signal.SIG_IGN)
    child = os.posix_spawnp(argv[0], argv, os.environ, setsigdef=given_back)
    while True:
        pid, status = os.wait()
        if pid == child:
            return _shell_code(status)


def _shell_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
