"""`doctor`: takes the record of this machine, or a snapshot of any, and asks every check. It changes nothing."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fz_iproute.diagnosis.checks import Finding, examine
from fz_iproute.diagnosis.machine import Machine
from fz_iproute.errors import IpUnusable, ReadFailed, UsageError
from fz_iproute.files.config_file import load
from fz_iproute.ip.ip import Ip
from fz_iproute.ip.reader import Reader, answer, shape_is_known
from fz_iproute.mirror import config as core_config
from fz_iproute.mirror import parse
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Link, Route
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import LOCAL, of_table
from fz_iproute.record.recorded_ip import RecordedIp, blamed_on, load_recording
from fz_iproute.record.recording import Recording, question_key
from fz_iproute.record.take import take, take_without_ip


def of_machine(path: Path | None, netns: str | None, trace: Callable[[str], None] | None) -> list[Finding]:
    """Of this one: what cannot be read is a finding too."""
    error = ""
    try:
        config = load(path, suspicious=True)
    except UsageError as refused:
        config, error = Config(), str(refused)
    recorded = _taken(config, path, netns, trace)
    if error:
        recorded = _with_fact(recorded, "config.error", error)
    try:
        return examine(_machine(recorded, config))
    except ReadFailed as failed:
        return examine(Machine(_with_fact(recorded, "ip.error", str(failed)), config, None, {}))


def of_snapshot(snapshot: Path, path: Path | None) -> list[Finding]:
    """Of the machine that the snapshot was taken of."""
    recorded = load_recording(snapshot)
    config = load(path) if path else core_config.parse(recorded.config, f"{snapshot}: config")
    with blamed_on(snapshot):
        return examine(_machine(recorded, config))


def _with_fact(recorded: Recording, name: str, value: str) -> Recording:
    return replace(recorded, facts={**recorded.facts, name: value})


def _taken(config: Config, path: Path | None, netns: str | None, trace: Callable[[str], None] | None) -> Recording:
    ip = None
    try:
        ip = Ip(netns, trace)
        return take(ip, config, path, netns)
    except (IpUnusable, ReadFailed) as error:
        found = take_without_ip(config, path, netns)
        with suppress(IpUnusable):
            if ip:
                found = replace(found, versions={**found.versions, "ip": ip.version()})
        return _with_fact(found, "ip.error", str(error))
    finally:
        if ip:
            ip.abandon()


def _machine(recorded: Recording, config: Config) -> Machine:
    if "ip.error" in recorded.facts:
        return Machine(recorded, config, None, {})
    ip = RecordedIp(recorded)
    snapshot = Reader(ip, config).read()
    with shape_is_known():
        return Machine(recorded, config, snapshot, _tables(ip, recorded, snapshot.links))


def _tables(
    ip: RecordedIp, recorded: Recording, links: Mapping[str, Link]
) -> dict[int, dict[Family, tuple[Route, ...]]]:
    """All tables on record, and `local`, which may not be among them."""
    objects = parse.nexthops(answer(ip, None, "nexthop show"))
    tables: dict[int, dict[Family, tuple[Route, ...]]] = defaultdict(dict)
    for family in FAMILIES:
        tables[LOCAL][family] = parse.routes(answer(ip, family, of_table(LOCAL)), family, links)
        start = question_key(family, "route show table ", "-json")
        for key in recorded.outputs:
            name = key.removeprefix(start)
            if key.startswith(start) and " " not in name:
                listing = answer(ip, family, f"route show table {name}")
                tables[parse.table_number(name)][family] = parse.routes(listing, family, links, objects)
    return tables


_MARKS = {"ok": "ok  ", "info": "info", "warning": "warn", "failure": "FAIL"}


def as_text(findings: Sequence[Finding]) -> str:
    """For people: a line for each finding, and below those that are not well, why it matters and what to do."""
    lines = []
    for finding in findings:
        lines.append(f"{_MARKS[finding.level]} {finding.name}: {finding.seen}")
        lines += [f"     {word}: {text}" for word, text in (("why", finding.why), ("do", finding.remedy)) if text]
    return "\n".join(lines)


def as_document(findings: Sequence[Finding]) -> dict[str, Any]:
    """For programs."""
    return {"checks": [finding._asdict() for finding in findings]}
