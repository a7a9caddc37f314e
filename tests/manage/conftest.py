"""Laptops to manage, each unique and removed in the end, and daemons at work on them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.manage.laptop import Laptop
from tests.netns.conftest import _namespaces_are_possible, namespace, runtime  # noqa: F401
from tests.netns.namespace import removing
from tests.watch.daemon import Daemon, ending

Watch = Callable[..., Daemon]


@pytest.fixture
def laptop(runtime: Path) -> Iterator[Laptop]:  # noqa: F811
    """A laptop for one test."""
    with removing(Laptop(runtime)) as made:
        yield made


@pytest.fixture
def watch(laptop: Laptop) -> Iterator[Watch]:
    """Starts daemons on the laptop, and waits for their first pass; in the end they are ended."""
    with ending(laptop) as make:
        yield lambda config, **options: make(config, **options).start()
