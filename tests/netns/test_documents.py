"""Every JSON document follows its schema in fz_iproute/data/schema."""

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from tests.netns.namespace import Machine

MANAGE = """
[tunnel]
mode = "manage"
routes = ["100.64.0.0/11", "192.168.188.77/32", "fd00:2021:1111::/107"]
internet = true
"""


def schema(name: str) -> Any:
    return json.loads(files("fz_iproute").joinpath("data", "schema", f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize("config", ["", MANAGE, '[tables]\nlayout = "tiered"\n'], ids=["observe", "manage", "tiered"])
def test_documents_follow_their_schema(machine: Machine, config: str) -> None:
    for name, argv in (
        ("plan", ["plan"]),
        ("plan", ["sync", "--dry-run"]),
        ("status", ["status"]),
        ("sync", ["sync"]),
        ("status", ["status"]),
        ("plan", ["down", "--dry-run"]),
        *(("explain", ["explain", address]) for address in ("127.0.0.1", "8.8.8.8", "fd77::1", "ff02::fb")),
        ("sync", ["down"]),
        ("detect", ["detect"]),
        ("doctor", ["doctor"]),
    ):
        done = machine.fz_done(*argv, "--json", config=config)
        assert done.returncode in (0, 1), done
        jsonschema.validate(json.loads(done.stdout), schema(name))
    jsonschema.validate(json.loads(machine.fz("snapshot", config=config)), schema("snapshot"))


@pytest.mark.parametrize("path", sorted(files("fz_iproute").joinpath("data", "schema").iterdir()), ids=str)
def test_a_schema_is_valid_and_refuses_another_version(path: Any) -> None:
    document = json.loads(path.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"schema": 2}, document)
