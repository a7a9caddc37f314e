"""A recorded machine, which the reader can ask the same questions as `ip` on a running machine."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fz_iproute.errors import ReadFailed, UsageError
from fz_iproute.files.trusted_file import opened, said_of
from fz_iproute.ip.answers import answer, parsed, shape_is_known
from fz_iproute.ip.ip import Asked
from fz_iproute.ip.process import Answer
from fz_iproute.mirror.ip_json import form_fault
from fz_iproute.mirror.prefix import Family
from fz_iproute.record import recording
from fz_iproute.record.recording import Recording, Unusable, question_key

# Enough for a machine with a hundred thousand routes.
MOST_BYTES = 32 << 20


def load_recording(path: Path) -> Recording:
    """The recording in the file. UsageError if it is unusable."""
    try:
        with opened(path) as file:
            os.set_blocking(file.fileno(), True)  # if it is a FIFO with a writer, wait for all of its content
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {said_of(error)}") from None
    if len(content) > MOST_BYTES:
        raise UsageError(f"{path}: larger than {MOST_BYTES >> 20} MiB, so not a snapshot")
    try:
        recorded = recording.load(content)
    except Unusable as error:
        raise UsageError(f"{path}: {error}") from None
    with blamed_on(path):
        _check(recorded)
    return recorded


def _check(recorded: Recording) -> None:
    """Parse everything that `ip` printed. ReadFailed for garbage, although some verbs need only a part of it."""
    for key, text in recorded.outputs.items():
        if match := _QUESTION.fullmatch(key):
            option, question = match.groups()
            documents = parsed(_FAMILIES[option], question, text.encode("utf-8", "surrogateescape"))
            name = _NAMED_BY.get(question)
            if name and not all(name in document for document in filter(None, documents)):
                raise ReadFailed(f"ip {key}: there is no {name!r}")


_QUESTION = re.compile(r"-json (-[46] )?(.+)", re.DOTALL)
_FAMILIES: Mapping[str | None, Family | None] = {None: None, "-4 ": "inet", "-6 ": "inet6"}
# The key that names each document of an answer.
_NAMED_BY = {"link show": "ifname", "address show": "ifname", "nexthop show": "id"}


@contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """Turn errors in this block into a UsageError about the file, on one line.

    A file may have any content, and no check before could find everything that is wrong with it.
    """
    try:
        yield
    except ReadFailed as error:
        raise UsageError(f"{path}: {error}") from None
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UsageError(f"{path}: not what `ip` prints: {form_fault(error)}") from error


class RecordedIp:
    """Gives the answers that `ip` would have given on the recorded machine."""

    def __init__(self, recorded: Recording) -> None:
        self._outputs = recorded.outputs
        self.sysctls = recorded.sysctls
        self.facts = recorded.facts  # see record/facts.py

    def ask(self, family: Family | None, *questions: str) -> Asked:
        """Note the questions. `answers` answers them."""
        return Asked(family, 0, questions, _Nobody())

    def answers(self, asked: Asked) -> list[bytes]:
        """The output of `ip` for each question. ReadFailed if it was not recorded."""
        return [self._answer(asked.family, question) for question in asked.questions]

    def _answer(self, family: Family | None, question: str) -> bytes:
        if question in ("address show", "link show"):
            family = None  # the recorded output is for both families
        if family is None:
            return self._text(None, question)
        whole, selector = recording.narrowed(question)
        if not selector:
            return self._text(family, whole)
        with shape_is_known():
            chosen = recording.chosen(answer(self, family, whole), family, selector)
            return json.dumps([{"dst": dst, **rest} for dst, rest in chosen], separators=(",", ":")).encode()

    def _text(self, family: Family | None, question: str) -> bytes:
        return self._output(question_key(family, question, "-json")).encode("utf-8", "surrogateescape")

    def _output(self, key: str) -> str:
        if key not in self._outputs:
            raise ReadFailed(f"the snapshot does not have `ip {key}`, which this configuration needs")
        return self._outputs[key]

    def text(self, family: Family, question: str) -> list[str]:
        """The lines that `ip` printed as text. There may be more of them than the question asks for."""
        key = question_key(family, question, "-oneline")
        if key not in self._outputs:
            key = question_key(family, recording.narrowed(question)[0], "-oneline")
        return self._output(key).split("\n")[:-1]

    def needs_no_process(self, family: Family) -> bool:
        """True: every answer was recorded."""
        return True

    def abandon(self) -> None:
        """There is no process to end."""


class _Nobody:
    def answer(self) -> Answer:
        raise AssertionError("a record has no process to wait for")
