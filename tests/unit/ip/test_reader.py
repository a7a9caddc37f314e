"""What a reader of a running machine keeps from one reading to the next, and what it must not keep."""

import json
from typing import Any

from fz_iproute.ip.ip import Asked
from fz_iproute.ip.reader import Reader
from fz_iproute.mirror.config import Config, Tunnel
from fz_iproute.mirror.words import RULES_IN_DETAIL

RULE = {"priority": 32765, "not": None, "src": "all", "fwmark": "0xfd002021", "table": "539098368"}
# As `ip` prints it to a question for scope link: without the scope.
LAN = {"dst": "10.0.0.0/24", "dev": "eth0", "protocol": "kernel", "prefsrc": "10.0.0.1", "flags": []}


class Machine:
    """A machine that answers in a dialogue. The short form of its rule does not show the protocol."""

    def __init__(self) -> None:
        self.protocol = "2"
        self.lan = LAN

    def ask(self, family: Any, *questions: str) -> Asked:
        return Asked(family, 0, questions, None)  # type: ignore[arg-type]

    def answers(self, asked: Asked) -> list[bytes]:
        documents = {
            "rule show": [RULE],
            RULES_IN_DETAIL: [{**RULE, "protocol": self.protocol}],
            "route show table main scope link": [self.lan],
        }
        return [json.dumps(documents.get(question, [])).encode() for question in asked.questions]

    def talks(self, family: Any) -> bool:
        return True

    def abandon(self) -> None:
        pass


def test_rules_are_read_in_detail_again_when_one_has_come_or_gone() -> None:
    machine = Machine()
    reader = Reader(machine, Config(tunnel=Tunnel(mode="manage")))

    def protocols() -> set[str]:
        return {rule.protocol for rule in reader.read().rules}

    assert {"kernel"} == protocols()
    machine.protocol = "3"
    assert {"kernel"} == protocols()  # asking costs a process
    reader.forget_rules()
    assert {"boot"} == protocols()


def test_routes_are_parsed_again_only_if_ip_prints_something_else() -> None:
    machine = Machine()
    reader = Reader(machine, Config())
    first, second = reader.read(), reader.read()
    assert ["10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.1"] == list(map(str, first.main["inet"]))
    assert first.main["inet"] is second.main["inet"]
    machine.lan = {**LAN, "prefsrc": "10.0.0.2"}
    assert ["10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.2"] == list(map(str, reader.read().main["inet"]))
