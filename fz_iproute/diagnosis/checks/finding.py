"""What a check of `doctor` finds, and how findings are shown."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from fz_iproute.diagnosis.remedy import Remedy

Level = Literal["ok", "info", "warning", "failure"]


class Finding(NamedTuple):
    """One result of the check `name`. `why` says why it matters; `remedy` can be carried out as printed."""

    name: str
    level: Level
    seen: str
    why: str = ""
    remedy: str = ""


class Found(NamedTuple):
    """A finding before its check is named. Of the remedies, the first that does no harm is printed."""

    level: Level
    seen: str
    why: str = ""
    remedies: tuple[Remedy, ...] = ()


def or_ok(problems: Iterable[Found], seen: str) -> Iterator[Found]:
    """The problems, each once; without any, `seen` with the level ok."""
    yield from dict.fromkeys(problems) or [Found("ok", seen)]


def some(names: Iterable[str], *, is_sample: bool = False) -> str:
    """The first three names and the number of the others, which is unknown of a sample."""
    different = list(dict.fromkeys(names))
    if is_sample:
        return f"{', '.join(different[:3])} and others"
    return ", ".join(different[:3]) + (f" and {len(different) - 3} more" if len(different) > 3 else "")


def count(number: int, one: str, many: str) -> str:
    """`1 copy`, `2 copies`."""
    return f"{number} {one if number == 1 else many}"


def as_document(findings: Sequence[Finding]) -> dict[str, Any]:
    """For programs."""
    return {"checks": [finding._asdict() for finding in findings]}
