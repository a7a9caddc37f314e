"""`snapshot`: record everything that the planner reads, as one JSON document."""

import os
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

from fz_iproute.files.config_file import DEFAULT_PATH, is_lab
from fz_iproute.log import Log
from fz_iproute.record.recording import dump
from fz_iproute.record.redact import Redactor
from fz_iproute.record.take import take
from fz_iproute.record.vocabulary import words
from fz_iproute.verbs.output import write_to
from fz_iproute.verbs.source import running_machine


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write to this file, with mode 0600")
    parser.add_argument(
        "--redact", action="store_true", help="replace addresses and names consistently; prefixes keep their members"
    )


def run(arguments: Namespace, log: Log) -> int:
    """Take the snapshot, and print it or save it."""
    with running_machine(arguments, log) as (ip, config):
        recorded = take(ip, config, arguments.config, arguments.netns)
    if is_lab() and not arguments.config:
        # The lab's own file disappears with the lab, so advice for the recorded machine must not name it.
        recorded = replace(recorded, facts={**recorded.facts, "config.path": str(DEFAULT_PATH)})
    if arguments.redact:
        recorded = Redactor(recorded, os.urandom(16), words()).redacted()
    write_to(arguments.output, dump(recorded), 0o600)  # it describes the network
    return 0
