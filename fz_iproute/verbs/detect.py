"""`detect`: say which VPN takes all traffic, whether it cuts the LAN, and how to configure fz-iproute for it."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from fz_iproute.diagnosis.detect import Vpn, as_document, as_text, candidates, detect, missing, toml_of
from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.short_rules import not_carried
from fz_iproute.errors import UsageError
from fz_iproute.files.config_file import is_lab, load, usual_path
from fz_iproute.files.whole_file import create
from fz_iproute.ip.ip import Source
from fz_iproute.log import Log
from fz_iproute.mirror import config_text
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.words import printable
from fz_iproute.own_commands import own_command
from fz_iproute.verbs.options import add_json, add_snapshot
from fz_iproute.verbs.output import write, write_json
from fz_iproute.verbs.screen import screen
from fz_iproute.verbs.seen import seen
from fz_iproute.verbs.source import advised, as_typed, chosen_source

_INDENT = 11  # columns for the name of a value


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    add_json(parser)
    parser.add_argument(
        "--write", metavar="FILE", type=Path, help="write the configuration for the VPN that needs copies to a new file"
    )
    parser.add_argument("--interface", metavar="NAME", help="only this VPN; its interface may be a tap")
    add_snapshot(parser)


def run(arguments: Namespace, log: Log) -> int:
    """Print the VPNs. Returns 1 if there is none. UsageError if --write cannot decide for which one to write."""
    with chosen_source(arguments, log) as (source, config):
        machine = seen(source, config)
        found = detect(config, *machine, arguments.interface)
    vpns = [vpn for vpn in found if arguments.interface in (None, vpn.interface)]
    done = _written(arguments, vpns) if arguments.write and vpns else ""
    if arguments.json:
        write_json(as_document(vpns))
    else:
        path = arguments.config or usual_path()
        written = config if path.exists() and not arguments.snapshot else None
        steps = partial(_next_step, arguments, source, config, found)
        text = as_text(vpns, steps, written) if vpns else _none(arguments, found, machine[0].links)
        if not found and (said := not_carried(Judgement.reading(config, *machine))):
            text = f"{said}; `{as_typed(arguments, source, 'doctor')}` tells more"
        write(screen(arguments).page(text, _INDENT, literal="    "))
    if done:
        log.info(f"# {done}{_use(arguments)}")
    elif arguments.write:
        log.warning(f"{arguments.write} is not written, because there is no such VPN")
    return int(not vpns)


def _none(arguments: Namespace, found: Sequence[Vpn], links: Collection[str]) -> str:
    """The message if no VPN takes all traffic, or none with the interface that the user has named."""
    name = arguments.interface
    missing = f"there is no interface {printable(name)}" if name and name not in links else ""
    if found:
        others = " and ".join(printable(vpn.interface) for vpn in found)
        if missing:
            return f"{missing}; VPNs here: {others}"
        return f"no VPN takes all traffic into {printable(name)}, but into {others}"
    again = "take another snapshot" if arguments.snapshot else "run `detect` again"
    tap = "" if name else "; if its interface is a tap, add --interface NAME"
    start = missing or "no VPN takes all traffic here"
    return f"{start}; if your VPN is off, connect it and {again}{tap}"


def _written(arguments: Namespace, vpns: Sequence[Vpn]) -> str:
    """Write the configuration of the VPN that needs copies, unless the file has it already. Says what was done."""
    path: Path = arguments.write
    if is_lab() and not path.parent.exists():
        raise UsageError(
            f"{path}: its folder is missing, and a lab makes none, because it would be one of this machine; "
            "--write /run/fz-iproute/vpn.toml, for example, stays in the lab"
        )
    present = None
    if path.is_file():
        with suppress(UsageError):  # a file of another kind is only said to exist
            present = load(path)
    if present:
        for vpn in vpns:
            if (vpn.config and not missing(present, vpn.config)) or (present.is_auto and vpn.is_configured):
                return f"{path} serves {printable(vpn.interface)} already, so it is not written again"
        lacking = missing(present, _chosen(vpns)).items()
        keys = ", ".join(f"{section}.{key} = {config_text.toml(value)}" for (section, key), value in lacking)
        raise UsageError(f"{path} exists already: name a new file, or put these keys into it: {keys}")
    create(path, toml_of(_chosen(vpns)))
    where = "" if not is_lab() or path.absolute().is_relative_to("/run") else " on this machine's disk"
    return f"{path} is written{where}"


def _next_step(arguments: Namespace, source: Source, config: Config, found: Sequence[Vpn], vpn: Vpn) -> str:
    """The command to run next, or what to do with the configuration that is printed below."""
    if vpn.advice != "mirror" or vpn.config is None:
        is_lost = vpn.advice in ("nothing", "refuse") and (vpn.cut or vpn.holes or not vpn.kept)
        is_mended_elsewhere = {*vpn.besides} - {*vpn.unplugged} or (is_lost and vpn.is_configured)
        return as_typed(arguments, source, "doctor") if is_mended_elsewhere else ""
    if arguments.write:
        return ""
    if vpn.config == config:
        return as_typed(arguments, source, "doctor" if vpn.released else "sync")
    if arguments.snapshot:
        return ""
    path = arguments.config or usual_path()
    if path.exists():
        both = "; to serve both VPNs, into another file, for -c and `install --instance`"
        return f"put these keys into {path}{both if len(candidates(found)) > 1 else ''}"
    is_clear = candidates(found) == [vpn] and not arguments.interface  # without its name, a tap may not be found
    options = ["--write", str(path), *([] if is_clear else ["--interface", vpn.interface])]
    return f"{'sudo ' if os.geteuid() else ''}{advised(arguments, source, 'detect', *options)}"


def _use(arguments: Namespace) -> str:
    """What to do with the written file, as the end of a message. "" if it was made from a snapshot of a machine."""
    if arguments.snapshot:
        return ""
    config = "" if arguments.write == usual_path() else str(arguments.write)
    start = ("sudo " if os.geteuid() else "") + own_command(config=config, netns=arguments.netns)
    lasting = "watch` as long as this lab is there" if is_lab() else "install --now` for good"
    return f"; next: `{start} sync` once, or `{start} {lasting}"


def _chosen(vpns: Sequence[Vpn]) -> Config:
    """The configuration to write. UsageError if there is none, or more than one to choose from."""
    wanted = candidates(vpns)
    configs = [vpn.config for vpn in wanted if vpn.config]
    if len(configs) == 1:
        return configs[0]
    if configs:
        names = " and ".join(printable(vpn.interface) for vpn in wanted)
        raise UsageError(f"--write: {names} could both be served; choose one with --interface NAME")
    reasons = [f"{printable(vpn.interface)}: {vpn.advice}: {vpn.why}" for vpn in vpns]
    raise UsageError("\n".join(f"--write: no configuration for {reason}" for reason in reasons))
