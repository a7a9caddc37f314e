"""The configuration: its keys, their defaults, and a parser that reports every problem at once."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from reprlib import Repr
from typing import Any

from fz_iproute.errors import UsageError
from fz_iproute.mirror.model import FULL_MASK, Mark
from fz_iproute.mirror.prefix import FAMILIES, Prefix
from fz_iproute.mirror.words import KERNEL_TABLES

# Takes a value of the TOML document and returns the value that the program uses. ValueError says what is wrong.
Check = Callable[[Any], Any]


def _key(default: Any, check: Check) -> Any:
    """A field of a section that is a key of the configuration file."""
    return field(default=default, metadata={"check": check})


def _one_of(*values: str) -> Check:
    def check(value: Any) -> Any:
        if value not in values:
            raise ValueError(f"{_shown(value)} is not one of {', '.join(values)}")
        return value

    return check


def _of_type(kind: type, otherwise: str) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            hint = "; leave out the quotes" if kind is bool and value in ("true", "false") else ""
            raise ValueError(f"{_shown(value)} is {otherwise}{hint}")  # `otherwise` completes the sentence
        return value

    return check


_text = _of_type(str, "not a string")
_boolean = _of_type(bool, "neither true nor false")


def _between(low: float, high: float, kind: Any = int, name: str = "whole number", unit: str = "") -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{_shown(value)} is not a {name}")
        if not low <= value <= high:  # this also refuses nan
            raise ValueError(f"{_shown(value)}{unit} is not between {low} and {high}{unit}")
        return value

    return check


def _seconds(low: float, high: float) -> Check:
    return _between(low, high, int | float, "number of seconds", " s")


_MOST_PROBLEMS = 5  # of one list, because a message is a line


def _list(item: Check) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{_shown(value)} is not a list; put it into brackets")
        good: list[Any] = []
        problems: dict[str, None] = {}  # each once, because members may repeat
        for member in value:
            try:
                good.append(item(member))
            except ValueError as error:
                problems[str(error)] = None
        if problems:
            shown = list(problems)[:_MOST_PROBLEMS]
            more = [f"and {len(problems) - len(shown)} more like these"] if len(problems) > len(shown) else []
            raise ValueError("; ".join([*shown, *more]))
        return tuple(good)

    return check


def _interface(value: Any) -> Any:
    name = _text(value)
    if not name or len(name.encode()) > 15 or any(sign.isspace() or sign in "/:\0" for sign in name):
        raise ValueError(f"{_shown(value)} is not the name of an interface (1 to 15 bytes, no space, / or :)")
    if any(sign in name for sign in "*?["):
        raise ValueError(f'{_shown(value)} is a pattern; name one interface, or "auto"')
    return name


def _path(value: Any) -> Any:
    if "\0" in _text(value):
        raise ValueError(f"{_shown(value)} is not a path: no file has a NUL in its name")
    if value and not value.startswith("/"):
        raise ValueError(f"{_shown(value)} depends on the folder in which fz-iproute starts; begin the path with /")
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
            raise ValueError(f"{_shown(value)} is not a mark such as 0x2021 or 0x2021/0xffff") from None
    else:
        numbers = [value]
    mark = Mark(*map(_between(0, 2**32 - 1), numbers))
    if not mark.value or not mark.mask:
        raise ValueError(f"{_shown(value)} would match every packet")
    if mark.value & ~mark.mask:
        raise ValueError(f"{mark} has bits outside its mask, so it would match no packet")
    return mark


def _table(value: Any) -> int:
    if isinstance(value, str):
        raise ValueError(f"no table is named {_shown(value)} in iproute2's rt_tables")
    if _between(1, 2**32 - 1)(value) in KERNEL_TABLES:
        raise ValueError(f"{value} is the kernel's table {KERNEL_TABLES[value]}")
    return int(value)


_priority = _between(1, 32765)  # the rule for main has 32766; a rule after that one would have no effect


def _tiers(value: Any) -> tuple[int, ...]:
    priorities: tuple[int, ...] = _list(_priority)(value)
    if len(priorities) != 3:
        raise ValueError(f"{_shown(value)} is not three priorities: user, lan, internet")
    if not priorities[0] < priorities[1] < priorities[2]:
        raise ValueError(f"{_shown(value)} is not in ascending order: user, lan, internet")
    return priorities


def _prefixlens(value: Any) -> Mapping[str, int]:
    if not isinstance(value, dict):
        raise ValueError(f"{_shown(value)} is not a table such as {{ inet = 8, inet6 = 48 }}")
    if unknown := [key for key in value if key not in FAMILIES]:
        raise ValueError(f"unknown family {_shown(unknown[0])}: there are inet and inet6")
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
    allow: tuple[Prefix, ...] = _key((), _list(_network("they are never mirrored")))
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


def parse(text: str, place: str, table_ids: Callable[[], Mapping[str, int]] = dict) -> Config:
    """The configuration in a TOML text. `place` is where it comes from, for messages.

    UsageError lists all problems, one a line: the place, the key, what is wrong. `table_ids` returns the numbers of
    tables by name. It is called only if the text names a table.
    """
    import tomllib  # noqa: PLC0415  # most machines have no configuration file, and this import slows each start

    try:
        document = tomllib.loads(text)
    except ValueError as error:  # not only TOMLDecodeError: int() refuses numbers of more than 4,300 digits
        from fz_iproute.mirror.toml_faults import fault  # noqa: PLC0415  # needed for this message only

        raise UsageError(f"{place}: {fault(text, error)}") from None
    except RecursionError:
        raise UsageError(f"{place}: not TOML: nested too deeply") from None
    sections: dict[str, Any] = {}
    problems: list[str] = []
    known = {section.name: section.type for section in fields(Config)}
    for name, values in document.items():
        if name not in known:
            section = next((each for each in known if name in _keys(known[each])), "")
            hint = f"; the key {name} belongs to [{section}]" if section else _nearest(name, known)
            problems.append(f"{_key_shown(name)}: unknown section{hint}")
        elif not isinstance(values, dict):
            problems.append(f"{name}: is a section, written [{name}]")
        else:
            given = _numbered(values, table_ids) if name == "tables" else values
            sections[name], found = _section(known[name], given)
            problems += [f"{name}.{problem}" for problem in found]
    config = Config(**sections)
    problems += _contradictions(config)
    if problems:
        raise UsageError("\n".join(f"{place}: {problem}" for problem in problems))
    return config


def _section(kind: Any, values: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A section of this class with all values that are right, and the problems of the others."""
    known = {key.name: key for key in fields(kind)}
    good: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in values.items():
        if name not in known:
            section = next((each.name for each in fields(Config) if name in _keys(each.type)), "")
            if name in _keys(Config):
                hint = f"; write [{name}] on a line of its own, and its keys below"
            else:
                hint = f"; it belongs to [{section}]" if section else _nearest(name, known)
            problems.append(f"{_key_shown(name)}: unknown key{hint}")
            continue
        try:
            good[name] = known[name].metadata["check"](value)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    return kind(**good), problems


def _keys(kind: Any) -> set[str]:
    return {key.name for key in fields(kind)}


def _numbered(tables: Mapping[str, Any], table_ids: Callable[[], Mapping[str, int]]) -> dict[str, Any]:
    """The section [tables], with each table's name replaced by its number. Unknown names stay."""
    named = {key: value for key, value in tables.items() if isinstance(value, str) and key != "layout"}
    if not named:
        return dict(tables)
    ids = table_ids()
    return {**tables, **{key: ids.get(name, name) for key, name in named.items()}}


def _contradictions(config: Config) -> Iterator[str]:
    """Problems of values that are valid by themselves, but contradict each other."""
    tables = config.tables
    names: dict[int, str] = {}
    for name in ("user", "lan", "internet"):
        table = getattr(tables, name)
        if table in names:
            yield f"tables.{name}: {table} is also tables.{names[table]}; each needs a table of its own"
        names.setdefault(table, name)
    for name in ("lan", "internet"):
        if getattr(tables, name) == tables.single and tables.single != tables.user:
            yield f"tables.single: {tables.single} is also tables.{name}"
    if config.is_auto and config.manages:
        yield "tunnel.interface: auto is for observe mode; in manage mode, name the tunnel"
    if config.tunnel.interface in config.lan.interfaces:
        yield f"lan.interfaces: {config.tunnel.interface} is tunnel.interface, and a tunnel is not a LAN"
    for prefix in set(config.lan.allow) & set(config.lan.deny):
        yield f"lan.allow: {prefix} is also in lan.deny"
    if config.watch.settle > config.watch.max_wait:
        yield f"watch.settle: {config.watch.settle} s is longer than watch.max_wait, {config.watch.max_wait} s"


def doubts(config: Config) -> Iterator[str]:
    """Warnings about settings that are allowed, but are probably a mistake."""
    if not config.lan.interfaces:
        yield "lan.interfaces: the list is empty, so no route is copied"
    managed = [("routes", ()), ("internet", False), ("internet_leak", "block"), ("on_down", "open")]
    for name, default in managed:
        if not config.manages and getattr(config.tunnel, name) != default:
            yield f'tunnel.{name}: has an effect only with mode = "manage"; in observe mode, the VPN\'s client decides'


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # needed for this message only

    near = get_close_matches(name.lower(), known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


# Shortens values of any length or depth, so that a message stays on one line.
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_shown = _SHORT.repr


def _key_shown(name: str) -> str:
    """The key as a message shows it. TOML allows any text as a key, also line breaks and control characters."""
    return name if name.isprintable() and len(name) <= _SHORT.maxstring else _shown(name)


def dump(config: Config) -> str:
    """The whole configuration as TOML. `parse` turns it into an equal configuration."""
    return document_of(keys_of(config))


def keys_of(config: Config) -> dict[tuple[str, str], Any]:
    """The value of each key, by section and key."""
    parts = {section.name: getattr(config, section.name) for section in fields(config)}
    return {(name, key.name): getattr(part, key.name) for name, part in parts.items() for key in fields(part)}


def document_of(keys: Mapping[tuple[str, str], Any]) -> str:
    """A TOML document with these values, which are given by section and key."""
    sections: dict[str, list[str]] = defaultdict(list)
    for (section, key), value in keys.items():
        sections[section].append(f"{key} = {toml(value)}")
    return "\n".join(line for section, lines in sections.items() for line in (f"[{section}]", *lines, ""))


def toml(value: Any) -> str:
    """The value of a key as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mark):
        return str(value) if value.mask == FULL_MASK else f'"{value}"'
    if isinstance(value, str | Prefix):
        return '"' + "".join(_escaped(sign) for sign in str(value)) + '"'
    if isinstance(value, tuple):
        return f"[{', '.join(toml(member) for member in value)}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {toml(member)}' for key, member in value.items())} }}"
    return repr(value)


def _escaped(sign: str) -> str:
    if sign in '"\\':
        return f"\\{sign}"
    return sign if sign.isprintable() else f"\\U{ord(sign):08X}"


def replace(config: Config, **sections: Mapping[str, Any]) -> Config:
    """The configuration with some keys changed: `replace(config, lan={"prune": False})`."""
    return dataclasses.replace(
        config, **{name: dataclasses.replace(getattr(config, name), **keys) for name, keys in sections.items()}
    )
