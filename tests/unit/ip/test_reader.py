"""What a reader of a running machine remembers, and what it must not."""

import json
from typing import Any

from fz_iproute.ip.ip import Asked
from fz_iproute.ip.reader import Reader
from fz_iproute.mirror.config import Config, Tunnel
from fz_iproute.mirror.words import RULES_IN_DETAIL

PLAIN = [{"priority": 32765, "not": None, "src": "all", "fwmark": "0xfd002021", "table": "539098368"}]


class Machine:
    """One that talks. Its rules look the same all the time; `protocol` has made them."""

    def __init__(self) -> None:
        self.protocol = "2"

    def ask(self, family: Any, *questions: str) -> Asked:
        return Asked(family, 0, questions, None)  # type: ignore[arg-type]

    def answers(self, asked: Asked) -> list[bytes]:
        detailed = [{**rule, "protocol": self.protocol} for rule in PLAIN]
        said = {"rule show": PLAIN, RULES_IN_DETAIL: detailed}
        return [json.dumps(said.get(question, [])).encode() for question in asked.questions]

    def talks(self, family: Any) -> bool:
        return True

    def abandon(self) -> None:
        pass


def test_who_has_made_a_rule_is_asked_again_when_one_has_come_or_gone() -> None:
    machine = Machine()
    reader = Reader(machine, Config(tunnel=Tunnel(mode="manage")))  # type: ignore[arg-type]

    def makers() -> set[str]:
        return {rule.protocol for rule in reader.read().rules}

    assert {"kernel"} == makers()
    machine.protocol = "3"
    assert {"kernel"} == makers()  # asking costs a process
    reader.forget_rules()
    assert {"boot"} == makers()
