"""From one configuration to another: no gap, no leak and nothing left behind, wherever the move is interrupted."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from fz_iproute.ip.coprocess import CoprocessIp
from fz_iproute.ip.passes import Passes
from fz_iproute.log import Log
from fz_iproute.mirror.config_text import parse
from fz_iproute.mirror.model import Command
from tests.manage.laptop import ROUTES, ROUTES6, TUNNEL, UPLINK, Laptop, State, manage
from tests.netns.namespace import LAN, removing
from tests.netns.rtnetlink import FAMILIES

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


class Mover:
    """Carries a laptop from state to state."""

    def __init__(self, laptop: Laptop) -> None:
        self.laptop = laptop
        self.ip = CoprocessIp(laptop.name)
        self.bare = laptop.state()
        self._fresh: dict[str, tuple[list[Command], State]] = {}

    def end(self) -> None:
        self.ip.end_coprocesses()

    def passes(self, text: str) -> Passes:
        self.ip.start_coprocesses()
        return Passes(self.ip, parse(text, "test"), Log("ERROR"))

    def reset(self, commands: Sequence[Command] = ()) -> None:
        """Back to the laptop without a VPN, and then these commands."""
        state = self.laptop.state()
        lines = []
        for family in FAMILIES:
            option = "-6 " if family == "inet6" else ""
            lines += [
                f"{option}rule del pref {rule.priority}" for rule in state.rules[family] if 0 < rule.priority < 32766
            ]
            for of, table in state.tables:
                if of == family and table not in (253, 254, 255):
                    lines.append(f"{option}route flush table {table}")
                    # `flush` of IPv6 skips it.
                    lines.append(f"{option}route del unreachable default metric 4294967295 table {table}")
        self.laptop.batch(lines, force=True)
        assert self.bare == self.laptop.state()
        self.run(commands)

    def run(self, commands: Sequence[Command]) -> None:
        self.laptop.batch(
            ("-6 " if command.family == "inet6" else "") + " ".join(command.words) for command in commands
        )

    def fresh(self, setting: Setting) -> tuple[list[Command], State]:
        """The commands of a sync on the bare laptop, and the state after it."""
        if setting.text not in self._fresh:
            self.reset()
            assert self.bare == self.laptop.state()
            done = self.passes(setting.text).sync()
            assert [] == done.failures
            self._fresh[setting.text] = done.commands, self.laptop.state()
        return self._fresh[setting.text]


@pytest.fixture(scope="module")
def mover(runtime: Path) -> Iterator[Mover]:
    """A laptop with two tunnels, and a LAN inside of what the VPN routes."""
    with ExitStack() as stack:
        laptop = stack.enter_context(removing(Laptop(runtime)))
        laptop.tunnel(OTHER_TUNNEL, "100.64.0.6/32", "fd00:2021:1111::6/128")
        laptop.bridge(DOCKER, "100.64.3.1/24", "fd00:2021:1111:3::1/64")
        laptop.wait_for_carrier(4)
        mover = Mover(laptop)
        stack.callback(mover.end)
        yield mover


@pytest.mark.parametrize("one", SETTINGS, ids=lambda setting: setting.name)
def test_packets_go_where_the_design_says(one: Setting, mover: Mover) -> None:
    mover.reset(mover.fresh(one)[0])
    assert one.ways == mover.laptop.leads(PROBES)


# Each takes a while on the real kernel, even after every second command only; test_many_moves.py has many more.
@pytest.mark.parametrize(
    ("before", "after"), [("tiered", "single, another mark"), ("single, closed", "tiered, other priorities")]
)
def test_a_move_has_no_gap_and_no_leak_and_can_be_interrupted_anywhere(before: str, after: str, mover: Mover) -> None:
    one, other = BY_NAME[before], BY_NAME[after]
    (commands, _), (_, goal) = mover.fresh(one), mover.fresh(other)
    mover.reset(commands)
    due = mover.passes(other.text).plan_sync()
    told = [f"{i}: {mover.ip.line(command)}" for i, command in enumerate(due, 1)]
    for k in range(0, len(due) + 1, 2):
        mover.reset(commands)
        mover.run(due[:k])
        ways = mover.laptop.leads(PROBES)
        wrong = {probe: way for probe, way in ways.items() if way not in (one.ways[probe], other.ways[probe])}
        assert {} == wrong, f"after {k} of {told}"
        assert [] == mover.passes(other.text).sync().failures
        assert goal == mover.laptop.state(), f"after {k} of {told}"


def test_tables_that_would_swap_their_parts_are_refused_until_down_has_run(mover: Mover) -> None:
    one, other = BY_NAME["tiered"], BY_NAME["tiered, parts swapped"]
    _, goal = mover.fresh(other)
    mover.reset(mover.fresh(one)[0])
    laptop = mover.laptop
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
    assert one.ways == laptop.leads(PROBES)
    laptop.fz("down", config=other.text)
    assert mover.bare == laptop.state()
    laptop.fz("sync", config=other.text)
    assert goal == laptop.state()
