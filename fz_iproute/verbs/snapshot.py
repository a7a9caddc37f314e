"""`snapshot`: record everything that the planner reads, as one JSON document."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fz_iproute.files.whole_file import draft, file_failure
from fz_iproute.log import Log
from fz_iproute.record.recording import dump
from fz_iproute.record.redact import Redactor
from fz_iproute.record.take import take
from fz_iproute.verbs.output import write
from fz_iproute.verbs.source import running_machine

EXAMPLES = (
    "fz-iproute snapshot -o laptop.json",
    "fz-iproute snapshot --redact -o report.json",
)


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
    if arguments.redact:
        recorded = Redactor(recorded, os.urandom(16)).redacted()
    text = dump(recorded)
    if arguments.output is None:
        write(text)
    else:
        _save(arguments.output, f"{text}\n")
    return 0


def _save(path: Path, text: str) -> None:
    """Write the whole text or nothing. Only the owner may read the file, because it describes the network."""
    try:
        # A pipe, or a link such as /dev/stdout, is written to. A rename would replace it.
        if path.is_symlink() or (path.exists() and not path.is_file()):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
            return
        with draft(path, text, 0o600) as new:
            new.replace(path)
    except OSError as error:
        raise file_failure(path, error) from None
