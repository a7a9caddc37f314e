"""Draws the status: the rules in the kernel's order, and below each rule its table."""

from collections import defaultdict
from collections.abc import Callable, Iterator

from fz_iproute.diagnosis.status import Line, RuleLine, Status
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix
from fz_iproute.mirror.tunnel import Layout
from fz_iproute.mirror.words import printable, table_name

_MARKS = {"in step": "=", "missing": "+", "stale": "-", "changed": "~", "skipped": "!", "theirs": " "}
_COLOURS = {"=": "32", "+": "33", "-": "33", "~": "33", "!": "31"}  # green, yellow, red
LEGEND = "= in step   + missing   - stale   ~ changed   ! not copied"

_Paint = Callable[[str, str], str]


def draw(found: Status, *, width: int | None = None, colour: bool = False) -> str:
    """The status as text. With `width`, no line is longer than that many columns."""
    title = f"{printable(found.tunnel)} is {found.tunnel_state}; {_internet(found)}"
    lines = [_cut(title, width), _cut(_tables(found.layout, found.mode), width), ""]
    for family in FAMILIES:
        lines += [family, *_family(found, family, width, colour), ""]
    return "\n".join([*lines, *(_cut(line, width) for line in _below(found))])


def _below(found: Status) -> Iterator[str]:
    if not found.lan:
        yield "main has no link-scoped routes"
    for wait in found.waiting:
        yield f"waits   {printable(wait)}"
    yield from _shadows(found)
    for _, _, _, route, reason in found.uncopied:
        yield f"main    {route}  # {printable(reason)}"
    yield LEGEND


def _shadows(found: Status) -> Iterator[str]:
    together: dict[Prefix, list[Prefix]] = defaultdict(list)
    for lan, tunnel, whole in found.shadows:
        if whole:
            together[lan].append(tunnel)
        else:
            yield f"shadow  {tunnel} of the VPN is inside the LAN {lan}"
    for lan, tunnels in together.items():
        verb = "takes" if len(tunnels) == 1 else "take"
        yield f"shadow  {' and '.join(map(str, tunnels))} of the VPN {verb} all of the LAN {lan}"


def _family(found: Status, family: Family, width: int | None, colour: bool) -> Iterator[str]:
    rules = [line for line in found.rules if line.rule.family == family]
    routes = [line for line in (*found.vpn, *found.lan) if line.family == family]
    drawn: set[int] = set()
    for line in rules:
        yield from _rule(line, width, colour)
        if (table := line.rule.table) not in drawn:
            drawn.add(table)
            yield from _routes([line for line in routes if line.table == table], width, colour)
    for table in dict.fromkeys(line.table for line in routes if line.table not in drawn):
        yield _cut(f"  no rule  leads to table {table}", width)
        yield from _routes([line for line in routes if line.table == table], width, colour)


def _rule(line: RuleLine, width: int | None, colour: bool) -> Iterator[str]:
    mark = _MARKS[line.verdict]
    yield _painted(f"{mark} {line.rule.priority:<5}  {line.rule}", mark, width, colour)


def _routes(lines: list[Line], width: int | None, colour: bool) -> Iterator[str]:
    for line in lines:
        mark = _MARKS[line.verdict]
        text = f"         {mark} {line.route}"
        reason = f"  # {printable(line.reason)}" if line.reason else ""
        if reason and width and len(text) + len(reason) > width:
            yield _painted(text, mark, width, colour)
            text = f"           {reason.strip()}"
        else:
            text += reason
        yield _painted(text, mark, width, colour)


def _painted(text: str, mark: str, width: int | None, colour: bool) -> str:
    text = _cut(text, width)
    return f"\x1b[{_COLOURS[mark]}m{text}\x1b[0m" if colour and mark in _COLOURS else text


def _cut(text: str, width: int | None) -> str:
    return f"{text[: width - 1]}…" if width and len(text) > width else text


def _internet(found: Status) -> str:
    parts = []
    for state in ("active", "blocked"):
        families = [family for family in FAMILIES if found.internet[family] == state]
        reasons = dict.fromkeys(found.obstacles[family] for family in families if found.obstacles.get(family))
        if families:
            parts.append(
                f"{state} ({', '.join(families)}" + (f": {printable(', '.join(reasons))})" if reasons else ")")
            )
    said = [f"Internet Resource {', '.join(parts)}" if parts else "packets to the internet do not enter it"]
    for carrier in dict.fromkeys(found.carriers.values()):
        carried = ", ".join(family for family in FAMILIES if found.carriers.get(family) == carrier)
        devices = printable(" ".join(carrier.devices))
        by = f"rule {carrier.priority}, table {table_name(carrier.table)}"
        said.append(f"{devices} carries all traffic ({carried}) by {by}")
    return "; ".join(said)


def _tables(layout: Layout, mode: str) -> str:
    if layout.name == "single":
        return f"{mode}, layout single: copies go to table {layout.mirror}"
    return (
        f"{mode}, layout tiered: the VPN's own routes in table {layout.user}, copies in {layout.mirror}, "
        f"its default route in {layout.internet}"
    )
