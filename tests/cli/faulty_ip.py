"""An `ip` for the front of PATH: the real one, in the namespace of a test, unless a fault applies.

A fault is a dictionary in the file `faults`. It applies if the regular expression `match` is found in the arguments or,
in a batch, in the options and one line, for example `-json -6 route show table main`. `number` restricts it to the line
with this number among those that write. `times` limits how often it applies. The other keys say what happens:

    exit, stdout, stderr      print this and fail with this code, without asking the kernel; `ends` ends a batch too
    cut                       print only this fraction of the answer
    interrupted               leave out the last document, and warn that the dump was interrupted
    hang                      write PID.pid and sleep for a minute
    signal                    end by this signal, in the middle of the answer
    words                     refuse the line in these words
    forget                    succeed without changing anything
"""

import json
import os
import re
import sys
import time


class Ended(Exception):
    """The process ends with this code, and in a batch it leaves out the rest."""


class FaultyIp:
    """What one process of `ip` does. `folder` has the faults, and gets the counts of lines that write in batches."""

    def __init__(self, folder, command, argv):
        self._folder = folder
        self._command = command
        self._argv = argv
        self._options = [word for word in argv if word not in ("-force", "-batch", "-")]
        self._written = 0

    def run(self):
        """Returns the exit code."""
        try:
            if "-batch" in self._argv:
                return self._converse()
            self._written = 1
            fault = self._fault(" ".join(self._argv))
            return self._suffer(fault, self._argv, b"") if fault else self._real(self._argv)[0]
        except Ended as ended:
            return ended.args[0]

    def _converse(self):
        """Do what `ip -force -batch -` does: carry out lines as they arrive, until stdin ends."""
        code, number, text = 0, 0, b""
        while part := os.read(0, 1 << 20):
            *lines, text = (text + part).split(b"\n")
            if count := sum(map(_writes, lines)):
                with open(f"{self._folder}/batches", "a") as file:  # noqa: PTH123
                    file.write(f"{count}\n")
            whole = []
            for line in lines:
                self._written += _writes(line)
                if fault := self._fault(" ".join([*self._options, os.fsdecode(line)])):
                    code = self._batch(whole, number) or code
                    number += len(whole) + 1
                    whole = []
                    if self._suffer(fault, self._argv, line + b"\n"):
                        print(f"Command failed -:{number}", file=sys.stderr, flush=True)
                        code = 1
                else:
                    whole.append(line)
            code = self._batch(whole, number) or code
            number += len(whole)
        return code

    def _batch(self, lines, before):
        """Run lines that no fault is about. `before` is the number of those before them."""
        if not lines:
            return 0
        code, printed = self._real(self._argv, b"".join(line + b"\n" for line in lines), caught=2)
        words = re.sub(rb"(?<=Command failed -:)\d+", lambda number: b"%d" % (int(number[0]) + before), printed)
        os.write(2, words)
        if code and b"Command failed" not in words:
            raise Ended(code)
        return code

    def _real(self, argv, text=b"", caught=None):
        """The exit code, and what was printed on the stream `caught`. To import subprocess would take longer."""
        with os.fdopen(os.memfd_create(""), "w+b") as given, os.fdopen(os.memfd_create(""), "w+b") as printed:
            given.write(text)
            given.seek(0)
            streams = {0: given, caught: printed} if caught else {0: given}
            actions = [(os.POSIX_SPAWN_DUP2, file.fileno(), number) for number, file in streams.items()]
            pid = os.posix_spawn(self._command[0], [*self._command, *argv], os.environ, file_actions=actions)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            printed.seek(0)
            return code, printed.read()

    def _fault(self, line):
        with open(f"{self._folder}/faults") as file:  # noqa: PTH123
            faults = json.load(file)
        for fault in faults:
            fits = fault.get("times") != 0 and fault.get("number", self._written) == self._written
            if fits and re.search(fault["match"], line):
                if "times" in fault:
                    fault["times"] -= 1
                    new = f"{self._folder}/faults.{os.getpid()}"
                    with open(new, "w") as file:  # noqa: PTH123
                        json.dump(faults, file)
                    os.replace(new, f"{self._folder}/faults")  # noqa: PTH105
                return fault
        return {}

    def _suffer(self, fault, argv, line):
        """What happens to the line, or to the arguments. Returns the exit code."""
        if "hang" in fault:
            with open(f"{self._folder}/{os.getpid()}.pid", "w"):  # noqa: PTH123
                time.sleep(60)
        if "exit" in fault or "words" in fault:
            code, printed = fault.get("exit", 2), fault.get("stdout", "")
            _print(printed.encode("utf-8", "surrogateescape"))
            print(fault.get("words", fault.get("stderr", "")), file=sys.stderr, flush=True)
            # A batch goes on only after a complete line.
            if "ends" in fault or (not code and not printed.endswith("\n")):
                raise Ended(code)
            return code
        answer = b"" if "forget" in fault else self._real(argv, line, caught=1)[1]
        if "interrupted" in fault:
            print("Dump was interrupted and may be inconsistent.", file=sys.stderr, flush=True)
            answer = json.dumps(json.loads(answer)[:-1]).encode() + b"\n"
        _print(answer[: int(len(answer) * fault.get("cut", 0.9 if "signal" in fault else 1))])
        if "signal" in fault:
            os.kill(os.getpid(), fault["signal"])
        if "cut" in fault:
            raise Ended(0)
        return 0


def _writes(line):
    return b"show" not in line.split()


def _print(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
