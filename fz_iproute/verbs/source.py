"""Opens the machine that a verb looks at: the running one, or a snapshot. Also spells commands to advise."""

import os
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from fz_iproute.errors import IpUnusable, ReadFailed
from fz_iproute.files.config_file import DEFAULT_PATH, ConfigFile, load, usual_path
from fz_iproute.ip.coprocess import CoprocessIp
from fz_iproute.ip.ip import Ip, Source
from fz_iproute.ip.passes import Passes, Remarks
from fz_iproute.ip.process import Spelling
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.config_text import parse
from fz_iproute.own_commands import WRITING, own_command


@contextmanager
def running_machine(arguments: Namespace, log: Log) -> Iterator[tuple[Ip, Config]]:
    """The `ip` of this machine, and the configuration in force. At the end of the block, no `ip` runs any more."""
    config = load(arguments.config)
    with machine_ip(arguments, log) as ip:
        yield ip, concrete(config, ip, _log_of_vpns(arguments, log))


@contextmanager
def machine_ip(arguments: Namespace, log: Log) -> Iterator[CoprocessIp]:
    """The `ip` of this machine. At the end of the block, no `ip` runs any more."""
    ip = CoprocessIp(arguments.netns, trace(arguments, log))
    try:
        yield ip
    finally:
        ip.abandon()
        ip.end_coprocesses()


@contextmanager
def chosen_source(arguments: Namespace, log: Log) -> Iterator[tuple[Source, Config]]:
    """The machine of --snapshot and its recorded configuration; without that option, the running machine and its own.

    -c overrides the recorded configuration.
    """
    path = arguments.snapshot
    if path is None:
        with running_machine(arguments, log) as (ip, config):
            yield ip, config
        return
    from fz_iproute.record.recorded_ip import RecordedIp, blamed_on, load_recording  # noqa: PLC0415  # seldom needed

    recorded = load_recording(path)
    config = load(arguments.config) if arguments.config else parse(recorded.config, f"{path}: config")
    source = RecordedIp(recorded)
    with blamed_on(path):
        yield source, concrete(config, source, _log_of_vpns(arguments, log))


def _log_of_vpns(arguments: Namespace, log: Log) -> Log:
    """The log that says what `auto` stands for. A silent one for verbs that show the VPN anyway."""
    return Log("ERROR") if arguments.verb in ("status", "detect", "metrics") else log


def concrete(config: Config, source: Source, log: Log) -> Config:
    """The configuration, with the VPN that `auto` stands for now. Unchanged if there is none, or more than one."""
    if not config.is_auto:
        return config
    from fz_iproute.verbs.following import look  # noqa: PLC0415  # seldom needed

    found = look(config, source)
    log.info(f"# {found.said}")  # not a warning, because a cron job would repeat it every minute
    return found.config


def passes_of(
    log: Log, ip: Ip, config: Config, *, is_daemon: bool = False, is_following: Callable[[], bool] = lambda: False
) -> Passes:
    """The passes over the running machine. For a daemon, they log the reason of each command.

    They also log if no rule leads to the tunnel's table. Not if `is_following()`: then the VPN that `auto` stood for
    may just have gone, and the next pass finds another one.
    """

    def absent() -> None:
        if not is_following():
            say_absent(ip, config, log, is_daemon=is_daemon)

    # A daemon does not look for lost routes, because new copies would have to wait for that.
    remarks = Remarks(absent) if is_daemon else Remarks(absent, partial(say_lost, ip, config, log, ip))
    return Passes(ip, config, log, remarks, reasons=is_daemon)


def say_absent(source: Source, config: Config, log: Log, *, is_daemon: bool = False) -> None:
    """Log that no rule leads to the tunnel's table, and which other VPN takes all traffic, if one does.

    If that VPN needs copies, a daemon logs a warning, once. Other verbs do not, because cron may run them every minute.
    """
    from fz_iproute.diagnosis.detect import detect  # noqa: PLC0415  # a healthy machine needs none of it
    from fz_iproute.diagnosis.misplaced import misplaced  # noqa: PLC0415
    from fz_iproute.diagnosis.served import absent, no_rule  # noqa: PLC0415
    from fz_iproute.verbs.seen import seen  # noqa: PLC0415

    try:
        snapshot, network = seen(source, config)
    except (ReadFailed, IpUnusable):
        return
    vpns = detect(config, snapshot, network)
    said = absent(config, snapshot.links, vpns) or no_rule(config)
    place = misplaced(config, snapshot, vpns)
    lan = next((vpn.lan for vpn in vpns if vpn.cut), vpns[0].lan if vpns else "")
    if place:
        said += f"; the LAN is {lan}, and only copies in table {place[1]} have an effect: see `fz-iproute doctor`"
    elif vpns:
        said += f"; the LAN is {lan}, and copies have no effect: see `fz-iproute detect`"
    else:
        said += "; copies have no effect now"
    if is_daemon and (place or any(vpn.advice == "mirror" for vpn in vpns)):
        log.warning(said)
    else:
        log.info(f"# {said}")


def say_lost(source: Source, config: Config, log: Log, spelling: Spelling) -> None:
    """Warn of each copy that `sync` removes although this machine still has an address in its LAN."""
    from fz_iproute.diagnosis.judgement import Judgement  # noqa: PLC0415  # as above
    from fz_iproute.verbs.seen import seen  # noqa: PLC0415

    try:
        judged = Judgement(config, *seen(source, config))
    except (ReadFailed, IpUnusable):
        return
    for lost in judged.lost_routes:
        log.warning(f"{lost}; `{spelling.line(lost.restoring)}` gives main its route back")


def advised(arguments: Namespace, source: Source, *verb: str) -> str:
    """The fz-iproute command for this verb, with the options for the same configuration and network namespace.

    For a snapshot, it is the command to run on the recorded machine.
    """
    facts = getattr(source, "facts", {})
    usual = DEFAULT_PATH if facts else usual_path()
    path = str(arguments.config or facts.get("config.path") or ConfigFile(None).place)
    config = path if path != str(usual) else ""
    return own_command(*verb, config=config, netns=arguments.netns or facts.get("netns"))


def as_typed(arguments: Namespace, source: Source, verb: str) -> str:
    """Like `advised`, with sudo if this user needs it. `verb` may be followed by options."""
    words = verb.split()
    needs_sudo = words[0] in WRITING and os.geteuid() and not arguments.snapshot
    return f"{'sudo ' if needs_sudo else ''}{advised(arguments, source, *words)}"


# With --verbose, these verbs show more findings. Between lines about each `ip`, nobody would see them.
_SAYING_MORE = ("doctor", "explain")


def trace(arguments: Namespace, log: Log) -> Callable[[str], None] | None:
    """The function that logs each run of `ip`; None unless --verbose asks for that."""
    return log.debug if arguments.level == "DEBUG" and arguments.verb not in _SAYING_MORE else None
