"""`install`: write the files that run fz-iproute on this machine (a systemd unit, a cron job), and enable them."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from fz_iproute.errors import UsageError
from fz_iproute.files.config_file import load
from fz_iproute.files.data import texts
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.own_commands import own_command
from fz_iproute.service.placing import place_for
from fz_iproute.service.program import choose, only_warned
from fz_iproute.service.units import Choice, hiding, rt_tables, shared_files, table_names, unit_files
from fz_iproute.verbs.options import add_choice, add_root
from fz_iproute.verbs.output import write


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--timer", action="store_true", help="no daemon: a systemd timer runs `sync` every minute")
    ways.add_argument("--cron", action="store_true", help="no daemon: cron runs `sync` every minute")
    parser.add_argument("--now", action="store_true", help="also start it; if it runs already, restart it")
    add_choice(parser)
    add_root(parser)


def run(arguments: Namespace, log: Log) -> int:
    """Write each file that is missing or outdated, then enable the unit."""
    way = "timer" if arguments.timer else "cron" if arguments.cron else "systemd"
    place = place_for(arguments, write)
    choice = choose(arguments, way, log)
    templates = texts("units")
    files = unit_files(choice, templates)
    if place.is_running_machine:
        with only_warned(arguments, log):
            files.append(rt_tables(_config(choice), choice.instance))
    else:
        write(f"skip {table_names(choice.instance)}: `install` writes it on each machine, from its configuration")
    if place.is_packaged(choice.prefix):
        place.remove(hiding(files))
    else:
        files += shared_files(choice, templates, texts("man"), texts("completion"))
    for file in files:
        place.write(file)
    if choice.is_sandboxed:
        place.systemctl("daemon-reload")
        place.systemctl("enable", choice.enabled)
        if arguments.now:
            place.systemctl("restart", choice.enabled)
    if place.is_running_machine:
        then = "after that" if arguments.dry_run else "next"
        if choice.is_sandboxed and not place.has_systemd:
            options = ["--instance", choice.instance] if choice.instance else []
            cron = own_command("install", "--cron", *options, config=choice.config, netns=choice.netns)
            write(f"{then}: `{cron}`, because nothing starts it without systemd; cron then runs `sync` every minute")
        else:
            is_started = arguments.now or not choice.is_sandboxed
            start = "" if is_started else f"`systemctl start {choice.enabled}`, then "
            status = own_command("status", config=choice.config_file, netns=choice.netns)
            write(f"{then}: {start}`{status}` tells whether it works")
    return 0


def _config(choice: Choice) -> Config:
    """The configuration that the service will read. UsageError if it is missing or wrong."""
    if not choice.config_file:
        return load(None)
    try:
        return load(Path(choice.config_file))
    except UsageError as error:
        raise UsageError(f"{error}\nwrite the configuration first, then install") from None
