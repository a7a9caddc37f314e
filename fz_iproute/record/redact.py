"""Replaces names and addresses in a recording. Then it can be shown to anybody, but still leads to the same answers.

Only known text is kept: numbers, and words of iproute2, of the kernel and of fz-iproute. Every other text is replaced
by a new name, consistently.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from fz_iproute.mirror import config as core_config
from fz_iproute.mirror import config_text, rt_tables
from fz_iproute.mirror.ip_json import documents_of
from fz_iproute.mirror.prefix import Prefix
from fz_iproute.record.recording import Recording
from fz_iproute.record.renaming import Addresses, Names
from fz_iproute.record.vocabulary import KEYS, PATHS, WORDS

# JSON keys whose values name an interface.
_INTERFACES = frozenset(["ifname", "dev", "link", "master", "iif", "oif"])
_NUMBER = re.compile(r"(ipproto-)?(0x[0-9a-f]+|\d+([./-]\d+)*)(ms|s|sec)?", re.ASCII)
# Words that are followed by a name.
_NAMING = frozenset(["dev", "nodev", "iif", "oif", "-n"])
# Facts that are kept unchanged if they look like this. Otherwise they are left out.
_FACTS = {
    "uid": _NUMBER,
    "capabilities": re.compile("[0-9a-f]+"),
    "config.mode": _NUMBER,
    "config.uid": _NUMBER,
    "networkd": re.compile("in use|not in use"),
}
_WG_QUICK = "wg-quick-"  # how the names of its nft tables start
_NETWORKD = re.compile(r"\[Network\]|ManageForeign\w+\s*=\s*(1|0|yes|no|y|n|true|false|t|f|on|off)", re.I | re.ASCII)
_HEADING = re.compile(r"# [0-9TZ:.-]+ [0-9.]+ ms, \d+ commands?, woken by: ", re.ASCII)


class Redactor:
    """Redacts one recording. Without the `secret`, nobody can find out the old addresses."""

    def __init__(self, recorded: Recording, secret: bytes) -> None:
        self._recorded = recorded
        self._config = config_text.parse(recorded.config, "config")
        self._outputs = {
            key: documents_of(text.encode("utf-8", "surrogateescape"))
            for key, text in recorded.outputs.items()
            if key.startswith("-json")
        }
        documents = [document for listing in self._outputs.values() for document in listing]
        interfaces = [self._config.tunnel.interface, *_interfaces(documents)]
        self._names = Names(["lo", core_config.Config().tunnel.interface], interfaces)
        self.names = dict(self._names.known)  # the new names of interfaces
        self._addresses = Addresses(secret, documents)
        self.prefix = self._addresses.prefix
        drop_ins = sorted({path.rpartition("/")[2] for path in recorded.facts if ".d/" in path})
        # The new names of drop-ins keep the order, because later drop-ins override earlier ones.
        self._drop_ins = {name: f"{place:04}.conf" for place, name in enumerate(drop_ins, 1)}

    def redacted(self) -> Recording:
        """The recording with new names and addresses."""
        recorded = self._recorded
        facts = ((self._path(name), self._fact(name, text)) for name, text in recorded.facts.items())
        return replace(
            recorded,
            versions={name: _version(text) for name, text in recorded.versions.items()},
            config=config_text.dump(self._redacted_config()),
            sysctls={self._sysctl(name): text for name, text in recorded.sysctls.items() if _NUMBER.fullmatch(text)},
            outputs={
                self._line(key): self._printed(key) if key in self._outputs else self._lines(text)
                for key, text in recorded.outputs.items()
            },
            facts={name: text for name, text in facts if text is not None},
        )

    def address(self, text: str) -> str:
        """The new address or prefix; any other text stays as it is."""
        return self._addresses.new(text) or text

    def _word(self, word: str) -> str:
        """Redact one word of a text."""
        if word in WORDS or not word.strip(":\\"):
            return word
        host, percent, zone = word.partition("%")
        if new := self._addresses.new(host):
            return f"{new}{percent}{self._names.new(zone)}"
        if _NUMBER.fullmatch(word):
            return word
        if word.startswith(_WG_QUICK):
            return _WG_QUICK + self._names.new(word.removeprefix(_WG_QUICK))
        return self._names.hardware(word) or self._names.new(word)

    # The output of `ip`

    def _printed(self, key: str) -> str:
        return json.dumps(self._value(self._outputs[key]), separators=(",", ":")) + "\n"

    def _value(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            new = {name: self._value(part, name) for name, part in value.items()}
            for name in ("src", "dst"):
                # The JSON has the prefix of a rule in two parts.
                if f"{name}len" in value and (prefix := self._addresses.new(f"{value[name]}/{value[f'{name}len']}")):
                    new[name] = prefix.partition("/")[0]
            return new
        if isinstance(value, list):
            return [self._value(part, key) for part in value]
        if not isinstance(value, str):
            return value
        if key in _INTERFACES:
            return self._names.new(value)
        if key == "label":  # keep the form IFNAME:TEXT, because a lab can only rebuild such a label
            return ":".join(self._names.new(part) for part in value.split(":"))
        if key in KEYS:
            return self._word(value)
        return self._addresses.new(value) or self._names.hardware(value) or self._names.new(value)

    def _lines(self, text: str) -> str:
        # Split only at newlines and spaces: the name of an interface may have other white space.
        return "\n".join(self._line(line) for line in text.split("\n"))

    def _line(self, line: str) -> str:
        return " ".join(self._command(line.split(" ")))

    def _command(self, words: Sequence[str]) -> list[str]:
        return [
            self._names.new(word) if before in _NAMING else self._word(word)
            for before, word in zip(["", *words], words, strict=False)
        ]

    # Sysctls, facts and the configuration

    def _sysctl(self, name: str) -> str:
        start, slash, end = name.partition("/conf/")
        device, last_slash, last = end.rpartition("/")
        known = device if device in ("all", "default", "") else self._names.new(device)
        return f"{start}{slash}{known}{last_slash}{last}"

    def _fact(self, name: str, text: str) -> str | None:
        """The redacted text; None if the fact must be left out, because this class does not know it."""
        if name in _FACTS:
            return text if _FACTS[name].fullmatch(text) else None
        known = (redacted for part, redacted in _TEXTS.items() if name == part or (part[0] == "/" and part in name))
        redacted = next(known, None)
        return "\n".join(redacted(self, line) for line in text.split("\n")) if redacted else None

    def _path(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        if folder.endswith(".d") and name in self._drop_ins:
            return f"{self._path(folder)}/{self._drop_ins[name]}"
        return "/".join(part if part in PATHS else self._names.new(part) for part in path.split("/"))

    def _networkd(self, line: str) -> str:
        line = line.strip()
        return line if _NETWORKD.fullmatch(line) else "[…]" if line.startswith("[") else ""

    def _resolver(self, line: str) -> str:
        words = line.split()
        return f"nameserver {self._word(words[1])}" if len(words) > 1 and words[0] == "nameserver" else ""

    def _table_name(self, line: str) -> str:
        return next((f"{line.split(maxsplit=1)[0]} {self._word(name)}" for name, _ in rt_tables.parsed(line)), "")

    def _journal(self, line: str) -> str:
        if heading := _HEADING.match(line):
            return f"{heading[0]}…"
        if line.startswith(("#   refused: ", "#   in doubt: ")):
            return re.sub(r"""([^\s"'#,()]+?)(?=:?(?:[\s"'#,()]|$))""", lambda word: self._word(word[0]), line)
        if line.startswith("#"):
            return "#"  # a person may have written it
        try:
            return shlex.join(self._command(shlex.split(line)))
        except ValueError:
            return "#"  # the line is no command

    def _redacted_config(self) -> core_config.Config:
        config = self._config

        def prefixes(given: Iterable[Prefix]) -> tuple[Prefix, ...]:
            return tuple(map(self.prefix, given))

        def globs(given: tuple[str, ...]) -> tuple[str, ...]:
            """Replace globs by the new names of the interfaces that they match. The globs would tell the old names."""
            if given == ("*",):
                return given
            return tuple(new for old, new in self.names.items() if any(fnmatchcase(old, glob) for glob in given))

        return core_config.replace(
            config,
            tunnel={
                "interface": self._names.new(config.tunnel.interface),
                "routes": prefixes(config.tunnel.routes),
            },
            lan={
                "allow": prefixes(config.lan.allow),
                "deny": prefixes(config.lan.deny),
                "interfaces": globs(config.lan.interfaces),
                "exclude_interfaces": globs(config.lan.exclude_interfaces),
            },
            watch={"journal": self._path(config.watch.journal)},
        )


# How to redact each line of the other facts, by the name of the fact. For files, a part of the path is enough.
_TEXTS: dict[str, Callable[[Redactor, str], str]] = {
    "/networkd.conf": Redactor._networkd,
    "/rt_tables": Redactor._table_name,
    "/resolv.conf": Redactor._resolver,
    "journal": Redactor._journal,
    "config.path": Redactor._path,
    "netns": lambda redactor, line: redactor._names.new(line),
    "resolved": Redactor._line,
    "dhcp.servers": Redactor._line,
    "nft": Redactor._line,
}


def _version(text: str) -> str:
    """The version numbers alone: the release of a kernel may have a name that the person who built it chose."""
    found = re.match(r"(ip utility, iproute2-(ss)?)?\d+(\.\d+)*", text, re.ASCII)
    return found[0] if found else ""


def _interfaces(value: Any, key: str = "") -> Iterable[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _interfaces(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from _interfaces(part, key)
    elif isinstance(value, str) and key in _INTERFACES:
        yield value
