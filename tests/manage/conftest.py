"""Laptops to manage, each unique and removed in the end, and daemons at work on them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.manage.laptop import Laptop
from tests.netns.conftest import _namespaces_are_possible, namespace, runtime  # noqa: F401
from tests.netns.namespace import removing
from tests.watch.daemon import Daemon

Watch = Callable[..., Daemon]


@pytest.fixture
def laptop(runtime: Path) -> Iterator[Laptop]:  # noqa: F811
    """A laptop for one test."""
    with removing(Laptop(runtime)) as made:
        yield made


@pytest.fixture
def watch(laptop: Laptop) -> Iterator[Watch]:
    """Starts daemons on the laptop, and waits for their first pass; in the end they are ended."""
    with ExitStack() as stack:

        def start(config: str, **options: Any) -> Daemon:
            made = Daemon(laptop, config, **options)
            stack.callback(made.end)
            return made.start()

        yield start
