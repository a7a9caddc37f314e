"""What different versions of `ip` print about the same machine means the same. scripts/matrix records them."""

from collections.abc import Callable

import pytest

from tests.unit.recorded_versions import JUDGES, RECORDED, Document


def test_there_are_old_and_new_versions() -> None:
    assert 5 <= len(RECORDED)


@pytest.mark.parametrize("version", RECORDED)
@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.__name__)
def test_what_each_version_prints_means_the_same(judge: Callable[[Document], None], version: str) -> None:
    judge(RECORDED[version])
