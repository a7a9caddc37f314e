"""Turns the JSON of `ip rule show` into rules of the model."""

from collections.abc import Iterable

from fz_iproute.mirror.ip_json import Document, Unparsable
from fz_iproute.mirror.model import Mark, Rule
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.mirror.words import PROTOCOLS, REFUSALS, TABLE_NUMBERS


def rules(documents: Iterable[Document], family: Family) -> list[Rule]:
    """The rules that `ip -json rule show` prints, in the kernel's order. Only `-details` makes it print protocols."""
    return [_rule(document, family) for document in documents]


def needs_numbers(documents: Iterable[Document]) -> bool:
    """True if a rule may have names from the machine's files where the model needs numbers, for example its table."""
    return any(_table(document.get("table", "0")) is None or _NAMED & document.keys() for document in documents)


_NAMED = frozenset(["ipproto", "tos", "flow_from", "flow_to", "suppress_ifgroup"])


def _rule(document: Document, family: Family) -> Rule:
    return Rule(
        family=family,
        priority=document["priority"],
        action=_action(document),
        table=table_number(document.get("table", "0")),
        inverted="not" in document,
        src=_selected(document, "src", family),
        dst=_selected(document, "dst", family),
        mark=_mark(document),
        iif=document.get("iif", ""),
        oif=document.get("oif", ""),
        options=tuple(
            (key, "" if value is None else str(value))
            for key, value in document.items()
            if (key not in _RULE_KEYS or (key == "l3mdev" and "action" in document))
            and (key, value) not in _WHOLE_PORTS
        ),
        protocol=_protocol(document.get("protocol", "")),
    )


def _protocol(name: str) -> str:
    return _PROTOCOL_NAMES.get(name, name)


def table_number(name: str) -> int:
    """The number of a table that `ip` names by number, or by one of the kernel's names. Else Unparsable."""
    number = _table(name)
    if number is None:
        raise Unparsable(f"{name!r} is not the number of a table")
    return number


def _table(name: str) -> int | None:
    return int(name) if name.isdecimal() else TABLE_NUMBERS.get(name)


def _action(document: Document) -> str:
    if "table" in document:
        return "lookup"
    if "action" in document:
        return REFUSALS.get(document["action"], str(document["action"]))
    return str(next((key for key in ("goto", "nop", "l3mdev") if key in document), "unknown"))


def _selected(document: Document, key: str, family: Family) -> Prefix | None:
    host = document.get(key, "all")
    if host == "all":
        return None
    length = document.get(f"{key}len")
    return Prefix.of_route(host if length is None else f"{host}/{length}", family)


def _mark(document: Document) -> Mark | None:
    if "fwmark" not in document:
        return None
    value = int(document["fwmark"], 0)
    return Mark(value, int(document["fwmask"], 0)) if "fwmask" in document else Mark(value)


# fmt: off
_RULE_KEYS = frozenset([
    "priority", "action", "table", "not", "src", "srclen", "dst", "dstlen", "fwmark", "fwmask", "iif", "oif",
    "protocol", "nop", "l3mdev",
])
# fmt: on
# A mask that covers all bits of a port has no meaning, but iproute2 6.15 prints it.
_WHOLE_PORTS = (("sport_mask", "0xffff"), ("dport_mask", "0xffff"))
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
