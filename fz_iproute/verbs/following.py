"""Finds the VPN that `tunnel.interface = "auto"` stands for."""

from collections.abc import Callable

from fz_iproute.diagnosis.detect import detect
from fz_iproute.diagnosis.served import Followed, followed
from fz_iproute.errors import IpUnusable, ReadFailed
from fz_iproute.ip.ip import Source
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.verbs.seen import seen


class Following:
    """Loads a configuration again and again, and finds the VPN that `auto` stands for. It logs each change once."""

    def __init__(self, load: Callable[[], Config], source: Source, log: Log) -> None:
        self._load = load
        self._source = source
        self._log = log
        self._last = Config(), Config()  # the last configuration from the file, and the one for the VPN that was found
        self._said = ""

    @property
    def is_on(self) -> bool:
        """True if the configuration says `auto`. Then the result may change although the file does not."""
        return self._last[0].is_auto

    def load(self) -> Config:
        """The configuration to use now. UsageError if the file is unusable."""
        config = self._load()
        if not config.is_auto:
            self._last = config, config
            return config
        try:
            found = look(config, self._source)
        except (ReadFailed, IpUnusable, OSError):
            # Keep the VPN of the last time, if the file has not changed: nothing tells that the VPN has gone.
            return self._last[1] if config == self._last[0] else config
        if found.said != self._said and found.is_doubtful:
            self._log.warning(found.said)
        elif found.said != self._said:
            self._log.info(f"# {found.said}")
        self._said = found.said
        self._last = config, found.config
        return found.config


def look(config: Config, source: Source) -> Followed:
    """The VPN that `auto` stands for now."""
    return followed(config, detect(config, *seen(source, config)))
