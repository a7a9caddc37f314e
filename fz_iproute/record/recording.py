"""A recorded machine: the output of `ip`, and how to answer narrower questions from it."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field

from fz_iproute.mirror.ip_json import Listed, json_fault
from fz_iproute.mirror.parse_rules import table_number
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.mirror.words import FAMILY_OPTION, RULES_IN_DETAIL

SCHEMA = 1


class Unusable(ValueError):
    """The text is no usable recording; the message says why."""


@dataclass(frozen=True)
class Recording:
    """Everything that is recorded of a machine."""

    taken: str  # when, in UTC, as ISO 8601
    versions: Mapping[str, str]
    config: str  # the effective configuration, as TOML
    sysctls: Mapping[str, str]
    outputs: Mapping[str, str]  # the output of `ip`, by its arguments: `-json -4 route show table main`
    facts: Mapping[str, str] = field(default_factory=dict)  # see record/facts.py


def question_key(family: Family | None, question: str, *options: str) -> str:
    """The arguments of `ip` for a question, which are the key of its recorded output."""
    return " ".join([*options, *([FAMILY_OPTION[family]] if family else []), question])


def dump(recording: Recording) -> str:
    """The recording as a JSON document."""
    return json.dumps({"schema": SCHEMA, **dict(zip(_PARTS, astuple(recording), strict=True))}, indent=2)


def load(text: str | bytes) -> Recording:
    """The recording in a JSON document. Unusable if the text is anything else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"not a snapshot: {json_fault(error)}") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise Unusable(f'not a snapshot: it has no "schema": {SCHEMA}')
    document.setdefault("facts", {})  # an edited snapshot may have none
    for key, kind in _PARTS.items():
        if key not in document:
            raise Unusable(f'not a snapshot: it has no "{key}"')
        part = document[key]
        if not isinstance(part, kind):
            raise Unusable(f'"{key}" is not {"a text" if kind is str else "an object"}')
        if isinstance(part, dict) and not all(isinstance(value, str) for value in part.values()):
            raise Unusable(f'a value in "{key}" is not a text')
    return Recording(*(document[key] for key in _PARTS))


# The keys of the document and the types of their values, in the order of the fields of Recording.
_PARTS = {"taken": str, "versions": dict, "config": str, "sysctls": dict, "ip": dict, "facts": dict}


_TABLE = re.compile(r"-json (-[46]) (route show table (\w+))", re.ASCII)


def recorded_tables(keys: Iterable[str]) -> Iterator[tuple[Family, int, str]]:
    """The recorded tables, from the keys of the outputs: the family, the number and the question for each."""
    for key in keys:
        if match := _TABLE.fullmatch(key):
            yield "inet" if match[1] == "-4" else "inet6", table_number(match[3]), match[2]


def narrowed(question: str) -> tuple[str, list[str]]:
    """The question that was recorded, and the words of `question` that select a part of its answer."""
    if question == "rule show":
        return RULES_IN_DETAIL, []
    words = question.split()
    if words[:3] == ["route", "show", "table"]:
        return " ".join(words[:4]), words[4:]
    return question, []


def chosen(listing: list[Listed], family: Family, selector: list[str]) -> Iterator[Listed]:
    """The routes that `ip route show table T SELECTOR` would print, out of all routes of the table."""
    kind, value = selector
    if kind == "scope":
        for dst, rest in listing:
            if rest.get("scope", "global") == value:
                # If `ip` selects by scope, its output does not have the scope.
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
