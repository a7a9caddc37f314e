"""What `ip` printed on a machine, and what each part of it becomes: a command, or a line that says why there is none.

A recording is anybody's text: nothing of it becomes a word of a command unchecked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fz_iproute.mirror.model import Command
from fz_iproute.mirror.parse import Document, Listed
from fz_iproute.mirror.prefix import Family
from fz_iproute.mirror.words import PROTOCOLS, is_word


@dataclass(frozen=True)
class Printed:
    """What `ip` printed on the machine, in parts."""

    links: list[Document]
    addresses: list[Document]
    nexthops: list[Document]
    rules: Mapping[Family, list[Document]]
    routes: Mapping[tuple[Family, int], list[Listed]]  # by family and table
    lines: Mapping[Family, list[str]]  # routes of main that have metrics, as text: JSON does not tell which are locked


class Lost(NamedTuple):
    """What cannot be rebuilt, and why."""

    what: str
    why: str

    def __str__(self) -> str:
        line = f"{self.what}: {self.why}"
        return line if line.isprintable() else ascii(line)


Found = Iterator[Command | Lost]


def command(what: str, family: Family, words: Sequence[str], devices: Sequence[str] = ()) -> Command | Lost:
    """The command that rebuilds `what`, or why there is none. Only `devices` may be no words of a batch line."""
    # A backslash at the end of a line would join the next line to it.
    if all(is_word(word) or (word in devices and is_name(word)) for word in words) and words[-1][-1:] != "\\":
        return Command.of(family, words)
    return Lost(what, "it has a value that `ip` does not print")


def is_name(name: object) -> bool:
    """True if the kernel takes this for the name of a link."""
    if not isinstance(name, str):
        return False
    try:
        octets = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    # `all` and `default` are folders of its sysctls; a `%` makes it invent a name.
    return (
        0 < len(octets) <= 15
        and name not in (".", "..", "all", "default")
        and not any(octet in b"/:%\0 \t\n\v\f\r\xa0" for octet in octets)
    )


def number_of(protocol: str) -> str:
    """The number of a known protocol: some versions of `ip` misread a name that follows a number in a batch."""
    return PROTOCOLS.get(protocol, protocol)
