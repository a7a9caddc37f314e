"""Replaces names and addresses in a recording. Then it can be shown to anybody, but still leads to the same answers.

Every text is split into words. Only known words are kept: numbers, and words of iproute2, of the kernel and of
fz-iproute. Each other word is replaced by a new name, everywhere by the same.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from fz_iproute.mirror import config as core_config
from fz_iproute.mirror import config_text
from fz_iproute.mirror.ip_json import Document, documents_of
from fz_iproute.record.recording import Recording
from fz_iproute.record.renaming import Addresses, Names

# JSON keys whose values are free text. Nothing reads them, so they are left out.
_FREE = frozenset(["ifalias", "altnames"])
# Numbers, times in UTC, and capabilities.
_KEPT = re.compile(
    r"(ipproto-)?(0x[0-9a-f]+|\d+(\.\d+)?)(ms|s|sec)?|\d{4}-\d\d-\d\dT[0-9:.]+Z|0000[0-9a-f]{12}", re.ASCII
)
_WORD = r"""[^\s"'#,()=\[\]{}\\]+"""
# Signs between the parts of a word, as in a path, an address with a zone, or the label of an address.
_JOINTS = "/%:"
_HARDWARE = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5,}", re.ASCII)
_WG_QUICK = "wg-quick-"  # how the names of its nft tables start
# A comment in a file may hold anything. Only those that fz-iproute writes into its journal tell something.
_COMMENT = re.compile(r"(?m)(^|(?<=\s))#(?! [0-9TZ:.-]+ [0-9.]+ ms, |   refused: |   in doubt: ).*")


class Redactor:
    """Redacts one recording, except the words that are `known`, in lower case.

    Without the `secret`, nobody can find out the old addresses.
    """

    def __init__(self, recorded: Recording, secret: bytes, known: Collection[str]) -> None:
        self._recorded = recorded
        self._known = known
        self._config = config_text.parse(recorded.config, "config")
        self._outputs = {
            key: documents_of(text.encode("utf-8", "surrogateescape"))
            for key, text in recorded.outputs.items()
            if key.startswith("-json")
        }
        documents = [document for listing in self._outputs.values() for document in listing]
        interfaces = dict.fromkeys(
            [self._config.tunnel.interface, *(each["ifname"] for each in documents if "ifname" in each)]
        )
        drop_ins = {path.rpartition("/")[2] for path in recorded.facts if ".d/" in path}
        self._names = Names((name for name in interfaces if name.lower() not in known), drop_ins)
        self._addresses = Addresses(secret, documents)
        self.prefix = self._addresses.prefix
        # The name of an interface may hold signs that end a word.
        odd = (rf"(?<!\S){re.escape(name)}(?!\S)" for name in interfaces if not re.fullmatch(_WORD, name))
        self._word = re.compile("|".join([*odd, _WORD]))
        self._renamed = cache(self._new)  # most words come again and again
        self.names = {name: self._text(name) for name in interfaces}

    def redacted(self) -> Recording:
        """The recording with new names and addresses."""
        recorded = self._recorded
        lines = {key: text for key, text in recorded.outputs.items() if key not in self._outputs}
        return replace(
            recorded,
            versions={name: _version(text) for name, text in recorded.versions.items()},
            config=self._text(config_text.dump(self._without_globs())),
            sysctls=self._texts(recorded.sysctls),
            outputs={
                **self._texts(lines),
                **{self._text(key): self._printed(found) for key, found in self._outputs.items()},
            },
            facts=self._texts({name: _COMMENT.sub("#", text) for name, text in recorded.facts.items()}),
        )

    def address(self, text: str) -> str:
        """The new address or prefix; any other text stays as it is."""
        return self._addresses.new(text) or text

    def _texts(self, texts: Mapping[str, str]) -> dict[str, str]:
        return {self._text(name): self._text(text) for name, text in texts.items()}

    def _text(self, text: str) -> str:
        return self._word.sub(lambda match: self._renamed(match[0]), text)

    def _new(self, word: str) -> str:
        if word.lower() in self._known or _KEPT.fullmatch(word):
            return word
        if new := self._addresses.new(word) or self._names.known.get(word):
            return new
        if _HARDWARE.fullmatch(word):
            return re.sub("[0-9a-f]", "0", word)
        if word.startswith(_WG_QUICK):
            return _WG_QUICK + self._new(word.removeprefix(_WG_QUICK))
        for joint in _JOINTS:
            if joint in word:
                return joint.join(map(self._new, word.split(joint)))
        return self._names.new(word)

    def _printed(self, documents: list[Document]) -> str:
        return json.dumps(self._value(documents), separators=(",", ":")) + "\n"

    def _value(self, value: Any) -> Any:
        """A value of the JSON that `ip` has printed."""
        if isinstance(value, dict):
            new = {key: self._value(part) for key, part in value.items() if key not in _FREE}
            for key in ("src", "dst"):
                # The JSON has the prefix of a rule in two parts.
                if f"{key}len" in value and (prefix := self._addresses.new(f"{value[key]}/{value[f'{key}len']}")):
                    new[key] = prefix.partition("/")[0]
            return new
        if isinstance(value, list):
            return [self._value(part) for part in value]
        return self._text(value) if isinstance(value, str) else value

    def _without_globs(self) -> core_config.Config:
        """The configuration with the interfaces that its globs match, because new names match other globs."""

        def matched(globs: tuple[str, ...]) -> tuple[str, ...]:
            if globs == ("*",):
                return globs
            return tuple(name for name in self.names if any(fnmatchcase(name, glob) for glob in globs))

        lan = self._config.lan
        found = {"interfaces": matched(lan.interfaces), "exclude_interfaces": matched(lan.exclude_interfaces)}
        return core_config.replace(self._config, lan=found)


def _version(text: str) -> str:
    """The version numbers alone: the release of a kernel may have a name that the person who built it chose."""
    found = re.match(r"(ip utility, iproute2-(ss)?)?\d+(\.\d+)*", text, re.ASCII)
    return found[0] if found else ""
