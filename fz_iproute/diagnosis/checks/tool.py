"""Checks of what fz-iproute itself needs: `ip`, rights, the configuration file, and the names of tables."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fz_iproute.diagnosis.checks.finding import Found, Level, or_ok
from fz_iproute.diagnosis.machine import DEFAULT_CONFIG, Machine
from fz_iproute.diagnosis.remedy import advice, may_not_read_config
from fz_iproute.ip.version import OLDEST, is_too_old
from fz_iproute.mirror.rt_tables import parsed
from fz_iproute.mirror.words import DEFAULT, LOCAL, MAIN


def ip(machine: Machine) -> Iterator[Found]:
    """Check that `ip` works and is new enough."""
    version = machine.recording.versions.get("ip", "")
    error = machine.facts.get("ip.error", "")
    why = "fz-iproute reads and changes everything with ip; the checks that need it could not look"
    if machine.is_read and not is_too_old(version):
        yield Found("ok", version or "its version was not recorded")
    elif version and not is_too_old(version):
        yield Found("failure", error or "it did not answer", why, advice(f"{machine.fz_iproute('status')} --verbose"))
    else:
        yield Found("failure", error or f"{version} is too old", why, advice(f"install iproute2 {OLDEST} or newer"))


_CAP_NET_ADMIN = 12


def permission(machine: Machine) -> Iterator[Found]:
    """Check that this process may change routes."""
    held = machine.facts.get("capabilities")
    if held is None:
        yield Found("info", "could not look: /proc/self/status has no capabilities")
    elif int(held, 16) >> _CAP_NET_ADMIN & 1:
        yield Found("ok", "CAP_NET_ADMIN is effective")
    elif machine.facts.get("uid") == "0":
        why = "sync, watch and down cannot change anything here"
        words = "give it CAP_NET_ADMIN, or leave the container"
        yield Found("warning", "root does not have CAP_NET_ADMIN", why, advice(words))
    else:
        hidden = [name for name, is_hidden in _hidden(machine) if is_hidden]
        why = f"{' and '.join(hidden)} could not be looked at" if hidden else ""
        remedies = advice(f"sudo {machine.fz_iproute('doctor')}") if hidden and machine.needs_sudo else ()
        seen = f"user {machine.facts.get('uid', '?')} may look at routes, not change them"
        yield Found("info", seen, why, remedies)


def _hidden(machine: Machine) -> Iterator[tuple[str, bool]]:
    """Each thing that an ordinary user may be unable to read, and whether it could not be read here."""
    journal = machine.config.watch.journal
    yield "firewalls", "nft" not in machine.facts
    yield "the configuration", may_not_read_config(machine)
    yield f"the journal {journal}", bool(journal) and "journal" not in machine.facts


def config(machine: Machine) -> Iterator[Found]:
    """Check that the configuration file can be read, and that only root can change it."""
    facts = machine.facts
    path = facts.get("config.path", DEFAULT_CONFIG)
    seen = f"{path}: mode {facts['config.mode']}" if "config.mode" in facts else f"there is no {path}: the defaults"
    yield from or_ok(_config_problems(machine, path), seen)


def _config_problems(machine: Machine, path: str) -> Iterator[Found]:
    facts = machine.facts
    error = facts.get("config.error", "")
    if may_not_read_config(machine):
        why = "the other checks assume the defaults, which may not be the configuration in force"
        yield Found("warning", error.partition(";")[0], why, advice(f"sudo {machine.fz_iproute('doctor')}"))
    elif error.endswith(": no such file"):
        why = "sync, status and most other verbs refuse to work without it; the other checks assume the defaults"
        yield Found("failure", error, why, advice(f"write {shlex.quote(path)}, or leave out -c"))
    elif error:
        why = "sync, status and most other verbs refuse to work with it; the other checks assume the defaults"
        yield Found("failure", error.replace("\n", "; "), why, advice(f"fz-iproute config check {shlex.quote(path)}"))
    mode = int(facts.get("config.mode", "0"), 8)
    if mode & 0o002:
        why = "every user can decide where packets go, so root refuses to run with it"
        remedies = advice(machine.as_root(f"chmod o-w {shlex.quote(path)}"))
        yield Found("failure", f"everybody may write to {path}", why, remedies)
    if mode & 0o020:
        why = "each member of the group can decide where packets go"
        remedies = advice(machine.as_root(f"chmod g-w {shlex.quote(path)}"))
        yield Found("warning", f"its group may write to {path}", why, remedies)
    owner = facts.get("config.uid", "0")
    if owner not in ("0", facts.get("uid")):
        why = "this user can decide where packets go"
        remedies = advice(machine.as_root(f"chown root {shlex.quote(path)}"))
        yield Found("warning", f"{path} belongs to user {owner}", why, remedies)


class _TableLine(NamedTuple):
    path: str
    number_word: str  # as the file spells the number
    name: str
    number: int


def rt_tables(machine: Machine) -> Iterator[Found]:
    """Check that every table has at most one name, and that every name means one table."""
    if not any("rt_tables" in name for name in machine.facts):
        yield Found("info", "could not look: there is no rt_tables")
        return
    lines = list(_table_lines(machine.facts))
    yield from or_ok(_name_problems(machine, lines), f"{len(lines)} names of tables, all unambiguous")


def _table_lines(facts: Mapping[str, str]) -> Iterator[_TableLine]:
    for path, text in facts.items():
        if "/rt_tables" in path:
            for line in text.splitlines():
                for name, number in parsed(line):
                    yield _TableLine(path, line.split()[0], name, number)


def _name_problems(machine: Machine, lines: Iterable[_TableLine]) -> Iterator[Found]:
    tables = machine.config.tables.ids | {DEFAULT, MAIN, LOCAL}
    ids: dict[str, int] = {}
    names: dict[int, str] = {}
    for line in lines:
        path, _, name, number = line
        remedies = advice(machine.as_root(_removal(line)))
        if name.isdecimal() and int(name) != number:
            level: Level = "failure" if int(name) in tables else "warning"
            why = f"ip looks for names first: `table {name}` means table {number}"
            yield Found(level, f"{path}: the name {name} stands for table {number}", why, remedies)
        elif ids.setdefault(name, number) != number:
            why = "it depends on the program which of the two tables the name means"
            yield Found("warning", f"{path}: {name} is table {number}, but also {ids[name]}", why, remedies)
        elif names.setdefault(number, name) != name:
            why = "ip prints only one of the two names, which may not be the one that you asked for"
            yield Found("warning", f"{path}: table {number} is {name}, but also {names[number]}", why, remedies)


def _removal(line: _TableLine) -> str:
    name = re.sub(r"[^\w-]", r"\\\g<0>", line.name)
    script = f"/^[[:space:]]*{line.number_word}[[:space:]]+{name}([[:space:]]|#|$)/d"
    return shlex.join(["sed", "-E", "-i", script, line.path])
