"""The floor under `fz-iproute watch`: the least that any program of its form has to do to copy a route.

It hears a line of `ip monitor`, asks a co-process one question, parses the answer, and writes the commands. It does
nothing else: it handles no failure, judges no route, and serves IPv4 alone. Its argument is the number of the table.
"""

import json
import os
import subprocess
import sys
from subprocess import PIPE

TABLE = sys.argv[1]
KINDS = ["link", "address", "route", "rule", "nexthop"]


def routes(question: str) -> dict[str, str]:
    """The co-process's answer: the arguments of each route, by its destination."""
    os.write(asking, f"route show table {question}\n".encode())
    found = json.loads(answers.readline())
    return {route["dst"]: f"{route['dst']} dev {route['dev']} proto {route['protocol']} scope link" for route in found}


monitor = subprocess.Popen(["ip", "-oneline", "monitor", "label", *KINDS], stdout=PIPE)
coprocess = subprocess.Popen(["ip", "-json", "-4", "-force", "-batch", "-"], stdin=PIPE, stdout=PIPE)
assert monitor.stdout and coprocess.stdin and coprocess.stdout
lines, asking, answers = monitor.stdout.fileno(), coprocess.stdin.fileno(), coprocess.stdout
copies: dict[str, str] = {}
while True:
    wanted = routes("main scope link")
    due = [("add", wanted[dst]) for dst in wanted if dst not in copies]
    due += [("del", copies[dst]) for dst in copies if dst not in wanted]
    if due:
        os.write(asking, "".join(f"route {verb} table {TABLE} {words}\n" for verb, words in due).encode())
    copies = wanted
    os.read(lines, 1 << 16)
