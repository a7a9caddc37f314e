"""A snapshot may hold lines that `ip` cannot parse. The lab finds them."""

from types import SimpleNamespace

from fz_iproute.ip.ip import Asked, Ip
from fz_iproute.ip.process import Answer
from fz_iproute.lab.namespace import carry_out
from fz_iproute.mirror.model import Command


class Parsing(Ip):
    """An `ip` that runs nothing. It can parse only lines with these words; a batch with another one ends there."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.good = words

    def ask(self, family, *questions, first=()) -> Asked:
        return Asked(family, len(first), questions, self._ended(all(self.good in line for line in first), 255))

    def start(self, *words, stdin=b"") -> SimpleNamespace:
        return self._ended(self.good in " ".join(words), 255)

    def _ended(self, well: bool, code: int) -> SimpleNamespace:
        return SimpleNamespace(answer=lambda: Answer(("ip",), 0 if well else code, b"", "" if well else "nonsense"))


def commands(*numbers: int) -> list[Command]:
    return [
        Command("inet", f"route add 10.0.0.{number} proto {'bad' if number % 7 else 'good'}", "") for number in numbers
    ]


def test_the_lines_that_cannot_be_parsed_are_found() -> None:
    found = carry_out(Parsing("good"), commands(0, 7, 14, 1, 21, 28, 2, 35))
    assert [("10.0.0.1", "nonsense"), ("10.0.0.2", "nonsense")] == [
        (refusal.command.words[2], refusal.words) for refusal in found
    ]
