"""Draws the status: the rules in the kernel's order, and below each rule its table."""

from collections import defaultdict
from collections.abc import Iterator

from fz_iproute.diagnosis.status import Line, Status
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.tunnel import Layout
from fz_iproute.mirror.words import printable

_MARKS = {"in step": "=", "missing": "+", "stale": "-", "changed": "~", "skipped": "!", "theirs": " "}
_COLOURS = {"=": "32", "+": "33", "-": "33", "~": "33", "!": "31"}  # green, yellow, red
LEGEND = "= in step   + missing   - stale   ~ changed   ! not copied"

# The mark of a line, which gives it its colour, and its text.
_Drawn = tuple[str, str]


def draw(found: Status, *, width: int | None = None, colour: bool = False) -> str:
    """The status as text. With `width`, no line is longer than that many columns."""
    lines = []
    for mark, text in _lines(found, width):
        cut = f"{text[: width - 1]}…" if width and len(text) > width else text
        lines.append(f"\x1b[{_COLOURS[mark]}m{cut}\x1b[0m" if colour and mark in _COLOURS else cut)
    return "\n".join(lines)


def _lines(found: Status, width: int | None) -> Iterator[_Drawn]:
    yield "", f"{printable(found.tunnel)} is {found.tunnel_state}; {_internet(found)}"
    yield "", _tables(found.layout, found.mode)
    yield "", ""
    for family in FAMILIES:
        yield "", family
        yield from _family(found, family, width)
        yield "", ""
    if not found.lan:
        yield "", "main has no link-scoped routes"
    for wait in found.waiting:
        yield "", f"waits   {printable(wait)}"
    for shadow in found.shadows:
        what = f"takes all of the LAN {shadow.lan}" if shadow.whole else f"is inside the LAN {shadow.lan}"
        yield "", f"shadow  {shadow.tunnel} of the VPN {what}"
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
        mark = _MARKS[line.state]
        text = f"         {mark} {line.route}"
        reason = f"  # {printable(line.reason)}" if line.reason else ""
        if reason and width and len(text) + len(reason) > width:
            yield mark, text
            yield mark, f"           {reason.strip()}"
        else:
            yield mark, text + reason


def _internet(found: Status) -> str:
    parts = []
    for state in ("active", "blocked"):
        families = [family for family in FAMILIES if found.internet[family] == state]
        reasons = dict.fromkeys(found.obstacles[family] for family in families if found.obstacles.get(family))
        if families:
            parts.append(
                f"{state} ({', '.join(families)}" + (f": {printable(', '.join(reasons))})" if reasons else ")")
            )
    return f"Internet Resource {', '.join(parts)}" if parts else "no default route into it"


def _tables(layout: Layout, mode: str) -> str:
    if layout.name == "single":
        return f"{mode}, layout single: copies go to table {layout.mirror}"
    return (
        f"{mode}, layout tiered: the VPN's own routes in table {layout.user}, copies in {layout.mirror}, "
        f"its default route in {layout.internet}"
    )
