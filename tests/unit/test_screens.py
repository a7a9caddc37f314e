"""The first screen of `status`, as it is printed for a laptop with 30 links."""

import json
from collections.abc import Callable

import pytest

from fz_iproute.diagnosis.status import status
from fz_iproute.diagnosis.summary import Summary, summary
from fz_iproute.ip.reader import Reader
from fz_iproute.mirror.config import Config
from fz_iproute.record import recording
from fz_iproute.record.recorded_ip import RecordedIp
from fz_iproute.verbs.brief import drawn
from fz_iproute.verbs.screen import Screen
from tests.unit.laptop import Laptop, connected


def missing(laptop: Laptop) -> None:
    """A new LAN, an old source address, and a LAN inside of what the VPN routes."""
    laptop.copies = laptop.copies[1:]
    laptop.copies[0]["prefsrc"] = "192.168.188.77"
    laptop.main.append(connected("100.64.3.0/24", "podman0", "100.64.3.1"))


def other_vpn(laptop: Laptop) -> None:
    """The user has connected WireGuard instead."""
    laptop.remove_tunnel()
    laptop.add_other_vpn()


STATES: dict[str, Callable[[Laptop], None]] = {
    "in step": lambda laptop: None,
    "missing": missing,
    "tunnel down": Laptop.take_tunnel_down,
    "VPN absent": Laptop.remove_tunnel,
    "another VPN": other_vpn,
}
EXPECTED = {
    ("in step", 80): """
VPN    tun-firezone is up; IPv4 and IPv6 enter it; copies in table 539098368
LAN    29 of 29 reachable
       = 10.20.0.0/22, 192.168.188.0/24, 10.88.0.0/16, 17 more, 9 link-local
watch  runs (process 812)
""",
    ("in step", 200): """
VPN    tun-firezone is up; IPv4 and IPv6 enter it; copies in table 539098368
LAN    29 of 29 reachable
       = 10.20.0.0/22, 192.168.188.0/24, 10.88.0.0/16, 192.168.122.0/24, 16 more, 9 link-local
watch  runs (process 812)
""",
    ("missing", 80): """
VPN    tun-firezone is up; IPv4 and IPv6 enter it; copies in table 539098368
LAN    27 of 30 reachable   → sudo fz-iproute sync
       ! 100.64.3.0/24     podman0   the VPN routes 100.64.0.0/11
       + 10.20.0.0/22      enp1s0    not copied yet
       ~ 192.168.188.0/24  wlp192s0  the copy has src 192.168.188.77
       = 10.88.0.0/16, 192.168.122.0/24, 172.17.0.0/16, 15 more, 9 link-local
watch  runs (process 812)
""",
    ("missing", 200): """
VPN    tun-firezone is up; IPv4 and IPv6 enter it; copies in table 539098368
LAN    27 of 30 reachable   → sudo fz-iproute sync
       ! 100.64.3.0/24     podman0   the VPN routes 100.64.0.0/11
       + 10.20.0.0/22      enp1s0    not copied yet
       ~ 192.168.188.0/24  wlp192s0  the copy has src 192.168.188.77
       = 10.88.0.0/16, 192.168.122.0/24, 172.17.0.0/16, 172.18.0.0/16, 14 more, 9 link-local
watch  runs (process 812)
""",
    ("tunnel down", 80): """
VPN    tun-firezone is down; copies in table 539098368
       → sudo fz-iproute doctor
LAN    29 of 29 reachable
       = 10.20.0.0/22, 192.168.188.0/24, 10.88.0.0/16, 17 more, 9 link-local
watch  runs (process 812)
""",
    ("tunnel down", 200): """
VPN    tun-firezone is down; copies in table 539098368   → sudo fz-iproute doctor
LAN    29 of 29 reachable
       = 10.20.0.0/22, 192.168.188.0/24, 10.88.0.0/16, 192.168.122.0/24, 16 more, 9 link-local
watch  runs (process 812)
""",
    ("VPN absent", 80): """
VPN    tun-firezone is missing; copies in table 539098368
       → sudo fz-iproute doctor
LAN    29 of 29 reachable
       = 10.20.0.0/22, 192.168.188.0/24, 10.88.0.0/16, 17 more, 9 link-local
watch  runs (process 812)
""",
    ("VPN absent", 200): """
VPN    tun-firezone is missing; copies in table 539098368   → sudo fz-iproute doctor
LAN    29 of 29 reachable
       = 10.20.0.0/22, 192.168.188.0/24, 10.88.0.0/16, 192.168.122.0/24, 16 more, 9 link-local
watch  runs (process 812)
""",
    ("another VPN", 80): """
VPN    tun-firezone is missing; all traffic goes into wg0 (IPv4 and IPv6) by
       rule 32763, table 51820; copies in table 539098368
       → sudo fz-iproute detect
LAN    9 of 29 reachable   → sudo fz-iproute doctor
       ! 10.20.0.0/22       enp1s0           its packets enter wg0
       ! 192.168.188.0/24   wlp192s0         its packets enter wg0
       ! 10.88.0.0/16       podman0          its packets enter wg0
       ! 192.168.122.0/24   virbr0           its packets enter wg0
       ! 172.17.0.0/16      docker0          its packets enter wg0
       … 15 more: sudo fz-iproute status --routes
       = 9 link-local
watch  runs (process 812)
""",
    ("another VPN", 200): """
VPN    tun-firezone is missing; all traffic goes into wg0 (IPv4 and IPv6) by rule 32763, table
       51820; copies in table 539098368
       → sudo fz-iproute detect
LAN    9 of 29 reachable   → sudo fz-iproute doctor
       ! 10.20.0.0/22       enp1s0           its packets enter wg0
       ! 192.168.188.0/24   wlp192s0         its packets enter wg0
       ! 10.88.0.0/16       podman0          its packets enter wg0
       ! 192.168.122.0/24   virbr0           its packets enter wg0
       ! 172.17.0.0/16      docker0          its packets enter wg0
       … 15 more: sudo fz-iproute status --routes
       = 9 link-local
watch  runs (process 812)
""",
}


def said(name: str) -> Summary:
    laptop = Laptop()
    STATES[name](laptop)
    reader = Reader(RecordedIp(recording.load(json.dumps(laptop.document()))), Config())
    snapshot = reader.read()
    return summary(status(Config(), snapshot, reader.looked_up(snapshot)))


def shown(name: str, width: int | None, *, colour: bool = False) -> str:
    lines = drawn(said(name), 812, lambda verb: f"sudo fz-iproute {verb}", Screen(width, colour))
    return "\n".join(lines)


@pytest.mark.parametrize(("name", "width"), EXPECTED)
def test_the_answer_comes_first_and_the_screen_is_never_longer_than_twelve_lines(name: str, width: int) -> None:
    text = shown(name, width)
    assert EXPECTED[name, width].strip("\n") == text
    assert len(text.splitlines()) <= 12
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(
    ("name", "good"),
    [("in step", True), ("missing", False), ("tunnel down", True), ("VPN absent", True), ("another VPN", False)],
)
def test_red_and_yellow_marks_stand_exactly_where_something_is_not_as_it_should_be(name: str, good: bool) -> None:
    text = shown(name, 80, colour=True)
    assert good == said(name).is_good
    assert good != ("\x1b[31m" in text or "\x1b[33m" in text)


@pytest.mark.parametrize("width", [20, 33, 60])
@pytest.mark.parametrize("name", STATES)
def test_a_narrow_screen_shows_no_longer_lines_except_for_commands(name: str, width: int) -> None:
    lines = [line for line in shown(name, width).splitlines() if "→" not in line]
    assert max(map(len, lines)) <= max(width, 27)
