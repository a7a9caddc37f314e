"""Starts the program by fork: what a start costs is spent once, on the interpreter and its imports.

Nothing of it is left out but `python -m` and the end of the interpreter: tests/cli and tests/watch go through both,
hundreds of times.
"""

import functools
import gc
import json
import os
import pkgutil
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import fz_iproute.cli

_MOST = 1 << 20


@functools.cache
def starter() -> "Starter":
    """That of this process of tests."""
    return Starter({"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}, Path(__file__).parents[1])


class Starter:
    """A process that has imported the program, and forks for each run of it."""

    def __init__(self, env: dict[str, str], cwd: Path) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # It ends when our end of the socket is closed, with us at the latest.
            argv = [sys.executable, "-m", "tests.starter", str(theirs.fileno())]
            subprocess.Popen(argv, env=env, cwd=cwd, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def run(self, argv: Sequence[str], env: dict[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
        """Run the program to its end, with an empty stdin."""
        with self._lock, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            request = json.dumps([list(argv), env]).encode()
            socket.send_fds(self._socket, [request], [out.fileno(), err.fileno()])
            pid = int(self._socket.recv(_MOST))
            self._socket.settimeout(seconds)
            try:
                code = int(self._socket.recv(_MOST))
            except TimeoutError:
                os.kill(pid, 9)
                self._socket.settimeout(None)
                self._socket.recv(_MOST)
                raise subprocess.TimeoutExpired(list(argv), seconds) from None
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode("utf-8", "surrogateescape"))
        return subprocess.CompletedProcess(list(argv), code, *said)


def _serve(connection: socket.socket) -> list[str]:
    """Fork for each request; in the child, return its arguments."""
    while True:
        request, fds, *_ = socket.recv_fds(connection, _MOST, 2)
        if not request:
            os._exit(0)
        argv, env = json.loads(request)
        if pid := os.fork():
            for fd in fds:
                os.close(fd)
            connection.send(str(pid).encode())
            connection.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
            continue
        connection.close()
        for number, fd in enumerate(fds, start=1):
            os.dup2(fd, number)
            os.close(fd)
        os.environ.clear()
        os.environ.update(env)
        return list(argv)


def main() -> None:
    for module in pkgutil.walk_packages(fz_iproute.__path__, "fz_iproute."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    gc.freeze()  # whoever looked for garbage in it would copy it
    argv = _serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        code = fz_iproute.cli.main(argv)
    except SystemExit as end:
        assert end.code is None or isinstance(end.code, int), end.code
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # To tidy up the interpreter would touch, and so copy, all that it shares with its parent.
    os._exit(code)


if __name__ == "__main__":
    main()
