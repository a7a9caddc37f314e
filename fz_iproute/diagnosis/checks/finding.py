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


def some(names: Iterable[str], *, is_sample: bool = False) -> str:
    """The first three names, and how many more there are. If it is a sample, that number is not known."""
    different = list(dict.fromkeys(names))
    if is_sample:
        return f"{', '.join(different[:3])} and others"
    return ", ".join(different[:3]) + (f" and {len(different) - 3} more" if len(different) > 3 else "")


def count(number: int, one: str, many: str) -> str:
    """`1 copy`, `2 copies`."""
    return f"{number} {one if number == 1 else many}"


def as_document(findings: Sequence[Finding]) -> dict[str, Any]:
    """For programs: the findings as a JSON document."""
    return {"checks": [finding._asdict() for finding in findings]}
