"""The findings of the checks of `doctor`, and how they are worded."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from fz_iproute.diagnosis.remedy import Remedy

Level = Literal["ok", "info", "warning", "failure"]


class Finding(NamedTuple):
    """One result of a check."""

    name: str  # of the check
    level: Level
    seen: str  # what the check has seen
    why: str = ""  # why it matters
    remedy: str = ""  # can be carried out as printed


class Found(NamedTuple):
    """A finding as its check yields it: without the name of the check, and with remedies that were not tried yet."""

    level: Level
    seen: str
    why: str = ""
    remedies: tuple[Remedy, ...] = ()


def or_ok(problems: Iterable[Found], seen: str) -> Iterator[Found]:
    """The problems without repetitions. If there are none, one finding of level ok that says `seen`."""
    yield from dict.fromkeys(problems) or [Found("ok", seen)]


def as_document(findings: Sequence[Finding]) -> dict[str, Any]:
    """For programs: the findings as a JSON document."""
    return {"checks": [finding._asdict() for finding in findings]}
