"""Starts the program by fork, so that the interpreter starts and imports its modules only once.

`python -m` and the end of the interpreter are not run. tests/cli and tests/watch test both.
"""

import difflib  # noqa: F401  # the program imports this one, loguru and tomllib only when needed
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
import tomllib  # noqa: F401
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import loguru  # noqa: F401

import fz_iproute.cli

_MOST = 1 << 20


@functools.cache
def starter() -> "Starter":
    """The starter of this test process."""
    return Starter({"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}, Path(__file__).parents[1])


class Starter:
    """A process that has imported the program, and forks for each run."""

    def __init__(self, env: dict[str, str], cwd: Path) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # The process ends when this end of the socket is closed.
            argv = [sys.executable, "-m", "tests.starter", str(theirs.fileno())]
            subprocess.Popen(argv, env=env, cwd=cwd, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def run(self, argv: Sequence[str], env: dict[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
        """Run the program to its end, with empty stdin."""
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
            outputs = []
            for file in (out, err):
                file.seek(0)
                outputs.append(file.read().decode("utf-8", "surrogateescape"))
        return subprocess.CompletedProcess(list(argv), code, *outputs)


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
    gc.freeze()  # a collection in a child would write to, and so copy, the shared memory
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
    # A normal exit would write to, and so copy, the memory that is shared with the parent.
    os._exit(code)


if __name__ == "__main__":
    main()
