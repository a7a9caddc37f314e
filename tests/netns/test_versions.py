"""What the installed `ip` prints means the same as what other versions have printed, and it rebuilds their machines."""

import json
import shlex
from pathlib import Path

import pytest

from tests.netns.namespace import PROGRAM, run
from tests.netns.recorded_machine import machine, record
from tests.unit.recorded_versions import JUDGES, RECORDED, told

_OLDEST_AND_NEWEST = [pick(RECORDED, key=lambda version: tuple(map(int, version.split(".")))) for pick in (min, max)]


def routes_of(plan: str) -> list[list[str]]:
    """The words of each command from `route` on."""
    commands = (shlex.split(line, comments=True) for line in plan.splitlines())
    return [words[words.index("route") :] for words in commands]


def test_what_this_ip_prints_means_the_same_as_what_the_recorded_versions_have_printed(runtime: Path) -> None:
    with machine(runtime) as here:
        plan = here.fz("plan")
        document = json.loads(json.dumps(record(here)))
    for judge in JUDGES:
        judge(document)
    assert routes_of(plan) == routes_of(told(document["snapshot"])[0])


@pytest.mark.parametrize("version", _OLDEST_AND_NEWEST)
def test_this_ip_rebuilds_the_machine_of_another_version(version: str, tmp_path: Path) -> None:
    snapshot = RECORDED[version]["snapshot"]
    path = tmp_path / "snapshot.json"
    path.write_text(json.dumps(snapshot))
    plan = run(*PROGRAM, "lab", "--snapshot", str(path), "--", *PROGRAM, "plan").stdout
    assert routes_of(plan) == routes_of(told(snapshot)[0])
