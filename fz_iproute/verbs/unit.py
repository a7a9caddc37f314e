"""`unit`: print the files that `install` writes, or a script for NetworkManager."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fz_iproute.files.config_file import load
from fz_iproute.files.data import texts
from fz_iproute.log import Log
from fz_iproute.service.program import choose
from fz_iproute.service.units import SCRIPTS, UNITS, rt_tables, unit_files
from fz_iproute.verbs.options import add_choice
from fz_iproute.verbs.output import write


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    names = (*UNITS, *SCRIPTS, "rt_tables")
    parser.add_argument("name", metavar="NAME", choices=names, help=", ".join(names))
    add_choice(parser)
    parser.set_defaults(prefix=None, root=Path("/"), dry_run=True)


def run(arguments: Namespace, log: Log) -> int:
    """Print the files. If there are several, print the path of each, too."""
    if arguments.name == "rt_tables":
        files = [rt_tables(load(arguments.config))]
    else:
        files = unit_files(choose(arguments, arguments.name, log), texts("units"))
    write("\n".join(f"# {file.path}\n{file.text}" if len(files) > 1 else file.text for file in files).rstrip())
    return 0
