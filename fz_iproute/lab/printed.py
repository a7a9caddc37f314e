"""What `ip` printed on a machine, and how each part is rebuilt: by a command, or not at all, with the reason.

A recording may come from anybody, so each word is checked before it becomes part of a command.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fz_iproute.mirror.ip_json import Document, Listed
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.prefix import Family
from fz_iproute.mirror.words import is_word


@dataclass(frozen=True)
class Printed:
    """What `ip` printed on the machine, in parts."""

    links: list[Document]
    addresses: list[Document]
    nexthops: list[Document]
    rules: Mapping[Family, list[Document]]
    routes: Mapping[tuple[Family, int], list[Listed]]  # by family and table


class Lost(NamedTuple):
    """A part of the machine that cannot be rebuilt, and why."""

    what: str
    why: str

    def __str__(self) -> str:
        line = f"{self.what}: {self.why}"
        return line if line.isprintable() else ascii(line)


Found = Iterator[Command | Lost]


def command(what: str, family: Family, words: Sequence[str], devices: Sequence[str] = ()) -> Command | Lost:
    """The command that rebuilds `what`, or the reason why it cannot be rebuilt.

    Each word must be allowed in a batch, except the names of `devices`.
    """
    # A backslash at the end of a line would join the next line to it.
    if all(is_word(word) or (word in devices and is_name(word)) for word in words) and words[-1][-1:] != "\\":
        return Command.of(family, words)
    return Lost(what, "it has a value that `ip` does not print")


def is_name(name: str) -> bool:
    """True if the kernel accepts this as the name of a link."""
    octets = name.encode("utf-8", "surrogateescape")
    # The kernel uses `all` and `default` as names in its sysctls. It takes a name with `%` for a pattern.
    return (
        0 < len(octets) <= 15
        and name not in (".", "..", "all", "default")
        and not any(octet in b"/:%\0 \t\n\v\f\r\xa0" for octet in octets)
    )
