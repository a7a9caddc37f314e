"""A snapshot may hold any number of lines that `ip` cannot parse. The lab gives up after a while."""

import itertools
from types import SimpleNamespace

import pytest

from fz_iproute.ip.ip import Asked, Ip
from fz_iproute.ip.process import Answer
from fz_iproute.lab.namespace import carry_out, one_by_one
from fz_iproute.mirror.model import Command

GIVEN_UP = {"not tried: too many lines of the snapshot take too long"}


class Parsing(Ip):
    """An `ip` that runs nothing. It can parse only lines with these words; a batch with another one ends there."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.good = words
        self.batches = self.started = 0

    def ask(self, family, *questions, first=()) -> Asked:
        self.batches += 1
        return Asked(family, len(first), questions, self._ended(all(self.good in line for line in first), 255))

    def start(self, *words, stdin=b"") -> SimpleNamespace:
        self.started += 1
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


@pytest.mark.parametrize("run", [carry_out, one_by_one])
def test_what_takes_too_long_is_given_up(run, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr("fz_iproute.lab.namespace.time.monotonic", lambda: next(clock))
    ip = Parsing("good")
    found = run(ip, commands(*[1] * 5000))
    assert 5000 == len(found)
    assert ip.batches + ip.started < 100
    assert GIVEN_UP == {refusal.words for refusal in found[-4000:]}
