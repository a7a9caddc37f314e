"""`doctor`: run every check on this machine, or on the machine of a snapshot. It changes nothing."""

import os
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fz_iproute.diagnosis.checks import examine
from fz_iproute.diagnosis.checks.finding import Finding, as_document
from fz_iproute.diagnosis.fib import Table
from fz_iproute.diagnosis.machine import Machine
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.remedy import COMMENT
from fz_iproute.errors import IpUnusable, ReadFailed, UsageError
from fz_iproute.files.config_file import load, usual_path
from fz_iproute.files.lock import watching
from fz_iproute.ip.answers import answer, shape_is_known
from fz_iproute.ip.reader import Reader
from fz_iproute.log import Log
from fz_iproute.mirror import config_text, parse, parse_links
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Link, Route, Snapshot
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import LOCAL, count, of_table, printable
from fz_iproute.record.recorded_ip import RecordedIp, blamed_on, load_recording
from fz_iproute.record.recording import Recording, question_key, recorded_tables
from fz_iproute.record.take import take
from fz_iproute.verbs.options import add_json, add_snapshot
from fz_iproute.verbs.output import write, write_json
from fz_iproute.verbs.screen import Screen, screen
from fz_iproute.verbs.source import concrete, machine_ip


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    add_json(parser)
    add_snapshot(parser)


def run(arguments: Namespace, log: Log) -> int:
    """Print the findings. Returns 1 if one of them is a failure."""
    if arguments.snapshot:
        findings = of_snapshot(arguments.snapshot, arguments.config)
    else:
        findings = _of_this_machine(arguments, log)
    if arguments.json:
        write_json(as_document(findings))
    else:
        write("\n".join(drawn(findings, screen(arguments), everything=arguments.level == "DEBUG")))
    return int(any(finding.level == "failure" for finding in findings))


# The levels in the order in which they are shown, each with its word and its colour.
_LEVELS = {"failure": ("FAIL", "red"), "warning": ("warn", "yellow"), "info": ("info", ""), "ok": ("ok", "green")}


def drawn(findings: Sequence[Finding], shown: Screen, *, everything: bool) -> Iterator[str]:
    """The lines of each finding, why it matters, and what to do. Unless `everything`, ok findings are only counted."""
    width = max((len(finding.name) for finding in findings), default=0)
    indent = 6 + width + 2
    printed: dict[str, str] = {}  # the commands of the remedies so far, and for which check they were printed
    for level, (word, colour) in _LEVELS.items():
        found = [finding for finding in findings if finding.level == level]
        if level == "ok" and found and not everything:
            yield f"{shown.paint(f'{word:4}', colour)}  {count(len(found), 'check', 'checks')} (-v lists them)"
            return
        for finding, names in _folded(found, everything=everything):
            first, *rest = shown.folded(f"{word:4}  {names:{width}}  {printable(finding.seen)}", indent)
            yield shown.paint(first[:4], colour) + first[4:]
            yield from rest
            if finding.why:
                yield from shown.folded(f"{'':{indent}}why  {printable(finding.why)}", indent + 5)
            if finding.remedy:
                yield from _remedy(printable(_unrepeated(finding, printed)), indent, shown)


def _folded(found: Sequence[Finding], *, everything: bool) -> Iterator[tuple[Finding, str]]:
    """The findings, each with the name of its check. Unless `everything`, findings that say the same become one."""
    alike: dict[tuple[str, ...], list[Finding]] = defaultdict(list)
    for finding in found:
        alike[finding[0 if everything else 1 :]].append(finding)
    for same in alike.values():
        for finding in same[:1]:
            yield finding, finding.name if len(same) == 1 else count(len(same), "check", "checks")


def _unrepeated(finding: Finding, printed: dict[str, str]) -> str:
    """The remedy, or where it was printed. `ip` would refuse the same command the second time."""
    commands = finding.remedy.partition(COMMENT)[0].split(" && ")
    if all(command in printed for command in commands):
        return f"the same as for {' and '.join(dict.fromkeys(map(printed.__getitem__, commands)))} (above)"
    printed.update((command, printed.get(command, finding.name)) for command in commands)
    return finding.remedy


def _remedy(text: str, indent: int, shown: Screen) -> list[str]:
    line = f"{'':{indent}}do   {text}"
    if text.split(maxsplit=1)[0] in ("sudo", "ip", "fz-iproute", "sysctl"):
        return [line]  # a command is not folded, so that it can be copied
    return shown.folded(line, indent + 5)


def _of_this_machine(arguments: Namespace, log: Log) -> list[Finding]:
    """The findings for this machine. If something cannot be read, that is a finding and no error."""
    path, netns = arguments.config, arguments.netns
    config, errors = Config(), {}
    try:
        config = load(path, suspicious=True)
    except UsageError as error:
        errors["config.error"] = str(error)
    recorded = take(None, config, path, netns)
    try:
        with machine_ip(arguments, log) as ip:
            recorded = replace(recorded, versions={**recorded.versions, "ip": ip.version})
            config = concrete(config, ip, Log("ERROR"))  # logs nothing, because the check `tunnel` says the same
            recorded = take(ip, config, path, netns)
        return examine(_here(_machine(recorded, config), errors))
    except (IpUnusable, ReadFailed) as error:
        errors["ip.error"] = str(error)
        nothing = Network({}, (), {})
        return examine(_here(Machine(config, Snapshot(), nothing, recorded, is_read=False), errors))


def _here(machine: Machine, errors: Mapping[str, str]) -> Machine:
    """The machine with what could not be read, and with what decides how commands are spelled in its remedies."""
    process = watching(machine.netns or None, machine.config.tables.mirrors)
    found = {"watch.process": str(process)} if process else {}
    recording = replace(machine.recording, facts={**machine.facts, **errors, **found})
    return replace(machine, recording=recording, usual_path=str(usual_path()), needs_sudo=os.geteuid() != 0)


def of_snapshot(snapshot: Path, path: Path | None) -> list[Finding]:
    """The findings for a recorded machine. `path` names another configuration than the recorded one."""
    recorded = load_recording(snapshot)
    config = load(path) if path else config_text.parse(recorded.config, f"{snapshot}: config")
    with blamed_on(snapshot):
        return examine(_machine(recorded, concrete(config, RecordedIp(recorded), Log("ERROR"))))


def _machine(recorded: Recording, config: Config) -> Machine:
    ip = RecordedIp(recorded)
    snapshot = Reader(ip, config).read()
    with shape_is_known():
        tables = _tables(ip, recorded, snapshot.links)
        connected = parse.connected(answer(ip, None, "address show"), snapshot.links)
        return Machine(config, snapshot, Network.of(snapshot, tables), recorded, connected=connected)


def _tables(
    ip: RecordedIp, recorded: Recording, links: Mapping[str, Link]
) -> dict[int, dict[Family, tuple[Route, ...]]]:
    """All recorded tables. ReadFailed if table local is missing, because it has the machine's own addresses."""
    objects = parse_links.nexthops(answer(ip, None, "nexthop show"))
    tables: dict[int, dict[Family, tuple[Route, ...]]] = defaultdict(dict)
    local = [question_key(family, of_table(LOCAL), "-json") for family in FAMILIES]
    for family, number, question in recorded_tables(dict.fromkeys([*recorded.outputs, *local])):
        tables[number][family] = Table(parse.routes(answer(ip, family, question), family, links, objects))
    return tables
