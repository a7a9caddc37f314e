"""Draws the long form of `status`: the rules in the kernel's order, and below each rule the routes of its table."""

from collections import defaultdict
from collections.abc import Iterator

from fz_iproute.diagnosis.status import Line, Status
from fz_iproute.diagnosis.summary import vpn
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.tunnel import Layout
from fz_iproute.mirror.words import printable

_MARKS = {"in step": "=", "missing": "+", "stale": "-", "changed": "~", "skipped": "!", "theirs": " "}
_COLOURS = {"=": "32", "+": "33", "-": "33", "~": "33", "!": "31"}  # green, yellow, red
_LEFT_OUT = "·"
LEGEND = "= in step   + missing   - stale   ~ changed   · left out   ! out of reach"

# The mark of a line ("" if it has none), and its whole text. The mark is the first place where its sign occurs.
_Drawn = tuple[str, str]


def draw(found: Status, *, width: int | None = None, colour: bool = False) -> str:
    """The status as text. With `width`, no line is longer than that many columns."""
    lines = []
    for mark, line in _lines(found, width):
        text = printable(line)
        cut = f"{text[: width - 1]}…" if width and len(text) > width else text
        # Only the mark is coloured: a whole line in yellow would be unreadable on a light background.
        painted = f"\x1b[{_COLOURS[mark]}m{mark}\x1b[0m" if colour and mark in _COLOURS else mark
        lines.append(cut.replace(mark, painted, 1))
    return "\n".join(lines)


def _lines(found: Status, width: int | None) -> Iterator[_Drawn]:
    yield "", "; ".join(vpn(found))
    yield "", _tables(found.layout, found.mode)
    yield "", ""
    for family in FAMILIES:
        yield "", family
        yield from _family(found, family, width)
        yield "", ""
    if not found.lan:
        yield "", "main has no link-scoped routes"
    for wait in found.waiting:
        yield "", f"waits   {wait}"
    for loss in found.losses:
        yield "", f"lost    {loss}"
    for line in found.uncopied:
        yield "", f"main    {line.route}  # {line.reason}"
    for outage in found.outages:
        yield "", f"link    {outage.name} {outage.why}"
    yield "", LEGEND


def _family(found: Status, family: Family, width: int | None) -> Iterator[_Drawn]:
    tables: dict[int, list[Line]] = defaultdict(list)
    for line in (*found.vpn, *found.lan):
        if line.family == family:
            tables[line.table].append(line)
    for rule, state in found.rules:
        if rule.family == family:
            yield _MARKS[state], f"{_MARKS[state]} {rule.priority:<5}  {rule}"
            yield from _routes(tables.pop(rule.table, []), width)
    for table, lines in tables.items():
        yield "", f"  no rule  leads to table {table}"
        yield from _routes(lines, width)


def _routes(lines: list[Line], width: int | None) -> Iterator[_Drawn]:
    for line in lines:
        mark = _LEFT_OUT if line.state == "skipped" and not line.is_stuck else _MARKS[line.state]
        text = f"         {mark} {line.route}"
        reason = f"  # {line.reason}" if line.reason else ""
        if reason and width and len(text) + len(reason) > width:
            yield mark, text
            yield "", f"           {reason.strip()}"
        else:
            yield mark, text + reason


def _tables(layout: Layout, mode: str) -> str:
    if layout.name == "single":
        return f"{mode}, layout single: copies go to table {layout.mirror}"
    return (
        f"{mode}, layout tiered: the VPN's own routes in table {layout.user}, copies in {layout.mirror}, "
        f"its default route in {layout.internet}"
    )
