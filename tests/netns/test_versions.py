"""What the installed `ip` prints means the same as what the recorded versions have printed."""

import shlex
from pathlib import Path

from tests.netns.recorded_machine import machine, snapshot
from tests.unit.recorded_versions import RECORDED, told


def test_a_snapshot_means_the_same_as_those_of_all_recorded_versions(runtime: Path) -> None:
    with machine(runtime) as here:
        plan = here.fz("plan")
        said = told(snapshot(here))
    for document in RECORDED.values():
        assert told(document["snapshot"]) == said
    commands = [shlex.split(line, comments=True) for line in plan.splitlines()]
    assert [words.split() for words in said[0]] == [words[words.index("route") :] for words in commands]
