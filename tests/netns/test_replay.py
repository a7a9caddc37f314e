"""A journal, replayed in another namespace, leads to the same tables, and every different outcome is reported."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.netns.namespace import LAN, MIRROR, Machine, Namespace, run, wait_until
from tests.netns.rtnetlink import FAMILIES
from tests.netns.wiretap import fake_ip
from tests.watch import oracle
from tests.watch.daemon import Daemon

HEADING = "# 2026-01-31T12:{:02}:00.000Z 1.5 ms, 1 command, woken by: [ROUTE] whatever"
WORDS = f"table {MIRROR} 10.{{}}.0.0/24 dev lan0 proto static scope link"


def add(number: int) -> str:
    return f"ip route add {WORDS.format(number)}"


def remove(number: int) -> str:
    return f"ip route del {WORDS.format(number)}"


Write = Callable[..., Path]


@pytest.fixture
def journal(tmp_path: Path) -> Write:
    """Writes a journal of these lines."""

    def write(*lines: str) -> Path:
        path = tmp_path / "journal"
        path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
        return path

    return write


@pytest.fixture
def twins(long_lived: Callable[..., Any]) -> Callable[[], Machine]:
    """Makes machines that are all the same but for their names."""
    return lambda: long_lived(Machine)


@pytest.fixture
def lab(quiet: Namespace) -> Namespace:
    """A namespace with the device lan0."""
    return quiet


def tables(namespace: Namespace) -> list[list[str]]:
    return [namespace.routes(family, table) for family in FAMILIES for table in ("main", MIRROR)]


# Journals of a running watch

LIFE = [
    "addr add 10.5.0.2/24 dev wlp192s0",
    "route add 10.6.0.0/24 dev wlp192s0 mtu 1300",
    "-6 route add fd00:6::/64 dev wlp192s0",
    "route del 10.6.0.0/24",
    "addr add 10.7.0.2/24 dev uplink0",
    "-6 route replace fd00:6::/64 dev uplink0 metric 50",
    "route change 10.5.0.0/24 dev wlp192s0 proto kernel scope link src 10.5.0.2 mtu 1400",
]


def recorded(machine: Machine, path: Path, *, ip: Path | None = None, more: str = "", life: list[str] = LIFE) -> str:
    """The journal of a watch that followed these changes. With an `ip` of the test, one of its commands is refused."""
    daemon = Daemon(machine, f'[watch]\n{more}\njournal = "{path}"\n', path=ip)
    try:
        daemon.start()
        for line in life:
            machine.ip(*line.split())
            # After its start, `ip monitor` may not listen yet. Then the next full pass finds the change.
            wait_until(lambda: "refused:" in path.read_text() if ip else oracle.in_step(machine), "it follows")
        assert 0 == daemon.stop()
    finally:
        daemon.end()
    return path.read_text("utf-8", "surrogateescape")


def test_a_journal_of_watch_leads_to_the_same_tables(twins: Callable[[], Machine], tmp_path: Path) -> None:
    machine, twin, third = twins(), twins(), twins()
    text = recorded(machine, tmp_path / "journal")
    for line in LIFE:
        twin.ip(*line.split())
        third.ip(*line.split())
    printed = twin.fz("replay", str(tmp_path / "journal"))
    run("sh", stdin=text.replace(machine.name, third.name))
    commands = [line for line in text.splitlines() if line.startswith("ip ")]
    assert len(commands) > len(LIFE)
    assert f"# {len(commands)} commands: {len(commands)} as recorded\n" == printed
    assert tables(machine) == tables(twin) == tables(third)


def test_a_journal_includes_the_removal_at_the_end(twins: Callable[[], Machine], tmp_path: Path) -> None:
    machine, twin = twins(), twins()
    before = tables(twin)
    assert " route del " in recorded(machine, tmp_path / "journal", more="cleanup_on_exit = true", life=[])
    twin.fz("replay", str(tmp_path / "journal"))
    assert before == tables(twin)


# Replaces the device of one destination by one that does not exist.
_OBSTRUCTED = """\
case " $* " in
*" -batch "*)
    sed -u 's#^route add \\(table [0-9]*\\) 10.66.0.0/24 dev [^ ]*#route add \\1 10.66.0.0/24 dev gone#' | $ip "$@" ;;
*) exec $ip "$@" ;;
esac
"""


def test_the_words_of_a_refusal_are_recorded_and_compared(twins: Callable[[], Machine], tmp_path: Path) -> None:
    machine, twin = twins(), twins()
    path = tmp_path / "journal"
    ip = Path(fake_ip(tmp_path, _OBSTRUCTED))
    text = recorded(machine, path, ip=ip, life=[f"route add 10.66.0.0/24 dev {LAN}"])
    command = f"ip -n {machine.name} route add table {MIRROR} 10.66.0.0/24 dev {LAN} proto boot scope link"
    assert f'{command}\n#   refused: Cannot find device "gone"\n' in text

    first = "\n".join([*text.partition(command)[0].splitlines(), command, '#   refused: Cannot find device "gone"', ""])
    path.write_text(first)
    here = command.replace(machine.name, twin.name)
    first, *_ = twin.fz("replay", str(path)).splitlines()
    assert f'{here}  # then refused: Cannot find device "gone"; now worked' == first
    assert 1 == len(twin.route("10.66.0.0/24"))


# Written journals


def test_every_different_outcome_is_reported_and_the_rest_is_run(lab: Namespace, journal: Write) -> None:
    gone = add(3).replace("lan0", "gone")
    same = [remove(5), "#   refused: RTNETLINK answers: No such process"]
    path = journal(HEADING.format(1), add(1), add(1), gone, remove(2), "#   refused: other words", add(4), *same)
    done = lab.fz_done("replay", str(path))
    here = [line.replace("ip ", f"ip -n {lab.name} ") for line in (add(1), gone, remove(2), add(4), remove(5))]
    assert 3 == done.returncode
    assert [
        f"{here[0]}  # then worked; now refused: RTNETLINK answers: File exists",
        f'{here[1]}  # then worked; now refused: Cannot find device "gone"',
        f"{here[2]}  # then refused: other words; now refused: RTNETLINK answers: No such process",
        "# 6 commands: 3 as recorded, 2 worked then and did not work now, 1 different in another way",
    ] == done.stdout.splitlines()
    assert [*here[:1], *here, "error: 2 of 6 commands worked then, and did not work now"] == done.stderr.splitlines()
    assert ["10.1.0.0/24", "10.4.0.0/24"] == [line.split()[0] for line in lab.routes("inet")]


def test_a_command_that_ip_cannot_parse_does_not_stop_the_next(lab: Namespace, journal: Write) -> None:
    wrong = add(1).replace("static", "nonsense")
    path = journal(
        HEADING.format(1), wrong, add(2), wrong.replace("ip ", "ip -6 ").replace("10.1.0.0/24", "fd00::/999")
    )
    done = lab.fz_done("replay", str(path))
    assert (3, 1) == (done.returncode, len(lab.routes("inet")))
    assert "nonsense" in done.stdout


def test_commands_of_both_families_keep_their_order(lab: Namespace, journal: Write) -> None:
    """The second command needs the first; the third, if it came early, would break the second."""
    lines = [
        f"ip -6 route add table {MIRROR} fd00:1::/64 dev lan0 proto static metric 5 pref medium",
        f"ip route add table {MIRROR} 10.1.0.0/24 via inet6 fe80::9 dev lan0 proto static scope global onlink",
        f"ip -6 route del table {MIRROR} fd00:1::/64 dev lan0 proto static metric 5 pref medium",
        f"ip route del table {MIRROR} 10.1.0.0/24 via inet6 fe80::9 dev lan0 proto static scope global onlink",
    ]
    lab.fz("replay", str(journal(HEADING.format(1), *lines)))
    lab.fz("replay", str(journal(HEADING.format(1), *lines[:3])))
    assert [1, 0] == [len(lab.routes(family)) for family in FAMILIES]


def test_until_ends_the_replay_early(lab: Namespace, journal: Write) -> None:
    path = journal(*(line for minute in (1, 2, 3) for line in (HEADING.format(minute), add(minute))))
    lab.fz("replay", "--until", "2026-01-31T12:02:00Z", str(path))
    assert ["10.1.0.0/24", "10.2.0.0/24"] == [line.split()[0] for line in lab.routes("inet")]


def test_each_command_goes_to_its_namespace_unless_another_is_named(
    lab: Namespace, long_lived: Callable[[], Namespace], journal: Write
) -> None:
    other = long_lived()
    other.veth("lan0")
    path = journal(HEADING.format(1), add(1), add(2).replace("ip ", f"ip -n {other.name} "))
    lab.exec(*lab.fz_argv("replay", str(path), netns=False), **lab.fz_options())
    assert [1, 1] == [len(one.routes("inet")) for one in (lab, other)]
    lab.exec(*lab.fz_argv("replay", str(path), "--netns", other.name, netns=False), **lab.fz_options(), check=False)
    assert [1, 2] == [len(one.routes("inet")) for one in (lab, other)]


def test_a_missing_namespace_is_reported_before_anything_is_run(lab: Namespace, journal: Write) -> None:
    path = journal(HEADING.format(1), add(1), add(2).replace("ip ", "ip -n fz-there-is-none "))
    done = lab.exec(*lab.fz_argv("replay", str(path), netns=False), **lab.fz_options(), check=False)
    assert (2, []) == (done.returncode, lab.routes("inet"))
    assert "fz-there-is-none" in done.stderr


def test_a_dry_run_prints_every_byte_of_the_lines_and_changes_nothing(lab: Namespace, journal: Write) -> None:
    raw = add(1).replace("lan0", "'l\udcff\udcfe'")
    lines = [add(1), "ip -4 " + add(2)[3:], f"ip -n {lab.name} -6 route del table 5 fd00::/64 dev 'ü'", raw]
    path = journal("#!/bin/sh", "", HEADING.format(1), *lines, "#   refused: no")
    done = run(*lab.fz_argv("replay", "-n", str(path), netns=False), **lab.fz_options())
    assert ([], "") == (lab.routes("inet"), done.stderr)
    assert lines == done.stdout.splitlines()
    named = lab.fz("replay", "--dry-run", str(path)).splitlines()
    assert [["ip", "-n", lab.name]] * 4 == [shlex.split(line)[:3] for line in named]


def test_a_device_with_a_name_that_is_not_utf_8_gets_its_route(lab: Namespace, journal: Write) -> None:
    lab.odd_veth("l\udcff\udcfe", "far")
    path = journal(HEADING.format(1), add(1).replace("lan0", "'l\udcff\udcfe'"))
    lab.fz("replay", str(path))
    assert 1 == len(lab.routes("inet"))
    done = lab.fz_done("replay", str(path))
    assert 3 == done.returncode
    assert (done.stdout + done.stderr).replace("\n", "").isprintable()


def test_what_was_in_doubt_then_is_no_difference(lab: Namespace, journal: Write) -> None:
    path = journal(HEADING.format(1), add(1), add(1), "#   in doubt: nobody knows")
    assert "# 2 commands: 2 as recorded\n" == lab.fz("replay", str(path))


# Hostile files


def test_other_files_are_refused_in_one_line(lab: Namespace, tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(65 << 20)
    for path in (huge, tmp_path, tmp_path / "missing", Path("/dev/zero"), Path("/bin/sh")):
        done = lab.fz_done("replay", str(path))
        assert (2, "", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines())), done
        assert done.stderr.startswith(f"error: {path}: ")


OTHERS = [b'{"schema": 1}', b"\x7fELF\x02", b"\xff\xfe{\0", b"[lan]", b"VPN    is up"]


@pytest.mark.parametrize("content", OTHERS, ids=ascii)
def test_a_file_without_a_line_break_is_told_what_a_journal_is(lab: Namespace, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert "; replay reads the file that watch.journal names" in lab.fz_done("replay", str(path)).stderr
