"""The log of `watch` begins with the start, then tells each change of the tunnel once."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

from fz_iproute import __version__
from fz_iproute.daemon.announcer import Announcer
from fz_iproute.mirror import config_text
from fz_iproute.mirror.tunnel import Layout

LAYOUT = Layout("single", 539098368, 539098368, 539098368, (32765,))


def told(place: Path, *states: str, interface: str = "tun-firezone") -> list[str]:
    """The lines about a tunnel that goes through these states; `interface: state` is one of another name."""
    log: Any = Mock()
    announcer = Announcer(place, log)
    announcer.start()
    for state in states:
        name, _, word = state.rpartition(": ")
        settings = config_text.parse(f'[tunnel]\ninterface = "{name or interface}"', "test")
        announcer.tunnel(settings, LAYOUT, word)
    return [call.args[0] for call in log.info.mock_calls]


def test_the_start_comes_first_and_each_change_is_told_once(tmp_path: Path) -> None:
    place = tmp_path / "config.toml"
    start = f"# fz-iproute {__version__} starts with the defaults, because there is no {place}"
    assert told(place, "missing", "missing", "up", "up", "down", "missing", "down") == [
        start,
        "# tun-firezone is missing; copies go to table 539098368",
        "# tun-firezone has appeared and is up",
        "# tun-firezone is down",
        "# tun-firezone has disappeared",
        "# tun-firezone has appeared and is down",
    ]
    place.touch()
    assert told(place)[0].endswith(f"starts with {place}")


def test_another_tunnel_is_told_with_its_table(tmp_path: Path) -> None:
    assert told(tmp_path, "up", "wg0: up")[1:] == [
        "# tun-firezone is up; copies go to table 539098368",
        "# wg0 is up; copies go to table 539098368",
    ]


def test_auto_tells_its_vpns_itself(tmp_path: Path) -> None:
    assert told(tmp_path, "missing", "up", interface="auto")[1:] == []
