"""What a reader of a running machine keeps from one reading to the next, and what it must not keep."""

import json
from typing import Any

import pytest

from fz_iproute.errors import ReadFailed
from fz_iproute.ip.ip import Asked
from fz_iproute.ip.reader import Reader
from fz_iproute.mirror.config import Config, Tunnel
from fz_iproute.mirror.model import Part
from fz_iproute.mirror.words import RULES_IN_DETAIL

RULE = {"priority": 32765, "not": None, "src": "all", "fwmark": "0xfd002021", "table": "539098368"}
# As `ip` prints it to a question for scope link: without the scope.
LAN = {"dst": "10.0.0.0/24", "dev": "eth0", "protocol": "kernel", "prefsrc": "10.0.0.1", "flags": []}


class Machine:
    """A machine that answers in a coprocess. The short form of its rule does not show the protocol."""

    def __init__(self) -> None:
        self.protocol = "2"
        self.lan = LAN
        self.links: list[dict[str, Any]] = []
        self.fails = False

    def ask(self, family: Any, *questions: str) -> Asked:
        return Asked(family, 0, questions, None)  # type: ignore[arg-type]

    def answers(self, asked: Asked) -> list[bytes]:
        if self.fails:
            raise ReadFailed("no answer")
        documents = {
            "rule show": [RULE],
            "link show": self.links,
            RULES_IN_DETAIL: [{**RULE, "protocol": self.protocol}],
            "route show table main scope link": [self.lan],
        }
        return [json.dumps(documents.get(question, [])).encode() for question in asked.questions]

    def needs_no_process(self, family: Any) -> bool:
        return True

    def abandon(self) -> None:
        pass


def test_what_has_not_changed_is_not_read_again() -> None:
    machine = Machine()
    reader = Reader(machine, Config(tunnel=Tunnel(mode="manage")))

    def seen(*changed: Part) -> tuple[set[str], set[str]]:
        read = reader.read(changed)
        return {rule.protocol for rule in read.rules}, {route.attributes.value("src") for route in read.main["inet"]}

    assert ({"kernel"}, {"10.0.0.1"}) == seen()  # nothing is known yet
    machine.protocol, machine.lan = "3", {**LAN, "prefsrc": "10.0.0.2"}
    assert ({"kernel"}, {"10.0.0.1"}) == seen("inet6")
    assert ({"kernel"}, {"10.0.0.2"}) == seen("inet")
    assert ({"boot"}, {"10.0.0.2"}) == seen("links and rules")


def test_after_a_failed_reading_all_that_it_was_to_read_is_read() -> None:
    machine = Machine()
    reader = Reader(machine, Config())
    reader.read()
    machine.fails = True
    with pytest.raises(ReadFailed):
        reader.read(["inet"])
    machine.fails, machine.lan = False, {**LAN, "prefsrc": "10.0.0.2"}
    assert ["10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.2"] == list(map(str, reader.read([]).main["inet"]))


def test_routes_are_parsed_again_only_if_ip_prints_something_else() -> None:
    machine = Machine()
    reader = Reader(machine, Config())
    first, second = reader.read(), reader.read()
    assert ["10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.1"] == list(map(str, first.main["inet"]))
    assert first.main["inet"] is second.main["inet"]
    machine.lan = {**LAN, "prefsrc": "10.0.0.2"}
    assert ["10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.2"] == list(map(str, reader.read().main["inet"]))


def test_a_route_follows_its_link_though_ip_prints_the_same_of_the_route() -> None:
    machine = Machine()
    reader = Reader(machine, Config())
    machine.lan = {**LAN, "dev": "#x"}  # no name for a line of a batch
    for index in (7, 8):
        machine.links = [{"ifname": "#x", "ifindex": index, "flags": []}]
        (route,) = reader.read(["links and rules"]).main["inet"]
        assert ("dev", f"if{index}") == route.attributes.path
