"""After hundreds of random changes, the mirror is what the oracle wants."""

import os
import random

import pytest

from tests.netns.namespace import LAN, MARK, MIRROR, TIER_LAN, TUNNEL, Machine, Namespace
from tests.watch import oracle
from tests.watch.conftest import Watch

# scripts/test sets it, so that a failed test is tried again with the same random numbers.
FRESH = int(os.environ.get("FZ_SEED") or random.randrange(2**32))

DEVICES = [LAN, "uplink0", "br7", "v7", "renamed7"]
ADDRESSES = ["10.5.0.2/24", "10.5.0.3/24", "10.6.0.2/24", "192.168.188.112/24", "192.168.188.113/24", "172.16.0.1/30"]
ADDRESSES6 = ["fd00:5::2/64", "fd00:5::3/64", "fd00:6::2/64", "fd00:188::112/64"]
PREFIXES = ["10.5.0.0/24", "10.6.0.0/16", "10.7.0.0/24", "100.100.111.0/25", "192.168.188.128/25", "10.7.0.1/32"]
PREFIXES6 = ["fd00:5::/64", "fd00:7::/64", "fd00:2021:1111:5::/64", "fd00:7::1/128", "fd00::/40"]


class Walker:
    """Writes lines for `ip` without knowing the state, so many are refused."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def step(self) -> str:
        dice = self._dice
        kinds = {
            self._address: 6,
            self._route: 8,
            self._link: 4,
            self._copy: 3,
            self._vpn: 1,
            self._rule: 1,
            self._nexthop: 2,
        }
        (kind,) = dice.choices(list(kinds), list(kinds.values()))
        return kind()

    def _address(self) -> str:
        dice = self._dice
        device = dice.choice(DEVICES)
        verb = dice.choice(["add", "add", "del"])
        if dice.random() < 0.4:
            return f"-6 addr {verb} {dice.choice(ADDRESSES6)} dev {device}{' nodad' if verb == 'add' else ''}"
        metric = dice.choice(["", "", " metric 600"]) if verb == "add" else ""
        return f"addr {verb} {dice.choice(ADDRESSES)} dev {device}{metric}"

    def _route(self) -> str:
        dice = self._dice
        verb = dice.choice(["add", "append", "replace", "replace", "del", "del"])
        metric = dice.choice(["", "", " metric 50", " metric 600"])
        way = dice.choice([f"dev {device}" for device in DEVICES] + ["nhid 7", "via 10.77.0.1"])
        if dice.random() < 0.4:
            way = dice.choice([way, "via fd00:77::1"]) if "via" not in way and "nhid" not in way else "via fd00:77::1"
            mtu = dice.choice(["", "", " mtu 1300"]) if verb != "del" else ""
            return f"-6 route {verb} {dice.choice(PREFIXES6)} {way}{metric}{mtu}"
        more = dice.choice(["", "", " mtu 1300", " src 10.77.0.2", " src 192.168.188.112"]) if verb != "del" else ""
        return f"route {verb} {dice.choice(PREFIXES)} {way}{metric}{more}"

    def _link(self) -> str:
        dice = self._dice
        return dice.choice(
            [
                f"link set dev {dice.choice(DEVICES)} down",
                *[f"link set dev {device} up" for device in DEVICES],
                "link add name br7 type bridge",
                "link del dev br7",
                "link add name v7 type veth peer name w7",
                "link set dev w7 up",
                "link set dev w7 down",
                "link del dev v7",
                "link set dev v7 name renamed7",
                "link set dev renamed7 name v7",
                f"link set dev {LAN} mtu {dice.choice([1280, 1400, 1500])}",
                "link set dev v7 master br7",
                "link set dev v7 nomaster",
            ]
        )

    def _copy(self) -> str:
        """Another program changes the mirror."""
        dice = self._dice
        table = dice.choice([MIRROR, MIRROR, TIER_LAN])
        verb = dice.choice(["add", "del", "replace"])
        if dice.random() < 0.4:
            return f"-6 route {verb} {dice.choice(PREFIXES6)} dev {dice.choice(DEVICES)} table {table}"
        return f"route {verb} {dice.choice(PREFIXES)} dev {dice.choice(DEVICES)} scope link table {table}"

    def _vpn(self) -> str:
        dice = self._dice
        verb = dice.choice(["add", "del"])
        prefix = dice.choice(["default", "10.5.0.0/16", "100.100.111.0/24", "172.16.0.0/12"])
        return f"route {verb} {prefix} dev {TUNNEL} proto static scope global table {MIRROR}"

    def _rule(self) -> str:
        dice = self._dice
        option = dice.choice(["", "-6 "])
        return f"{option}rule {dice.choice(['add', 'del'])} not fwmark {MARK:#x} lookup {TIER_LAN} pref 200"

    def _nexthop(self) -> str:
        device = self._dice.choice(DEVICES)
        return self._dice.choice([f"nexthop replace id 7 dev {device}", "nexthop del id 7"])


def story(machine: Namespace) -> str:
    """The state, for the message of a failure."""
    table = oracle.mirror_table(machine)
    return "\n".join(
        f"{family} {name}: {machine.routes(family, name)}" for family in ("inet", "inet6") for name in ("main", table)
    )


@pytest.mark.long
def test_a_random_walk_is_followed(machine: Machine, watch: Watch) -> None:
    walker = Walker(FRESH)
    daemon = watch("[watch]\nmax_wait = 0.05\n")
    walked: list[str] = []
    for _ in range(50):
        lines = [walker.step() for _ in range(10)]
        walked += lines
        # One by one: batches of two families would lose the order.
        for line in lines:
            machine.ip(*line.split(), check=False)
        try:
            daemon.wait_in_step()
        except AssertionError as error:
            report = "\n".join([f"seed {FRESH}: {error}", *walked[-30:], story(machine), *daemon.lines[-30:]])
            raise AssertionError(report) from None
    assert 500 == len(walked)
