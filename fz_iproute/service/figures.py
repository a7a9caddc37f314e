"""Turns the state of the copies and of the daemon into metrics for Prometheus."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fz_iproute.diagnosis.status import Status
from fz_iproute.mirror.prefix import FAMILIES

_PREFIX = "fz_iproute"
# The counters of `watch`, explained.
_COUNTED = {
    "events": "Lines that ip monitor printed.",
    "wakes": "Passes that an event asked for.",
    "passes": "Passes over the tables.",
    "changes": "Batches of commands that were run.",
    "commands": "Commands that were run.",
    "refused": "Commands that ip refused.",
    "fights": "Commands that another program undid again and again.",
    "lost": "Times that the kernel had more events than ip monitor could read.",
    "monitors": "Times that ip monitor was started.",
    "reloads": "New configurations that took effect.",
}
_STATES = {"in step": "in_step", "missing": "missing", "changed": "changed", "stale": "stale", "skipped": "skipped"}
_COPIES = "Routes of the LAN, by the state of their copy. In step, missing and changed ones are wanted."


class Figure(NamedTuple):
    """A metric of Prometheus."""

    name: str  # without the prefix
    text: str
    values: Sequence[tuple[Mapping[str, str], float]]  # each with its labels
    kind: str = "gauge"  # or counter


def figures(version: str, status: Status, is_watching: bool, report: Mapping[str, Any] | None) -> list[Figure]:
    """The figures of a machine. `report` is the report of the running `watch`, None if there is none."""
    counts = Counter((line.family, line.state) for line in status.lan)
    copies = [
        ({"family": family, "state": label}, counts[family, state])
        for family in FAMILIES
        for state, label in _STATES.items()
    ]
    internet = [({"family": family}, status.internet[family] == "active") for family in FAMILIES]
    is_up = status.tunnel_state == "up"
    found = [
        Figure("build", "The version of fz-iproute.", [({"version": version}, 1)]),
        Figure("copies", _COPIES, copies),
        Figure("tunnel_up", "1 if the tunnel is there and up.", [({"interface": status.tunnel}, is_up)]),
        Figure("internet_in_tunnel", "1 if most packets to the internet enter the tunnel.", internet),
        Figure("watch_running", "1 if a watch keeps the tables in step.", [({}, is_watching)]),
    ]
    if report:
        started, last_good = "When watch was started, in Unix time.", "When the last pass succeeded, in Unix time."
        found += [
            Figure("watch_start_time_seconds", started, [({}, report["started"])]),
            Figure("watch_last_good_pass_seconds", last_good, [({}, report["last_good_pass"])]),
        ]
        # A daemon of another version may have other counters.
        counters = {name: value for name, value in report["counters"].items() if name in _COUNTED}
        found += [Figure(f"watch_{name}", _COUNTED[name], [({}, value)], "counter") for name, value in counters.items()]
    return found


def as_text(found: Iterable[Figure]) -> str:
    """The figures in the text format 0.0.4 of Prometheus.

    It is not OpenMetrics, which node_exporter's textfile collector cannot read. No text is valid in both formats: in
    OpenMetrics, the type of a counter is given for its name without `_total`.
    """
    return "\n".join(line for figure in found for line in _lines(figure))


def _lines(figure: Figure) -> Iterator[str]:
    name = f"{_PREFIX}_{figure.name}{'_total' if figure.kind == 'counter' else ''}"
    yield f"# HELP {name} {figure.text}"
    yield f"# TYPE {name} {figure.kind}"
    for labels, value in figure.values:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        braces = f"{{{inside}}}" if inside else ""
        yield f"{name}{braces} {value:.15g}"


def _escaped(text: str) -> str:
    """The value of a label, as the format spells it. It may be an interface name with any bytes."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
