"""`help` shows the manual, also where there is no `man`."""

import os
import pty
import subprocess

from fz_iproute.files.data import texts
from fz_iproute.service.manual import page
from tests.cli.world import DEADLINE, PROGRAM, Program


def test_help_prints_each_page_of_the_manual(program: Program) -> None:
    for name, text in texts("man").items():
        done = program.run("help", name.rpartition(".")[0])
        assert (0, page(text, 80) + "\n", "") == done


def test_help_gives_a_terminal_its_pager(program: Program) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.run(
        [*PROGRAM, "help", "fz-iproute.toml"], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**program.environment, "PAGER": "sed -n 's/^NAME/the pager says &/p'"}, timeout=DEADLINE, check=False,
    )  # fmt: skip
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        assert (0, b"the pager says NAME\r\n") == (process.returncode, terminal.read(1 << 16))
