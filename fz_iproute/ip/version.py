"""Which `ip` is new enough."""

import re

# Printing routes as JSON came with 4.17, -Numeric with 5.2, nexthop objects with 5.3 (2019).
OLDEST = "5.3"
_OLDEST_DATE = "190924"

# Up to 5.5, `ip -V` gave the date of its snapshot instead of its number.
_VERSION = re.compile(r"iproute2-(?:ss(?P<date>\d{6})|(?P<number>\d{1,9}\.\d{1,9}))")


def is_too_old(version: str) -> bool:
    """True if what `ip -V` has printed is older than OLDEST; what cannot be read is not."""
    found = _VERSION.search(version)
    if found is None:
        return False
    if found["date"]:
        return found["date"] < _OLDEST_DATE
    return _numbers(found["number"]) < _numbers(OLDEST)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]
