"""Explains TOML syntax errors to the author of a configuration file. Python's own messages are for programmers."""

import re

from fz_iproute.mirror.config import Config

# How a message of Python's parser starts, and what the author of the file should do.
_WORDS = {
    "Cannot declare": "this section is there already; write its keys below the first one",
    "Cannot overwrite": "this key is in its section twice; keep one of them",
    "Duplicate inline table key": "this key is there twice; keep one of them",
    "Expected newline": "there is more than one thing on this line; write each key on a line of its own",
    "Invalid value": 'a text needs quotes, as in interface = "wg0"; numbers, true and false have none',
    "Unclosed array": 'the list has no closing bracket, or a text in it has no quotes, as in ["10.0.0.0/8"]',
}


def fault(text: str, error: ValueError) -> str:
    """The message for an error that tomllib raised for this text: `line 4: this section is there already; …`."""
    words, _, place = str(error).rpartition(" (at ")
    if not words:
        return "not TOML: a number in it has too many digits"  # the only error without a place
    number = re.match(r"line (\d+)", place)
    line = int(number[1]) if number else len(text.splitlines())  # else "end of document"
    if words.startswith("Invalid value") and (switch := _switch("\n".join(text.splitlines()[:line]))):
        return f"line {line}: {switch} is true or false, in lower case and without quotes"
    plain = next((plain for start, plain in _WORDS.items() if words.startswith(start)), "")
    return f"line {line}: {plain or f'not TOML: {words}'}"


def _switch(start: str) -> str:
    """The name of the key in the last line of `start` if its value is true or false, else "".

    `start` is the file up to and including the faulty line.
    """
    sections = re.findall(r"^\s*\[(\w+)\]", start, re.M)
    key = start.rpartition("\n")[2].partition("=")[0].strip()
    section, name = ["", *sections, *key.split(".")][-2:]
    return name if isinstance(getattr(getattr(Config(), section, None), name, None), bool) else ""
