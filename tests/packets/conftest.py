"""The fixtures for namespaces."""

from tests.netns.conftest import _namespaces_are_possible, runtime  # noqa: F401
