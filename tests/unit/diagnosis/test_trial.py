"""What a change of the machine would cost: a remedy that does harm is not printed."""

import pytest

from fz_iproute.diagnosis.trial import harm
from tests.unit.diagnosis.machines import FIREZONE, SERVED, Case, without

SPLIT = without("-6", without("default", SERVED))
WITHOUT_MAIN = [*SERVED, "rule del pref 32766 lookup main"]
ANOTHER_MARK = [line.replace("0xfd002021", "0x7") for line in SERVED]
TO_TEST_NET = "rule add pref 50 to 192.0.2.0/24 prohibit"
FROM_IT = ["rule add pref 60 from 192.168.1.5 lookup main", "rule add pref 50 from 192.168.1.5 lookup 539098368"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (SERVED, SERVED, ""),
        (SERVED, [*WITHOUT_MAIN, "rule add pref 40000 lookup main"], ""),
        (SERVED, WITHOUT_MAIN, "no rule of inet would lead to main any more"),
        *(
            (SERVED, [*WITHOUT_MAIN, f"rule add pref 40000 {some} lookup main"], "no rule of inet would lead to main")
            for some in ("not fwmark 0x7", "from 10.0.0.0/8", "to 10.0.0.0/8", "tos 0x10")
        ),
        (WITHOUT_MAIN, WITHOUT_MAIN, ""),
        (SERVED, without(" default dev tun", SERVED), "packets to 0.0.0.0/0 would leave the tunnel"),
        (without(" default dev tun", SERVED), SERVED, ""),
        (SERVED, without("src 192.168.1.5 table", SERVED), "192.168.1.0/24 of the LAN would be out of reach"),
        (FIREZONE, SERVED, ""),
        (SERVED, ANOTHER_MARK, "the VPN's own packets to 0.0.0.0/0 would not get out"),
        (ANOTHER_MARK, SERVED, ""),
        ([*SERVED, TO_TEST_NET], SERVED, ""),  # the tunnel takes them
        ([*SPLIT, TO_TEST_NET], SPLIT, "packets to 192.0.2.0/24 are refused now, and would leave by eth0"),
        # What is sent from the address leaves the tunnel.
        ([*SERVED, *FROM_IT], [*SERVED, FROM_IT[0]], "packets to 0.0.0.0/0 would leave the tunnel"),
        # Others connect to the address, and the answers leave as the connections come.
        ([*SERVED, FROM_IT[0]], SERVED, "answers from 192.168.1.5/32 to 0.0.0.0/0 would not get out"),
        ([*SERVED, FROM_IT[0]], [*SERVED, *FROM_IT], "answers from 192.168.1.5/32 to 0.0.0.0/0 would not get out"),
        ([*SERVED, "rule add pref 60 from 172.17.0.1 lookup main"], SERVED, ""),  # nobody connects to it by eth0
        ([*SERVED, FROM_IT[0], "rule add pref 5 lookup main"], SERVED, ""),  # all packets enter the tunnel again
    ],
)
def test_what_would_be_lost_is_said(before: list[str], after: list[str], said: str) -> None:
    found = harm(Case(before).machine, Case(after).machine)
    assert found.startswith(said) if said else not found
