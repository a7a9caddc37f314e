"""The configuration is checked whole, and every problem has its place."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fz_iproute.errors import UsageError
from fz_iproute.mirror.config import Config, replace
from fz_iproute.mirror.config_text import doubts, dump, parse
from fz_iproute.mirror.model import Mark
from fz_iproute.mirror.prefix import Prefix
from tests.unit.recorded_versions import RECORDED

NAMES = {"main": 254, "default": 253, "local": 255}


def problems(text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        parse(text, "F", lambda: NAMES)
    return str(caught.value).splitlines()


def test_what_is_shown_reads_back() -> None:
    deny = (Prefix.parse("10.9.0.0/24"), Prefix.parse("fd00::/8"))
    watch = {"journal": "/var/log/fz journal"}
    lan = {"deny": deny, "interfaces": ('a"\\\x01ü*',), "trust": "private"}
    config = replace(Config(), lan=lan, watch=watch, tunnel={"fwmark": Mark(0x2021, 0xFFFF), "interface": "wg0"})
    assert config == parse(dump(config), "F")
    assert Config() == parse("", "F")


def test_the_defaults_are_those_of_the_first_version() -> None:
    """Each recorded snapshot has them. Whoever changes one changes what machines without a file do."""
    assert Config() == parse(RECORDED["6.1.0"]["snapshot"]["config"], "F")


def test_all_problems_are_listed_at_once_each_with_its_place() -> None:
    text = """
    tunel = {}
    tunnel = { interface = 3, fwmark = 0, mode = 1, routes = "100.64.0.0/11", internet = "yes", on_down = {} }
    tables = { layout = 3, single = "main", lan = [], internet = 254 }
    rules = { single = "32765", tiered = 100 }
    lan = { alow = [], allow = [10], deny = ["10.0.0.1/8"], multicast = 0, min_prefixlen = { inet = "8" } }
    watch = { settle = "2ms", max_wait = true, resync = 07:32:00, journal = 1, cleanup_on_exit = 1 }
    """
    expected = [f"{section}.{key}" for section, keys in tomllib.loads(text).items() for key in keys]
    assert sorted(["tunel", *expected]) == sorted(line.split(":")[1].strip() for line in problems(text))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("tables = 3", "tables: is a section, written [tables]"),
        ("[[lan]]", "lan: is a section, written [lan]"),
        ("[tables]\nInternet = 3", "tables.Internet: unknown key; did you mean internet?"),
        ("interface = 'wg0'", "interface: unknown section; the key interface belongs to [tunnel]"),
        ("[watch]\nxyz = 1", "watch.xyz: unknown key; there are settle, max_wait, resync, "),
        ("[foo]\nxyz = 1", "foo: unknown section; there are tunnel, tables, rules, lan, watch"),
        ("[watch]\nJOURNAL = ''", "did you mean journal?"),
        ("[tunnel]\nlan.multicast = true", "tunnel.lan: unknown key; write [lan] on a line of its own"),
        ("[watch]\nsettle = 2\nmax_wait = 1", "watch.settle: 2 s is longer than watch.max_wait, 1 s"),
        ("[lan\n", "line 1: not TOML"),
        ("[lan]\ntrust = any", "line 2: a text needs quotes"),
        ("[lan]\nprune = yes # or no", "line 2: prune is true or false, in lower case and without quotes"),
        ("lan.prune = True", "line 1: prune is true or false"),
        ("[tunnel]\ninternet =", "line 2: internet is true or false"),
        ("[tables]\ninternet = on", "line 2: a text needs quotes"),
        ("[tunnel]\nfwmark = 1\n[foo]\nmulticast = on", "line 4: a text needs quotes"),
        ("multicast = yes", "line 1: a text needs quotes"),
        ("[lan]\nallow = [10.0.0.0/8]", "line 2: the list has no closing bracket, or a text in it has no quotes"),
        ("[lan]\nprune = true\nprune = false", "line 3: this key is in its section twice; keep one of them"),
        ("lan.prune = true\n[lan]\nmulticast = true", "line 2: this section is there already; write its keys below"),
        ("[tunnel]\ninterface = 'wg0', fwmark = 1", "line 2: there is more than one thing on this line; "),
        ("[lan]\nmin_prefixlen = { inet = 8, inet = 9 }", "line 2: this key is there twice"),
        ("[lan]\nmin_prefixlen = { inet = 8 }\nmin_prefixlen.inet6 = 48", "line 3: not TOML"),
        ("[lan]\nexclude_interfaces = 1979-05-27", "lan.exclude_interfaces: "),
        ("[tables]\nuser = 1.5", "tables.user: "),
        ("[tables]\nlan = 539098368", "tables.lan: 539098368 is also tables.user"),
        ("[tables]\nsingle = 539098369\n", "tables.single: 539098369 is also tables.lan"),
        ("[tunnel]\ninterface = 'auto'\nmode = 'manage'", "tunnel.interface: auto is for observe mode"),
        ("[rules]\ntiered = [300, 200, 100]", "ascending"),
        ("[rules]\nsingle = 32766", "not between 1 and 32765"),
        ("[lan]\nallow = ['0.0.0.0/0']", "default route"),
        ("[lan]\nmin_prefixlen = { inet = 0 }", "lan.min_prefixlen: 0 is not between 1 and 32"),
        ("[lan]\nmin_prefixlen = { ipv4 = 8 }", "unknown family 'ipv4'"),
        ("[lan]\nmin_prefixlen = { inet = 33 }", "not between 1 and 32"),
        ("[lan]\nmin_prefixlen = { inet6 = 129 }", "not between 1 and 128"),
        ("[lan]\nallow = ['fd00::1/64']", "fd00::/64"),
        ("[lan]\ndeny = ['10.0.0.0/33', 'printer']", "'printer' is not an IPv4 or IPv6 prefix"),
        ("[lan]\ninterfaces = ['']", "empty pattern"),
        (f"[rules]\ntiered = {[0] * 500}", "0 is not between 1 and 32765"),
        (f"[rules]\ntiered = {list(range(-500, 0))}", "-496 is not between 1 and 32765; and 495 more like these"),
        ("[lan]\ntrust = 'none'", "any, private"),
        ("[tables]\nlayout = 'flat'", "auto, single, tiered"),
        ("[tables]\nuser = 253", "default"),
        ("[rules]\ntiered = [100, 200]", "three"),
        ("[rules]\ntiered = [100, 200, 32767]", "not between"),
        ("[lan]\nprune = 1", "neither true nor false"),
        ("[lan]\ninterfaces = '*'", "not a list"),
        ("[lan]\nallow = ['10.0.0.0/8']\ndeny = ['10.0.0.0/8']", "also in lan.deny"),
        ("[watch]\nsettle = nan", "watch.settle"),
        ("[watch]\njournal = 'journal'", "begin the path with /"),
        ("[watch]\njournal = '/a\\u0000'".replace("'", '"'), "no file has a NUL in its name"),
        ("[watch]\nresync = true", "not a number of seconds"),
        ("[tunnel]\nmode = 'on'", "tunnel.mode: 'on' is not one of observe, manage"),
        ("[tunnel]\non_down = 'shut'", "open, closed"),
        ("[tunnel]\ninternet_leak = 'drop'", "block, allow"),
        ("[tunnel]\nroutes = ['10.1.2.3/8']", "'10.1.2.3/8' has host bits set; the network is 10.0.0.0/8"),
        ("[tunnel]\nroutes = ['::/0']", "'::/0' is a default route; tunnel.internet = true stands for it"),
        ("[tunnel]\nfwmark = 0", "match every packet"),
        ("[tunnel]\nfwmark = '0x2021/0'", "match every packet"),
        ("[tunnel]\nfwmark = '0x12021/0xffff'", "0x12021/0xffff has bits outside its mask"),
        ("[tunnel]\nfwmark = 'red'", "'red' is not a mark"),
        ("[tunnel]\nfwmark = '1/2/3'", "is not a mark"),
        ("[tables]\nsingle = 'green'", "tables.single: no table is named 'green'"),
        ("[tables]\nlan = 'main'", "tables.lan: 254 is the kernel's table main"),
        ("[lan]\ninterfaces = ['eth*', 'tun-firezone']", "tun-firezone is tunnel.interface"),
        *(
            (f"[tunnel]\ninterface = '{name}'", "not the name of an interface")
            for name in ("a b", "", "x" * 16, "a/b", "a:")
        ),
        ("[tunnel]\ninterface = 'tun*'", "is a pattern"),
        ("[tunnel]\nprune = false", "belongs to [lan]"),
        ("multicast = true", "belongs to [lan]"),
        ("[tunnel]\nfwmark = 4294967296", "not between"),
        ("x = " + "[" * 5000, "nested too deeply"),
        ("= 3", "not TOML"),
    ],
)
def test_a_problem_is_named(text, named) -> None:
    assert any(named in line for line in problems(text))


@pytest.mark.parametrize(
    ("text", "lowest", "highest", "step"),
    [
        ("watch.settle = {}\nwatch.max_wait = 60", 0, 60, 0.001),
        ("watch.max_wait = {}\nwatch.settle = 0", 0.001, 60, 0.001),
        ("watch.resync = {}", 1, 86400, 0.001),
        ("rules.single = {}", 1, 32765, 1),
        ("tables.single = {}", 1, 2**32 - 1, 1),
        ("tunnel.fwmark = {}", 1, 2**32 - 1, 1),
    ],
)
def test_a_number_has_bounds(text: str, lowest: float, highest: float, step: float) -> None:
    for value in (lowest, highest):
        parse(text.format(value), "F")
    for value in (lowest - step, highest + step):
        assert f"{text.split(maxsplit=1)[0]}: " in problems(text.format(value))[0]


@pytest.mark.parametrize(
    ("written", "mark", "shown"),
    [
        ("'0x2021'", Mark(0x2021), "0x2021"),
        ("'0x2021/0xffff'", Mark(0x2021, 0xFFFF), '"0x2021/0xffff"'),
        ("'0x2021/0xffffffff'", Mark(0x2021), "0x2021"),
    ],
)
def test_a_mark_may_have_a_mask(written, mark, shown) -> None:
    config = parse(f"[tunnel]\nfwmark = {written}", "F")
    assert mark == config.tunnel.fwmark
    assert f"fwmark = {shown}\n" in dump(config)


def test_a_table_may_be_given_by_name() -> None:
    config = parse("[tables]\nsingle = 'firezone'\nuser = 'firezone'", "F", lambda: {**NAMES, "firezone": 77})
    assert (77, 77) == (config.tables.single, config.tables.user)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("", []),
        ("lan.interfaces = []", ["lan.interfaces"]),
        ("tunnel = { internet = true, on_down = 'closed' }", ["tunnel.internet", "tunnel.on_down"]),
        ("tunnel = { internet = true, on_down = 'closed', mode = 'manage' }", []),
    ],
)
def test_what_has_hardly_been_meant_is_said(text: str, places: list[str]) -> None:
    assert places == [doubt.partition(":")[0] for doubt in doubts(parse(text, "F"))]


@pytest.mark.parametrize("sign", ["\\n", "\\r", "\\u001b", "\\u2028", "\\u0085"])
def test_a_key_cannot_forge_a_line_of_the_log(sign: str) -> None:
    (line,) = problems(f'[lan]\n"x{sign}error: forged" = 1\n')
    assert line.isprintable()


@given(st.text(max_size=200))
def test_no_text_makes_a_traceback(text) -> None:
    try:
        tomllib.loads(text)
    except ValueError:
        assert 1 == len(problems(text))


@pytest.mark.parametrize(
    "line",
    [
        f"[tables]\nlan = {'5' * 4000}",
        f"[rules]\ntiered = [100, 200, {'5' * 4000}]",
        f"[lan]\nallow = ['10.0.0.0/{'9' * 4000}']",
        f"[lan]\ndeny = ['{'a' * 4000}']",
        f"[tunnel]\n{'a' * 4000} = 1",
        f"[tunnel]\ninterface{'.a' * 4000} = 1",
    ],
)
def test_a_message_stays_short_however_long_the_value_is(line: str) -> None:
    with pytest.raises(UsageError) as problem:
        parse(line, "x.toml")
    assert len(str(problem.value)) < 200


def test_the_name_of_an_interface_has_up_to_15_bytes() -> None:
    assert "x" * 15 == parse(f"[tunnel]\ninterface = '{'x' * 15}'", "c").tunnel.interface
