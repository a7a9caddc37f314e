"""What different versions of `ip` printed about the machine of tests/netns/recorded_machine.py."""

import json
import re
from pathlib import Path
from typing import Any

from fz_iproute.record import recording
from tests.netns.questions import addresses, everything

_FILES = sorted((Path(__file__).parents[1] / "recorded").glob("*.json"))
RECORDED: dict[str, dict[str, Any]] = {file.stem: json.loads(file.read_text()) for file in _FILES}


def told(snapshot: dict[str, Any]) -> tuple[Any, ...]:
    """What the program says about a recorded snapshot."""
    found = everything(recording.load(json.dumps(snapshot)), addresses()[::7])
    # Versions print the attributes of an encapsulation in different places, all of them unknown.
    tree, count = re.subn("(?m)^.* 10.81.0.0/24 .* cannot be copied exactly: .* encap.*\n", "", found.tree)
    assert 1 == count
    return found.plan, tree, found.ways
