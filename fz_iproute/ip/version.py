"""Tells whether `ip` is new enough."""

import re

# The first version (2019) with all that is needed: JSON for routes (4.17), -Numeric (5.2), nexthop objects (5.3).
OLDEST = "5.3"
_OLDEST_DATE = "190924"

# Up to 5.5, `ip -V` prints a date, `iproute2-ss190924`, instead of a version number.
_VERSION = re.compile(r"iproute2-(?:ss(?P<date>\d{6})|(?P<number>\d{1,9}\.\d{1,9}))")


def is_too_old(version: str) -> bool:
    """True if this output of `ip -V` shows a version older than OLDEST. False if it shows no version."""
    found = _VERSION.search(version)
    if found is None:
        return False
    if found["date"]:
        return found["date"] < _OLDEST_DATE
    return _numbers(found["number"]) < _numbers(OLDEST)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]
