"""A recorded machine that can be asked like a running one."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from reprlib import Repr
from typing import Any

from fz_iproute.errors import ReadFailed, UsageError
from fz_iproute.ip.ip import Answer, Asked
from fz_iproute.mirror.parse import answer_of, listed
from fz_iproute.mirror.prefix import Family
from fz_iproute.mirror.words import LOCAL, of_table
from fz_iproute.record import recording
from fz_iproute.record.recording import Recording, Unusable, question_key

# A machine with a hundred thousand routes fits.
MOST_BYTES = 32 << 20


def load_recording(path: Path) -> Recording:
    """The record in the file. UsageError says what is wrong with it."""
    try:
        # Not blocking: a FIFO would wait for a writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            os.set_blocking(file.fileno(), True)  # one with a writer is worth waiting for
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise UsageError(f"{path}: larger than {MOST_BYTES >> 20} MiB, so not a snapshot")
    try:
        return recording.load(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}") from None
    except Unusable as error:
        raise UsageError(f"{path}: {error}") from None


@contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """What goes wrong with a record in this block is said to be wrong with its file: a UsageError, on one line.

    A running `ip` prints what `ip` prints. A file may hold anything, and no list of checks would name it all.
    """
    try:
        yield
    except ReadFailed as error:
        raise UsageError(f"{path}: {error}") from None
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UsageError(f"{path}: not what `ip` prints: {_SHORT.repr(error)}") from error


_SHORT = Repr()
_SHORT.maxother = 200


class RecordedIp:
    """Answers from a record what `ip` would have answered on that machine."""

    def __init__(self, recorded: Recording) -> None:
        self._recorded = recorded
        self._parsed: dict[str, list[Any]] = {}

    @property
    def sysctls(self) -> Mapping[str, str]:
        """Those that were recorded."""
        return self._recorded.sysctls

    @property
    def facts(self) -> Mapping[str, str]:
        """What was recorded besides."""
        return self._recorded.facts

    def ask(self, family: Family | None, *questions: str) -> Asked:
        """Note the questions."""
        return Asked(family, 0, questions, _Nobody())

    def answers(self, asked: Asked) -> list[list[Any]]:
        """The answers. ReadFailed if the record does not have them."""
        return [self._answer(asked.family, question) for question in asked.questions]

    def _answer(self, family: Family | None, question: str) -> list[Any]:
        if question in ("address show", "link show"):
            family = None  # they are recorded for both
        if family is None:
            return self._recorded_answer(None, question)
        whole, selector = recording.narrowed(family, question)
        key = question_key(family, whole, "-json")
        is_derived = whole == of_table(LOCAL) and key not in self._recorded.outputs
        try:
            if is_derived:
                addresses = self._recorded_answer(None, "address show")
                forwards = self._recorded.sysctls.get("ipv6/conf/all/forwarding", "0") != "0"
                answer = listed(recording.local_documents(addresses, family, forwards=forwards))
            else:
                answer = self._recorded_answer(family, whole)
            return list(recording.chosen(answer, family, selector))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ReadFailed(f"ip printed JSON of a shape that is not known here: {error!r}") from None

    def _recorded_answer(self, family: Family | None, question: str) -> list[Any]:
        key = question_key(family, question, "-json")
        if key not in self._parsed:
            try:
                self._parsed[key] = answer_of(question, self._output(key).encode("utf-8", "surrogateescape"))
            except (ValueError, RecursionError) as error:
                raise ReadFailed(f"ip {key}: {error}") from None
        return self._parsed[key]

    def _output(self, key: str) -> str:
        if key not in self._recorded.outputs:
            raise ReadFailed(f"the snapshot does not have `ip {key}`, which this configuration needs")
        return self._recorded.outputs[key]

    def text(self, family: Family, question: str) -> list[str]:
        """The lines that `ip` printed in words. Those that a narrower question leaves out are there too."""
        key = question_key(family, question, "-oneline")
        if key not in self._recorded.outputs:
            key = question_key(family, recording.narrowed(family, question)[0], "-oneline")
        return self._output(key).splitlines()

    def talks(self, family: Family) -> bool:
        """Every answer is there already."""
        return True

    def abandon(self) -> None:
        """Nobody is at work."""


class _Nobody:
    def answer(self) -> Answer:
        raise AssertionError("a record has no process to wait for")
