"""How pytest spreads the tests over processes, orders them, and sums up what was skipped or needed a second try."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

from tests import network

# Tests assert results, never durations: the machine may be busy.
settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")


def pytest_configure() -> None:
    # A shell makes background jobs ignore SIGINT, and nohup makes them ignore SIGHUP. All children would inherit this.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    network.leave()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For `-n auto`: three for each processor, because many tests wait. Single files run in this process."""
    if not any(Path(name).is_dir() for name in config.args):
        return 0
    return 3 * len(os.sched_getaffinity(0))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the long tests first, so that none of them runs alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line for each reason to skip tests, and for scripts/test which tests needed a second try."""
    stats = terminalreporter.stats
    reasons = Counter(str(report.longrepr[-1]).removeprefix("Skipped: ") for report in stats.get("skipped", []))
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"SKIPPED {count} {'test' if count == 1 else 'tests'}: {reason}")
    attempt = os.environ.get("FZ_ATTEMPT")
    failed = {report.nodeid for kind in ("failed", "error") for report in stats.get(kind, [])}
    passed = sorted({report.nodeid for report in stats.get("passed", []) if report.when == "call"} - failed)
    if attempt == "1" and not failed:
        terminalreporter.write_line("No test needed a second try.")
    elif attempt == "2" and passed:
        tests = "1 test" if len(passed) == 1 else f"{len(passed)} tests"
        terminalreporter.write_line(f"{tests} passed only at the second try: {', '.join(passed)}")
    elif attempt == "2":
        terminalreporter.write_line("No test passed at the second try.")
