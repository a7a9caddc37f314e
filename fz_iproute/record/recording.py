"""A machine written down: what `ip` printed there, and how answers to other questions follow from that."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field

from fz_iproute.mirror.parse import Listed
from fz_iproute.mirror.parse_rules import table_number
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.mirror.words import FAMILY_OPTION, RULES_IN_DETAIL

SCHEMA = 1


class Unusable(ValueError):
    """The text is no usable recording; the message says why."""


@dataclass(frozen=True)
class Recording:
    """`outputs` holds the text that `ip` printed, by its arguments: `-json -4 route show table main`."""

    taken: str  # UTC, ISO 8601
    versions: Mapping[str, str]
    config: str  # the effective configuration, as TOML
    sysctls: Mapping[str, str]
    outputs: Mapping[str, str]
    facts: Mapping[str, str] = field(default_factory=dict)  # see record/facts.py


def question_key(family: Family | None, question: str, *options: str) -> str:
    """The arguments of `ip` for a question."""
    return " ".join([*options, *([FAMILY_OPTION[family]] if family else []), question])


def dump(recording: Recording) -> str:
    """The recording as a JSON document."""
    return json.dumps({"schema": SCHEMA, **dict(zip(_PARTS, astuple(recording), strict=True))}, indent=2)


def load(text: str) -> Recording:
    """The recording in a JSON document. Unusable if the text is anything else."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Unusable(f"not JSON: {error}") from None
    except RecursionError:
        raise Unusable("not JSON: nested too deeply") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise Unusable(f'not a snapshot: it has no "schema": {SCHEMA}')
    document.setdefault("facts", {})  # older snapshots have none
    for key, kind in _PARTS.items():
        part = document.get(key)
        if not isinstance(part, kind):
            raise Unusable(f'"{key}" is not {"a text" if kind is str else "an object"}')
        if isinstance(part, dict) and not all(isinstance(value, str) for value in part.values()):
            raise Unusable(f'a value in "{key}" is not a text')
    return Recording(*(document[key] for key in _PARTS))


# In the order of the fields.
_PARTS = {"taken": str, "versions": dict, "config": str, "sysctls": dict, "ip": dict, "facts": dict}


_TABLE = re.compile(r"-json (-[46]) (route show table (\w+))", re.ASCII)


def recorded_tables(keys: Iterable[str]) -> Iterator[tuple[Family, int, str]]:
    """Family, number and question of each table, from the keys of the outputs."""
    for key in keys:
        if match := _TABLE.fullmatch(key):
            yield "inet" if match[1] == "-4" else "inet6", table_number(match[3]), match[2]


def narrowed(question: str) -> tuple[str, list[str]]:
    """The recorded question whose answer contains that of `question`, and the words that select a part of it."""
    if question == "rule show":
        return RULES_IN_DETAIL, []
    words = question.split()
    if words[:3] == ["route", "show", "table"]:
        return " ".join(words[:4]), words[4:]
    return question, []


def chosen(listing: list[Listed], family: Family, selector: list[str]) -> Iterator[Listed]:
    """The routes of a table that `ip route show table T SELECTOR` prints."""
    kind, value = selector
    if kind == "scope":
        for dst, rest in listing:
            if rest.get("scope", "global") == value:
                # `ip` leaves out the key that it filters by.
                yield (dst, {key: content for key, content in rest.items() if key != "scope"})
        return
    asked = Prefix.of_route(value, family)
    for route in listing:
        if _fits(kind, Prefix.of_route(route[0], family), asked):
            yield route


def _fits(kind: str, found: Prefix, asked: Prefix) -> bool:
    if kind == "root":
        return asked.covers(found)
    if kind == "match":
        return found.covers(asked)
    return found == asked  # exact
