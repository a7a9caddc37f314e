"""Rules that send some packets to a LAN elsewhere: to a part of it, of a port, of a user. Each is named once."""

import pytest

from fz_iproute.diagnosis.status import status
from fz_iproute.diagnosis.summary import summary
from tests.unit.diagnosis.machines import SERVED, Case, vpn

TO_TUNNEL = "route add default dev tun-firezone table 77"
TO_ROUTER = "route add default via 172.17.0.2 dev docker0 table 78"
PART = "a part of a LAN"
BOTH = "packets to 172.17.0.0/16, 192.168.1.0/24 that match"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("to 192.168.1.64/26 lookup 77", f"packets to 192.168.1.64/26, {PART}, enter tun-firezone"),
        ("to 192.168.1.66 lookup 78", f"packets to 192.168.1.66/32, {PART}, leave by docker0 through the router"),
        ("to 192.168.1.64/26 prohibit", f"packets to 192.168.1.64/26, {PART}, are refused"),
        ("to 192.168.1.64/26 goto 32767", f"packets to 192.168.1.64/26, {PART}, have no route"),
        ("ipproto 17 lookup 77", f"{BOTH} `from all ipproto 17 lookup 77` enter tun-firezone"),
        ("dport 9100 lookup 77", BOTH),
        ("sport 1-99 lookup 77", BOTH),
        ("tos 0x10 lookup 77", BOTH),
        ("uidrange 1000-2000 lookup 77", BOTH),
        ("uidrange 1000-2000 to 192.168.1.0/24 unreachable", "packets to 192.168.1.0/24 that match"),
        ("uidrange 1000-2000 to 192.168.1.7 blackhole", "packets to 192.168.1.7/32 that match"),
        ("to 10.9.0.0/16 lookup 77", ""),
        ("uidrange 1000-2000 to 10.9.0.0/16 lookup 77", ""),
        ("dport 9100 lookup 539098368", ""),
        ("to 192.168.1.64/26 lookup main", ""),
        ("to 192.168.1.0/24 prohibit", ""),  # the LAN as a whole is cut
        ("fwmark 0xfd002021 lookup 77", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_in_front", [True, False])
def test_a_rule_that_takes_some_packets_to_a_lan_is_named_once(rule: str, said: str, is_in_front: bool) -> None:
    case = Case([*SERVED, TO_TUNNEL, TO_ROUTER, f"rule add {rule} pref {5 if is_in_front else 32766}"])
    found = status(case.config, *case.read())
    expected = [said] if said and is_in_front else []
    assert len(expected) == len(found.detours)
    assert all(str(detour).startswith(said) for detour in found.detours)
    items = [item for item in summary(found).items if item.what == "rule 5"]
    assert [str(detour) for detour in found.detours] == [item.why for item in items]
    assert all(item.kind == "left out" for item in items)
    of_doctor = [each for each in case.findings() if each.seen.startswith(("rule 5 ", "5: "))]
    assert not expected or len(of_doctor) == 1


def test_a_part_that_the_vpn_routes_is_no_detour() -> None:
    lines = [*SERVED, *vpn("192.168.1.64/26", table=77), "rule add to 192.168.1.64/26 lookup 77 pref 5"]
    found = status(Case(lines).config, *Case(lines).read())
    assert [] == found.detours and ["192.168.1.64/26"] == [str(shadow.tunnel) for shadow in found.shadows]
