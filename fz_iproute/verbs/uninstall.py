"""`uninstall`: stop what `install` has set up, and remove its files."""

from argparse import ArgumentParser, Namespace

from fz_iproute.log import Log
from fz_iproute.service.placing import place_for
from fz_iproute.service.program import default_prefix, running_program
from fz_iproute.service.units import PER_INSTANCE, SHIPPED, UNITS_OF_MACHINE, check_instance, with_instance
from fz_iproute.verbs.options import add_root
from fz_iproute.verbs.output import write


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument("--instance", metavar="NAME", default="", help="this one only; the shared files stay")
    add_root(parser)


def run(arguments: Namespace, log: Log) -> int:
    """Stop and disable the units, then remove all files of `install` except those that somebody has edited."""
    check_instance(arguments.instance)
    prefix = (arguments.prefix or default_prefix(running_program())).lstrip("/")
    place = place_for(arguments, write)
    units = sorted(
        name
        for folder in ("etc", f"{prefix}/lib")
        for name in place.find(f"{folder}/systemd/system/fz-iproute*.[st]*[er]")
    )
    if arguments.instance:
        templates = [name for name in units if "@" in name]
        for name in templates:
            place.systemctl("disable", "--now", with_instance(name, arguments.instance))
        is_there = place.remove(pattern.format(f"-{arguments.instance}") for pattern in PER_INSTANCE)
        if not (templates or is_there):
            write(f"there is no instance {arguments.instance}")
        return 0
    if units:
        place.systemctl("stop", "fz-iproute*")
        place.systemctl("reset-failed", "fz-iproute*")
        place.systemctl("disable", *units)
        place.clean_logs()
    is_there = place.remove(pattern.format("*") for pattern in (UNITS_OF_MACHINE, *PER_INSTANCE))
    if place.is_packaged(f"/{prefix}"):
        write("all other files belong to the package; remove that to remove them")
    else:
        is_there |= place.remove(pattern.format(prefix=prefix) for pattern in SHIPPED)
        if not is_there:
            write("nothing is installed here")
    if units:
        place.systemctl("daemon-reload")
    if place.is_running_machine:
        write("`fz-iproute down` removes the copies that are still in the VPN's table")
    return 0
