"""In every configuration, packets go where the design says; `down` undoes all; tables never swap their parts.

test_many_moves.py interrupts moves between configurations anywhere, and tests/packets does that with real packets.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.manage.laptop import ROUTES, ROUTES6, TUNNEL, UPLINK, Laptop, manage
from tests.netns.namespace import LAN, removing

OTHER_TUNNEL = "tun-other"
DOCKER = "docker0"
RESOURCES_IN_THE_LAN = ["192.168.188.50/32", "fd00:188::50/128"]
ALL_ROUTES = [*ROUTES, *ROUTES6, *RESOURCES_IN_THE_LAN]

LAN_HOSTS = ["192.168.188.1", "192.168.188.254", "fd00:188::1", "10.77.0.1", "fd00:77::1"]
RESOURCES = ["100.64.0.9", "100.100.111.7", "fd00:2021:1111::77"]
RESOURCES_INSIDE = ["192.168.188.50", "fd00:188::50"]
LAN_INSIDE = ["100.64.3.9", "fd00:2021:1111:3::9"]  # on docker0, inside of what the VPN routes explicitly
INTERNET = ["8.8.8.8", "2001:db8::1"]
PROBES = [*LAN_HOSTS, *RESOURCES, *RESOURCES_INSIDE, *LAN_INSIDE, *INTERNET]


class Setting(NamedTuple):
    """A configuration, and the device that each packet leaves by."""

    name: str
    text: str
    ways: dict[str, str]


def setting(name: str, *, interface: str = TUNNEL, internet: bool = True, **keys: object) -> Setting:
    routes: Sequence[str] = keys.pop("routes", ALL_ROUTES)  # type: ignore[assignment]
    text = manage(interface=interface, internet=internet, routes=routes, **keys)  # type: ignore[arg-type]
    ways = {host: UPLINK if ":77" in host or "10.77" in host else LAN for host in LAN_HOSTS}
    ways |= dict.fromkeys([*RESOURCES, *LAN_INSIDE, *RESOURCES_INSIDE], interface)
    if not routes:
        ways |= dict.fromkeys(RESOURCES, interface if internet else UPLINK)
        ways |= dict.fromkeys(LAN_INSIDE, DOCKER) | dict.fromkeys(RESOURCES_INSIDE, LAN)
    ways |= dict.fromkeys(INTERNET, interface if internet else UPLINK)
    return Setting(name, text, ways)


VARIANTS: dict[str, dict[str, object]] = {
    "": {},
    ", another tunnel": {"interface": OTHER_TUNNEL},
    ", no internet": {"internet": False},
    ", no routes": {"routes": []},
    ", closed": {"on_down": "closed"},
}
THE_LAN_WHERE_SINGLE_WAS = {"single": 9, "user": 1002, "lan": 539098368, "internet": 1004}
PARTS_SWAPPED = {"single": 9, "user": 539098370, "lan": 539098368, "internet": 539098369}
SETTINGS = [
    *(
        setting(layout + words, layout=layout, **keys)
        for layout in ("single", "tiered")
        for words, keys in VARIANTS.items()
    ),
    setting("tiered, other priorities", layout="tiered", rules={"tiered": [250, 32000, 32765]}),
    setting("single, another mark", fwmark="0x2021/0xffff"),
    setting("the LAN where single was", layout="tiered", tables=THE_LAN_WHERE_SINGLE_WAS),
    setting("tiered, parts swapped", layout="tiered", tables=PARTS_SWAPPED),
]
BY_NAME = {setting.name: setting for setting in SETTINGS}


@pytest.fixture(scope="module")
def laptop(runtime: Path) -> Iterator[Laptop]:
    """A laptop with two tunnels, and a LAN inside of what the VPN routes. Each test leaves it as it was."""
    with removing(Laptop(runtime)) as made:
        made.tunnel(OTHER_TUNNEL, "100.64.0.6/32", "fd00:2021:1111::6/128")
        made.bridge(DOCKER, "100.64.3.1/24", "fd00:2021:1111:3::1/64")
        made.wait_for_carrier(4)
        yield made


@pytest.mark.parametrize("one", SETTINGS, ids=lambda setting: setting.name)
def test_packets_go_where_the_design_says(one: Setting, laptop: Laptop) -> None:
    bare = laptop.state()
    laptop.sync(one.text)
    assert one.ways == laptop.leads(PROBES)
    laptop.down(one.text)
    assert bare == laptop.state()


def test_tables_that_would_swap_their_parts_are_refused_until_down_has_run(laptop: Laptop) -> None:
    one, other = BY_NAME["tiered"], BY_NAME["tiered, parts swapped"]
    bare = laptop.state()
    laptop.sync(one.text)
    whole = laptop.state()
    for words in (["sync"], ["sync", "--dry-run"], ["plan"], ["watch"]):
        done = laptop.fz_done(*words, config=other.text)
        assert (2, "") == (done.returncode, done.stdout)
        (line,) = (line for line in done.stderr.splitlines() if " starts with " not in line)  # watch says that first
        assert "run `fz-iproute down` with this configuration first" in line
    for words in (["status"], ["explain", "8.8.8.8"], ["doctor"]):
        done = laptop.fz_done(*words, config=other.text)
        assert done.returncode in (0, 1) and done.stdout
    assert whole == laptop.state()
    laptop.fz("down", config=other.text)
    assert bare == laptop.state()
    laptop.fz("sync", config=other.text)
    assert other.ways == laptop.leads(PROBES)
    laptop.down(other.text)
