"""How the tests are spread over processes, and in which order."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# A result is asserted, never how long it took: the machine may be busy.
settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")


def pytest_configure() -> None:
    # Who was started in the background or by nohup ignores them, and so would all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For `-n auto`: more than there are processors, as many tests wait. Files that are named run in this process."""
    if not any(Path(name).is_dir() for name in config.args):
        return 0
    return 2 * len(os.sched_getaffinity(0))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that in the end nobody waits for them."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
