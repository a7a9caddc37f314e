"""The journal that fz-iproute has written is read back exactly, and anything else is refused."""

import shlex
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fz_iproute.mirror import journal
from fz_iproute.mirror.journal import Unreadable, parse
from fz_iproute.mirror.model import WORKED, Outcome

HEADING = "# 2026-01-31T12:00:00.000Z 1.5 ms, 1 command, woken by: start"
ROUTE = "ip route add table 500 10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.1"
ROUTE6 = "ip -6 route del table 500 fd00::/64 dev eth0 proto kernel metric 256 pref medium"
RULE = "ip -6 rule add priority 32765 not fwmark 0xfd002021 lookup 500 protocol kernel"
GOOD = [
    ROUTE,
    ROUTE6,
    RULE,
    f"ip -4 {ROUTE[3:]}",
    f"ip -n lab {ROUTE[3:]}",
    f"ip -n 'a lab' {ROUTE6[3:]}",
    "ip rule del priority 100 not fwmark 0x1/0xff lookup 254",
    "ip route replace table 4294967295 default dev -x proto 5 scope global",
    "ip route append table 500 10.0.0.0/24 via 10.0.0.9 dev '$(id)' proto boot scope global onlink",
    "ip route add table 500 10.0.0.0/24 via inet6 fe80::1 dev 'a'\"'\"'b' proto boot scope global",
    "ip route add table 500 10.0.0.1 nhid 7 proto boot scope global",
    "ip route add table 500 10.0.0.1 dev table proto boot scope link nexthop dev dev weight 1 nexthop dev via",
    "ip -6 route del table 500 unreachable default dev lo proto static metric 4294967295",
    "ip route add table 500 10.0.0.0/24 dev 'ü€' proto boot scope link mtu 1400 features ecn rtt 100ms",
    "ip route add table 500 10.0.0.0/24 dev '\udcff\udcfe' proto boot scope link",
]
BAD = [
    *("rm -rf /", "ip", "ip -n", "  "),
    *("ip netns exec lab id", "ip link set dev eth0 down", "ip route flush table 500"),
    "ip rule add priority 100 from all lookup 500",
    "/sbin/ip route add table 500 10.0.0.0/24 dev eth0",
    "ip route  add table 500 10.0.0.0/24 dev eth0",
    "ip 'route' add table 500 10.0.0.0/24 dev eth0",
    *(f"ip {options} route add table 500 10.0.0.0/24 dev eth0" for options in ("-force", "-n ''", "-n '\udcff'")),
    "ip -n ../../proc/1/ns/net route add table 500 10.0.0.0/24 dev eth0",
    "ip -6 -n lab route add table 500 fd00::/64 dev eth0",
    *(f"ip route add {table}10.0.0.0/24 dev eth0" for table in ("", "table main ", "table 254 ", "table 0 ")),
    "ip route add table 0254 10.0.0.0/24 dev eth0",
    *(f"ip route add table 500 10.0.0.0/24 dev eth0 {table}" for table in ("table 254", "tab main")),
    "ip route add table 500 10.0.0.0/24 via inet6 dev eth0",
    "ip route add table 500 10.0.0.0/24 encap mpls 5 dev eth0",
    *(f"ip route add table 500 {dst} dev eth0" for dst in ("fd00::/64", "local 10.0.0.0/24")),
    *(f"ip route add table 500 10.0.0.0/24 dev '{name}'" for name in ("eth0 table 254", "#x", "a\x1b[2J", "a#x", '"x')),
    *(f"{ROUTE}{rest}" for rest in ("; id", " > /etc/passwd", " &", "  # missing", " $(id)", " '", " ''")),
    *(f" {ROUTE}", f"{ROUTE}\x1b[31m", f"{ROUTE}\u2028rm"),
    *("x" * 200_000, "#" * 200_000),
]


def lines(*found: str) -> list[str]:
    return [f"{line}\n" for line in found]


@pytest.mark.parametrize("line", GOOD)
def test_a_command_of_fz_iproute_is_read(line: str) -> None:
    ((_, _, ((text, netns, command, outcome),)),) = parse(lines(line))
    options = shlex.split(line)[1 : -len(command.words)]
    assert (line, WORKED) == (text, outcome)
    assert ("inet6" if "-6" in options else "inet") == command.family
    assert (["-n", netns] if netns else []) == [word for word in options if word not in ("-4", "-6")]
    assert shlex.split(line)[-len(command.words) :] == list(command.words)


@pytest.mark.parametrize("line", BAD, ids=lambda line: ascii(line)[:60])
def test_any_other_line_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(Unreadable, match=r"^line 4: ") as caught:
        parse(lines(HEADING, ROUTE, "", line, ROUTE))
    assert str(caught.value).isprintable()


def test_a_last_line_without_its_end_may_be_half_a_command_but_a_comment_is_harmless() -> None:
    with pytest.raises(Unreadable, match=r"^line 2"):
        parse([f"{HEADING}\n", ROUTE])
    assert [] == parse(["# half a comment"])


# What a comment can do


def test_only_the_comment_right_after_a_command_is_its_outcome() -> None:
    text = f"""\
#   refused: no command yet
{HEADING}
#   refused: no command yet
{ROUTE}
{ROUTE}
#   refused: Error: Nexthop has invalid gateway.
#   refused: a second time
{ROUTE6}
# a remark
#   refused: too late
{RULE}
#   in doubt: no answer within 10 s
"""
    (found,) = parse(text.splitlines(keepends=True))
    refused = Outcome("refused", "Error: Nexthop has invalid gateway.")
    doubtful = Outcome("in doubt", "no answer within 10 s")
    assert [WORKED, refused, WORKED, doubtful] == [recorded.outcome for recorded in found.commands]


@pytest.mark.parametrize(
    "comment",
    [
        "#",
        "#!/bin/sh",
        f"#{ROUTE}",
        "# 2026-02-31T12:00:00.000Z 1.5 ms, 1 command, woken by: no such day",
        "# 2026-01-31T12:00:00Z 1.5 ms, 1 command, woken by: no milliseconds",
        "# \x00\x1b[2J\x0c\r \u2028 \x85 \udcff ' \" $(id) `id` \\",
    ],
)
def test_any_other_comment_means_nothing(comment: str) -> None:
    assert parse(lines(HEADING, ROUTE)) == parse(lines(comment, HEADING, comment, comment, ROUTE, comment))


# Times


def times(*minutes: int) -> list[str]:
    heading = "# 2026-01-31T12:{0:02}:00.500Z 1.0 ms, 1 command, woken by: {0}"
    return [line for minute in minutes for line in lines(heading.format(minute), ROUTE)]


@pytest.mark.parametrize(
    ("end", "reasons"),
    [
        ("2026-01-31T12:01:00.499Z", ""),
        ("2026-01-31T12:01:00.5Z", "1"),
        ("2026-01-31T12:01:00.500", "1"),
        ("2026-01-31T14:01:00.5+02:00", "1"),
        ("2026-01-31 12:03:01", "1 30 2"),  # the clock was wrong in between
        ("2026-02-01", "1 30 2 40"),
        ("9999-12-31T23:59:59.999999Z", "1 30 2 40"),
    ],
)
def test_until_ends_with_the_last_pass_that_is_not_later(end: str, reasons: str) -> None:
    found = journal.until(parse(times(1, 30, 2, 40)), journal.time(end))
    assert reasons.split() == [one.reason for one in found]


def test_until_refuses_commands_without_a_time() -> None:
    with pytest.raises(ValueError, match="no time"):
        journal.until(parse(lines(ROUTE, HEADING, ROUTE)), datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("text", ["", "12:00", "2026-13-01", "0001-01-01T00:00+10:00", "\udcff"])
def test_a_text_that_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time such as"):
        journal.time(text)


# Fuzz

_words = st.text(st.characters(exclude_characters="\n"), min_size=1, max_size=60)
_outcomes = st.just(WORKED) | st.builds(Outcome, st.sampled_from(["refused", "in doubt"]), _words)
_passes = st.lists(
    st.tuples(
        st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1)),
        st.text(max_size=80),
        st.lists(st.tuples(st.sampled_from(GOOD), _outcomes), max_size=6),
    ),
    max_size=5,
)


@given(_passes)
def test_a_written_journal_is_read_back_unchanged(passes) -> None:
    written: list[str] = []
    for time, reason, commands in passes:
        text = journal.summary(0.0123, len(commands), reason)
        written += lines(*journal.record(time.replace(tzinfo=UTC), text, commands))
    found = parse(written)
    assert [
        (time.replace(tzinfo=UTC, microsecond=time.microsecond // 1000 * 1000), reason.replace("\n", " "), commands)
        for time, reason, commands in passes
    ] == [(one.time, one.reason, [(recorded.line, recorded.outcome) for recorded in one.commands]) for one in found]


_pieces = st.sampled_from(
    [*GOOD, *BAD[:-2], HEADING, "#   refused: no", "'", '"', "\\", " ", "\n", "\x00", "#", "table 254"]
)
_mangled = st.builds(lambda line, at, piece: line[:at] + piece + line[at:], _pieces, st.integers(0, 90), _pieces)
_any_lines = st.lists(_mangled | _pieces | st.text(max_size=40), max_size=8).map("\n".join)


@given(_any_lines | st.binary(max_size=300).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
@example("ip")
@example("\n")
def test_any_text_gives_passes_or_unreadable(text: str) -> None:
    given = text.splitlines(keepends=True) if "\n" not in text else [f"{line}\n" for line in text.split("\n")]
    try:
        found = parse(given)
    except Unreadable as error:
        number = int(str(error).removeprefix("line ").partition(":")[0])
        assert 1 <= number <= len(given)
        assert "\n" not in str(error)
        return
    for one in found:
        assert one.time is None or one.time.utcoffset() == timedelta(0)
        for recorded in one.commands:
            assert f"{recorded.line}\n" in given
            argv = shlex.split(recorded.line)
            assert shlex.join(argv) == recorded.line
            # `ip -batch` splits lines at blanks, and `#` begins a comment.
            line = " ".join(recorded.command.words)
            assert list(recorded.command.words) == line.split()
            assert "#" not in line
            if recorded.command.words[0] == "route":
                assert int(recorded.command.words[3]) not in (0, 253, 254, 255)


def test_only_what_did_not_work_has_a_comment() -> None:
    outcomes = [Outcome("worked"), Outcome("refused", "File\nexists"), Outcome("in doubt", "killed")]
    time = datetime(2026, 1, 31, 13, 0, 0, 999_999, timezone(timedelta(hours=1)))
    assert [
        *("# 2026-01-31T12:00:00.999Z 1.2 ms, 1 command, woken by: start", "a"),
        *("b", "#   refused: File exists", "c", "#   in doubt: killed"),
    ] == journal.record(time, journal.summary(0.00123, 1, "start"), zip("abc", outcomes, strict=True))
    assert "0.0 ms, 2 commands, woken by: x" == journal.summary(0, 2, "x")
