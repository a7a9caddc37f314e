"""Draws the short form of `status`: for the VPN, the LAN and `watch` a line each, with the next command."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fz_iproute.diagnosis.summary import Item, Summary
from fz_iproute.mirror.words import printable, some
from fz_iproute.verbs.screen import MOST_READABLE, Screen

_MOST_LINES = 12
_INDENT = 7  # columns for the labels
_MARKS = {"missing": "+", "changed": "~", "stale": "-"}
_COLOURS = {"due": "yellow", "wrong": "red", "left out": ""}


class Daemon(NamedTuple):
    """The state of `watch`."""

    text: str
    verb: str = ""  # the verb to advise, perhaps with options; "" for none
    is_running: bool = False


def drawn(said: Summary, daemon: Daemon | None, advised: Callable[[str], str], screen: Screen) -> list[str]:
    """The lines, at most twelve unless the screen is narrow. `advised` returns the whole command for a verb."""
    verb = mends(said, daemon)
    vpn = _labelled("VPN", said.vpn, said.verb and advised(said.verb), screen)
    lan = _labelled("LAN", _count(said), verb and advised(verb), screen)
    tail = _others(said, screen, "=") + _others(said, screen, "·")
    if daemon:
        # `watch` would do what `sync` does.
        verb = "" if said.is_worse_then else daemon.verb
        tail += _labelled("watch", daemon.text, verb and advised(verb), screen)
    vpn_items, lan_items = _items(said.vpn_items, screen), _items(said.lan_items, screen)
    space = _MOST_LINES - len(vpn) - len(lan) - len(tail)
    more = advised("status --routes")
    vpn_items = _shortened(vpn_items, space - min(len(lan_items), space // 2), more, screen)
    lan_items = _shortened(lan_items, space - len(vpn_items), more, screen)
    return [*vpn, *vpn_items, *lan, *lan_items, *tail]


def mends(said: Summary, daemon: Daemon | None) -> str:
    """The verb that mends the LAN or finds out more; "" if there is nothing to do."""
    # While `watch` runs, `sync` does not help: `watch` has tried the same, but failed or was undone by another program.
    if said.is_due and not said.is_lost_then and not (daemon and daemon.is_running):
        return "sync"
    if said.is_left_out or not said.is_good:
        return "doctor"
    return "detect" if said.firewalls and said.verb != "detect" else ""


def _count(said: Summary) -> str:
    """How many LANs can be reached, according to the routes."""
    if not said.lans:
        return "main has no route to a LAN"
    if said.firewalls:
        return f"{said.reachable} of {said.lans} have a route, but {said.firewalls} may stop the packets"
    # Copies are due that are needed as soon as the VPN takes all traffic, or a cable is plugged in.
    early = "; not in step" if said.is_due and said.is_early else ""
    none = f"; no LAN by {some(said.unused)}" if said.unused and said.reachable else ""
    how = f" {said.how}" if said.is_idle else ""
    return f"{said.reachable} of {said.lans} reachable{how}{none}{early}"


def _shortened(lines: list[str], space: int, command: str, screen: Screen) -> list[str]:
    """The lines that fit into the space, but at least two. If some do not fit, the last line says how many."""
    space = max(2, space)
    if len(lines) <= space:
        return lines
    return [*lines[: space - 1], screen.cut(f"{'':{_INDENT}}… {len(lines) - space + 1} more: {command}")]


def _labelled(label: str, text: str, command: str, screen: Screen) -> list[str]:
    """The label and the text, then the command: beside the text, or below it if there is no room."""
    lines = screen.folded(f"{label:{_INDENT}}{printable(text)}", _INDENT)
    lines[0] = screen.paint(lines[0][:_INDENT], "bold") + lines[0][_INDENT:]
    if command:
        arrow = f"→ {command}"
        used = len(printable(text)) + _INDENT + 3
        if len(lines) == 1 and (not screen.width or used + len(arrow) <= screen.width):
            lines[0] += f"   {arrow}"
        else:
            lines.append(f"{'':{_INDENT}}{arrow}")
    return lines


def _items(items: Sequence[Item], screen: Screen) -> list[str]:
    widths = [max((len(printable(getattr(item, part))) for item in items), default=0) for part in ("what", "where")]
    lines = []
    for item in items:
        mark = "!" if item.kind == "wrong" else _MARKS.get(item.state, "·")
        cells = (f"{printable(text):{width}}" for text, width in zip((item.what, item.where), widths, strict=True))
        text = "  ".join(filter(str.strip, (*cells, printable(item.why))))
        lines.append(f"{'':{_INDENT}}{screen.paint(mark, _COLOURS[item.kind])} {screen.cut(text, _INDENT + 2)}")
    return lines


def _others(said: Summary, screen: Screen, mark: str) -> list[str]:
    """One line with the reachable LANs that have a copy (=) or need none: as many as fit, and how many more."""
    copied = {line.lan for line in said.others if line.state == "in step"}
    lines = [line for line in said.others if (line.lan in copied) is (mark == "=")]
    names = list(dict.fromkeys(line.route.dst for line in lines if not line.route.dst.startswith("fe80:")))
    link_local = sum(line.route.dst.startswith("fe80:") for line in lines)
    ending = f"{link_local} link-local" if link_local else ""
    space = min(screen.width or MOST_READABLE, MOST_READABLE) - _INDENT - 2
    for count in range(len(names), -1, -1):
        rest = f"{len(names) - count} more" if count < len(names) else ""
        text = ", ".join(filter(None, (*names[:count], rest, ending)))
        if len(text) <= space or not count:
            return [f"{'':{_INDENT}}{screen.paint(mark, 'green')} {screen.cut(text, _INDENT + 2)}"] if text else []
    return []
