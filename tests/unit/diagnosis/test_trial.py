"""What a change of the machine would cost: a remedy that does harm is not printed."""

from typing import Any

import pytest

from fz_iproute.diagnosis.trial import harm
from fz_iproute.mirror.model import Mark, Rule
from fz_iproute.mirror.prefix import Prefix
from tests.unit.diagnosis.test_checks import LANS, SINGLE, V6_DEFAULT, VPN, machine, rules
from tests.unit.routes import lookup, route

SPLIT = [*VPN[1:], *LANS]  # no default route of IPv4
TO_TEST_NET = Rule("inet", 50, "prohibit", 0, dst=Prefix.parse("192.0.2.0/24"))


ADDRESS = Prefix.parse("192.168.1.7/32")
FROM_IT = [Rule("inet", priority, "lookup", table, src=ADDRESS) for priority, table in ((50, SINGLE), (60, 254))]
LOCAL = {255: [route("192.168.1.7", type="local", scope="host")]}


def without_main(*instead: Rule) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules(*instead) if (rule.family, rule.priority) != ("inet", 32766))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, {}, ""),
        ({}, {"rules": without_main(lookup(254, 40000))}, ""),
        ({}, {"rules": without_main()}, "no rule of inet would lead to main any more"),
        ({}, {"rules": without_main(lookup(254, 40000, inverted=True))}, "no rule of inet would lead to main"),
        ({}, {"rules": without_main(lookup(254, 40000, src=Prefix.parse("10.0.0.0/8")))}, "no rule of inet would"),
        ({}, {"rules": without_main(lookup(254, 40000, dst=Prefix.parse("10.0.0.0/8")))}, "no rule of inet would"),
        ({}, {"rules": without_main(lookup(254, 40000, mark=Mark(7)))}, "no rule of inet would"),
        ({}, {"rules": without_main(lookup(254, 40000, iif="eth0"))}, "no rule of inet would"),
        ({}, {"rules": without_main(lookup(254, 40000, oif="eth0"))}, "no rule of inet would"),
        ({}, {"rules": without_main(lookup(254, 40000, options=(("tos", "0x10"),)))}, "no rule of inet would"),
        ({"rules": without_main()}, {"rules": without_main()}, ""),
        ({}, {"mirror": [*SPLIT, V6_DEFAULT]}, "packets to 0.0.0.0/0 would leave the tunnel"),
        ({"mirror": [*SPLIT, V6_DEFAULT]}, {}, ""),
        ({}, {"mirror": [*VPN, V6_DEFAULT, LANS[1]]}, "192.168.1.0/24 of the LAN would be out of reach"),
        ({"mirror": [*VPN, V6_DEFAULT]}, {}, ""),  # the LANs come back
        ({}, {"rules": rules(mark=Mark(7))}, "the VPN's own packets to 0.0.0.0/0 would not get out"),
        ({"rules": rules(mark=Mark(7))}, {}, ""),
        ({"rules": rules(TO_TEST_NET)}, {}, ""),  # the tunnel takes them
        (
            {"rules": rules(TO_TEST_NET), "mirror": SPLIT},
            {"mirror": SPLIT},
            "packets to 192.0.2.0/24 are refused now, and would leave by eth0",
        ),
        (
            {"rules": rules(*FROM_IT), "tables": LOCAL},
            {"rules": rules(FROM_IT[1]), "tables": LOCAL},
            "packets to 0.0.0.0/0 would leave the tunnel",  # those from the address
        ),
    ],
)
def test_what_would_be_lost_is_said(before: dict[str, Any], after: dict[str, Any], said: str) -> None:
    found = harm(machine(**before), machine(**after))
    assert found.startswith(said) if said else not found
