"""The screens of `status`, `doctor` and `explain`, as they are printed."""

import socket
import threading
from argparse import Namespace

import pytest

from fz_iproute.diagnosis.answer import Question, packets
from fz_iproute.diagnosis.checks.finding import Finding
from fz_iproute.diagnosis.status import status
from fz_iproute.diagnosis.summary import Item, Summary, summary
from fz_iproute.errors import UsageError
from fz_iproute.lab.lab import DEMO
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.record.recorded_ip import RecordedIp, load_recording
from fz_iproute.verbs import doctor, explain
from fz_iproute.verbs.brief import Daemon, drawn
from fz_iproute.verbs.explain import addresses
from fz_iproute.verbs.screen import Screen
from fz_iproute.verbs.source import as_typed
from tests.layouts import COPIES, LAYOUTS, both, copied
from tests.unit.diagnosis.machines import FIREZONE, MIRROR, STALE, Case, without

QUIET = Log("ERROR")
DEADLINE = 20.0  # seconds, for a thread that nobody waits for

# A laptop with a LAN, a dock, and many bridges of containers, beside those of tests/layouts.py.
BRIDGES = [f"br-{number:012x}" for number in range(17)]
LANS = [
    *COPIES,
    *(f"route add 172.{18 + number}.0.0/16 dev {name} proto kernel scope link" for number, name in enumerate(BRIDGES)),
    *(f"-6 route add fe80::/64 dev {device} proto kernel metric 256" for device in ("eth0", "docker0", *BRIDGES[:7])),
]
MAIN = LANS[len(COPIES) :]
IN_STEP = [*MAIN, *FIREZONE, *copied(MIRROR, LANS)]
VPN_GONE = without("dev tun-firezone", IN_STEP)
OTHER_VPN = both("rule add not fwmark 0xca6c lookup 51820 pref 32763", "route add default dev wg0 table 51820")
CONTAINERS = "172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 table"

STATES = {
    "in step": IN_STEP,
    # A new LAN, an old source address, and a LAN inside of what the VPN routes.
    "missing": [
        *without(CONTAINERS, without("src 192.168.1.5 table", IN_STEP)),
        STALE,
        "route add 100.64.3.0/24 dev docker0 proto kernel scope link",
    ],
    "tunnel down": [*VPN_GONE, "link set dev tun-firezone down"],
    "VPN absent": VPN_GONE,
    "VPN off": MAIN,
    "not all traffic": without(CONTAINERS, without("default", IN_STEP)),
    "another VPN": [*VPN_GONE, *OTHER_VPN],
    "only another VPN": [*MAIN, *OTHER_VPN],
    "a firewall": [*MAIN, *LAYOUTS["Mullvad"].lines],
}
EXPECTED = {
    ("in step", 80): """
VPN    tun-firezone is up; IPv4 and IPv6 enter it; copies in table 539098368
LAN    29 of 29 reachable
       = 172.17.0.0/16, 172.18.0.0/16, 172.19.0.0/16, 17 more, 9 link-local
watch  runs (process 812)
""",
    ("missing", 80): """
VPN    tun-firezone is up; IPv4 and IPv6 enter it; copies in table 539098368
LAN    27 of 30 reachable   → fz-iproute doctor
       ! 100.64.3.0/24   docker0  the VPN's table has its own route to 100.64.0…
       + 172.17.0.0/16   docker0  not copied yet
       ~ 192.168.1.0/24  eth0     the copy has src 192.168.1.99
       = 172.18.0.0/16, 172.19.0.0/16, 172.20.0.0/16, 15 more, 9 link-local
watch  runs (process 812)
""",
    ("missing", 200): """
VPN    tun-firezone is up; IPv4 and IPv6 enter it; copies in table 539098368
LAN    27 of 30 reachable   → fz-iproute doctor
       ! 100.64.3.0/24   docker0  the VPN's table has its own route to 100.64.0.0/11
       + 172.17.0.0/16   docker0  not copied yet
       ~ 192.168.1.0/24  eth0     the copy has src 192.168.1.99
       = 172.18.0.0/16, 172.19.0.0/16, 172.20.0.0/16, 172.21.0.0/16, 14 more, 9 link-local
watch  runs (process 812)
""",
    ("VPN off", 80): """
VPN    no tun-firezone here, and no rule leads to table 539098368 or 539098369:
       the VPN is off, or has other names
LAN    29 of 29 reachable without copies
       · 172.17.0.0/16, 172.18.0.0/16, 172.19.0.0/16, 17 more, 9 link-local
watch  runs (process 812)
""",
    ("not all traffic", 80): """
VPN    tun-firezone is up; packets to the internet do not enter it: IPv4 and
       IPv6 leave by eth0; copies in table 539098368
LAN    29 of 29 reachable; not in step   → fz-iproute doctor
       + 172.17.0.0/16  docker0  not copied yet, but reachable
       = 172.18.0.0/16, 172.19.0.0/16, 172.20.0.0/16, 16 more, 9 link-local
watch  runs (process 812)
""",
    ("only another VPN", 80): """
VPN    no tun-firezone here, but all traffic goes into wg0 (IPv4 and IPv6)
       → fz-iproute detect
LAN    9 of 29 reachable   → fz-iproute doctor
       ! 172.17.0.0/16   docker0          its packets enter wg0
       ! 172.18.0.0/16   br-000000000000  its packets enter wg0
       ! 172.19.0.0/16   br-000000000001  its packets enter wg0
       ! 172.20.0.0/16   br-000000000002  its packets enter wg0
       ! 172.21.0.0/16   br-000000000003  its packets enter wg0
       ! 172.22.0.0/16   br-000000000004  its packets enter wg0
       … 14 more: fz-iproute status --routes
       · 9 link-local
watch  runs (process 812)
""",
    ("a firewall", 80): """
VPN    no tun-firezone here, but all traffic goes into wg0-mullvad (IPv4 and
       IPv6)
       → fz-iproute detect
LAN    29 of 29 have a route, but Mullvad's firewall may stop the packets
       · 172.17.0.0/16, 172.18.0.0/16, 172.19.0.0/16, 17 more, 9 link-local
watch  runs (process 812)
""",
    ("another VPN", 200): """
VPN    tun-firezone is missing; packets to the internet do not enter it: IPv4 and IPv6 go into wg0
       by rule 32763, table 51820; copies in table 539098368
       → fz-iproute detect
LAN    9 of 29 reachable   → fz-iproute doctor
       ! 172.17.0.0/16   docker0          its packets enter wg0
       ! 172.18.0.0/16   br-000000000000  its packets enter wg0
       ! 172.19.0.0/16   br-000000000001  its packets enter wg0
       ! 172.20.0.0/16   br-000000000002  its packets enter wg0
       ! 172.21.0.0/16   br-000000000003  its packets enter wg0
       … 15 more: fz-iproute status --routes
       = 9 link-local
watch  runs (process 812)
""",
}


RUNS = Daemon("runs (process 812)", is_running=True)


def said(name: str) -> Summary:
    return summary(status(Config(), *Case(STATES[name]).read()))


def shown(name: str, width: int | None, *, colour: bool = False) -> str:
    lines = drawn(said(name), RUNS, lambda verb: f"fz-iproute {verb}", Screen(width, colour))
    return "\n".join(lines)


@pytest.mark.parametrize(("name", "width"), EXPECTED)
def test_the_answer_comes_first_and_the_screen_is_never_longer_than_twelve_lines(name: str, width: int) -> None:
    text = shown(name, width)
    assert EXPECTED[name, width].strip("\n") == text
    assert len(text.splitlines()) <= 12
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("vpn", [0, 3, 30])
@pytest.mark.parametrize("lan", [0, 3, 30])
def test_neither_the_vpn_nor_the_lans_push_the_other_off_the_screen(vpn: int, lan: int) -> None:
    rules = [Item("due", "missing", f"rule {number}", "IPv4", "missing") for number in range(vpn)]
    lans = [Item("due", "missing", f"10.{number}.0.0/16", "eth0", "not copied yet") for number in range(lan)]
    said_of_both = said("in step")._replace(vpn_items=rules, lan_items=lans)
    lines = drawn(said_of_both, RUNS, lambda verb: f"fz-iproute {verb}", Screen(80))
    assert len(lines) <= 12
    assert min(vpn, 3) <= sum("rule" in line or "more:" in line for line in lines)
    assert min(lan, 3) <= sum("eth0" in line or "more:" in line for line in lines)


def test_where_main_has_no_lan_there_is_nothing_to_count() -> None:
    nobody = said("in step")._replace(lans=0, reachable=0, others=[])
    assert "LAN    main has no route to a LAN" == drawn(nobody, None, str, Screen(80))[1]


def test_sync_is_advised_only_where_no_daemon_has_done_it_already() -> None:
    daemons = (None, Daemon("does not run"), RUNS)
    lines = [drawn(said("not all traffic"), daemon, str, Screen(80))[2] for daemon in daemons]
    assert [f"LAN    29 of 29 reachable; not in step   → {verb}" for verb in ("sync", "sync", "doctor")] == lines


def test_where_a_lan_is_cut_after_a_sync_too_doctor_is_advised() -> None:
    assert "LAN    27 of 30 reachable   → doctor" == drawn(said("missing"), None, str, Screen(80))[1]


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("in step", True), ("missing", False), ("tunnel down", True), ("VPN absent", True), ("VPN off", True),
        ("another VPN", False), ("only another VPN", False), ("not all traffic", False),
    ],
)  # fmt: skip
def test_red_and_yellow_marks_stand_exactly_where_something_is_not_as_it_should_be(name: str, good: bool) -> None:
    text = shown(name, 80, colour=True)
    assert good == said(name).is_good
    assert good != ("\x1b[31m" in text or "\x1b[33m" in text)


@pytest.mark.parametrize("width", [20, 33, 60])
@pytest.mark.parametrize("name", STATES)
def test_a_narrow_screen_shows_no_longer_lines_except_for_commands(name: str, width: int) -> None:
    lines = [line for line in shown(name, width).splitlines() if "→" not in line]
    assert max(map(len, lines)) <= max(width, 27)


# doctor and explain

FINDINGS = [
    Finding("ip", "ok", "ip utility, iproute2-6.1.0"),
    Finding("tunnel", "ok", "tun-firezone is up"),
    Finding(
        "multicast", "info", "discovery (224.0.0.251) goes into the tunnel", "", "in /etc/fz-iproute/config.toml: x"
    ),
    Finding("mirror", "failure", "4 copies are missing", "the copies do not match main", f"ip route add {'x' * 70} y"),
]


def test_doctor_counts_what_is_ok_and_shows_failures_first() -> None:
    assert (
        """
FAIL  mirror     4 copies are missing
                 why  the copies do not match main
                 do   ip route add {} y
info  multicast  discovery (224.0.0.251) goes into
                 the tunnel
                 do   in
                      /etc/fz-iproute/config.toml:
                      x
ok    2 checks (-v lists them)
""".format("x" * 70).strip()
        == "\n".join(doctor.drawn(FINDINGS, Screen(50), everything=False))
    )


def test_doctor_says_once_what_several_checks_say() -> None:
    silent = [Finding(name, "info", "could not look: ip does not answer") for name in ("tunnel", "rules", "multicast")]
    found = [Finding("ip", "failure", "ip is not installed"), *silent, Finding("repeats", "info", "no journal is kept")]
    infos = [line for line in doctor.drawn(found, Screen(80), everything=False) if line.startswith("info")]
    assert ["info  3 checks   could not look: ip does not answer", "info  repeats    no journal is kept"] == infos
    assert 1 + 3 + 1 == len(list(doctor.drawn(found, Screen(80), everything=True)))


def test_doctor_prints_no_command_twice_that_would_be_refused_then() -> None:
    remedies = {"rules": "ip rule add a && ip -6 rule add b", "leak": "ip -6 rule add b  # undo: ip -6 rule del b"}
    remedies |= {"mirror": "fz-iproute sync && ip rule add a", "shadows": "ip rule add a && fz-iproute sync"}
    found = [Finding(name, "failure", name, "", remedy) for name, remedy in remedies.items()]
    lines = "\n".join(doctor.drawn(found, Screen(200), everything=False)).split("do   ")[1:]
    assert [
        remedies["rules"],
        "the same as for rules (above)",
        remedies["mirror"],
        "the same as for rules and mirror (above)",
    ] == [line.split("\n")[0] for line in lines]


def test_doctor_lists_everything_if_asked_and_colours_only_the_words_in_front() -> None:
    lines = list(doctor.drawn(FINDINGS, Screen(200, colour=True), everything=True))
    assert ["\x1b[31mFAIL\x1b[0m", "\x1b[32mok  \x1b[0m"] == [line[:13] for line in (lines[0], lines[-1])]
    assert "tun-firezone is up" in lines[-1]
    assert 3 * 2 == sum(line.count("\x1b") for line in lines)


@pytest.mark.parametrize(
    ("user", "snapshot", "verb", "typed"),
    [
        (0, None, "sync", "fz-iproute --netns x sync"),
        (1000, None, "sync", "sudo fz-iproute --netns x sync"),
        (1000, None, "status", "fz-iproute --netns x status"),
        (1000, "laptop.json", "sync", "fz-iproute --netns x sync"),
    ],
)
def test_a_command_is_advised_as_this_user_must_type_it(
    user: int, snapshot: str | None, verb: str, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    arguments = Namespace(config=None, netns="x", snapshot=snapshot)
    assert typed == as_typed(arguments, RecordedIp(load_recording(DEMO)), verb)


@pytest.mark.parametrize("word", ["10.0.0", "8.8.8.8", "", "a b", "::1", "fe80::1%eth0", "10.0.0.0/8", "host.7"])
def test_what_is_meant_as_an_address_is_never_resolved(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", None)
    assert [word] == addresses(word, QUIET)


def test_a_name_stands_for_all_of_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        (2, 1, 6, "", ("192.0.2.7", 0)),
        (2, 1, 6, "", ("192.0.2.7", 0)),
        (10, 1, 6, "", ("fe80::7%eth0", 0, 0, 3)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **options: found)
    assert ["192.0.2.7", "fe80::7"] == addresses("printer.lan", QUIET)


@pytest.mark.parametrize(
    ("number", "words", "advice"),
    [
        (socket.EAI_NONAME, "Name or service not known", ""),
        (
            socket.EAI_AGAIN,
            "Temporary failure in name resolution",
            "; give an address instead, and see where queries go: `fz-iproute doctor -v`, line dns",
        ),
    ],
)
def test_a_name_that_cannot_be_resolved_is_told_with_the_words_of_the_resolver(
    number: int, words: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*asked: object, **options: object) -> None:
        raise socket.gaierror(number, words)

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(UsageError) as error:
        addresses("printer.lan", QUIET)
    assert f"printer.lan: {words}{advice}" == str(error.value)


def test_a_user_is_told_what_is_waited_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    is_over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **options: is_over.wait(DEADLINE) and [])
    monkeypatch.setattr(explain, "_SILENT", 0.01)
    monkeypatch.setattr(explain, "_PATIENCE", 0.02)
    with pytest.raises(UsageError) as error:
        addresses("printer.lan", Log())
    is_over.set()
    assert "# waits for the name servers: printer.lan\n" == capsys.readouterr().err
    assert "printer.lan: no name server has answered; give an address instead" in str(error.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("192.168.188.0/24", "leave out /24, or ask for a host in it"),
        ("fd00::/8", "leave out /8, or ask for a host in it"),
        ("/24", "'/24' is not an IPv4 or IPv6 address"),
        ("::ffff:192.168.1.7", "sends IPv4 packets; ask for 192.168.1.7"),
        ("::FFFF:c0a8:107", "sends IPv4 packets; ask for 192.168.1.7"),
    ],
)
def test_what_is_nearly_an_address_is_answered_with_what_to_ask_for(asked: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        packets(Question(*addresses(asked, QUIET)), Config(), None)
    assert str(error.value).endswith(said)


def test_network_cards_that_reach_no_lan_are_named_after_those_that_do() -> None:
    unused = said("in step")._replace(lans=4, reachable=4, unused=["eth3", "eth4"])
    (line,) = [each for each in drawn(unused, None, str, Screen(80)) if each.startswith("LAN")]
    assert "LAN    4 of 4 reachable; no LAN by eth3, eth4" == line
