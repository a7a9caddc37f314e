"""What `ip monitor` prints is read as whole lines: events, and its other text."""

import os
from collections.abc import Iterator

import pytest

from fz_iproute.ip.monitor import Monitor, events_and_words

EVENT = b"[ROUTE]192.168.7.0/24 dev eth0 proto 2 scope 253 src 192.168.7.2 \n"
LOST = b"netlink receive error No buffer space available (105)\n"
NAMED = "[ADDR]7: eth\u00e4    inet 192.168.7.2/24".encode() + b"\n"


class Printer:
    """An `ip` whose output the test writes."""

    def __init__(self) -> None:
        self.output = -1

    def spawn(self, _words: object, fds: tuple[int, int, int], _in_child: object) -> "Printer":
        assert fds[1] == fds[2]
        self.output = os.dup(fds[1])
        return self

    def prints(self, text: bytes) -> None:
        os.write(self.output, text)

    def kill(self) -> None:
        os.close(self.output)

    def wait(self) -> int:
        return -9


@pytest.fixture
def printer() -> Printer:
    return Printer()


@pytest.fixture
def monitor(printer: Printer) -> Iterator[Monitor]:
    found = Monitor(printer)  # type: ignore[arg-type]
    yield found
    found.close()


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_lines_are_whole_however_the_output_is_cut(size: int, printer: Printer, monitor: Monitor) -> None:
    text = EVENT + LOST + NAMED + LOST + EVENT
    events: list[str] = []
    others: list[str] = []
    for start in range(0, len(text), size):
        printer.prints(text[start : start + size])
        found, other = events_and_words(monitor.read())
        events += found
        others += [other] if other else []
    assert (EVENT + NAMED + EVENT).decode().splitlines() == events
    assert [LOST.decode().strip()] * 2 == " / ".join(others).split(" / ")
    assert "" == monitor.read()
    assert not monitor.ended


def test_control_characters_of_other_text_do_not_reach_a_terminal(printer: Printer, monitor: Monitor) -> None:
    printer.prints(b"Dump \x1b[31mterminated\n")
    assert ([], "Dump \\x1b[31mterminated") == events_and_words(monitor.read())
