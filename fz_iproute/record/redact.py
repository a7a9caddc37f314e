"""Takes addresses and names out of a record, so that it can be shown to anybody and still gives the same answers.

Addresses are renamed bit by bit, so that what was inside a prefix still is (as in Xu et al., "Prefix-Preserving IP
Address Anonymization", 2002). The prefixes that mean something by themselves, private ones for example, stay such.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Any

from fz_iproute.mirror import config as core_config
from fz_iproute.mirror.parse import Document, documents_of, group_number
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.record.recording import Recording

# What stands in them means the same on every machine.
_FROZEN = ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "::/8", "ff00::/8"]
# Who is in one of them stays in it.
_CLOSED = ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "240.0.0.0/4"]
_CLOSED += ["2000::/3", "fd00::/8", "fc00::/7", "fe80::/10", "fe80::/64"]

_BITS: dict[Family, int] = {"inet": 32, "inet6": 128}
_ADDRESS = re.compile(r"[0-9a-fA-F.:]*[.:][0-9a-fA-F.:]+(?:/\d+)?")
_HARDWARE = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5,}")
_NOWHERE = "00:00:00:00:00:00"
# Keys whose values name an interface, and such as only a person could have written.
_DEVICES = frozenset(["ifname", "dev", "link", "master", "iif", "oif", "label"])
_TELLING = frozenset(["netns", "config.path"])
_PRIVATE = frozenset(["ifalias", "altnames", "permaddr", "parentdev", "parentbus"])


class Redactor:
    """Renames consistently; `secret` decides how, so that nobody without it can tell what was there."""

    def __init__(self, recorded: Recording, secret: bytes) -> None:
        self._secret = secret
        self._recorded = recorded
        self._config = core_config.parse(recorded.config, "config")
        self._flips: dict[tuple[Family, int, int], bool] = {}
        self._frozen = [Prefix.parse(text) for text in _FROZEN]
        self._marked = [*self._frozen, *(Prefix.parse(text) for text in _CLOSED)]
        self._ends: set[tuple[Family, int, int]] = set()
        documents = [_parsed(text) for key, text in recorded.outputs.items() if key.startswith("-json")]
        self.names = self._new_names(documents)
        for links in documents:
            self._note_ends(links)

    def redacted(self) -> Recording:
        """The record with other names and addresses."""
        outputs = {}
        for key, text in self._recorded.outputs.items():
            new_key = self.text(key)
            if key.startswith("-json"):
                outputs[new_key] = json.dumps(self._document(_parsed(text)), separators=(",", ":")) + "\n"
            else:
                outputs[new_key] = self.text(text)
        sysctls = {
            "/".join(self.names.get(part, part) for part in name.split("/")): value
            for name, value in self._recorded.sysctls.items()
        }
        config = core_config.dump(self._redacted_config())
        facts = {name: self._fact(name, text) for name, text in self._recorded.facts.items() if name not in _TELLING}
        return replace(self._recorded, outputs=outputs, sysctls=sysctls, config=config, facts=facts)

    def _fact(self, name: str, text: str) -> str:
        """Settings and records: what is said in comments and of domains is nobody's business."""
        if name == "journal":
            text = re.sub(r"(?<=woken by: ).*", "…", text)
        elif name.startswith("/"):
            text = re.sub(r"^\s*([#;]|search\b|domain\b).*", "", text, flags=re.MULTILINE)
        return self.text(text)

    def prefix(self, prefix: Prefix) -> Prefix:
        """The prefix by its new name; its length stays."""
        family, address, length = prefix
        found = 0
        for place in range(length):
            bit = address >> (_BITS[family] - 1 - place) & 1
            found = found << 1 | bit ^ self._flip(family, address >> (_BITS[family] - place), place)
        return Prefix(family, found << (_BITS[family] - length), length)

    def address(self, text: str) -> str:
        """An address or a prefix by its new name; anything else as it is."""
        host, slash, length = text.partition("/")
        try:
            parsed = ip_address(host)
        except ValueError:
            return text
        family: Family = "inet" if parsed.version == 4 else "inet6"
        bits = _BITS[family]
        # A network keeps its zeros, an address within one has all of its bits renamed.
        is_network = (
            slash and length.isdecimal() and int(length) <= bits and not int(parsed) & ((1 << bits - int(length)) - 1)
        )
        new = self.prefix(Prefix(family, int(parsed), int(length) if is_network else bits))
        return f"{ip_address(new.address.to_bytes(bits // 8))}{slash}{length}"

    def text(self, text: str) -> str:
        """Lines of words with the addresses in it renamed, and the interfaces that `dev` names."""
        text = re.sub(r"(?<=\bdev )\S+", lambda word: self.names.get(word[0], word[0]), text)
        return re.sub(r"[^\s,;=()\[\]]+", lambda word: self._word(word[0]), text)

    def _word(self, word: str) -> str:
        if _HARDWARE.fullmatch(word):
            return _NOWHERE
        return self.address(word) if _ADDRESS.fullmatch(word) else word

    def _flip(self, family: Family, head: int, length: int) -> bool:
        """Whether the bit behind these first bits changes."""
        key = family, head, length
        if key not in self._flips:
            node = Prefix(family, head << (_BITS[family] - length), length)
            bound = (
                key in self._ends
                or any(prefix.covers(node) for prefix in self._frozen)
                or any(prefix.length > length and node.covers(prefix) for prefix in self._marked)
            )
            seed = self._secret + f"{family} {head:x} {length}".encode()
            self._flips[key] = not bound and bool(sha256(seed).digest()[0] & 1)
        return self._flips[key]

    def _new_names(self, documents: Iterable[Any]) -> dict[str, str]:
        found: dict[str, None] = {self._config.tunnel.interface: None}
        for document in documents:
            _walk(document, lambda key, value: found.setdefault(value) if key in _DEVICES else None)
        kept = {"lo", core_config.Config().tunnel.interface}
        others = [name for name in found if name not in kept]
        return {name: f"net{number}" for number, name in enumerate(others, start=1)}

    def _note_ends(self, links: Iterable[Document]) -> None:
        """The first and the last address of a network must stay that: they are its anycast and its broadcast."""
        for link in links:
            for address in link.get("addr_info", ()):
                for host in {address.get("local"), address.get("address")} - {None}:  # the latter is a peer's
                    network = ip_network(f"{host}/{address['prefixlen']}", strict=False)
                    family: Family = "inet" if network.version == 4 else "inet6"
                    bits = _BITS[family]
                    for end in (int(network.network_address), int(network.broadcast_address)):
                        places = range(network.prefixlen, bits)
                        self._ends.update((family, end >> (bits - place), place) for place in places)

    def _document(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            known = {name: part for name, part in value.items() if not _is_private(name, part)}
            new = {name: self._document(part, name) for name, part in known.items()}
            for name in ("src", "dst"):
                if f"{name}len" in known:  # a rule's prefix, in two parts
                    new[name] = self.address(f"{known[name]}/{known[f'{name}len']}").partition("/")[0]
            return new
        if isinstance(value, list):
            return [self._document(part, key) for part in value]
        if not isinstance(value, str):
            return value
        if key in _DEVICES:
            return self.names.get(value, value)
        return _NOWHERE if _HARDWARE.fullmatch(value) else self.address(value)

    def _redacted_config(self) -> core_config.Config:
        config = self._config

        def prefixes(given: Iterable[Prefix]) -> tuple[Prefix, ...]:
            return tuple(map(self.prefix, given))

        def globs(given: tuple[str, ...]) -> tuple[str, ...]:
            """They would tell the names, so the names that they match stand for them."""
            if given == ("*",):
                return given
            return tuple(new for old, new in self.names.items() if any(fnmatchcase(old, glob) for glob in given))

        return core_config.replace(
            config,
            tunnel={
                "interface": self.names.get(config.tunnel.interface, config.tunnel.interface),
                "routes": prefixes(config.tunnel.routes),
            },
            lan={
                "allow": prefixes(config.lan.allow),
                "deny": prefixes(config.lan.deny),
                "interfaces": globs(config.lan.interfaces),
                "exclude_interfaces": globs(config.lan.exclude_interfaces),
            },
            watch={"journal": ""},
        )


def _is_private(key: str, value: Any) -> bool:
    # A link's group may have a name; that of nexthops is a list.
    return key in _PRIVATE or (key == "group" and isinstance(value, str) and group_number(value) is None)


def _parsed(text: str) -> list[Document]:
    return documents_of(text.encode("utf-8", "surrogateescape"))


def _walk(value: Any, visit: Callable[[str, str], object], key: str = "") -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            _walk(part, visit, name)
    elif isinstance(value, list):
        for part in value:
            _walk(part, visit, key)
    elif isinstance(value, str):
        visit(key, value)
