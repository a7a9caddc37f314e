"""Does what the remedies of `doctor` say."""

import json
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

from tests.netns.namespace import run

UNDO = "undo: "
COMMENT = "  # "
_COMMAND = re.compile(r"(?:ip|sysctl|fz-iproute) [^;]*$")
SETTING = re.compile(r"set in (/\S+), section (\[.+?)(?:, then (.+))?$")


def carried_out(remedy: str, config: Path, fz: Callable[..., object]) -> str | None:
    """Do what is printed, if it is a command or a setting, and say what was refused; None if it is only words.

    `fz` runs the program with these arguments.
    """
    command, _, _ = remedy.partition(COMMENT)
    if match := SETTING.fullmatch(command):
        if "; or" in command or str(config) != match[1]:
            return None
        _, settings, command = match.groups()
        config.write_text(with_settings(config.read_text(), settings))
    elif not _COMMAND.fullmatch(command):
        return None
    for part in (command or "").split(" && "):
        words = shlex.split(part)
        if words[:1] == ["fz-iproute"]:
            fz(*words[1:])
        elif words:
            done = run("sh", "-c", part, check=False)
            if done.returncode:
                return f"refused: {part}: {done.stderr.strip()}"
    return ""


def with_settings(text: str, settings: str) -> str:
    """The configuration with these settings: `[lan]: deny = ["10.0.0.0/8"]; section [tables]: lan = 7, single = 8`."""
    document = tomllib.loads(text)
    for section in settings.split("; section "):
        lines = re.sub(r"(?:^\[\w+\]:|,) (?=\w+ = )", "\n", section).split("\n")
        name = section[1 : section.index("]")]
        document.setdefault(name, {}).update(tomllib.loads("\n".join(lines)))
    found = []
    for name, keys in document.items():
        found.append(f"[{name}]")
        found += [f"{key} = {_toml(value)}" for key, value in keys.items()]
    return "\n".join(found) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(each)}' for key, each in value.items())} }}"
    return json.dumps(value)
