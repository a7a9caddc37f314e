"""Looks at a machine: at what the planner reads, and at the way of packets."""

from fz_iproute.diagnosis.reach import Network
from fz_iproute.ip.decisive import decisive_routes
from fz_iproute.ip.ip import Source
from fz_iproute.ip.reader import Reader
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Snapshot


def seen(source: Source, config: Config) -> tuple[Snapshot, Network]:
    """The snapshot, and the network that decides where packets go. ReadFailed if there is any doubt."""
    snapshot = Reader(source, config).read()
    return snapshot, Network.of(snapshot, decisive_routes(source, snapshot))
