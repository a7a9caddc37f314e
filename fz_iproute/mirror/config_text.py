"""Reads configurations as TOML, and writes them. The parser reports every problem at once."""

import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from fz_iproute.errors import UsageError
from fz_iproute.mirror.config import SHORT, Config, keys_of, shown
from fz_iproute.mirror.model import FULL_MASK, Mark
from fz_iproute.mirror.prefix import Prefix
from fz_iproute.mirror.toml_faults import fault


def parse(text: str, place: str, table_ids: Callable[[], Mapping[str, int]] = dict) -> Config:
    """The configuration in a TOML text. `place` is where it comes from, for messages.

    UsageError lists all problems, one a line: the place, the key, what is wrong. `table_ids` returns the numbers of
    tables by name. It is called only if the text names a table.
    """
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # not only TOMLDecodeError: int() refuses numbers of more than 4,300 digits
        raise UsageError(f"{place}: {fault(text, error)}") from None
    except RecursionError:
        raise UsageError(f"{place}: not TOML: nested too deeply") from None
    sections: dict[str, Any] = {}
    problems: list[str] = []
    known = {section.name: section.type for section in fields(Config)}
    for name, values in document.items():
        if name not in known:
            section = next((each for each in known if name in _keys(known[each])), "")
            hint = f"; the key {name} belongs to [{section}]" if section else _nearest(name, known)
            problems.append(f"{_key_shown(name)}: unknown section{hint}")
        elif not isinstance(values, dict):
            problems.append(f"{name}: is a section, written [{name}]")
        else:
            given = _numbered(values, table_ids) if name == "tables" else values
            sections[name], found = _section(known[name], given)
            problems += [f"{name}.{problem}" for problem in found]
    config = Config(**sections)
    problems += _contradictions(config)
    if problems:
        raise UsageError("\n".join(f"{place}: {problem}" for problem in problems))
    return config


def _section(kind: Any, values: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A section of this class with all values that are right, and the problems of the others."""
    known = {key.name: key for key in fields(kind)}
    good: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in values.items():
        if name not in known:
            section = next((each.name for each in fields(Config) if name in _keys(each.type)), "")
            if name in _keys(Config):
                hint = f"; write [{name}] on a line of its own, and its keys below"
            else:
                hint = f"; it belongs to [{section}]" if section else _nearest(name, known)
            problems.append(f"{_key_shown(name)}: unknown key{hint}")
            continue
        try:
            good[name] = known[name].metadata["check"](value)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    return kind(**good), problems


def _keys(kind: Any) -> set[str]:
    return {key.name for key in fields(kind)}


def _numbered(tables: Mapping[str, Any], table_ids: Callable[[], Mapping[str, int]]) -> dict[str, Any]:
    """The section [tables], with each table's name replaced by its number. Unknown names stay."""
    named = {key: value for key, value in tables.items() if isinstance(value, str) and key != "layout"}
    if not named:
        return dict(tables)
    ids = table_ids()
    return {**tables, **{key: ids.get(name, name) for key, name in named.items()}}


def _contradictions(config: Config) -> Iterator[str]:
    """Problems of values that are valid by themselves, but contradict each other."""
    tables = config.tables
    names: dict[int, str] = {}
    for name in ("user", "lan", "internet"):
        table = getattr(tables, name)
        if table in names:
            yield f"tables.{name}: {table} is also tables.{names[table]}; each needs a table of its own"
        names.setdefault(table, name)
    for name in ("lan", "internet"):
        if getattr(tables, name) == tables.single and tables.single != tables.user:
            yield f"tables.single: {tables.single} is also tables.{name}"
    if config.is_auto and config.manages:
        yield "tunnel.interface: auto is for observe mode; in manage mode, name the tunnel"
    if config.tunnel.interface in config.lan.interfaces:
        yield f"lan.interfaces: {config.tunnel.interface} is tunnel.interface, and a tunnel is not a LAN"
    for prefix in set(config.lan.allow) & set(config.lan.deny):
        yield f"lan.allow: {prefix} is also in lan.deny"
    if config.watch.settle > config.watch.max_wait:
        yield f"watch.settle: {config.watch.settle} s is longer than watch.max_wait, {config.watch.max_wait} s"


def doubts(config: Config) -> Iterator[str]:
    """Warnings about settings that are allowed, but are probably a mistake."""
    if not config.lan.interfaces:
        yield "lan.interfaces: the list is empty, so no route is copied"
    managed = [("routes", ()), ("internet", False), ("internet_leak", "block"), ("on_down", "open")]
    for name, default in managed:
        if not config.manages and getattr(config.tunnel, name) != default:
            yield f'tunnel.{name}: has an effect only with mode = "manage"; in observe mode, the VPN\'s client decides'


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # needed for this message only

    near = get_close_matches(name.lower(), known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


def _key_shown(name: str) -> str:
    """The key as a message shows it. TOML allows any text as a key, also line breaks and control characters."""
    return name if name.isprintable() and len(name) <= SHORT.maxstring else shown(name)


def dump(config: Config) -> str:
    """The whole configuration as TOML. `parse` turns it into an equal configuration."""
    return document_of(keys_of(config))


def document_of(keys: Mapping[tuple[str, str], Any]) -> str:
    """A TOML document with these values, which are given by section and key."""
    sections: dict[str, list[str]] = defaultdict(list)
    for (section, key), value in keys.items():
        sections[section].append(f"{key} = {toml(value)}")
    return "\n".join(line for section, lines in sections.items() for line in (f"[{section}]", *lines, ""))


def toml(value: Any) -> str:
    """The value of a key as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mark):
        return str(value) if value.mask == FULL_MASK else f'"{value}"'
    if isinstance(value, str | Prefix):
        return '"' + "".join(_escaped(sign) for sign in str(value)) + '"'
    if isinstance(value, tuple):
        return f"[{', '.join(toml(member) for member in value)}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {toml(member)}' for key, member in value.items())} }}"
    return repr(value)


def _escaped(sign: str) -> str:
    if sign in '"\\':
        return f"\\{sign}"
    return sign if sign.isprintable() else f"\\U{ord(sign):08X}"
