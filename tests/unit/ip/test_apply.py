"""Work is cut into pieces that suit one `ip` each, and done in the order of the plan."""

from collections.abc import Sequence

import pytest

from fz_iproute.ip.apply import MOST_LINES, Work
from fz_iproute.ip.ip import Asked, Reply
from fz_iproute.mirror.config import Config, Tunnel
from fz_iproute.mirror.desired import desired
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.plan import plan
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix
from tests.unit.routes import lookup, route, snapshot


class FakeIp:
    """Gives the same reply to everything, and remembers what was asked."""

    def __init__(self, reply: Reply | None = None) -> None:
        self.asked: list[tuple[Family, Sequence[str]]] = []
        self._reply = reply or Reply({}, [])

    def ask(self, family: Family, first: Sequence[str]) -> Asked:
        self.asked.append((family, first))
        return Asked(family, len(first), (), None)  # type: ignore[arg-type]

    def reply(self, asked: Asked) -> Reply:
        return self._reply

    def abandon(self) -> None:
        pass

    def lines(self, family: Family) -> list[str]:
        return [line for other, first in self.asked if other == family for line in first]


def commands(count: int, family: Family = "inet") -> list[Command]:
    return [Command(family, f"route {number}", "") for number in range(count)]


@pytest.mark.parametrize("count", [1, MOST_LINES - 1, MOST_LINES, MOST_LINES + 1, 3 * MOST_LINES + 1])
def test_every_command_is_run_once_in_order(count: int) -> None:
    ip = FakeIp()
    assert [] == Work(ip, commands(count)).finish()
    assert [f"route {number}" for number in range(count)] == ip.lines("inet")
    assert all(0 < len(first) <= MOST_LINES for _, first in ip.asked)


def test_thousands_of_commands_are_run_in_the_order_of_the_plan() -> None:
    """What the VPN has inside of a LAN must be there before the LAN is."""
    lan = [route(f"10.{number >> 8}.{number & 255}.0/24") for number in range(6_000)]
    inside = [Prefix.parse("10.0.0.128/25"), Prefix.parse("fd00:1::/65")]
    config = Config(tunnel=Tunnel(mode="manage", routes=inside))
    rules = tuple(lookup(254, 32766, family) for family in FAMILIES)
    due = plan(desired(config, snapshot([*lan, route("fd00:1::/64")], rules=rules)))
    ip = FakeIp()
    Work(ip, due).finish()
    for family in FAMILIES:
        assert [command.line for command in due if command.family == family] == ip.lines(family)
    assert "10.0.0.128/25 dev tun-firezone" in ip.lines("inet")[0]


def test_the_families_run_side_by_side() -> None:
    ip = FakeIp()
    Work(ip, [*commands(2), *commands(2, "inet6")])
    assert ["inet", "inet6"] == [family for family, _ in ip.asked]


def test_no_ip_reads_a_name_after_a_number() -> None:
    """`ip -batch` 6.1 remembers the number of the last name, and a number in between overwrites it."""
    protos = ["boot", "5", "boot", "99", "static", "5", "boot"]
    ip = FakeIp()
    Work(ip, [Command.of("inet", f"route del proto {proto}".split()) for proto in protos]).finish()
    pieces = [[line.split()[3] for line in first] for _, first in ip.asked]
    assert [["boot", "5"], ["boot", "99"], ["static", "5"], ["boot"]] == pieces


def test_nothing_is_run_after_a_batch_that_ended_early() -> None:
    ip = FakeIp(Reply({0: "File exists"}, [], "killed by signal 9"))
    refusals = Work(ip, commands(MOST_LINES + 5)).finish()
    assert 1 == len(ip.asked)
    assert [False] + [True] * (MOST_LINES + 4) == [refusal.lost for refusal in refusals]


def test_a_doubt_about_the_answers_alone_is_no_refusal() -> None:
    assert [] == Work(FakeIp(Reply({}, [], "Dump was interrupted", interrupted=True)), commands(3)).finish()
