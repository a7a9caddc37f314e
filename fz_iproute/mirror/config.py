"""The keys of the configuration, each with its default and a check of its values."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from reprlib import Repr
from typing import Any

from fz_iproute.mirror.model import Mark
from fz_iproute.mirror.prefix import FAMILIES, Prefix
from fz_iproute.mirror.words import KERNEL_TABLES

# Takes a value of the TOML document and returns the value that the program uses. ValueError says what is wrong.
Check = Callable[[Any], Any]


# Shortens values of any length or depth, so that a message stays on one line.
SHORT = Repr()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 60
shown = SHORT.repr


def _key(default: Any, check: Check) -> Any:
    """A field of a section that is a key of the configuration file."""
    return field(default=default, metadata={"check": check})


def _one_of(*values: str) -> Check:
    def check(value: Any) -> Any:
        if value not in values:
            raise ValueError(f"{shown(value)} is not one of {', '.join(values)}")
        return value

    return check


def _of_type(kind: type, otherwise: str) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            hint = "; leave out the quotes" if kind is bool and value in ("true", "false") else ""
            raise ValueError(f"{shown(value)} is {otherwise}{hint}")  # `otherwise` completes the sentence
        return value

    return check


_text = _of_type(str, "not a string")
_boolean = _of_type(bool, "neither true nor false")


def _between(low: float, high: float, kind: Any = int, name: str = "whole number", unit: str = "") -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{shown(value)} is not a {name}")
        if not low <= value <= high:  # this also refuses nan
            raise ValueError(f"{shown(value)}{unit} is not between {low} and {high}{unit}")
        return value

    return check


def _seconds(low: float, high: float) -> Check:
    return _between(low, high, int | float, "number of seconds", " s")


_MOST_PROBLEMS = 5  # of one list, because a message is a line


def _list(item: Check) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{shown(value)} is not a list; put it into brackets")
        good: list[Any] = []
        problems: dict[str, None] = {}  # each once, because members may repeat
        for member in value:
            try:
                good.append(item(member))
            except ValueError as error:
                problems[str(error)] = None
        if problems:
            first = list(problems)[:_MOST_PROBLEMS]
            more = [f"and {len(problems) - len(first)} more like these"] if len(problems) > len(first) else []
            raise ValueError("; ".join([*first, *more]))
        return tuple(good)

    return check


def _interface(value: Any) -> Any:
    name = _text(value)
    if not name or len(name.encode()) > 15 or any(sign.isspace() or sign in "/:\0" for sign in name):
        raise ValueError(f"{shown(value)} is not the name of an interface (1 to 15 bytes, no space, / or :)")
    if any(sign in name for sign in "*?["):
        raise ValueError(f'{shown(value)} is a pattern; name one interface, or "auto"')
    return name


def _path(value: Any) -> Any:
    if "\0" in _text(value):
        raise ValueError(f"{shown(value)} is not a path: no file has a NUL in its name")
    if value and not value.startswith("/"):
        raise ValueError(f"{shown(value)} depends on the folder in which fz-iproute starts; begin the path with /")
    return value


def _glob(value: Any) -> Any:
    if not _text(value):
        raise ValueError("an empty pattern matches no interface")
    return value


def _prefix(value: Any) -> Prefix:
    return Prefix.parse(_text(value))


def _network(default: str) -> Check:
    """A check for any prefix except a default route. `default` is the advice for that case."""

    def check(value: Any) -> Prefix:
        prefix = _prefix(value)
        if not prefix.length:
            raise ValueError(f"{value!r} is a default route; {default}")
        return prefix

    return check


def _fwmark(value: Any) -> Mark:
    if isinstance(value, str):
        try:
            numbers = [int(part, 0) for part in value.split("/", 1)]
        except ValueError:
            raise ValueError(f"{shown(value)} is not a mark such as 0x2021 or 0x2021/0xffff") from None
    else:
        numbers = [value]
    mark = Mark(*map(_between(0, 2**32 - 1), numbers))
    if not mark.value or not mark.mask:
        raise ValueError(f"{shown(value)} would match every packet")
    if mark.value & ~mark.mask:
        raise ValueError(f"{mark} has bits outside its mask, so it would match no packet")
    return mark


def _table(value: Any) -> int:
    if isinstance(value, str):
        raise ValueError(f"no table is named {shown(value)} in iproute2's rt_tables")
    if _between(1, 2**32 - 1)(value) in KERNEL_TABLES:
        raise ValueError(f"{value} is the kernel's table {KERNEL_TABLES[value]}")
    return int(value)


_priority = _between(1, 32765)  # the rule for main has 32766; a rule after that one would have no effect


def _tiers(value: Any) -> tuple[int, ...]:
    priorities: tuple[int, ...] = _list(_priority)(value)
    if len(priorities) != 3:
        raise ValueError(f"{shown(value)} is not three priorities: user, lan, internet")
    if not priorities[0] < priorities[1] < priorities[2]:
        raise ValueError(f"{shown(value)} is not in ascending order: user, lan, internet")
    return priorities


def _prefixlens(value: Any) -> Mapping[str, int]:
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)} is not a table such as {{ inet = 8, inet6 = 48 }}")
    if unknown := [key for key in value if key not in FAMILIES]:
        raise ValueError(f"unknown family {shown(unknown[0])}: there are inet and inet6")
    checks = {"inet": _between(1, 32), "inet6": _between(1, 128)}
    return {**MIN_PREFIXLEN, **{family: checks[family](length) for family, length in value.items()}}


MIN_PREFIXLEN = {"inet": 8, "inet6": 48}
FIREZONE_MARK = Mark(0xFD002021)


@dataclass(frozen=True)
class Tunnel:
    """The VPN's device and its mark. The keys from `routes` on are for manage mode."""

    interface: str = _key("tun-firezone", _interface)
    fwmark: Mark = field(default=FIREZONE_MARK, metadata={"check": _fwmark})
    mode: str = _key("observe", _one_of("observe", "manage"))
    split_default: str = _key("auto", _one_of("auto", "explicit"))
    routes: tuple[Prefix, ...] = _key((), _list(_network("tunnel.internet = true stands for it")))
    internet: bool = _key(False, _boolean)
    internet_leak: str = _key("block", _one_of("block", "allow"))
    on_down: str = _key("open", _one_of("open", "closed"))


@dataclass(frozen=True)
class Tables:
    """The tables of both layouts: `single`, or `user`, `lan` and `internet` if the layout is tiered."""

    layout: str = _key("auto", _one_of("auto", "single", "tiered"))
    single: int = _key(539098368, _table)
    user: int = _key(539098368, _table)
    lan: int = _key(539098369, _table)
    internet: int = _key(539098370, _table)

    @property
    def ids(self) -> frozenset[int]:
        """The tables of all layouts."""
        return frozenset((self.single, self.user, self.lan, self.internet))

    @property
    def mirrors(self) -> frozenset[int]:
        """The tables that may get the copies. There are two with `auto`, because the machine's rules decide."""
        by_layout = {"single": [self.single], "tiered": [self.lan], "auto": [self.single, self.lan]}
        return frozenset(by_layout[self.layout])


@dataclass(frozen=True)
class Rules:
    """The priorities of the rules that manage mode adds."""

    single: int = _key(32765, _priority)
    tiered: tuple[int, ...] = _key((100, 200, 300), _tiers)


@dataclass(frozen=True)
class Lan:
    """Which routes of main are copied."""

    trust: str = _key("any", _one_of("any", "private"))
    allow: tuple[Prefix, ...] = _key((), _list(_network("they are never copied")))
    deny: tuple[Prefix, ...] = _key((), _list(_prefix))
    interfaces: tuple[str, ...] = _key(("*",), _list(_glob))
    exclude_interfaces: tuple[str, ...] = _key((), _list(_glob))
    min_prefixlen: Mapping[str, int] = field(default_factory=lambda: MIN_PREFIXLEN, metadata={"check": _prefixlens})
    multicast: bool = _key(False, _boolean)
    prune: bool = _key(True, _boolean)


@dataclass(frozen=True)
class Watch:
    """How fast the daemon reacts, and where it keeps its journal. Times are in seconds."""

    settle: float = _key(0.002, _seconds(0, 60))
    max_wait: float = _key(0.5, _seconds(0.001, 60))
    resync: float = _key(60, _seconds(1, 86400))
    journal: str = _key("", _path)
    cleanup_on_exit: bool = _key(False, _boolean)


@dataclass(frozen=True)
class Config:
    """The whole configuration. The defaults, `Config()`, are for a machine that runs Firezone."""

    tunnel: Tunnel = Tunnel()
    tables: Tables = Tables()
    rules: Rules = Rules()
    lan: Lan = Lan()
    watch: Watch = Watch()

    @property
    def is_auto(self) -> bool:
        """True if no tunnel is named: whichever VPN takes all traffic at the moment is the one to serve."""
        return self.tunnel.interface == "auto"

    @property
    def manages(self) -> bool:
        """True if fz-iproute also adds the VPN's rules and tunnel routes."""
        return self.tunnel.mode == "manage"

    @property
    def allows_leak(self) -> bool:
        """True if a family that the tunnel does not carry may leave outside of it."""
        return self.manages and self.tunnel.internet_leak == "allow"


def keys_of(config: Config) -> dict[tuple[str, str], Any]:
    """The value of each key, by section and key."""
    parts = {section.name: getattr(config, section.name) for section in fields(config)}
    return {(name, key.name): getattr(part, key.name) for name, part in parts.items() for key in fields(part)}


def replace(config: Config, **sections: Mapping[str, Any]) -> Config:
    """The configuration with some keys changed: `replace(config, lan={"prune": False})`."""
    return dataclasses.replace(
        config, **{name: dataclasses.replace(getattr(config, name), **keys) for name, keys in sections.items()}
    )
